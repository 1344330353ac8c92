"""Helpers as machine code: in the place of their call (array look-ups, the clock, the number of the CPU), or called.

``MAP_ROUTINES`` says which native routine (``ebpfsim.jit.routine``) serves a helper on a map of some type; whoever
writes a routine adds a row. Helpers that look at no map have theirs by ``ebpfsim.helpers.native_text``.

What ``array_map_gen_lookup`` (kernel/bpf/arraymap.c, v6.18) and the verifier's inlining do in Linux. Results, costs and
the times that programs read are those of the helper; a kernel with another implementation of a helper keeps its call.
Look-ups are inlined for verified programs only: what the key pointer may be is proved there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ebpfsim.errors import KernelOops
from ebpfsim.helpers import map as map_helpers
from ebpfsim.helpers import misc, ringbuf, time
from ebpfsim.helpers.native_text import text_of
from ebpfsim.jit import layout
from ebpfsim.jit.encoder import RAX, RDX, RSI, Mem, insn, mov_imm, pop, push
from ebpfsim.jit.layout import BASE, LEFT, REGS, TMP, ram, word
from ebpfsim.jit.routine import ASK_INSTEAD, ASK_PYTHON, OTHER_COST, Routine, routine
from ebpfsim.jit.routines import array as array_routines
from ebpfsim.jit.routines import hash as hash_routines
from ebpfsim.jit.routines import queue as queue_routines
from ebpfsim.jit.routines import ringbuf as ringbuf_routines
from ebpfsim.jit.routines.numbers import NumbersRoutine, numbers_routine
from ebpfsim.maps.array import ArrayMap, PercpuArrayMap
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.hash_of_maps import HashOfMapsMap
from ebpfsim.maps.lru_hash import LruHashMap, LruPercpuHashMap
from ebpfsim.maps.map import Map
from ebpfsim.maps.percpu_hash import PercpuHashMap
from ebpfsim.maps.queue import QueueMap, StackMap
from ebpfsim.maps.ringbuf import RingbufMap
from ebpfsim.memory import KERNEL_BASE
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Runtime
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.cost import MAP_OPERATIONS, helper_ps, map_operation_ps, replace_extra_ps

__all__ = ["MAP_ROUTINES", "ON_MAPS", "InlineCall", "RoutineCall", "charge", "inline_call", "routine_call"]

_LOOKUP = HELPER_IDS["bpf_map_lookup_elem"]
_CPU = HELPER_IDS["bpf_get_smp_processor_id"]
IMM_MAX = (1 << 31) - 1
LEA_SHIFT_MAX = 3


class InlineCall(NamedTuple):
    """Code in place of a call: ``code``, then unless the condition ``unless`` holds ``rest``, else ``other``."""

    code: bytes
    unless: str = ""
    rest: bytes = b""
    other: bytes = b""


def inline_call(
    helper_id: int,
    kernel: Runtime,
    map_address: int | None,
    lead: int = 0,
    key_at: int | None = None,
    *,
    charged: bool = True,
) -> InlineCall | None:
    """Return the code of a helper call, or None.

    ``map_address`` is what R1 is known to be, where it may be used; ``lead`` is that of r9 (``ebpfsim.jit.account``).
    ``key_at`` is where the key of a look-up is from R10 on, where R2 need not tell; one that is not ``charged`` is
    counted elsewhere.
    """
    helper = kernel.helpers.get(helper_id)
    clock = _CLOCKS.get(helper) if helper is not None else None
    if clock is not None:
        now = _now_ns(kernel.costs.ps("insn"), lead)
        return InlineCall(charge(helper_ps(kernel.costs, helper_id)) + now + clock)
    if helper_id == _CPU and helper is misc.get_smp_processor_id:
        return InlineCall(charge(helper_ps(kernel.costs, helper_id)) + insn("mov_load", word(layout.W_CPU), RAX))
    map_ = _array(helper_id, kernel, map_address)
    return _lookup(kernel, map_, key_at, charged=charged) if map_ is not None else None


def inline_look_up_ps(helper_id: int, kernel: Runtime, map_address: int | None) -> int | None:
    """Return what a look-up in an array that is inline costs, None for other calls; it looks at nothing but the key."""
    map_ = _array(helper_id, kernel, map_address)
    return map_operation_ps(kernel.costs, _LOOKUP)(map_) if map_ is not None else None


@dataclass(frozen=True, slots=True)
class RoutineCall:
    """A native routine in place of a helper, and the cost of the call in picoseconds.

    ``other_ps`` is what a call costs whose routine returns ``OTHER_COST``; None where no routine does so. ``ask`` is
    the result that asks for the helper.
    """

    routine: Routine | NumbersRoutine
    cost_ps: int
    other_ps: int | None = None
    ask: int = ASK_PYTHON


# what a helper in Python that programs call on a map of exactly this type has as its routine; None: this map has none
MapRoutine = Callable[[Runtime, Map], RoutineCall | None]


def _served(helper: str, text_of: Callable[[Map, int], str | None]) -> MapRoutine:
    def find(kernel: Runtime, map_: Map) -> RoutineCall | None:
        cost_ps = map_operation_ps(kernel.costs, HELPER_IDS[helper])(map_)
        extra_ps = replace_extra_ps(kernel.costs, map_) if helper == "bpf_map_update_elem" else None
        text = text_of(map_, 0 if extra_ps is None else OTHER_COST)
        if text is None:
            return None
        return RoutineCall(routine(text), cost_ps, None if extra_ps is None else cost_ps + extra_ps)

    return find


def _record(helper: str, text_of: Callable[[Map], str | None]) -> MapRoutine:
    def find(kernel: Runtime, map_: Map) -> RoutineCall | None:
        text = text_of(map_)
        return RoutineCall(routine(text), helper_ps(kernel.costs, HELPER_IDS[helper])) if text is not None else None

    return find


_HASHES = (HashMap, PercpuHashMap, LruHashMap, LruPercpuHashMap)
_find_lookup = _served("bpf_map_lookup_elem", hash_routines.lookup)
_find_update = _served("bpf_map_update_elem", hash_routines.update)
_find_delete = _served("bpf_map_delete_elem", hash_routines.delete)
_find_percpu = _served("bpf_map_lookup_percpu_elem", hash_routines.lookup_percpu)
_find_array_update = _served("bpf_map_update_elem", array_routines.update)
_find_push = _served("bpf_map_push_elem", queue_routines.push)
_find_pop = _served("bpf_map_pop_elem", queue_routines.pop)
_find_peek = _served("bpf_map_peek_elem", queue_routines.peek)
MAP_ROUTINES: dict[tuple[Helper, type[Map]], MapRoutine] = {
    **{(map_helpers.map_lookup_elem, kind): _find_lookup for kind in (*_HASHES, HashOfMapsMap)},
    **{(map_helpers.map_update_elem, kind): _find_update for kind in _HASHES},
    **{(map_helpers.map_delete_elem, kind): _find_delete for kind in _HASHES},
    **{(map_helpers.map_lookup_percpu_elem, kind): _find_percpu for kind in (PercpuHashMap, LruPercpuHashMap)},
    **{(map_helpers.map_update_elem, kind): _find_array_update for kind in (ArrayMap, PercpuArrayMap)},
    **{(map_helpers.map_push_elem, kind): _find_push for kind in (QueueMap, StackMap)},
    **{(map_helpers.map_pop_elem, kind): _find_pop for kind in (QueueMap, StackMap)},
    **{(map_helpers.map_peek_elem, kind): _find_peek for kind in (QueueMap, StackMap)},
    (ringbuf.ringbuf_reserve, RingbufMap): _record("bpf_ringbuf_reserve", ringbuf_routines.reserve),
    (ringbuf.ringbuf_output, RingbufMap): _record("bpf_ringbuf_output", ringbuf_routines.output),
}
# helpers whose first argument may name a map with a routine
ON_MAPS = frozenset(
    (*MAP_OPERATIONS, *(HELPER_IDS[f"bpf_{name}"] for name in ("ringbuf_reserve", "ringbuf_output", "redirect_map")))
)


def routine_call(
    helper_id: int, kernel: Runtime, map_address: int | None, prog: Prog, *, checked: bool = False
) -> RoutineCall | None:
    """Return the routine that serves a helper call of a program, or None. ``map_address`` as in ``inline_call``."""
    helper = kernel.helpers.get(helper_id)
    if helper is misc.get_prandom_u32 and not checked:
        return RoutineCall(numbers_routine(misc.prandom_numbers(kernel)), helper_ps(kernel.costs, helper_id))
    text = text_of(helper) if helper is not None and not checked else None
    if isinstance(text, str):
        return RoutineCall(routine(text), helper_ps(kernel.costs, helper_id))
    map_ = _map_at(kernel, map_address)
    if text is not None:
        made = text(kernel, prog, map_)
        return RoutineCall(routine(made), helper_ps(kernel.costs, helper_id), ask=ASK_INSTEAD) if made else None
    if helper is None or map_ is None:
        return None
    find = MAP_ROUTINES.get((helper, type(map_)))
    return find(kernel, map_) if find is not None else None


def _map_at(kernel: Runtime, map_address: int | None) -> Map | None:
    if map_address is None:
        return None
    try:
        return kernel.map_at(map_address)
    except KernelOops:
        return None


def charge(cost_ps: int) -> bytes:
    """Return the code that adds to the cost of the run."""
    return insn("add_imm", word(layout.W_COST), imm=cost_ps)


def _now_ns(insn_ps: int, lead: int) -> bytes:
    # the clock, and the cost of this CPU's work: what Python knows of it, and what it does not know yet
    return b"".join(
        (
            insn("mov_load", word(layout.W_FLUSHED_AT), TMP),
            insn("sub", TMP, LEFT),
            insn("add_imm", TMP, imm=lead) if lead else b"",
            insn("imul3", TMP, TMP, insn_ps),
            insn("add_load", word(layout.W_COST), TMP),
            insn("add_load", word(layout.W_ELAPSED), TMP),
            insn("mov", RAX, TMP),
            _divided(1000),
            insn("add_load", word(layout.W_CLOCK), RAX),
        )
    )


def _divided(divisor: int) -> bytes:
    # RAX: a number in, its quotient out
    return push(RDX) + insn("xor", RDX, RDX, wide=False) + mov_imm(TMP, divisor) + insn("div", TMP) + pop(RDX)


def _plus(number: int) -> bytes:
    return mov_imm(TMP, number) + insn("add", RAX, TMP)


# what the clocks make of the nanoseconds since boot
_CLOCKS: dict[Helper, bytes] = {
    time.ktime_get_ns: b"",
    time.ktime_get_tai_ns: _plus(time.TAI_AT_BOOT_NS),
    time.ktime_get_coarse_ns: _divided(time.TICK_NS) + insn("imul3", RAX, RAX, time.TICK_NS),
    time.jiffies64: _divided(time.TICK_NS) + _plus(time.INITIAL_JIFFIES),
}


def _array(helper_id: int, kernel: Runtime, map_address: int | None) -> ArrayMap | None:
    # the map of a look-up that can be inline
    if helper_id != _LOOKUP or kernel.helpers.get(helper_id) is not map_helpers.map_lookup_elem:
        return None
    map_ = _map_at(kernel, map_address)
    if type(map_) not in (ArrayMap, PercpuArrayMap):
        return None
    assert isinstance(map_, ArrayMap)
    stride = map_.cpu_stride if isinstance(map_, PercpuArrayMap) else 0
    return map_ if max(map_.elem_size, map_.max_entries, stride) <= IMM_MAX else None


def _lookup(kernel: Runtime, map_: ArrayMap, key_at: int | None, *, charged: bool) -> InlineCall:
    address = _element(map_.values, map_.elem_size)
    if isinstance(map_, PercpuArrayMap):
        address += insn("mov_load", word(layout.W_CPU), TMP) + insn("imul3", TMP, TMP, map_.cpu_stride)
        address += insn("add", RAX, TMP)
    before, key = ram(RSI) if key_at is None else ram(REGS[10], key_at)
    cost = charge(map_operation_ps(kernel.costs, _LOOKUP)(map_)) if charged else b""
    load = cost + before + insn("mov_load", key, RAX, wide=False)
    bound = insn("cmp_imm", RAX, imm=map_.max_entries, wide=False)
    return InlineCall(load + bound, "ae", address, insn("xor", RAX, RAX, wide=False))


def _element(values: int, size: int) -> bytes:
    # the address of element RAX
    before, base, disp = b"", BASE, values - KERNEL_BASE
    if not layout.segment_serves() or disp > IMM_MAX:
        before, base, disp = mov_imm(TMP, values), TMP, 0
    shift = size.bit_length() - 1
    if size == 1 << shift and shift <= LEA_SHIFT_MAX:
        return before + insn("lea", Mem(base, disp, RAX, False, shift), RAX)
    scaled = insn("shl_imm", RAX, imm=shift) if size == 1 << shift else insn("imul3", RAX, RAX, size)
    return scaled + before + insn("lea", Mem(base, disp, RAX), RAX)
