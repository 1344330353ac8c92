"""One instruction slot, and the program as a sequence of slots.

::

    +---------------+--------+--------+------------+--------------------+
    | code (8 bits) | dst (4)| src (4)| off (s16)  | imm (s32)          |
    +---------------+--------+--------+------------+--------------------+

A 64-bit immediate load takes two slots, as in the kernel: the second has code 0 and the upper half in ``imm``.
``insn_idx`` counts slots everywhere. Source: RFC 9669, section 3.
"""

from struct import Struct
from typing import NamedTuple

from ebpfsim.errors import DecodeError

__all__ = ["Insn", "decode", "encode"]

_SLOT = Struct("<BBhi")
SLOT_SIZE = 8


class Insn(NamedTuple):
    """One slot; ``off`` and ``imm`` are signed."""

    code: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0


def decode(data: bytes, where: str = "") -> tuple[Insn, ...]:
    """Return the slots of little-endian program bytes; DecodeError when the length is no multiple of 8."""
    if len(data) % SLOT_SIZE:
        raise DecodeError(where, f"program of {len(data)} bytes is not a whole number of 8-byte instructions")
    return tuple(Insn(code, regs & 15, regs >> 4, off, imm) for code, regs, off, imm in _SLOT.iter_unpack(data))


def encode(insns: tuple[Insn, ...] | list[Insn]) -> bytes:
    """Return the little-endian bytes of the slots."""
    return b"".join(_SLOT.pack(i.code, i.dst | i.src << 4, i.off, i.imm) for i in insns)
