"""The lists of LRU maps as eBPF assembly: what ``ebpfsim.maps.lru`` does in Python, function by function.

R9 is the map in all of them, R1 a set of lists, R2 a node, R6 what belongs to a CPU (common variant). Heads are named
by 64-bit addresses, nodes by 32-bit offsets: comparisons are of 32 bits.
"""

from ebpfsim.maps.hash_table import BUCKETS, COUNT, HASH, MASK
from ebpfsim.maps.lru import (
    ACTIVE,
    COUNTS,
    FREE,
    FRESH,
    FRESH_LOW,
    HEADS,
    INACTIVE,
    L_CPU,
    L_KIND,
    L_NEXT,
    L_PREV,
    L_REF,
    LIST_BYTES,
    LISTS,
    LOCAL_BYTES,
    LOCAL_FREE,
    LOCAL_FREE_HEAD,
    LOCAL_FREE_TARGET,
    LOCAL_PENDING,
    LOCALS,
    NEXT_STEAL,
    PENDING_HEAD,
    PERCPU_FREE_TARGET,
    ROTATION,
    TARGET_FREE,
)

__all__ = ["functions", "push_functions"]

CPU = "call bpf_get_smp_processor_id"
# from a set of lists, or from what belongs to a CPU, to the name of a head
HEAD_ACTIVE, HEAD_INACTIVE, HEAD_FREE = (HEADS + 8 * kind - L_NEXT for kind in (ACTIVE, INACTIVE, FREE))
LAST_ACTIVE, LAST_INACTIVE = HEAD_ACTIVE + L_PREV, HEAD_INACTIVE + L_PREV
COUNT_ACTIVE, COUNT_INACTIVE = COUNTS + 4 * ACTIVE, COUNTS + 4 * INACTIVE
LOCAL_FREE_OF, PENDING_OF = LOCAL_FREE_HEAD - L_NEXT, PENDING_HEAD - L_NEXT


def _unlink(node: str, after: str, before: str) -> str:
    load = f"{after} = *(u32 *)({node} + {L_NEXT}); {before} = *(u32 *)({node} + {L_PREV})"
    return f"{load}; *(u32 *)({before} + {L_NEXT}) = {after}; *(u32 *)({after} + {L_PREV}) = {before}"


def _add(node: str, head: str, first: str) -> str:
    load = f"{first} = *(u32 *)({head} + {L_NEXT}); *(u32 *)({node} + {L_NEXT}) = {first}"
    link = f"*(u32 *)({node} + {L_PREV}) = {head}; *(u32 *)({first} + {L_PREV}) = {node}"
    return f"{load}; {link}; *(u32 *)({head} + {L_NEXT}) = {node}"


def _leave(label: str) -> str:
    # _Lists._leave() of node r2; r0, r4 and r5 change
    return f"""
        r4 = *(u32 *)(r1 + {ROTATION}); if w4 != w2 goto {label}_elsewhere
        r4 = *(u32 *)(r2 + {L_PREV}); *(u32 *)(r1 + {ROTATION}) = r4
        {label}_elsewhere: r4 = *(u8 *)(r2 + {L_KIND}); if r4 == {FREE} goto {label}_left
        r4 <<= 2; r4 += r1; r0 = -1; lock *(u32 *)(r4 + {COUNTS}) += r0
        {label}_left:
    """


# to the front of list r3
MOVE = f"""
    move:
        {_leave("move")}
        if r3 == {FREE} goto move_counted
        r4 = r3; r4 <<= 2; r4 += r1; r0 = 1; lock *(u32 *)(r4 + {COUNTS}) += r0
        move_counted: *(u8 *)(r2 + {L_KIND}) = r3; *(u8 *)(r2 + {L_REF}) = 0
        {_unlink("r2", "r0", "r5")}
        r4 = r3; r4 <<= 3; r4 += r1; r4 += {HEADS - L_NEXT}
        {_add("r2", "r4", "r0")}
        exit
"""

