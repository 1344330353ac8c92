"""An encoder for the x86-64 instructions that the JIT uses, driven by one table.

An instruction is a name of ``TABLE`` with an operand ``rm`` (a register number or a ``Mem``), a second register ``reg``
and an immediate. Which of the two is the destination is the operation's own matter: ``mov`` goes from ``reg`` to
``rm``, ``mov_load`` from ``rm`` to ``reg``. Everything is a pure function from operands to bytes.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, chapters 2 (formats) and 3 to 5.
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

__all__ = [
    "CONDITIONS",
    "NEGATED",
    "NOP5",
    "TABLE",
    "Code",
    "Mem",
    "insn",
    "mov_imm",
    "pop",
    "push",
    "push_imm",
    "short_jcc",
    "short_jmp",
]

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)

_I8, _I32, _U32, _U64 = Struct("<b"), Struct("<i"), Struct("<I"), Struct("<Q")


class Mem(NamedTuple):
    """Memory at ``base + plus * 2 ** shift + disp``; with ``gs`` at the low 32 bits of that, in the GS segment."""

    base: int
    disp: int = 0
    plus: int | None = None
    gs: bool = False
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Encoding:
    """``opcode`` bytes; ``digit`` of the ModRM byte where there is no second register; bytes of the immediate."""

    opcode: bytes
    digit: int | None = None
    imm: int = 0
    prefix: bytes = b""
    byte_reg: bool = False  # ``reg`` is a byte: sil, dil and the like need a REX prefix
    byte_rm: bool = False  # ``rm`` is
    byte_imm: int | None = None  # the opcode of the form with one sign-extended immediate byte
    default64: bool = False  # 64 bits without REX.W


def _group1(digit: int) -> Encoding:
    return Encoding(b"\x81", digit, 4, byte_imm=0x83)


# fmt: off
TABLE: dict[str, Encoding] = {
    # rm = rm op reg
    "add": Encoding(b"\x01"), "or": Encoding(b"\x09"), "and": Encoding(b"\x21"), "sub": Encoding(b"\x29"),
    "xor": Encoding(b"\x31"), "cmp": Encoding(b"\x39"), "test": Encoding(b"\x85"), "mov": Encoding(b"\x89"),
    "mov8": Encoding(b"\x88", byte_reg=True, byte_rm=True), "mov16": Encoding(b"\x89", prefix=b"\x66"),
    "xchg": Encoding(b"\x87"), "xadd": Encoding(b"\x0f\xc1"), "cmpxchg": Encoding(b"\x0f\xb1"),
    # reg = reg op rm
    "add_load": Encoding(b"\x03"), "cmp_load": Encoding(b"\x3b"), "mov_load": Encoding(b"\x8b"),
    "imul2": Encoding(b"\x0f\xaf"), "imul3": Encoding(b"\x69", imm=4), "lea": Encoding(b"\x8d"),
    "movzx8": Encoding(b"\x0f\xb6", byte_rm=True), "movzx16": Encoding(b"\x0f\xb7"),
    "movsx8": Encoding(b"\x0f\xbe", byte_rm=True), "movsx16": Encoding(b"\x0f\xbf"), "movsxd": Encoding(b"\x63"),
    # rm = rm op immediate
    "add_imm": _group1(0), "or_imm": _group1(1), "and_imm": _group1(4), "sub_imm": _group1(5), "xor_imm": _group1(6),
    "cmp_imm": _group1(7), "adc_imm": _group1(2),
    "test_imm": Encoding(b"\xf7", 0, 4), "mov_imm": Encoding(b"\xc7", 0, 4),
    "mov8_imm": Encoding(b"\xc6", 0, 1, byte_rm=True), "mov16_imm": Encoding(b"\xc7", 0, 2, prefix=b"\x66"),
    "cmp8_imm": Encoding(b"\x80", 7, 1, byte_rm=True),
    "ror_imm": Encoding(b"\xc1", 1, 1), "shl_imm": Encoding(b"\xc1", 4, 1), "shr_imm": Encoding(b"\xc1", 5, 1),
    "sar_imm": Encoding(b"\xc1", 7, 1), "ror16_imm": Encoding(b"\xc1", 1, 1, prefix=b"\x66"),
    # rm = op rm; shifts by cl
    "shl": Encoding(b"\xd3", 4), "shr": Encoding(b"\xd3", 5), "sar": Encoding(b"\xd3", 7),
    "neg": Encoding(b"\xf7", 3), "div": Encoding(b"\xf7", 6), "idiv": Encoding(b"\xf7", 7), "dec": Encoding(b"\xff", 1),
    "call": Encoding(b"\xff", 2, default64=True), "jmp": Encoding(b"\xff", 4, default64=True),
    "push": Encoding(b"\xff", 6, default64=True), "pop": Encoding(b"\x8f", 0, default64=True),
    # rm = base of the GS segment, and the other way round
    "rdgsbase": Encoding(b"\x0f\xae", 1, prefix=b"\xf3"), "wrgsbase": Encoding(b"\x0f\xae", 3, prefix=b"\xf3"),
}

# what follows a comparison of unsigned (b, a) and signed (l, g) numbers
CONDITIONS: dict[str, int] = {
    "b": 0x2, "ae": 0x3, "e": 0x4, "ne": 0x5, "be": 0x6, "a": 0x7, "l": 0xC, "ge": 0xD, "le": 0xE, "g": 0xF,
}
# fmt: on
NEGATED = {
    name: other for name, code in CONDITIONS.items() for other, negated in CONDITIONS.items() if negated == code ^ 1
}

OPERAND_SIZE = b"\x66"
GS_32BIT = b"\x65\x67"
NOP5 = b"\x0f\x1f\x44\x00\x00"  # x86_nops[5]
CQO, CDQ, RET = b"\x48\x99", b"\x99", b"\xc3"
REP_MOVSB = b"\xf3\xa4"


@lru_cache(maxsize=1 << 14)
def insn(name: str, rm: "int | Mem", reg: int = 0, imm: int = 0, wide: bool = True) -> bytes:
    """Return the bytes of an instruction of 64 (``wide``) or 32 bits; prefixes and byte registers come from its row."""
    row = TABLE[name]
    opcode, imm_bytes = row.opcode, row.imm
    if row.byte_imm is not None and -128 <= imm < 128:
        opcode, imm_bytes = bytes([row.byte_imm]), 1
    middle = row.digit if row.digit is not None else reg
    rex = (wide and not row.default64 and row.prefix != OPERAND_SIZE) << 3 | (middle >> 3) << 2
    byte = row.byte_reg and reg >= RSP
    first = row.prefix
    if isinstance(rm, Mem):
        rex |= rm.base >> 3 | (rm.plus or 0) >> 3 << 1
        operand = _memory(rm, middle & 7)
        first = GS_32BIT + first if rm.gs else first
    else:
        rex |= rm >> 3
        operand = bytes([0xC0 | (middle & 7) << 3 | rm & 7])
        byte = byte or (row.byte_rm and rm >= RSP)
    prefix = bytes([0x40 | rex]) if rex or byte else b""
    return b"".join((first, prefix, opcode, operand, imm.to_bytes(imm_bytes, "little", signed=True)))


def _memory(mem: Mem, middle: int) -> bytes:
    # ModRM, SIB and displacement; rsp and r12 as base need a SIB byte, rbp and r13 a displacement
    base = mem.base & 7
    if mem.disp == 0 and base != RBP:
        mod, disp = 0x00, b""
    elif -128 <= mem.disp < 128:
        mod, disp = 0x40, _I8.pack(mem.disp)
    else:
        mod, disp = 0x80, _I32.pack(mem.disp)
    if mem.plus is not None:
        return bytes([mod | middle << 3 | 4, mem.shift << 6 | (mem.plus & 7) << 3 | base]) + disp
    if base == RSP:
        return bytes([mod | middle << 3 | 4, 0x24]) + disp
    return bytes([mod | middle << 3 | base]) + disp


@lru_cache(maxsize=1 << 12)
def mov_imm(reg: int, value: int) -> bytes:
    """Return the shortest move of an unsigned 64-bit constant that leaves the flags alone."""
    high = reg >> 3
    if value < 1 << 32:
        return (b"\x41" if high else b"") + bytes([0xB8 | reg & 7]) + _U32.pack(value)
    if value >= (1 << 64) - (1 << 31):
        return bytes([0x48 | high, 0xC7, 0xC0 | reg & 7]) + _I32.pack(value - (1 << 64))
    return bytes([0x48 | high, 0xB8 | reg & 7]) + _U64.pack(value)


def push(reg: int) -> bytes:
    """Push a register."""
    return (b"\x41" if reg >> 3 else b"") + bytes([0x50 | reg & 7])


def push_imm(imm: int) -> bytes:
    """Push a sign-extended 32-bit immediate."""
    return b"\x68" + _I32.pack(imm)


def pop(reg: int) -> bytes:
    """Pop a register."""
    return (b"\x41" if reg >> 3 else b"") + bytes([0x58 | reg & 7])


def short_jcc(condition: str, rel: int) -> bytes:
    """Jump if, at most 127 bytes; ``rel`` counts from the end of the two bytes."""
    return bytes([0x70 | CONDITIONS[condition]]) + _I8.pack(rel)


def short_jmp(rel: int) -> bytes:
    """Jump, at most 127 bytes; ``rel`` counts from the end of the two bytes."""
    return b"\xeb" + _I8.pack(rel)


# with room for the distance
_JUMP, _CALL = b"\xe9" + bytes(4), b"\xe8" + bytes(4)
_JUMPS_IF = {name: bytes([0x0F, 0x80 | code, 0, 0, 0, 0]) for name, code in CONDITIONS.items()}

Label = int | str | tuple[str, int] | tuple[str, int, int]


class Code:
    """Code that grows, with labels; jumps and calls take 32 bits.

    It runs at any address unless it calls something outside (``call_address``).
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.labels: dict[Label, int] = {}
        self._fixups: list[tuple[int, Label]] = []
        self._outside: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.data)

    def add(self, *parts: bytes) -> None:
        """Append instructions."""
        self.data += b"".join(parts)

    def label(self, name: Label) -> None:
        """Name the place where the code has come to."""
        self.labels[name] = len(self.data)

    def jump(self, name: Label) -> None:
        """Jump to a label."""
        self._relative(_JUMP, name)

    def jump_if(self, condition: str, name: Label) -> None:
        """Jump to a label if."""
        self._relative(_JUMPS_IF[condition], name)

    def call(self, name: Label) -> None:
        """Call a label."""
        self._relative(_CALL, name)

    def call_address(self, address: int) -> None:
        """Call what lies at an address, at most 2 GiB from where this code will be."""
        self.data += _CALL
        self._outside.append((len(self.data) - 4, address))

    def finish(self, base: int = 0) -> bytes:
        """Return the code as it is at address ``base``, with all labels filled in."""
        for at, name in self._fixups:
            _I32.pack_into(self.data, at, self.labels[name] - at - 4)
        for at, address in self._outside:
            _I32.pack_into(self.data, at, address - (base + at + 4))
        return bytes(self.data)

    def _relative(self, opcode: bytes, name: Label) -> None:
        self.data += opcode
        self._fixups.append((len(self.data) - 4, name))
