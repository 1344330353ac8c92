"""A second opinion on what instructions do: RFC 9669, written down without a look at the package.

Slots are taken apart by the bits of section 3, so that encodings are checked too. What the RFC leaves open is Linux':
offsets of memory in two's complement, load_acquire and store_release (Documentation/bpf/standardization).
"""

import struct

M64 = (1 << 64) - 1
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_ATOMICS = {
    0x00: lambda old, src: old + src,
    0x40: lambda old, src: old | src,
    0x50: lambda old, src: old & src,
    0xA0: lambda old, src: old ^ src,
    0xE0: lambda _old, src: src,
}


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


def _quotient(a: int, b: int) -> int:
    # towards zero (section 4.1)
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _arithmetic(code: int, off: int, a: int, b: int, bits: int) -> int:
    sa, sb = _signed(a, bits), _signed(b, bits)
    match code:
        case 0x3:
            return 0 if not b else _quotient(sa, sb) if off else a // b
        case 0x9:
            return a if not b else sa - _quotient(sa, sb) * sb if off else a % b
        case 0xB:
            return _signed(b, off) if off else b
        case 0xC:
            return sa >> (b & bits - 1)
    simple = {
        *((0x0, a + b), (0x1, a - b), (0x2, a * b), (0x4, a | b), (0x5, a & b), (0xA, a ^ b), (0x8, -a)),
        *((0x6, a << (b & bits - 1)), (0x7, a >> (b & bits - 1))),
    }
    return dict(simple)[code]


def _swapped(value: int, bits: int) -> int:
    return int.from_bytes((value & (1 << bits) - 1).to_bytes(bits // 8, "little"), "big")


def _jumps(code: int, a: int, b: int, bits: int) -> bool:
    sa, sb = _signed(a, bits), _signed(b, bits)
    table = {
        0x0: True,
        0x1: a == b,
        0x2: a > b,
        0x3: a >= b,
        0x4: bool(a & b),
        0x5: a != b,
        0x6: sa > sb,
        0x7: sa >= sb,
    }
    return (table | {0xA: a < b, 0xB: a <= b, 0xC: sa < sb, 0xD: sa <= sb})[code]


class Reference:
    """R0 to R9, and memory from an address on."""

    def __init__(self, address: int, memory: bytes) -> None:
        self.registers = [0] * 11
        self.address, self.memory = address, bytearray(memory)

    def load(self, address: int, size: int) -> int:
        at = (address & M64) - self.address
        assert 0 <= at <= len(self.memory) - size
        return int.from_bytes(self.memory[at : at + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        self.load(address, size)
        at = (address & M64) - self.address
        self.memory[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def step(self, slot: bytes) -> bool:
        """Execute an instruction of one slot; tell whether it jumps."""
        opcode, numbers, off, imm = struct.unpack("<BBhi", slot)
        dst, src, regs = numbers & 15, numbers >> 4, self.registers
        kind, size = opcode & 7, _SIZES[opcode & 0x18]
        if kind in (4, 7):
            regs[dst] = self._alu(opcode, dst, src, off, imm)
        elif kind in (5, 6):
            bits = 64 if kind == 5 else 32
            mask = (1 << bits) - 1
            return _jumps(opcode >> 4, regs[dst] & mask, (regs[src] if opcode & 8 else imm) & mask, bits)
        elif kind == 1:
            value = self.load(regs[src] + off, size)
            regs[dst] = (_signed(value, 8 * size) if opcode & 0xE0 == 0x80 else value) & M64
        elif kind == 2:
            self.store(regs[dst] + off, size, imm)
        elif opcode & 0xE0 == 0x60:
            self.store(regs[dst] + off, size, regs[src])
        else:
            self._atomic(regs[dst] + off, dst, src, size, imm, regs[src] + off)
        return False

    def _alu(self, opcode: int, dst: int, src: int, off: int, imm: int) -> int:
        regs, bits, code = self.registers, 64 if opcode & 7 == 7 else 32, opcode >> 4
        mask = (1 << bits) - 1
        if code == 0xD:
            # class ALU: to little or big endian on a little-endian machine; ALU64: always swapped (section 4.2)
            plain = bits == 32 and not opcode & 8
            return regs[dst] & (1 << imm) - 1 if plain else _swapped(regs[dst], imm)
        operand = regs[src] if opcode & 8 else imm
        return _arithmetic(code, off, regs[dst] & mask, operand & mask, bits) & mask

    def _atomic(self, address: int, dst: int, src: int, size: int, imm: int, source: int) -> None:
        regs, mask = self.registers, (1 << 8 * size) - 1
        if imm == 0x100:  # load_acquire
            regs[dst] = self.load(source, size)
            return
        if imm == 0x110:  # store_release
            self.store(address, size, regs[src])
            return
        old = self.load(address, size)
        if imm == 0xF1:  # R0 is compared, and gets what was there
            self.store(address, size, regs[src] if old == regs[0] & mask else old)
            regs[0] = old
            return
        self.store(address, size, _ATOMICS[imm & ~1](old, regs[src]))
        if imm & 1:
            regs[src] = old
