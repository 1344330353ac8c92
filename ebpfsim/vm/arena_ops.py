"""Closures of accesses to an arena, and of casts between its address spaces.

A program has pointers of user space; the kernel takes their low 32 bits and adds its own base (``BPF_PROBE_MEM32`` in
arch/x86/net/bpf_jit_comp.c, v6.18). Where there is no page a load gives 0, and a store is left out.

Differs: Linux reports such an access in the program's stream; in debug mode it is an oops here.
"""

from collections.abc import Callable

from ebpfsim.errors import KernelOops, NotModelled
from ebpfsim.isa.alu import M32
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Form, Row
from ebpfsim.maps.arena import ArenaMap
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.vm.mem_ops import Place
from ebpfsim.vm.state import ADDRESS, Op, State

__all__ = ["CAST_KERN", "CAST_USER", "access", "arena_of", "cast"]

# imm of the cast: destination and source address space, where 1 is the arena (BPF_ADDR_SPACE_CAST in the verifier)
CAST_KERN, CAST_USER = 0 << 16 | 1, 1 << 16 | 0
_LOADS = (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)


def arena_of(prog: Prog) -> ArenaMap | None:
    """Return the arena of a program, which has one at most."""
    return next((map_ for map_ in prog.maps if isinstance(map_, ArenaMap)), None)


def access(
    row: Row, insn: Insn, arena: ArenaMap | None, plain: Callable[[Insn], Op], debugged: Place | None = None
) -> Op:
    """Do what ``row`` does outside of arenas; ``plain`` makes its closure for another base register and offset.

    ``debugged`` is the place that is to be told where there is no page; None where that is allowed.
    """
    load = row.form in _LOADS
    base, off, size, dst = insn.src if load else insn.dst, insn.off, row.size, insn.dst
    if arena is None:
        raise NotModelled(f"'{row.name}' in an arena by a program that has none", "kernel/bpf/arena.c")
    do = plain(insn._replace(**{"src" if load else "dst": ADDRESS, "off": 0}))
    first, last, touched = arena.user_vm_start & M32, size - 1, arena.touched

    def op(state: State) -> None:
        place = (state[base] & M32) - first + off
        if place >= 0 and touched(place // PAGE_SIZE) and touched((place + last) // PAGE_SIZE):
            state[ADDRESS] = arena.base + place
            do(state)
        elif debugged is not None:
            raise _no_page(arena, row, place, debugged)
        elif load:
            state[dst] = 0

    return op


def _no_page(arena: ArenaMap, row: Row, place: int, debugged: Place) -> KernelOops:
    kind = "read" if row.form in _LOADS else "write"
    inside = place >= 0 and place + row.size <= arena.max_entries * PAGE_SIZE
    bug = "arena-use-of-no-page" if inside else "arena-out-of-bounds"
    about = f"page {place // PAGE_SIZE} of map '{arena.name}', which has {arena.max_entries}"
    return KernelOops(f"{bug}: {kind} of {row.size} bytes", *debugged, arena.user_vm_start + place, about)


def cast(insn: Insn, arena: ArenaMap | None) -> Op:
    """dst = src as a pointer of the kernel (its low half), or of user space, where 0 stays 0."""
    dst, src = insn.dst, insn.src
    if insn.imm not in (CAST_KERN, CAST_USER):
        raise NotModelled(f"address space cast {insn.imm:#x}", "kernel/bpf/verifier.c")
    upper = arena.user_vm_start & ~M32 if arena is not None and insn.imm == CAST_USER else 0

    def op(state: State) -> None:
        low = state[src] & M32
        state[dst] = upper | low if low else 0

    return op
