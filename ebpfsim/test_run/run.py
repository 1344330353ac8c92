"""BPF_PROG_TEST_RUN: which program type is run how (net/bpf/test_run.c, v6.18).

Programs run on the first CPU (raw tracepoints on the one that is asked for), ``repeat`` times on the same input.

Differs: a test run takes no simulated time; the clock that a program reads goes on only while it runs.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import OP, TestRunAttr
from ebpfsim.test_run.flow_dissector import test_run_flow_dissector
from ebpfsim.test_run.netfilter import test_run_nf
from ebpfsim.test_run.raw_tp import test_run_raw_tp
from ebpfsim.test_run.sk_lookup import test_run_sk_lookup
from ebpfsim.test_run.skb import SKB_TYPES, test_run_skb
from ebpfsim.test_run.struct_ops import test_run_struct_ops
from ebpfsim.test_run.syscall import test_run_syscall
from ebpfsim.test_run.tracing import test_run_tracing
from ebpfsim.test_run.xdp import test_run_xdp
from ebpfsim.uapi.bpf import ProgType

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["test_run"]

# types whose bpf_prog_ops have no test_run (include/linux/bpf_types.h and the tables it names)
WITHOUT_TEST_RUN = {
    ProgType.KPROBE,
    ProgType.TRACEPOINT,
    ProgType.PERF_EVENT,
    ProgType.CGROUP_SOCK,
    ProgType.SOCK_OPS,
    ProgType.SK_SKB,
    ProgType.LWT_SEG6LOCAL,
    ProgType.CGROUP_DEVICE,
    ProgType.SK_MSG,
    ProgType.CGROUP_SOCK_ADDR,
    ProgType.LIRC_MODE2,
    ProgType.SK_REUSEPORT,
    ProgType.CGROUP_SYSCTL,
    ProgType.CGROUP_SOCKOPT,
    ProgType.EXT,
    ProgType.LSM,
    ProgType.RAW_TRACEPOINT_WRITABLE,
}
# (kernel, program, input, whether statistics are kept) -> what came out
RUNNERS: Mapping[ProgType, Callable[["BpfKernel", Prog, TestRunAttr, bool], TestRun]] = {
    ProgType.XDP: test_run_xdp,
    **dict.fromkeys(sorted(SKB_TYPES), test_run_skb),
    ProgType.RAW_TRACEPOINT: test_run_raw_tp,
    ProgType.SYSCALL: test_run_syscall,
    ProgType.SK_LOOKUP: test_run_sk_lookup,
    ProgType.FLOW_DISSECTOR: test_run_flow_dissector,
    ProgType.NETFILTER: test_run_nf,
    ProgType.TRACING: test_run_tracing,
    ProgType.STRUCT_OPS: test_run_struct_ops,
}


def test_run(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, *, stats_enabled: bool) -> TestRun:
    """Run a program on input that the caller makes up."""
    if prog.type in WITHOUT_TEST_RUN:
        raise KernelError(OP, Errno.ENOTSUPP, f"a {prog.type.lower} program")
    runner = RUNNERS.get(prog.type)
    if runner is None:
        raise NotModelled(f"BPF_PROG_TEST_RUN of {prog.type.kernel_name}", "net/bpf/test_run.c")
    return runner(kernel, prog, attr, stats_enabled)


test_run.__test__ = False  # type: ignore[attr-defined]
