"""What a helper call costs, by helper and, for maps, by the type of the map.

Costs are rows of the kernel's cost profile. A helper has ``helper.<name>``, else ``helper``. An operation on a map has
``map.<type>.<operation>``, which is the whole call (Linux inlines look-ups of arrays and calls hash look-ups directly);
``map.<type>.replace`` stands for an update that found the key. Every engine charges by this table, before the helper
runs, so that what it does and the times it reads come after its cost.
"""

from collections.abc import Callable

from ebpfsim.costs import CostProfile
from ebpfsim.maps.map import Map
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_IDS, HELPER_NAMES

__all__ = ["MAP_OPERATIONS", "helper_ps", "map_operation_ps", "replace_extra_ps", "tail_call_key"]

# helpers whose first argument is the map that they work on
MAP_OPERATIONS: dict[int, str] = {
    HELPER_IDS["bpf_map_lookup_elem"]: "lookup",
    HELPER_IDS["bpf_map_lookup_percpu_elem"]: "lookup",
    HELPER_IDS["bpf_map_update_elem"]: "update",
    HELPER_IDS["bpf_map_delete_elem"]: "delete",
    HELPER_IDS["bpf_map_push_elem"]: "update",
    HELPER_IDS["bpf_map_pop_elem"]: "delete",
    HELPER_IDS["bpf_map_peek_elem"]: "lookup",
    HELPER_IDS["bpf_redirect_map"]: "lookup",
}

# helpers that have a row of their own under another name; None: its cost is part of another helper's
_OTHER_ROWS: dict[int, str | None] = {
    HELPER_IDS["bpf_ringbuf_output"]: "ringbuf.output",
    HELPER_IDS["bpf_ringbuf_reserve"]: "ringbuf.reserve_commit",
    HELPER_IDS["bpf_ringbuf_submit"]: None,
    HELPER_IDS["bpf_ringbuf_discard"]: None,
}


def helper_ps(costs: CostProfile, helper_id: int) -> int:
    """Return the cost of a helper call in picoseconds, operations on maps aside."""
    if helper_id in _OTHER_ROWS:
        key = _OTHER_ROWS[helper_id]
        return costs.ps(key) if key is not None else 0
    key = f"helper.{HELPER_NAMES.get(helper_id, helper_id)}"
    return costs.ps(key if key in costs.costs else "helper")


def map_operation_ps(costs: CostProfile, helper_id: int) -> Callable[[Map], int]:
    """Return what gives the cost of a helper's operation on a map, in picoseconds."""
    operation = MAP_OPERATIONS[helper_id]
    known: dict[MapType, int] = {}

    def cost(map_: Map) -> int:
        found = known.get(map_.attr.map_type)
        if found is None:
            key = f"map.{map_.attr.map_type.lower}.{operation}"
            found = costs.ps(key) if key in costs.costs else helper_ps(costs, helper_id)
            known[map_.attr.map_type] = found
        return found

    return cost


def replace_extra_ps(costs: CostProfile, map_: Map) -> int | None:
    """Return what replacing a value costs more than adding one, or None where the type makes no difference."""
    kind = f"map.{map_.attr.map_type.lower}"
    if f"{kind}.replace" not in costs.costs:
        return None
    return costs.ps(f"{kind}.replace") - costs.ps(f"{kind}.update")


def tail_call_key(direct: bool, mitigations: str) -> str:
    """Return the row of a tail call that is taken.

    The kernel patches a direct jump in where map and index are constants, else it jumps through a register
    (``emit_bpf_tail_call_direct`` and ``_indirect``, arch/x86/net/bpf_jit_comp.c).
    """
    if direct:
        return "tail.direct"
    return "tail.indirect" if mitigations == "off" else "tail.indirect.retpoline"
