"""Program attributes that depend on the kernel: attach targets, flags of section names."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import FUNC_GLOBAL, Func, FuncProto, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.elf.sections import SectionFlags
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.isa.insn import decode
from ebpfsim.loader import Object, open_object
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


def loaded(remembered: Any, attach_type: AttachType, target: str, prog_type: ProgType = ProgType.TRACING) -> Any:
    """Load ``loads`` of core.bpf.o as another kind of tracing program."""
    obj = open_object(DATA / "core.bpf.o")
    program = obj.programs["loads"]
    program.type, program.expected_attach_type, program.attach_target = prog_type, attach_type, target
    obj.load(remembered, only=["loads"])
    return remembered.progs[program.fd]


# btf_get_kernel_prefix_kind, libbpf.c
@pytest.mark.parametrize(
    ("attach_type", "prog_type", "target", "name", "kind"),
    [
        (AttachType.TRACE_RAW_TP, ProgType.TRACING, "sched_switch", "btf_trace_sched_switch", Kind.TYPEDEF),
        (AttachType.TRACE_FENTRY, ProgType.TRACING, "tcp_v4_connect", "tcp_v4_connect", Kind.FUNC),
        (AttachType.TRACE_FEXIT, ProgType.TRACING, "vmlinux:tcp_close", "tcp_close", Kind.FUNC),
        (AttachType.LSM_MAC, ProgType.LSM, "file_open", "bpf_lsm_file_open", Kind.FUNC),
        (AttachType.TRACE_ITER, ProgType.TRACING, "task", "bpf_iter_task", Kind.FUNC),
    ],
)
def test_attach_targets_are_found_in_the_kernels_btf(
    remembered: Any, attach_type: AttachType, prog_type: ProgType, target: str, name: str, kind: Kind
) -> None:
    assert loaded(remembered, attach_type, target, prog_type)["attach_btf_id"] == vmlinux().by_name(name, kind)


def test_attach_targets_that_are_not_there(remembered: Any) -> None:
    with pytest.raises(KernelError) as missing:
        loaded(remembered, AttachType.TRACE_FENTRY, "no_such_function")
    assert str(missing.value) == (
        f"load program 'loads' of {DATA / 'core.bpf.o'}: find attach target: No such process (ESRCH): "
        "the kernel has no function 'no_such_function' in its BTF"
    )
    with pytest.raises(KernelError, match=r"the section names none; set \.attach_target"):
        loaded(remembered, AttachType.TRACE_FENTRY, "")
    with pytest.raises(KernelError, match=r"\(ESRCH\): the kernel has no module 'nf_conntrack'"):
        loaded(remembered, AttachType.TRACE_FENTRY, "nf_conntrack:nf_confirm")


def test_replacements_are_found_in_the_other_program(remembered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = encode_types([FuncProto("", 0, ()), Func("policy", 1, FUNC_GLOBAL)])
    infos = {77: SimpleNamespace(btf_id=5), 88: SimpleNamespace(btf=blob)}
    monkeypatch.setattr(remembered, "obj_get_info_by_fd", infos.__getitem__)
    monkeypatch.setattr(remembered, "btf_get_fd_by_id", lambda btf_id: {5: 88}[btf_id])
    remembered.open.add(88)
    obj = open_object(DATA / "core.bpf.o")
    program = obj.programs["loads"]
    program.type, program.attach_target, program.attach_prog_fd = ProgType.EXT, "policy", 77
    with obj.load(remembered, only=["loads"]):
        assert remembered.progs[program.fd]["attach_btf_id"] == 2
        assert 88 not in remembered.open
    again = open_object(DATA / "core.bpf.o")
    again.programs["loads"].type = ProgType.EXT
    with pytest.raises(KernelError, match=r"set \.attach_prog_fd to the program to replace"):
        again.load(remembered, only=["loads"])


@pytest.mark.parametrize(
    ("section_flags", "prog_flags", "attach_type"),
    [
        (SectionFlags.NONE, 0, AttachType.XDP),
        (SectionFlags.SLEEPABLE, BPF_F_SLEEPABLE, AttachType.XDP),
        (SectionFlags.FRAGS, BPF_F_XDP_HAS_FRAGS, AttachType.XDP),
        (SectionFlags.USDT, 0, AttachType.TRACE_UPROBE_MULTI),
    ],
)
def test_flags_of_section_names(
    remembered: Any, section_flags: SectionFlags, prog_flags: int, attach_type: AttachType
) -> None:
    spec = open_object(DATA / "subprogs.bpf.o").spec
    first = replace(spec.programs["first"], flags=section_flags)
    with Object(replace(spec, programs={"first": first})).load(remembered) as obj:
        made = remembered.progs[obj.programs["first"].fd]
        assert (made["prog_flags"], made["expected_attach_type"]) == (prog_flags, attach_type)


def refusal(remembered: Any, monkeypatch: pytest.MonkeyPatch, obj: Object, program: str, log: str) -> str:
    """Let the kernel refuse a program with a log; return the note of the error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise VerifierError("prog_load", 22, log, 1)

    monkeypatch.setattr(remembered, "prog_load", refuse)
    with pytest.raises(VerifierError) as refused:
        obj.load(remembered, only=[program])
    return "\n".join(getattr(refused.value, "__notes__", ()))


def call_of(slot: int, helper: int) -> str:
    """A verifier log that ends at a call of a helper that does not exist."""
    return f"0: (85) call bpf_loop#181\n{slot}: (85) call unknown#{helper}\ninvalid func unknown#{helper}\n"


def slot_of(insns: bytes, imm: int) -> int:
    return next(i for i, insn in enumerate(decode(insns)) if insn.code == 0x85 and insn.imm == imm)


def test_what_relocation_could_not_resolve_is_explained(remembered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    core = open_object(DATA / "core.bpf.o")
    slot = slot_of(core.relocate("types"), 195896080)
    assert refusal(remembered, monkeypatch, core, "types", call_of(slot, 195896080)).startswith(
        f"{slot}: <invalid CO-RE relocation>\nfailed to resolve CO-RE relocation <enumval_value> ["
    )
    maps = open_object(DATA / "subprogs.bpf.o")
    maps.maps["counts"].autocreate = False
    idx = list(maps.maps).index("counts")
    assert refusal(remembered, monkeypatch, maps, "third", call_of(7, 2001000000 + idx)) == (
        "7: <invalid BPF map reference>\nBPF map 'counts' is referenced but wasn't created"
    )
    ksyms = open_object(DATA / "ksyms.bpf.o")
    idx = [extern.name for extern in ksyms.spec.externs].index("bpf_no_such_kfunc")
    assert refusal(remembered, monkeypatch, ksyms, "iterate", call_of(9, 2002000000 + idx)) == (
        "9: <invalid kfunc call>\nkfunc 'bpf_no_such_kfunc' is referenced but wasn't resolved"
    )
    other = open_object(DATA / "subprogs.bpf.o")
    assert refusal(remembered, monkeypatch, other, "first", "0: (95) exit\nR0 !read_ok\n") == ""
    assert refusal(remembered, monkeypatch, other, "first", call_of(3, 77)) == ""
