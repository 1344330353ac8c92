"""What the arithmetic, byte-swap and compare instructions compute, as pure functions of unsigned 64-bit numbers.

Follows RFC 9669, sections 4.1 to 4.3, and ``___bpf_prog_run`` in kernel/bpf/core.c, v6.18: division by zero gives 0,
the remainder by zero leaves the dividend, the most negative number divided by -1 gives itself with remainder 0, shift
counts are masked, and a 32-bit result clears the upper half. The tables are keyed by the ``op`` of rows of
``ebpfsim.isa.table``; operands are what registers hold (64 bits, unsigned), immediates already sign-extended. Byte
order operations are those of a little-endian host.
"""

from collections.abc import Callable

__all__ = ["BINARY", "COMPARE", "UNARY", "s32", "s64", "sext", "u32", "u64"]

M32 = 0xFFFF_FFFF
M64 = 0xFFFF_FFFF_FFFF_FFFF
SIGN32 = 1 << 31
SIGN64 = 1 << 63


def u64(value: int) -> int:
    """Return the value as an unsigned 64-bit number."""
    return value & M64


def u32(value: int) -> int:
    """Return the low half as an unsigned 32-bit number."""
    return value & M32


def s64(value: int) -> int:
    """Return the low 64 bits as a signed number."""
    return ((value & M64) ^ SIGN64) - SIGN64


def s32(value: int) -> int:
    """Return the low 32 bits as a signed number."""
    return ((value & M32) ^ SIGN32) - SIGN32


def sext(value: int, bits: int) -> int:
    """Return the low ``bits`` bits as a signed number."""
    sign = 1 << (bits - 1)
    return ((value & ((sign << 1) - 1)) ^ sign) - sign


def _add64(a: int, b: int) -> int:
    return (a + b) & M64


def _add32(a: int, b: int) -> int:
    return (a + b) & M32


def _sub64(a: int, b: int) -> int:
    return (a - b) & M64


def _sub32(a: int, b: int) -> int:
    return (a - b) & M32


def _mul64(a: int, b: int) -> int:
    return (a * b) & M64


def _mul32(a: int, b: int) -> int:
    return (a * b) & M32


def _div64(a: int, b: int) -> int:
    return a // b if b else 0


def _div32(a: int, b: int) -> int:
    b &= M32
    return (a & M32) // b if b else 0


def _mod64(a: int, b: int) -> int:
    return a % b if b else a


def _mod32(a: int, b: int) -> int:
    b &= M32
    return (a & M32) % b if b else a & M32


def _quotient(a: int, b: int) -> int:
    # C rounds towards zero, Python towards minus infinity
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _sdiv64(a: int, b: int) -> int:
    return _quotient(s64(a), s64(b)) & M64 if b else 0


def _sdiv32(a: int, b: int) -> int:
    divisor = s32(b)
    return _quotient(s32(a), divisor) & M32 if divisor else 0


def _smod64(a: int, b: int) -> int:
    dividend, divisor = s64(a), s64(b)
    return (dividend - _quotient(dividend, divisor) * divisor) & M64 if divisor else a


def _smod32(a: int, b: int) -> int:
    dividend, divisor = s32(a), s32(b)
    return (dividend - _quotient(dividend, divisor) * divisor) & M32 if divisor else a & M32


def _or64(a: int, b: int) -> int:
    return a | b


def _or32(a: int, b: int) -> int:
    return (a | b) & M32


def _and64(a: int, b: int) -> int:
    return a & b


def _and32(a: int, b: int) -> int:
    return a & b & M32


def _xor64(a: int, b: int) -> int:
    return a ^ b


def _xor32(a: int, b: int) -> int:
    return (a ^ b) & M32


def _lsh64(a: int, b: int) -> int:
    return a << (b & 63) & M64


def _lsh32(a: int, b: int) -> int:
    return a << (b & 31) & M32


def _rsh64(a: int, b: int) -> int:
    return a >> (b & 63)


def _rsh32(a: int, b: int) -> int:
    return (a & M32) >> (b & 31)


