"""bpf_prog_attach_check_attach_type() of kernel/bpf/syscall.c, v6.18: which attach types a program may have."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.live.sys import bpf_bytes
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.attach_types import check_attach_type, known_attach_type
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf import ProgType as P
from ebpfsim.uapi.bpf_attr import ATTRS

PROGRAMS = [
    (P.CGROUP_SKB, A.CGROUP_INET_INGRESS, 1),
    (P.CGROUP_SKB, A.CGROUP_INET_EGRESS, 1),
    (P.CGROUP_SKB, A.CGROUP_INET_EGRESS, 2),
    (P.CGROUP_SOCK, A.CGROUP_INET_SOCK_CREATE, 1),
    (P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_CONNECT, 1),
    (P.SOCK_OPS, A.CGROUP_SOCK_OPS, 1),
]
CGROUP_KINDS = [kind for kind in A if kind.name.startswith("CGROUP_")]


@pytest.mark.live
@pytest.mark.parametrize(("prog_type", "expected", "retval"), PROGRAMS)
def test_cgroup_programs_fit_as_in_linux(live_bpf, kernel, prog_type, expected, retval) -> None:
    """A descriptor that is not open is EBADF; the attach type is looked at before it. Nothing is ever attached."""
    answers = []
    for bpf, call in ((live_bpf, bpf_bytes), (kernel.bpf, kernel.bpf.raw)):
        insns = encode(assemble(f"r0 = {retval}; exit"))
        fd = bpf.prog_load(prog_type, insns, expected_attach_type=expected).fd
        said = []
        for kind in CGROUP_KINDS:
            attr = ATTRS[BpfCmd.LINK_CREATE].pack({"prog_fd": fd, "target_fd": 0xFFFF, "attach_type": kind})
            try:
                said.append(call(BpfCmd.LINK_CREATE, attr))
            except KernelError as error:
                said.append(error.errno_name)
        answers.append(dict(zip(CGROUP_KINDS, said, strict=True)))
    assert answers[0][expected] == "EBADF"
    assert answers[1] == answers[0]


@pytest.mark.parametrize(
    ("prog_type", "expected", "kind", "fits"),
    [
        (P.KPROBE, A.TRACE_KPROBE_MULTI, A.TRACE_KPROBE_MULTI, True),
        (P.KPROBE, A.TRACE_KPROBE_MULTI, A.PERF_EVENT, False),
        (P.KPROBE, A.CGROUP_INET_INGRESS, A.PERF_EVENT, True),
        (P.TRACEPOINT, A.CGROUP_INET_INGRESS, A.PERF_EVENT, True),
        (P.TRACEPOINT, A.CGROUP_INET_INGRESS, A.TRACE_FENTRY, False),
        (P.NETFILTER, A.NETFILTER, A.NETFILTER, True),
        (P.EXT, A.CGROUP_INET_INGRESS, A.XDP, True),
        (P.SCHED_CLS, A.TCX_INGRESS, A.TCX_EGRESS, True),
        (P.SCHED_CLS, A.TCX_INGRESS, A.XDP, False),
        (P.XDP, A.XDP, A.XDP, True),
        (P.XDP, A.XDP, A.XDP_DEVMAP, False),
        (P.SK_LOOKUP, A.SK_LOOKUP, A.SK_LOOKUP, True),
    ],
)
def test_rules(prog_type, expected, kind, fits) -> None:
    """The function's cases, read in kernel/bpf/syscall.c."""
    prog = Prog("p", prog_type, expected, (), (), ())
    if fits:
        check_attach_type("op", prog, kind)
        return
    with pytest.raises(KernelError, match="EINVAL"):
        check_attach_type("op", prog, kind)


def test_attach_types_without_a_program_type() -> None:
    assert known_attach_type("op", 37) is A.XDP
    for number in (A.XDP_DEVMAP, A.PERF_EVENT, 999):
        with pytest.raises(KernelError, match="EINVAL"):
            known_attach_type("op", number)
