"""Push, pop and peek of queues and stacks as eBPF assembly: what ``ebpfsim.maps.queue`` does in Python."""

from ebpfsim.errnos import Errno
from ebpfsim.jit.routines.copy import copy_function, copy_text, zero_function, zero_text
from ebpfsim.maps.map import Map
from ebpfsim.maps.queue import HEAD, RING, TAIL, QueueMap, StackMap
from ebpfsim.uapi.flags import BPF_EXIST

__all__ = ["peek", "pop", "push"]

IMM_MAX = (1 << 31) - 1


def push(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_map_push_elem(), or None when that is Python's."""
    assert isinstance(map_, QueueMap)
    places, size = map_.max_entries + 1, map_.value_size
    if places > IMM_MAX:
        return None
    return f"""
        if r3 == 0 goto allowed
        r0 = {-Errno.EINVAL}; if r3 != {BPF_EXIST} goto out
        allowed: r4 = *(u32 *)(r1 + {HEAD}); r5 = r4; {_next("r5", places, "wrapped")}
        r7 = *(u32 *)(r1 + {TAIL}); if r5 != r7 goto room
        r0 = {-Errno.E2BIG}; if r3 == 0 goto out
        {_next("r7", places, "forgotten")} *(u32 *)(r1 + {TAIL}) = r7
        room: r6 = *(u32 *)(r1 + {RING}); r4 *= {size}; r6 += r4
        {copy_text("copy", size, ("r6", 0), "r2", "r7")}
        *(u32 *)(r1 + {HEAD}) = r5; r0 = 0
        out: exit
        {copy_function("copy", size, ("r6", 0), "r2")}
    """


def pop(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_map_pop_elem(), or None when that is Python's."""
    return _take(map_, remove=True)


def peek(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_map_peek_elem(), or None when that is Python's."""
    return _take(map_, remove=False)


def _take(map_: Map, *, remove: bool) -> str | None:
    assert isinstance(map_, QueueMap)
    places, size = map_.max_entries + 1, map_.value_size
    if places > IMM_MAX:
        return None
    if isinstance(map_, StackMap):
        # the place before the head, which is the new head
        place = f"if r4 != 0 goto before; r4 = {places}; before: r4 += -1"
        changed = f"*(u32 *)(r1 + {HEAD}) = r4"
    else:
        place = "r4 = r5"
        changed = f"{_next('r5', places, 'wrapped')} *(u32 *)(r1 + {TAIL}) = r5"
    return f"""
        r4 = *(u32 *)(r1 + {HEAD}); r5 = *(u32 *)(r1 + {TAIL}); if r4 == r5 goto nothing
        {place}
        {changed if remove else ""}
        r6 = *(u32 *)(r1 + {RING}); r4 *= {size}; r6 += r4
        {copy_text("copy", size, ("r2", 0), "r6", "r7")}
        r0 = 0; exit
        nothing: {zero_text("zero", size, ("r2", 0))}
        r0 = {-Errno.ENOENT}; exit
        {copy_function("copy", size, ("r2", 0), "r6")}
        {zero_function("zero", size, ("r2", 0))}
    """


def _next(reg: str, places: int, label: str) -> str:
    return f"{reg} += 1; if {reg} != {places} goto {label}; {reg} = 0; {label}:"
