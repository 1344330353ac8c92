"""bpf_tail_call(): which program follows (kernel/bpf/core.c and emit_bpf_tail_call_indirect(), v6.18).

The jump itself is the engine's. One counter serves the whole activation, all its functions included
(``tail_call_cnt_ptr`` of the x86 JIT); an empty slot does not count.
"""

from typing import Protocol, cast

from ebpfsim.errors import KernelOops
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Run
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import MAX_TAIL_CALL_CNT

__all__ = ["tail_call_target"]


class _ProgArray(Protocol):
    def prog_at(self, index: int) -> Prog | None: ...


def tail_call_target(run: Run, map_address: int, index: int) -> Prog | None:
    """Return the program in slot ``index`` (u32) of a program array and count the call, or None for a miss."""
    map_ = run.kernel.map_at(map_address)
    if map_.attr.map_type != MapType.PROG_ARRAY:
        raise KernelOops(f"tail call through a map of type {map_.attr.map_type.lower}", address=map_address)
    if index >= map_.attr.max_entries or run.tail_calls >= MAX_TAIL_CALL_CNT:
        return None
    prog = cast(_ProgArray, map_).prog_at(index)
    if prog is not None:
        run.tail_calls += 1
    return prog
