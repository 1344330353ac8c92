"""Test runs of flow dissectors (``bpf_prog_test_run_flow_dissector`` and ``bpf_flow_dissect``, v6.18).

What comes out are the flow keys: ``struct bpf_flow_keys``.
"""

from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import ETH_HLEN, OP, TestRunAttr, ctx_init, finish, refuse_settings, run_repeated

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["test_run_flow_dissector"]

FLOW_KEYS_BYTES = 56
_NHOFF, _THOFF, _N_PROTO, _FLAGS = 0, 2, 10, 48
# struct bpf_flow_dissector: flow_keys, skb, data, data_end
DISSECTOR = Struct("<4Q")


def test_run_flow_dissector(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Let a program dissect a frame; of the context only the flags of the flow keys are taken."""
    refuse_settings(attr, "flags", "cpu", "batch_size")
    size = len(attr.data_in)
    if not ETH_HLEN <= size <= PAGE_SIZE:
        raise KernelError(OP, Errno.EINVAL, f"frame of {size} bytes, {ETH_HLEN} to {PAGE_SIZE} are possible")
    given = ctx_init(attr.ctx_in, FLOW_KEYS_BYTES, "struct bpf_flow_keys")
    if any(given[:_FLAGS]) or any(given[_FLAGS + 4 :]):
        raise KernelError(OP, Errno.EINVAL, "ctx_in: only flags can be set")
    mem = kernel.mem
    frame, keys, ctx = mem.alloc(size), mem.alloc(FLOW_KEYS_BYTES), mem.alloc(DISSECTOR.size)
    try:
        mem.write(frame, attr.data_in)
        start = bytearray(FLOW_KEYS_BYTES)
        start[_NHOFF : _THOFF + 2] = ETH_HLEN.to_bytes(2, "little") * 2
        start[_N_PROTO : _N_PROTO + 2] = attr.data_in[12:14]
        start[_FLAGS : _FLAGS + 4] = given[_FLAGS : _FLAGS + 4] or bytes(4)
        mem.write(keys, start)
        mem.write(ctx, DISSECTOR.pack(keys, 0, frame, frame + size))
        retval, duration_ns = run_repeated(prog, ctx, kernel.cpus[0], max(attr.repeat, 1), stats_enabled)
        # offsets are kept inside the frame
        nhoff = min(max(mem.load(keys + _NHOFF, 2), ETH_HLEN), size)
        mem.store(keys + _NHOFF, 2, nhoff)
        mem.store(keys + _THOFF, 2, min(max(mem.load(keys + _THOFF, 2), nhoff), size))
        found = mem.read(keys, FLOW_KEYS_BYTES)
    finally:
        for address in (frame, keys, ctx):
            mem.free(address)
    return TestRun(retval, finish(kernel, attr, found, retval), given, duration_ns)


test_run_flow_dissector.__test__ = False  # type: ignore[attr-defined]