def _arsh64(a: int, b: int) -> int:
    return s64(a) >> (b & 63) & M64


def _arsh32(a: int, b: int) -> int:
    return s32(a) >> (b & 31) & M32


def _mov64(_a: int, b: int) -> int:
    return b


def _mov32(_a: int, b: int) -> int:
    return b & M32


def _neg64(a: int) -> int:
    return -a & M64


def _neg32(a: int) -> int:
    return -a & M32


def _truncate(bits: int) -> Callable[[int], int]:
    mask = (1 << bits) - 1
    return lambda a: a & mask


def _swap(bits: int) -> Callable[[int], int]:
    size, mask = bits // 8, (1 << bits) - 1
    return lambda a: int.from_bytes((a & mask).to_bytes(size, "little"), "big")


def _extend(bits: int, mask: int) -> Callable[[int], int]:
    sign = 1 << (bits - 1)
    low = (sign << 1) - 1
    return lambda a: (((a & low) ^ sign) - sign) & mask


# fmt: off
# dst, src -> dst
BINARY: dict[str, Callable[[int, int], int]] = {
    "add64": _add64,   "add32": _add32,   "sub64": _sub64,   "sub32": _sub32,   "mul64": _mul64,   "mul32": _mul32,
    "div64": _div64,   "div32": _div32,   "mod64": _mod64,   "mod32": _mod32,   "sdiv64": _sdiv64, "sdiv32": _sdiv32,
    "smod64": _smod64, "smod32": _smod32, "or64": _or64,     "or32": _or32,     "and64": _and64,   "and32": _and32,
    "xor64": _xor64,   "xor32": _xor32,   "lsh64": _lsh64,   "lsh32": _lsh32,   "rsh64": _rsh64,   "rsh32": _rsh32,
    "arsh64": _arsh64, "arsh32": _arsh32, "mov64": _mov64,   "mov32": _mov32,
}

# dst (or, for movsx, src) -> dst
UNARY: dict[str, Callable[[int], int]] = {
    "neg64": _neg64,            "neg32": _neg32,
    "le16": _truncate(16),      "le32": _truncate(32),      "le64": _truncate(64),
    "be16": _swap(16),          "be32": _swap(32),          "be64": _swap(64),
    "bswap16": _swap(16),       "bswap32": _swap(32),       "bswap64": _swap(64),
    "movsx8_32": _extend(8, M32),   "movsx16_32": _extend(16, M32),
    "movsx8_64": _extend(8, M64),   "movsx16_64": _extend(16, M64),   "movsx32_64": _extend(32, M64),
}

# dst, src -> taken
COMPARE: dict[str, Callable[[int, int], bool]] = {
    "jeq64": lambda a, b: a == b,             "jeq32": lambda a, b: a & M32 == b & M32,
    "jne64": lambda a, b: a != b,             "jne32": lambda a, b: a & M32 != b & M32,
    "jgt64": lambda a, b: a > b,              "jgt32": lambda a, b: a & M32 > b & M32,
    "jge64": lambda a, b: a >= b,             "jge32": lambda a, b: a & M32 >= b & M32,
    "jlt64": lambda a, b: a < b,              "jlt32": lambda a, b: a & M32 < b & M32,
    "jle64": lambda a, b: a <= b,             "jle32": lambda a, b: a & M32 <= b & M32,
    "jset64": lambda a, b: a & b != 0,        "jset32": lambda a, b: a & b & M32 != 0,
    "jsgt64": lambda a, b: s64(a) > s64(b),   "jsgt32": lambda a, b: s32(a) > s32(b),
    "jsge64": lambda a, b: s64(a) >= s64(b),  "jsge32": lambda a, b: s32(a) >= s32(b),
    "jslt64": lambda a, b: s64(a) < s64(b),   "jslt32": lambda a, b: s32(a) < s32(b),
    "jsle64": lambda a, b: s64(a) <= s64(b),  "jsle32": lambda a, b: s32(a) <= s32(b),
}
# fmt: on