# HashTable.remove(): R0 tells whether the node was in the map
REMOVE = f"""
    remove:
        r3 = *(u32 *)(r2 + {HASH}); r4 = *(u32 *)(r9 + {MASK}); r3 &= r4; r3 <<= 2
        r4 = *(u32 *)(r9 + {BUCKETS}); r3 += r4
        remove_next: r4 = *(u32 *)(r3 + 0); if w4 == w2 goto remove_found
        r0 = 0; if r4 == 0 goto remove_out
        r3 = r4; goto remove_next
        remove_found: r4 = *(u32 *)(r2 + 0); *(u32 *)(r3 + 0) = r4
        r4 = -1; lock *(u32 *)(r9 + {COUNT}) += r4; r0 = 1
        remove_out: exit
"""


def _rotate(nr_scans: int) -> str:
    return f"""
    rotate:
        r3 = *(u32 *)(r1 + {COUNT_INACTIVE}); r4 = *(u32 *)(r1 + {COUNT_ACTIVE}); if r3 >= r4 goto rotate_inactive
        r6 = r1; r6 += {HEAD_ACTIVE}; r7 = *(u32 *)(r6 + {L_NEXT}); r2 = *(u32 *)(r6 + {L_PREV}); r8 = {nr_scans}
        rotate_next: if w2 == w6 goto rotate_inactive
        r5 = *(u32 *)(r2 + {L_PREV}); r3 = *(u8 *)(r2 + {L_REF}); r3 ^= 1
        call move
        r8 -= 1; if r8 == 0 goto rotate_inactive
        if w2 == w7 goto rotate_inactive
        r2 = r5; goto rotate_next
        rotate_inactive: r6 = r1; r6 += {HEAD_INACTIVE}; r3 = *(u32 *)(r6 + {L_NEXT}); if w3 == w6 goto rotate_out
        r2 = *(u32 *)(r1 + {ROTATION}); r5 = r2; r7 = *(u32 *)(r2 + {L_NEXT}); if w7 != w6 goto rotate_to
        r7 = *(u32 *)(r7 + {L_NEXT})
        rotate_to: r8 = {nr_scans}
        rotate_scan: if w2 != w6 goto rotate_node
        r2 = *(u32 *)(r2 + {L_PREV}); goto rotate_scan
        rotate_node: r5 = *(u32 *)(r2 + {L_PREV}); r3 = *(u8 *)(r2 + {L_REF}); if r3 == 0 goto rotate_unused
        r3 = {ACTIVE}; call move
        rotate_unused: if w2 == w7 goto rotate_set
        r2 = r5; r8 -= 1; if r8 != 0 goto rotate_scan
        rotate_set: *(u32 *)(r1 + {ROTATION}) = r5
        rotate_out: exit
    """


def _first_free(elem_size: int, fresh_cpu: str) -> str:
    # R0: the node at the front of the free list, or 0
    return f"""
    first_free:
        r2 = r1; r2 += {HEAD_FREE}; r0 = *(u32 *)(r2 + {L_NEXT}); if w0 != w2 goto first_free_out
        {CPU}; r5 = r0
        r0 = *(u32 *)(r1 + {FRESH}); r0 += -{elem_size}; r3 = *(u32 *)(r1 + {FRESH_LOW})
        if r0 >= r3 goto first_free_take
        r0 = 0; exit
        first_free_take: *(u32 *)(r1 + {FRESH}) = r0
        *(u8 *)(r0 + {L_KIND}) = {FREE}; *(u8 *)(r0 + {L_REF}) = 0; *(u16 *)(r0 + {L_CPU}) = {fresh_cpu}
        {_add("r0", "r2", "r3")}
        first_free_out: exit
    """


def _give(kind: int) -> str:
    # to the free list with head r7
    return f"""
    give:
        {_leave("give")}
        *(u8 *)(r2 + {L_KIND}) = {kind}; *(u8 *)(r2 + {L_REF}) = 0
        {_unlink("r2", "r0", "r5")}
        {_add("r2", "r7", "r0")}
        exit
    """


