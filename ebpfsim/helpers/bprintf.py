"""The formats of bpf_trace_printk(), bpf_snprintf() and their kin.

Follows ``bpf_bprintf_prepare`` in kernel/bpf/helpers.c, which allows a part of printf, and ``bstr_printf`` in
lib/vsprintf.c, v6.18, which prints it.

Differs: ``%p`` prints a hash that depends on the simulation's seed, as the kernel's depends on a boot-time secret;
``%ps``, ``%pS`` and ``%pB`` print the address, as for a pointer that is no symbol.
"""

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv6Address

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops
from ebpfsim.isa.alu import sext, u64
from ebpfsim.memory import Memory

__all__ = ["FormatError", "bprintf", "parse_format"]

MAX_WIDTH = (1 << 23) - 1  # FIELD_WIDTH_MAX of lib/vsprintf.c
_BIN_ARGS_BYTES = 512  # MAX_BPRINTF_BIN_ARGS
# isspace(), ispunct() and isalnum() of lib/ctype.c, which is Latin-1
_SPACE = rb" \t\n\v\f\r\xa0"
_PUNCT = rb"!-/:-@\[-`{-~\xa1-\xbf\xd7\xf7"
# flags, width, conversion; %s and %p must be followed by the end, a space or punctuation
_SPEC = re.compile(
    rb"%(?:(?P<percent>%)"
    rb"|(?P<flags>[0+\- ]*)(?P<width>[1-9][0-9]*)?"
    rb"(?:(?P<string>s|pks|pus)(?=[" + _SPACE + _PUNCT + rb"]|$)"
    rb"|(?P<ip>p[iI][46])|(?P<symbol>pB)|(?P<pointer>p[Kxs]|pS|p(?=[" + _SPACE + _PUNCT + rb"]|$))"
    rb"|(?P<char>c)|(?P<number>(?P<long>l{0,2})[diuxX])))"
)
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1f\x7f]*")
_ALNUM = re.compile(rb"[0-9A-Za-z\xc0-\xd6\xd8-\xf6\xf8-\xff]*")


class FormatError(Exception):
    """A format that is refused; ``errno`` is positive."""

    def __init__(self, errno: int) -> None:
        self.errno = errno
        super().__init__(errno)


