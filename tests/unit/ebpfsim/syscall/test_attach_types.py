"""bpf_prog_attach_check_attach_type() of kernel/bpf/syscall.c, v6.18: which attach types a program may have."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.attach_types import check_attach_type, known_attach_type
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P


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
