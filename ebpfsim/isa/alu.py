"""What the arithmetic, byte-swap and compare instructions compute, as expressions over unsigned 64-bit numbers.

Follows RFC 9669, sections 4.1 to 4.3, and ``___bpf_prog_run`` in kernel/bpf/core.c, v6.18: division by zero gives 0,
the remainder by zero leaves the dividend, the most negative number divided by -1 gives itself with remainder 0, shift
counts are masked, and a 32-bit result clears the upper half. The tables are keyed by the ``op`` of rows of
``ebpfsim.isa.table``; operands are what registers hold (64 bits, unsigned), immediates already sign-extended. Byte
order operations are those of a little-endian host.

An expression is Python with ``{a}`` for dst (of movsx: src) and ``{b}`` for src or imm; a name or a number that is not
negative goes in their place, so no brackets are needed around them. ``BINARY``, ``UNARY`` and ``COMPARE`` are the same
expressions as functions of a and b. Whoever evaluates an expression elsewhere gives it ``NAMES``.
"""

from collections.abc import Callable
from typing import Any

__all__ = [
    "BINARY",
    "BINARY_TEXT",
    "COMPARE",
    "COMPARE_TEXT",
    "NAMES",
    "UNARY",
    "UNARY_TEXT",
    "s32",
    "s64",
    "sext",
    "u32",
    "u64",
]

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


def _swap(a: int, size: int) -> int:
    return int.from_bytes((a & (1 << 8 * size) - 1).to_bytes(size, "little"), "big")


NAMES: dict[str, object] = {
    "M32": M32,
    "M64": M64,
    "SIGN32": SIGN32,
    "SIGN64": SIGN64,
    "sdiv32": _sdiv32,
    "sdiv64": _sdiv64,
    "smod32": _smod32,
    "smod64": _smod64,
    "swap": _swap,
}

# fmt: off
# dst, src -> dst
BINARY_TEXT: dict[str, str] = {
    "add64": "{a} + {b} & M64",                "add32": "{a} + {b} & M32",
    "sub64": "{a} - {b} & M64",                "sub32": "{a} - {b} & M32",
    "mul64": "{a} * {b} & M64",                "mul32": "{a} * {b} & M32",
    "div64": "{a} // {b} if {b} else 0",       "div32": "({a} & M32) // ({b} & M32) if {b} & M32 else 0",
    "mod64": "{a} % {b} if {b} else {a}",      "mod32": "({a} & M32) % ({b} & M32) if {b} & M32 else {a} & M32",
    "sdiv64": "sdiv64({a}, {b})",              "sdiv32": "sdiv32({a}, {b})",
    "smod64": "smod64({a}, {b})",              "smod32": "smod32({a}, {b})",
    "or64": "{a} | {b}",                       "or32": "({a} | {b}) & M32",
    "and64": "{a} & {b}",                      "and32": "{a} & {b} & M32",
    "xor64": "{a} ^ {b}",                      "xor32": "({a} ^ {b}) & M32",
    "lsh64": "{a} << ({b} & 63) & M64",        "lsh32": "{a} << ({b} & 31) & M32",
    "rsh64": "{a} >> ({b} & 63)",              "rsh32": "({a} & M32) >> ({b} & 31)",
    "arsh64": "({a} ^ SIGN64) - SIGN64 >> ({b} & 63) & M64",
    "arsh32": "({a} & M32 ^ SIGN32) - SIGN32 >> ({b} & 31) & M32",
    "mov64": "{b}",                            "mov32": "{b} & M32",
}

# dst (or, for movsx, src) -> dst
UNARY_TEXT: dict[str, str] = {
    "neg64": "-{a} & M64",        "neg32": "-{a} & M32",
    "le16": "{a} & 0xFFFF",       "le32": "{a} & M32",          "le64": "{a}",
    "be16": "swap({a}, 2)",       "be32": "swap({a}, 4)",       "be64": "swap({a}, 8)",
    "bswap16": "swap({a}, 2)",    "bswap32": "swap({a}, 4)",    "bswap64": "swap({a}, 8)",
    "movsx8_32": "({a} & 0xFF ^ 0x80) - 0x80 & M32",    "movsx16_32": "({a} & 0xFFFF ^ 0x8000) - 0x8000 & M32",
    "movsx8_64": "({a} & 0xFF ^ 0x80) - 0x80 & M64",    "movsx16_64": "({a} & 0xFFFF ^ 0x8000) - 0x8000 & M64",
    "movsx32_64": "({a} & M32 ^ SIGN32) - SIGN32 & M64",
}

# dst, src -> taken; flipping the signs of both makes an unsigned comparison a signed one
COMPARE_TEXT: dict[str, str] = {
    "jeq64": "{a} == {b}",                                "jeq32": "{a} & M32 == {b} & M32",
    "jne64": "{a} != {b}",                                "jne32": "{a} & M32 != {b} & M32",
    "jgt64": "{a} > {b}",                                 "jgt32": "{a} & M32 > {b} & M32",
    "jge64": "{a} >= {b}",                                "jge32": "{a} & M32 >= {b} & M32",
    "jlt64": "{a} < {b}",                                 "jlt32": "{a} & M32 < {b} & M32",
    "jle64": "{a} <= {b}",                                "jle32": "{a} & M32 <= {b} & M32",
    "jset64": "{a} & {b} != 0",                           "jset32": "{a} & {b} & M32 != 0",
    "jsgt64": "{a} ^ SIGN64 > {b} ^ SIGN64",              "jsgt32": "{a} & M32 ^ SIGN32 > {b} & M32 ^ SIGN32",
    "jsge64": "{a} ^ SIGN64 >= {b} ^ SIGN64",             "jsge32": "{a} & M32 ^ SIGN32 >= {b} & M32 ^ SIGN32",
    "jslt64": "{a} ^ SIGN64 < {b} ^ SIGN64",              "jslt32": "{a} & M32 ^ SIGN32 < {b} & M32 ^ SIGN32",
    "jsle64": "{a} ^ SIGN64 <= {b} ^ SIGN64",             "jsle32": "{a} & M32 ^ SIGN32 <= {b} & M32 ^ SIGN32",
}
# fmt: on


def _functions(texts: dict[str, str], arguments: str) -> Any:
    # all at once: compiling is what takes the time
    table = ",".join(f"{op!r}: lambda {arguments}: {text.format(a='a', b='b')}" for op, text in texts.items())
    return eval(f"{{{table}}}", dict(NAMES))


BINARY: dict[str, Callable[[int, int], int]] = _functions(BINARY_TEXT, "a, b")
UNARY: dict[str, Callable[[int], int]] = _functions(UNARY_TEXT, "a")
COMPARE: dict[str, Callable[[int, int], bool]] = _functions(COMPARE_TEXT, "a, b")
