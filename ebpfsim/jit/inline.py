"""Helpers as machine code in the place of their call: array look-ups, the clock, the number of the CPU.

What ``array_map_gen_lookup`` (kernel/bpf/arraymap.c, v6.18) and the verifier's inlining do in Linux. Results, costs and
the times that programs read are those of the helper; a kernel with another implementation of a helper keeps its call.
Look-ups are inlined for verified programs only: what the key pointer may be is proved there.
"""

from ebpfsim.errors import KernelOops
from ebpfsim.helpers import map as map_helpers
from ebpfsim.helpers import misc, time
from ebpfsim.jit import layout
from ebpfsim.jit.encoder import RAX, RDX, RSI, Mem, insn, mov_imm, pop, push, short_jcc, short_jmp
from ebpfsim.jit.layout import BASE, LEFT, TMP, word
from ebpfsim.maps.array import ArrayMap, PercpuArrayMap
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.cost import helper_ps, map_operation_ps

__all__ = ["inline_call"]

_LOOKUP = HELPER_IDS["bpf_map_lookup_elem"]
_CPU = HELPER_IDS["bpf_get_smp_processor_id"]
_CLOCKS = (HELPER_IDS["bpf_ktime_get_ns"], HELPER_IDS["bpf_ktime_get_boot_ns"])
IMM_MAX = (1 << 31) - 1


def inline_call(helper_id: int, kernel: Runtime, map_address: int | None) -> bytes:
    """Return the code of a helper call, or nothing. ``map_address`` is what R1 is known to be, where it may be used."""
    helper = kernel.helpers.get(helper_id)
    if helper_id in _CLOCKS and helper is time.ktime_get_ns:
        return _charge(helper_ps(kernel.costs, helper_id)) + _now_ns(kernel.costs.ps("insn"))
    if helper_id == _CPU and helper is misc.get_smp_processor_id:
        return _charge(helper_ps(kernel.costs, helper_id)) + insn("mov_load", word(layout.W_CPU), RAX)
    if helper_id == _LOOKUP and helper is map_helpers.map_lookup_elem and map_address is not None:
        return _lookup(kernel, map_address)
    return b""


def _charge(cost_ps: int) -> bytes:
    return insn("add_imm", word(layout.W_COST), imm=cost_ps)


def _now_ns(insn_ps: int) -> bytes:
    # the clock, and the cost of this CPU's work: what Python knows of it, and what it does not know yet
    return b"".join(
        (
            insn("mov_load", word(layout.W_FLUSHED_AT), TMP),
            insn("sub", TMP, LEFT),
            insn("imul3", TMP, TMP, insn_ps),
            insn("add_load", word(layout.W_COST), TMP),
            insn("add_load", word(layout.W_ELAPSED), TMP),
            push(RDX),
            insn("mov", RAX, TMP),
            insn("xor", RDX, RDX, wide=False),
            mov_imm(TMP, 1000),
            insn("div", TMP),
            pop(RDX),
            insn("add_load", word(layout.W_CLOCK), RAX),
        )
    )


def _lookup(kernel: Runtime, map_address: int) -> bytes:
    try:
        map_ = kernel.map_at(map_address)
    except KernelOops:
        return b""
    if type(map_) not in (ArrayMap, PercpuArrayMap):
        return b""
    assert isinstance(map_, ArrayMap)
    if max(map_.elem_size, map_.max_entries) > IMM_MAX:
        return b""
    address = insn("imul3", RAX, RAX, map_.elem_size) + mov_imm(TMP, map_.values) + insn("add", RAX, TMP)
    if isinstance(map_, PercpuArrayMap):
        if map_.cpu_stride > IMM_MAX:
            return b""
        address += insn("mov_load", word(layout.W_CPU), TMP) + insn("imul3", TMP, TMP, map_.cpu_stride)
        address += insn("add", RAX, TMP)
    none = insn("xor", RAX, RAX, wide=False)
    address += short_jmp(len(none))
    return b"".join(
        (
            _charge(map_operation_ps(kernel.costs, _LOOKUP)(map_)),
            insn("mov", TMP, RSI, wide=False),
            insn("mov_load", Mem(BASE, 0, TMP), RAX, wide=False),
            insn("cmp_imm", RAX, imm=map_.max_entries, wide=False),
            short_jcc("ae", len(address)),
            address,
            none,
        )
    )
