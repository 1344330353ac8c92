"""What conversions of context accesses are made of: members of structures, directly and behind pointers.

A conversion takes an access and gives the instructions that replace it and the bytes that a load has loaded, as
``convert_ctx_access`` of the kernel's program types does (net/core/filter.c, v6.18).
"""

from collections.abc import Callable
from typing import NamedTuple

from ebpfsim.isa.insn import Insn
from ebpfsim.verifier.kernel_offsets import KERNEL_OFFSETS
from ebpfsim.verifier.opcodes import BPF_B, BPF_DW, BPF_H, BPF_LDX, BPF_MEM, BPF_STX, BPF_W, SIZE_BYTES

__all__ = ["WIDTHS", "Access", "Conversion", "Member", "as_it_is", "behind", "load", "member", "offset", "store"]

WIDTHS = {size: width for width, size in SIZE_BYTES.items()}
R9 = 9


class Access(NamedTuple):
    """An access to the context. A narrow load comes as the wide one that holds it, cut afterwards.

    ``delta`` is the offset in the field; ``tstamp_type`` tells that the program asks how times of packets are meant.
    """

    insn: Insn
    delta: int = 0
    tstamp_type: bool = False

    @property
    def write(self) -> bool:
        """Whether the context is written to."""
        return self.insn.code & 7 != BPF_LDX

    @property
    def width(self) -> int:
        """The width of the access, as in its code."""
        return self.insn.code & 0x18


# the instructions, and the bytes that a load has loaded
Conversion = Callable[[Access], tuple[list[Insn], int]]
Member = tuple[str, str]


def offset(*members: Member) -> int:
    """Return the offset of a member, or of one in what another holds."""
    return sum(KERNEL_OFFSETS[each] for each in members)


def load(width: int, dst: int, src: int, off: int) -> Insn:
    """Return a load."""
    return Insn(BPF_LDX | BPF_MEM | width, dst, src, off, 0)


def store(access: Access, width: int, off: int, base: int | None = None) -> Insn:
    """Return the store of what the access stores, a register or a constant (``BPF_EMIT_STORE``)."""
    insn = access.insn
    dst = insn.dst if base is None else base
    return Insn(insn.code & 7 | BPF_MEM | width, dst, insn.src, off, insn.imm)


def as_it_is(access: Access) -> tuple[list[Insn], int]:
    """Leave an access to a structure that the program sees itself."""
    return [access.insn], SIZE_BYTES[access.width]


def member(width: int, *members: Member) -> Conversion:
    """Return the conversion to a member of what the context really is."""
    base = offset(*members)

    def convert(access: Access) -> tuple[list[Insn], int]:
        off = base + access.delta
        if access.write:
            return [store(access, width, off)], 0
        return [load(width, access.insn.dst, access.insn.src, off)], SIZE_BYTES[width]

    return convert


def behind(pointers: tuple[Member, ...], width: int | None, *members: Member, tmp: Member | None = None) -> Conversion:
    """Return the conversion to a member behind pointers; ``width`` None takes that of the access.

    A store needs a register for the pointer, which it saves in the member ``tmp`` of the context.
    """
    base = offset(*members)

    def convert(access: Access) -> tuple[list[Insn], int]:
        insn, off = access.insn, base + access.delta
        size = access.width if width is None else width
        if not access.write:
            out, src = [], insn.src
            for pointer in pointers:
                out.append(load(BPF_DW, insn.dst, src, offset(pointer)))
                src = insn.dst
            return [*out, load(size, insn.dst, src, off)], SIZE_BYTES[size]
        assert tmp is not None
        spare = spare_register(insn)
        out, src = [Insn(BPF_STX | BPF_MEM | BPF_DW, insn.dst, spare, offset(tmp), 0)], insn.dst
        for pointer in pointers:
            out.append(load(BPF_DW, spare, src, offset(pointer)))
            src = spare
        return [*out, store(access, size, off, spare), load(BPF_DW, spare, insn.dst, offset(tmp))], 0

    return convert


def spare_register(insn: Insn) -> int:
    """Return the highest of R9 to R7 that the access does not use."""
    return next(reg for reg in (R9, R9 - 1, R9 - 2) if reg not in (insn.dst, insn.src))


B, H, W, DW = BPF_B, BPF_H, BPF_W, BPF_DW