def _shrink(nr_scans: int) -> str:
    # r5 nodes wanted, on the free list with head r7
    return f"""
    shrink:
        r4 = 0; r6 = {nr_scans}; r2 = *(u32 *)(r1 + {LAST_INACTIVE})
        shrink_next: r3 = r1; r3 += {HEAD_INACTIVE}; if w2 == w3 goto shrink_done
        r8 = *(u32 *)(r2 + {L_PREV}); r3 = *(u8 *)(r2 + {L_REF}); if r3 == 0 goto shrink_unused
        r3 = {ACTIVE}; call move; goto shrink_on
        shrink_unused: call remove; if r0 == 0 goto shrink_on
        call give; r4 += 1; if r4 == r5 goto shrink_done
        shrink_on: r6 -= 1; if r6 == 0 goto shrink_done
        r2 = r8; goto shrink_next
        shrink_done: if r4 != 0 goto shrink_out
        r3 = r1; r3 += {HEAD_INACTIVE}; r2 = *(u32 *)(r1 + {LAST_INACTIVE}); if w2 != w3 goto shrink_force
        r3 = r1; r3 += {HEAD_ACTIVE}; r2 = *(u32 *)(r1 + {LAST_ACTIVE})
        shrink_force: if w2 == w3 goto shrink_out
        call remove; if r0 != 0 goto shrink_last
        r2 = *(u32 *)(r2 + {L_PREV}); goto shrink_force
        shrink_last: call give
        shrink_out: exit
    """


def _common(nr_cpus: int) -> str:
    return _take() + _steal(nr_cpus)


def _take() -> str:
    return f"""
    pop:
        {CPU}; r6 = r0; r6 *= {LOCAL_BYTES}; r6 += r9; r6 += {LOCALS}
        call pop_local; if r0 != 0 goto pop_got
        call refill; call pop_local; if r0 != 0 goto pop_got
        call steal; if r0 == 0 goto pop_out
        pop_got: r2 = r0; {CPU}; *(u16 *)(r2 + {L_CPU}) = r0
        *(u8 *)(r2 + {L_KIND}) = {LOCAL_PENDING}; *(u8 *)(r2 + {L_REF}) = 0
        r6 += {PENDING_OF}
        {_add("r2", "r6", "r0")}
        r0 = r2
        pop_out: exit

    pop_local:
        r1 = r6; r1 += {LOCAL_FREE_OF}; r0 = *(u32 *)(r1 + {L_NEXT}); if w0 != w1 goto pop_local_take
        r0 = 0; exit
        pop_local_take: {_unlink("r0", "r1", "r2")}
        exit

    refill:
        r1 = r9; r1 += {LISTS}; r7 = r6; r7 += {PENDING_OF}; r2 = *(u32 *)(r7 + {L_PREV})
        refill_in: if w2 == w7 goto refill_rotate
        r8 = *(u32 *)(r2 + {L_PREV}); r3 = *(u8 *)(r2 + {L_REF}); r3 ^= 1
        r4 = r3; r4 <<= 2; r4 += r1; r0 = 1; lock *(u32 *)(r4 + {COUNTS}) += r0
        *(u8 *)(r2 + {L_KIND}) = r3; *(u8 *)(r2 + {L_REF}) = 0
        {_unlink("r2", "r0", "r5")}
        r3 <<= 3; r3 += r1; r3 += {HEADS - L_NEXT}
        {_add("r2", "r3", "r0")}
        r2 = r8; goto refill_in
        refill_rotate: call rotate
        r7 = r6; r7 += {LOCAL_FREE_OF}; r5 = *(u32 *)(r9 + {TARGET_FREE})
        refill_next: call first_free; if r0 == 0 goto refill_shrink
        r2 = r0; call give; r5 -= 1; if r5 != 0 goto refill_next
        exit
        refill_shrink: call shrink; exit
    """