@dataclass(slots=True)
class _Args:
    """The arguments, and the space left in the kernel's buffer of copied ones."""

    mem: Memory
    values: tuple[int, ...]
    seed: int
    taken: int = 0
    used: int = 0

    def next(self) -> int:
        self.taken += 1
        return self.values[self.taken - 1]

    def reserve(self, size: int, align: int = 1) -> int:
        # returns the bytes that were left
        self.used = -(-self.used // align) * align
        left = _BIN_ARGS_BYTES - self.used
        if left < size:
            raise FormatError(Errno.ENOSPC)
        self.used += size
        return left

    def copied(self, text: bytes, least: int) -> bytes:
        # text that is copied into the buffer with a NUL, cut where the buffer ends if at least so much room is left
        left = self.reserve(least)
        self.used += len(text) + 1 - least
        return text[: left - 1]


def parse_format(fmt: bytes, nr_args: int) -> list[bytes | re.Match[bytes]]:
    """Return the literal parts and conversions of a format without NUL; FormatError (EINVAL) if it is not allowed."""
    parts: list[bytes | re.Match[bytes]] = []
    conversions = 0
    pos = 0
    while pos < len(fmt):
        percent = fmt.find(b"%", pos)
        literal = fmt[pos:] if percent < 0 else fmt[pos:percent]
        if not _TEXT.fullmatch(literal):
            raise FormatError(Errno.EINVAL)
        parts.append(literal)
        if percent < 0:
            break
        spec = _SPEC.match(fmt, percent)
        if spec is None:
            raise FormatError(Errno.EINVAL)
        pos = spec.end()
        if spec["percent"]:
            parts.append(b"%")
            continue
        conversions += 1
        parts.append(spec)
        if spec["ip"] or spec["symbol"] or spec["pointer"]:
            # bstr_printf() takes all letters and digits behind %p for its own
            rest = _ALNUM.match(fmt, pos)
            pos = rest.end() if rest else pos
    if conversions > nr_args:
        raise FormatError(Errno.EINVAL)
    return parts


def bprintf(mem: Memory, fmt: bytes, values: tuple[int, ...], seed: int) -> bytes:
    """Return the formatted text; FormatError for what the kernel refuses.

    ``fmt`` has no NUL; ``values`` are the arguments as unsigned 64-bit numbers, ``seed`` hides pointers.
    """
    parts = parse_format(fmt, len(values))
    args = _Args(mem, values, seed)
    return b"".join(part if isinstance(part, bytes) else _convert(part, args) for part in parts)


def _convert(spec: re.Match[bytes], args: _Args) -> bytes:
    value = args.next()
    left = b"-" in spec["flags"]
    width = _width(spec)
    if spec["string"]:
        text = _string(args, value)
        return text.ljust(width) if left else text.rjust(width)
    if spec["char"]:
        args.reserve(1)
        char = bytes([value & 0xFF])
        return char.ljust(width) if left else char.rjust(width)
    if spec["ip"]:
        return _address(args, spec["ip"], value)
    if spec["symbol"]:
        return args.copied(b"0x%x" % value, 1)
    if spec["pointer"]:
        args.reserve(8, align=4)
        return _pointer(spec, value, args.seed)
    bits = 64 if spec["long"] else 32
    args.reserve(bits // 8, align=4)
    return _number(spec, value, bits)


def _width(spec: re.Match[bytes]) -> int:
    return min(int(spec["width"] or 0), MAX_WIDTH)


def _string(args: _Args, address: int) -> bytes:
    room = args.reserve(1)
    try:
        text = args.mem.read_string(address, room)[: room - 1]
    except KernelOops:
        text = b""
    args.used += len(text)
    return text


def _address(args: _Args, kind: bytes, address: int) -> bytes:
    size = 4 if kind.endswith(b"4") else 16
    try:
        data = args.mem.read(address, size)
    except KernelOops:
        data = bytes(size)
    if size == 4:
        octet = b"%03d" if kind == b"pi4" else b"%d"
        text = b".".join(octet % byte for byte in data)
    else:
        words = IPv6Address(data).exploded
        text = (words if kind == b"pI6" else words.replace(":", "")).encode()
    return args.copied(text, size)


def _pointer(spec: re.Match[bytes], value: int, seed: int) -> bytes:
    kind = spec["pointer"]
    if kind in (b"ps", b"pS"):
        digits = b"0x%x" % value
        width = _width(spec)
    else:
        hidden = kind != b"px" and 0 < value < u64(-4095)  # IS_ERR_OR_NULL pointers are shown
        digits = b"%x" % (_hash(value, seed) if hidden else value)
        width = _width(spec)
        if not width:
            return digits.rjust(16, b"0")
    if b"-" in spec["flags"]:
        return digits.ljust(width)
    return digits.rjust(width, b"0" if b"0" in spec["flags"] and kind not in (b"ps", b"pS") else b" ")


def _hash(value: int, seed: int) -> int:
    digest = hashlib.blake2s(f"{seed} {value}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _number(spec: re.Match[bytes], value: int, bits: int) -> bytes:
    conversion = spec["number"][-1:]
    signed = conversion in b"di"
    number = sext(value, bits) if signed else value & ((1 << bits) - 1)
    # sign flags mean something for signed conversions only
    flags = spec["flags"] if signed else spec["flags"].replace(b"+", b"").replace(b" ", b"")
    width = b"%d" % _width(spec) if spec["width"] else b""
    template = b"%" + flags + width + (b"d" if signed or conversion == b"u" else conversion)
    return template % number
