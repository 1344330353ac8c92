"""BPF_PROG_LOAD: from instructions to a program that runs (``bpf_prog_load`` of kernel/bpf/syscall.c, v6.18).

Left out: capabilities, tokens, signatures, programs bound to a device.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.maps.prog_array import ProgHolder
from ebpfsim.progs.prog import AttachTarget, Prog
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE, BPF_TAG_SIZE

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel
    from ebpfsim.verifier.env import LoadAttr
    from ebpfsim.verifier.verify import Verified

__all__ = ["ProgParts", "load_prog", "prog_tag", "trampoline_key"]

OP = "prog_load"
LD_IMM64 = 0x18  # BPF_LD | BPF_IMM | BPF_DW
BPF_COMPLEXITY_LIMIT_INSNS = 1_000_000
KNOWN_FLAGS = 0xFF  # BPF_F_STRICT_ALIGNMENT to BPF_F_TEST_REG_INVARIANTS
BPF_LOG_MASK = 0xF
VMLINUX_BTF_ID = 1  # the kernel's own BTF is the first one

# what bpf_prog_load_check_attach() takes; types that are not named take anything
# fmt: off
ATTACH_TYPES: Mapping[ProgType, frozenset[AttachType]] = {
    ProgType.CGROUP_SOCK: frozenset({
        AttachType.CGROUP_INET_SOCK_CREATE, AttachType.CGROUP_INET_SOCK_RELEASE,
        AttachType.CGROUP_INET4_POST_BIND, AttachType.CGROUP_INET6_POST_BIND,
    }),
    ProgType.CGROUP_SOCK_ADDR: frozenset({
        AttachType.CGROUP_INET4_BIND, AttachType.CGROUP_INET6_BIND,
        AttachType.CGROUP_INET4_CONNECT, AttachType.CGROUP_INET6_CONNECT, AttachType.CGROUP_UNIX_CONNECT,
        AttachType.CGROUP_INET4_GETPEERNAME, AttachType.CGROUP_INET6_GETPEERNAME, AttachType.CGROUP_UNIX_GETPEERNAME,
        AttachType.CGROUP_INET4_GETSOCKNAME, AttachType.CGROUP_INET6_GETSOCKNAME, AttachType.CGROUP_UNIX_GETSOCKNAME,
        AttachType.CGROUP_UDP4_SENDMSG, AttachType.CGROUP_UDP6_SENDMSG, AttachType.CGROUP_UNIX_SENDMSG,
        AttachType.CGROUP_UDP4_RECVMSG, AttachType.CGROUP_UDP6_RECVMSG, AttachType.CGROUP_UNIX_RECVMSG,
    }),
    ProgType.CGROUP_SKB: frozenset({AttachType.CGROUP_INET_INGRESS, AttachType.CGROUP_INET_EGRESS}),
    ProgType.CGROUP_SOCKOPT: frozenset({AttachType.CGROUP_SETSOCKOPT, AttachType.CGROUP_GETSOCKOPT}),
    ProgType.SK_LOOKUP: frozenset({AttachType.SK_LOOKUP}),
    ProgType.SK_REUSEPORT: frozenset({AttachType.SK_REUSEPORT_SELECT, AttachType.SK_REUSEPORT_SELECT_OR_MIGRATE}),
    ProgType.NETFILTER: frozenset({AttachType.NETFILTER}),
    ProgType.SYSCALL: frozenset({AttachType(0)}),
    ProgType.EXT: frozenset({AttachType(0)}),
}
# what expected_attach_type 0 means (bpf_prog_load_fixup_attach_type)
DEFAULT_ATTACH_TYPES: Mapping[ProgType, AttachType] = {
    ProgType.CGROUP_SOCK: AttachType.CGROUP_INET_SOCK_CREATE,
    ProgType.SK_REUSEPORT: AttachType.SK_REUSEPORT_SELECT,
}
# fmt: on
# no program, and a type that is not built into the kernel that is modelled (CONFIG_BPF_LIRC_MODE2)
_ABSENT = (ProgType.UNSPEC, ProgType.LIRC_MODE2)
BTF_TARGETS = {ProgType.TRACING, ProgType.LSM, ProgType.STRUCT_OPS, ProgType.EXT}


def attach_type_of(prog_type: int, number: int) -> AttachType:
    """Return a program's ``expected_attach_type``; EINVAL for an unknown one where the type looks at it.

    Differs: elsewhere an unknown one counts as 0; Linux keeps it, and compares it when programs share a prog_array.
    """
    try:
        return AttachType(number)
    except ValueError:
        if prog_type in ATTACH_TYPES or prog_type in BTF_TARGETS - {ProgType.STRUCT_OPS}:
            raise KernelError(OP, Errno.EINVAL, f"expected_attach_type {number}") from None
        return AttachType(0)


@dataclass(frozen=True, slots=True)
class ProgParts:
    """What a program keeps beside what the verifier gives: its BTF object, and who is told when it goes."""

    btf: object = None
    released: Callable[[Prog], None] | None = None


def load_prog(kernel: "BpfKernel", attr: "LoadAttr", parts: ProgParts) -> tuple[Prog, "Verified"]:
    """Verify a program and make it ready to run; the caller gets its only reference.

    A refusal raises KernelError, by the verifier VerifierError.
    """
    attr = _check(attr)
    verified = kernel.verify(attr)
    prog = Prog(
        name=attr.name,
        type=attr.prog_type,
        expected_attach_type=AttachType(attr.expected_attach_type),
        insns=verified.insns,
        subprogs=verified.subprogs,
        maps=verified.maps,
        gpl_compatible=license_is_gpl_compatible(attr.license),
        tag=prog_tag(attr.insns),
        prog_flags=attr.prog_flags,
        verified_insns=verified.stats.insns_processed,
        load_time_ns=kernel.clock.now_ns,
        btf_fd_obj=parts.btf,
        func_info=verified.func_info,
        line_info=verified.line_info,
        shown=verified.xlated,
        changes_pkt_data=verified.changes_pkt_data,
        max_ctx_offset=verified.max_ctx_offset,
        max_rdonly_access=verified.max_rdonly_access,
        max_rdwr_access=verified.max_rdwr_access,
        max_tp_access=verified.max_tp_access,
        enforce_expected_attach_type=verified.enforce_expected_attach_type,
        attach_target=verified.target,
        dst_key=trampoline_key(verified.target),
    )
    _take_target(prog, attr.attach_prog)
    for map_ in prog.maps:
        map_.get()
    prog.released = parts.released
    try:
        # bpf_check_tail_call(): the program arrays that it uses must take its kind
        for map_ in prog.maps:
            if isinstance(map_, ProgHolder) and map_.holds_progs and not map_.compatible(prog):
                raise KernelError(OP, Errno.EINVAL, f"map '{map_.name}' belongs to programs of another kind")
        prog.image_addr = kernel.mem.alloc(8 * len(prog.insns))
        prog.run = kernel.compile(prog)
    except Exception:
        prog.released = None
        if prog.image_addr:
            kernel.mem.free(prog.image_addr)
        prog.put()
        raise
    return prog, verified


def trampoline_key(target: AttachTarget | None) -> int:
    """Return the key of the trampoline of a function (``bpf_trampoline_compute_key``), 0 for what has none."""
    if target is None or target.trace or target.struct_ops:
        return 0
    if target.prog is not None:
        return target.prog.id << 32 | target.id
    return VMLINUX_BTF_ID << 32 | 0x8000_0000 | target.id


def _take_target(prog: Prog, target: Prog | None) -> None:
    # the reference is the program's until its first link takes it over
    if target is None:
        return
    target.get()
    prog.dst_prog, prog.dst_type, prog.dst_attach_type = target, target.type, target.expected_attach_type
    prog.attach_tracing_prog = prog.type == target.type == ProgType.TRACING


def prog_tag(insns: tuple[Insn, ...]) -> bytes:
    """Return the tag: the first 8 bytes of the SHA-256 of the instructions, map descriptors as zero.

    Until Linux 6.17 it was SHA-1 (``bpf_prog_calc_tag``, kernel/bpf/core.c).
    """
    plain = list(insns)
    for idx, insn in enumerate(insns):
        if insn.code == LD_IMM64 and insn.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE):
            plain[idx] = insn._replace(imm=0)
            if idx + 1 < len(plain):
                plain[idx + 1] = plain[idx + 1]._replace(imm=0)
    return hashlib.sha256(encode(plain)).digest()[:BPF_TAG_SIZE]


def license_is_gpl_compatible(license_: str) -> bool:
    """Tell what include/linux/license.h says of a license."""
    return license_ in {
        "GPL",
        "GPL v2",
        "GPL and additional rights",
        "Dual BSD/GPL",
        "Dual MIT/GPL",
        "Dual MPL/GPL",
    }


def _check(attr: "LoadAttr") -> "LoadAttr":
    # bpf_prog_load() up to the verifier, in its order
    if attr.prog_flags & ~KNOWN_FLAGS:
        raise KernelError(OP, Errno.EINVAL, f"prog_flags {attr.prog_flags:#x}")
    if not attr.expected_attach_type:
        attr = replace(attr, expected_attach_type=DEFAULT_ATTACH_TYPES.get(attr.prog_type, AttachType(0)))
    nr_insns = len(attr.insns)
    if not 0 < nr_insns <= BPF_COMPLEXITY_LIMIT_INSNS:
        raise KernelError(OP, Errno.E2BIG, f"{nr_insns} instructions, 1 to {BPF_COMPLEXITY_LIMIT_INSNS} are allowed")
    if attr.attach_btf_id and attr.prog_type not in BTF_TARGETS:
        raise KernelError(OP, Errno.EINVAL, f"attach_btf_id for a {attr.prog_type.lower} program")
    if attr.attach_prog is not None and attr.prog_type not in (ProgType.TRACING, ProgType.EXT):
        raise KernelError(OP, Errno.EINVAL, f"attach_prog_fd for a {attr.prog_type.lower} program")
    allowed = ATTACH_TYPES.get(attr.prog_type)
    if allowed is not None and attr.expected_attach_type not in allowed:
        raise KernelError(OP, Errno.EINVAL, f"expected_attach_type {attr.expected_attach_type}")
    if attr.prog_type in _ABSENT:
        raise KernelError(OP, Errno.EINVAL, f"program type {int(attr.prog_type)}")
    if attr.log_level & ~BPF_LOG_MASK:
        raise KernelError(OP, Errno.EINVAL, f"log_level {attr.log_level:#x}")
    return attr