def _steal(nr_cpus: int) -> str:
    return f"""
    steal:
        r5 = r6; r7 = *(u32 *)(r5 + {NEXT_STEAL}); r8 = r7
        steal_next: r6 = r7; r6 *= {LOCAL_BYTES}; r6 += r9; r6 += {LOCALS}
        call pop_local; if r0 != 0 goto steal_got
        call pop_pending
        steal_got: r7 += 1; if r7 != {nr_cpus} goto steal_on
        r7 = 0
        steal_on: if r0 != 0 goto steal_out
        if r7 != r8 goto steal_next
        steal_out: *(u32 *)(r5 + {NEXT_STEAL}) = r7; exit

    pop_pending:
        r7 = 1
        pop_pending_again: r3 = r6; r3 += {PENDING_OF}; r2 = *(u32 *)(r3 + {L_PREV})
        pop_pending_next: if w2 == w3 goto pop_pending_end
        r8 = *(u32 *)(r2 + {L_PREV}); if r7 == 0 goto pop_pending_try
        r4 = *(u8 *)(r2 + {L_REF}); if r4 != 0 goto pop_pending_on
        pop_pending_try: call remove; if r0 == 0 goto pop_pending_on
        {_unlink("r2", "r0", "r1")}
        r0 = r2; exit
        pop_pending_on: r2 = r8; goto pop_pending_next
        pop_pending_end: r0 = 0; if r7 == 0 goto pop_pending_out
        r7 = 0; goto pop_pending_again
        pop_pending_out: exit
    """


PERCPU = f"""
    pop:
        {CPU}; r1 = r0; r1 *= {LIST_BYTES}; r1 += r9; r1 += {LISTS}
        call rotate; call first_free; if r0 != 0 goto pop_got
        r5 = {PERCPU_FREE_TARGET}; r7 = r1; r7 += {HEAD_FREE}; call shrink
        call first_free; if r0 == 0 goto pop_out
        pop_got: r2 = r0; r3 = {INACTIVE}; call move; r0 = r2
        pop_out: exit
"""

PUSH_COMMON = f"""
    push_free:
        r3 = *(u8 *)(r2 + {L_KIND}); if r3 == {LOCAL_PENDING} goto push_free_local
        r1 = r9; r1 += {LISTS}; r3 = {FREE}; call move; exit
        push_free_local: *(u8 *)(r2 + {L_KIND}) = {LOCAL_FREE}; *(u8 *)(r2 + {L_REF}) = 0
        r3 = *(u16 *)(r2 + {L_CPU}); r3 *= {LOCAL_BYTES}; r3 += r9; r3 += {LOCALS + LOCAL_FREE_OF}
        {_unlink("r2", "r0", "r1")}
        {_add("r2", "r3", "r0")}
        exit
"""

PUSH_PERCPU = f"""
    push_free:
        r1 = *(u16 *)(r2 + {L_CPU}); r1 *= {LIST_BYTES}; r1 += r9; r1 += {LISTS}; r3 = {FREE}; call move; exit
"""


def push_functions(variant: str) -> str:
    """Return ``push_free`` (node R2, map R9) and what it calls, for the "common" or the "percpu" variant."""
    return (PUSH_COMMON if variant == "common" else PUSH_PERCPU) + MOVE


def functions(variant: str, elem_size: int, nr_cpus: int) -> str:
    """Return ``pop`` (map R9; R0 the node, or 0), ``push_free`` and what they call."""
    if variant == "common":
        nr_scans, given, fresh_cpu, pop = LOCAL_FREE_TARGET, LOCAL_FREE, "0", _common(nr_cpus)
    else:
        nr_scans, given, fresh_cpu, pop = PERCPU_FREE_TARGET, FREE, "r5", PERCPU
    lists = _rotate(nr_scans) + _first_free(elem_size, fresh_cpu) + _give(given) + _shrink(nr_scans)
    return push_functions(variant) + REMOVE + lists + pop
