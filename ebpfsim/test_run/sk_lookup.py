"""Test runs of programs that look sockets up (``bpf_prog_test_run_sk_lookup``, v6.18).

Left out: what the program chose; there is no socket that it could have chosen.
"""

from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import OP, TestRunAttr, ctx_init, refuse_settings, run_repeated

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["test_run_sk_lookup"]

# struct bpf_sk_lookup: sk or cookie, family, protocol, remote_ip4, remote_ip6, remote_port, local_ip4, local_ip6,
# local_port, ingress_ifindex
SK_LOOKUP = Struct("<QII4s16sHxx4s16sI4x")
SK_LOOKUP_BYTES = 72
_LOCAL_PORT_END = 64
# struct bpf_sk_lookup_kern: family, protocol, sport (big-endian), dport, v4, v6, selected_sk, ingress_ifindex and flags
KERN = Struct("<HHHHIIQQQII")
AF_INET, AF_INET6 = 2, 10
U16_MAX = 0xFFFF
SK_DROP, SK_PASS = 0, 1


def test_run_sk_lookup(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Run a program on the addresses of a context; it is what there is of a packet."""
    refuse_settings(attr, "flags", "cpu", "batch_size", "data_in", "data_size_out")
    given = ctx_init(attr.ctx_in, SK_LOOKUP_BYTES, "struct bpf_sk_lookup")
    if not given:
        raise KernelError(OP, Errno.EINVAL, "no ctx_in")
    mem = kernel.mem
    cookie, family, protocol, saddr4, saddr6, sport, daddr4, daddr6, local_port = _fields(given)
    if cookie or any(given[_LOCAL_PORT_END:]):
        raise KernelError(OP, Errno.EINVAL, "ctx_in: sk and what follows local_port must be 0")
    if local_port > U16_MAX:
        raise KernelError(OP, Errno.ERANGE, f"ctx_in: local_port {local_port}")
    if family & U16_MAX not in (AF_INET, AF_INET6):
        raise KernelError(OP, Errno.EAFNOSUPPORT, f"ctx_in: family {family}")
    ctx = mem.alloc(KERN.size + 32, what="the context of a test run")
    try:
        v4, v6 = (0, 0), (0, 0)
        if family & U16_MAX == AF_INET:
            v4 = int.from_bytes(saddr4, "little"), int.from_bytes(daddr4, "little")
        else:
            # pointers to the addresses
            v6 = ctx + KERN.size, ctx + KERN.size + 16
            mem.write(v6[0], saddr6 + daddr6)
        head = (family & U16_MAX, protocol & U16_MAX, sport, local_port)
        mem.write(ctx, KERN.pack(*head, *v4, *v6, 0, 0, 0))
        retval, duration_ns = run_repeated(prog, ctx, kernel.cpus[0], max(attr.repeat, 1), stats_enabled)
    finally:
        mem.free(ctx)
    # BPF_PROG_SK_LOOKUP_RUN_ARRAY(): whatever the program returns, this is a verdict
    return TestRun(SK_PASS if retval == SK_PASS else SK_DROP, b"", given, duration_ns)


test_run_sk_lookup.__test__ = False  # type: ignore[attr-defined]


def _fields(given: bytes) -> tuple[int, int, int, bytes, bytes, int, bytes, bytes, int]:
    return SK_LOOKUP.unpack(given[: SK_LOOKUP.size])
