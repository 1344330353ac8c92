"""Loads one program (bpf_object_load_prog, libbpf_prepare_prog_load): flags, attach target, function and line info."""

import re
from typing import TYPE_CHECKING

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.core import POISON_IMM
from ebpfsim.btf.ext import FUNC_INFO_SIZE, LINE_INFO_SIZE
from ebpfsim.btf.types import Kind
from ebpfsim.elf.link import LinkedProgram
from ebpfsim.elf.sections import SectionFlags
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError, VerifierError
from ebpfsim.loader.calls import BpfCalls, Loaded
from ebpfsim.loader.kernel import KernelView
from ebpfsim.loader.program import Program
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS, BPF_OBJ_NAME_LEN

if TYPE_CHECKING:
    from ebpfsim.loader.object import Object

__all__ = ["POISON_KFUNC_BASE", "POISON_MAP_BASE", "load_program"]

# calls of helpers that do not exist: what relocation leaves where the kernel has no such field, map or function
POISONED_CALL = re.compile(r"^(\d+): \(85\) call .*#(\d+)$", re.MULTILINE)
POISON_MAP_BASE = 2001000000  # POISON_LDIMM64_MAP_BASE
POISON_KFUNC_BASE = 2002000000  # POISON_CALL_KFUNC_BASE

# what the kernel's BTF calls the target of an attach type (btf_get_kernel_prefix_kind)
TARGETS: dict[int, tuple[str, Kind]] = {
    AttachType.TRACE_RAW_TP: ("btf_trace_", Kind.TYPEDEF),
    AttachType.LSM_MAC: ("bpf_lsm_", Kind.FUNC),
    AttachType.LSM_CGROUP: ("bpf_lsm_", Kind.FUNC),
    AttachType.TRACE_ITER: ("bpf_iter_", Kind.FUNC),
}


def load_program(
    bpf: BpfCalls, obj: "Object", program: Program, code: LinkedProgram, insns: bytes, kernel: KernelView
) -> Loaded:
    """Return what PROG_LOAD gave for a program with all references filled in."""
    if program.type == ProgType.UNSPEC:
        raise InputError(
            obj.where,
            f"program '{program.name}' is in section '{program.section}', which names no program type",
            'use SEC("xdp") or another name that libbpf knows, or set .type before load',
        )
    if program.type == ProgType.STRUCT_OPS and not program.attach_btf_id:
        raise InputError(
            obj.where,
            f"struct_ops program '{program.name}' isn't referenced anywhere",
            'name it in a variable in SEC(".struct_ops") or SEC(".struct_ops.link")',
        )
    flags, attach_type = _flags(program)
    attach_btf_id = program.attach_btf_id
    if program.attach_btf and not attach_btf_id:
        attach_btf_id = _attach_btf_id(bpf, program, kernel)
    has_btf = obj.btf_fd >= 0
    try:
        return bpf.prog_load(
            program.type,
            insns,
            name=program.name[: BPF_OBJ_NAME_LEN - 1],
            license=obj.license,
            expected_attach_type=attach_type,
            prog_flags=flags,
            attach_btf_id=attach_btf_id,
            attach_prog_fd=program.attach_prog_fd,
            prog_btf_fd=obj.btf_fd if has_btf else 0,
            func_info=_trimmed(code.func_info, code.func_info_size, FUNC_INFO_SIZE) if has_btf else b"",
            line_info=_trimmed(code.line_info, code.line_info_size, LINE_INFO_SIZE) if has_btf else b"",
            log_level=program.log_level,
        )
    except VerifierError as error:
        note = _explain(error.log, obj, code)
        if note:
            error.add_note(note)
        raise


def _explain(log: str, obj: "Object", code: LinkedProgram) -> str:
    """Return what libbpf writes for the log's last call when relocation put it there (fixup_verifier_log)."""
    calls = POISONED_CALL.findall(log)
    if not calls:
        return ""
    slot, helper = (int(number) for number in calls[-1])
    if helper == POISON_IMM and slot in code.poisoned:
        return f"{slot}: <invalid CO-RE relocation>\nfailed to resolve CO-RE relocation {code.poisoned[slot]}"
    maps, externs = list(obj.maps), obj.spec.externs
    if 0 <= helper - POISON_MAP_BASE < len(maps):
        name = maps[helper - POISON_MAP_BASE]
        return f"{slot}: <invalid BPF map reference>\nBPF map '{name}' is referenced but wasn't created"
    if 0 <= helper - POISON_KFUNC_BASE < len(externs):
        name = externs[helper - POISON_KFUNC_BASE].name
        return f"{slot}: <invalid kfunc call>\nkfunc '{name}' is referenced but wasn't resolved"
    return ""


def _flags(program: Program) -> tuple[int, int]:
    flags, attach_type = program.flags, program.expected_attach_type
    wanted = program.spec.flags
    if SectionFlags.SLEEPABLE in wanted:
        flags |= BPF_F_SLEEPABLE
    if SectionFlags.FRAGS in wanted and program.type == ProgType.XDP:
        flags |= BPF_F_XDP_HAS_FRAGS
    if SectionFlags.USDT in wanted:
        attach_type = AttachType.TRACE_UPROBE_MULTI
    return flags, attach_type


def _attach_btf_id(bpf: BpfCalls, program: Program, kernel: KernelView) -> int:
    target = program.attach_target
    if not target:
        raise KernelError("find attach target", Errno.EINVAL, "the section names none; set .attach_target")
    if program.type == ProgType.EXT or program.attach_prog_fd:
        return _target_in_program(bpf, program)
    module, _, name = target.rpartition(":")
    if module and not "vmlinux".startswith(module):
        raise KernelError("find attach target", Errno.ESRCH, f"the kernel has no module '{module}'")
    prefix, kind = TARGETS.get(program.expected_attach_type, ("", Kind.FUNC))
    found = kernel.btf().find(prefix + name, kind)
    if found is None:
        what = "tracepoint" if kind is Kind.TYPEDEF else "function"
        raise KernelError("find attach target", Errno.ESRCH, f"the kernel has no {what} '{name}' in its BTF")
    return found


def _target_in_program(bpf: BpfCalls, program: Program) -> int:
    if not program.attach_prog_fd:
        raise KernelError("find attach target", Errno.EINVAL, "set .attach_prog_fd to the program to replace")
    btf_id = bpf.obj_get_info_by_fd(program.attach_prog_fd).btf_id
    if not btf_id:
        raise KernelError("find attach target", Errno.EINVAL, "the target program has no BTF")
    fd = bpf.btf_get_fd_by_id(btf_id)
    try:
        btf = Btf(bpf.obj_get_info_by_fd(fd).btf, where="target program")
    finally:
        bpf.close(fd)
    found = btf.find(program.attach_target, Kind.FUNC)
    if found is None:
        raise KernelError("find attach target", Errno.ENOENT, f"the target program has no '{program.attach_target}'")
    return found


def _trimmed(records: bytes, size: int, known: int) -> bytes:
    # longer records come from newer compilers; the kernel reads the first bytes of each
    if size in (0, known):
        return records
    return b"".join(records[at : at + known] for at in range(0, len(records), size))
