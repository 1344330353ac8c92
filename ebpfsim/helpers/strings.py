"""Kernel functions on strings (kernel/bpf/helpers.c, v6.18): bpf_strlen() and its kin.

They read whatever address they are given, byte by byte and 65,536 bytes at most: EFAULT for what is not mapped, ERANGE
for addresses that are not the kernel's, E2BIG where no end was found, ENOENT where something was looked for in vain.
"""

from collections.abc import Callable

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops
from ebpfsim.helpers.probe import probe_errno
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["KFUNCS"]

XATTR_SIZE_MAX = 65536  # include/uapi/linux/limits.h
_Body = Callable[[Run, int, int, int], int]


def _returns_int(body: _Body, strings: int) -> Helper:
    # what reading returns as errno, and int in R0; the first arguments are strings
    def call(run: Run, r1: int, r2: int, r3: int, _r4: int, _r5: int) -> int:
        if any(probe_errno(address) == Errno.ERANGE for address in (r1, r2)[:strings]):
            return u32(-Errno.ERANGE)
        try:
            return u32(body(run, r1, r2, r3))
        except KernelOops:
            return u32(-Errno.EFAULT)

    return call


def _byte(run: Run, address: int) -> int:
    return run.mem.load(address, 1)


def _signed(byte: int) -> int:
    # char is signed on x86-64
    return byte - 256 if byte > 127 else byte


def _lower(byte: int) -> int:
    # tolower() of lib/ctype.c, which knows Latin-1
    upper = 0x41 <= byte <= 0x5A or (0xC0 <= byte <= 0xDE and byte != 0xD7)
    return byte + 32 if upper else byte


def _compare(run: Run, s1: int, s2: int, fold: Callable[[int], int]) -> int:
    for at in range(XATTR_SIZE_MAX):
        one, other = fold(_byte(run, s1 + at)), fold(_byte(run, s2 + at))
        if one != other:
            return -1 if _signed(one) < _signed(other) else 1
        if not one:
            return 0
    return -Errno.E2BIG


def _strcmp(run: Run, s1: int, s2: int, _r3: int) -> int:
    return _compare(run, s1, s2, lambda byte: byte)


def _strcasecmp(run: Run, s1: int, s2: int, _r3: int) -> int:
    return _compare(run, s1, s2, _lower)


def _strnchr(run: Run, string: int, count: int, wanted: int) -> int:
    for at in range(min(count, XATTR_SIZE_MAX)):
        byte = _byte(run, string + at)
        if byte == wanted & 0xFF:
            return at
        if not byte:
            return -Errno.ENOENT
    return -Errno.E2BIG if count >= XATTR_SIZE_MAX else -Errno.ENOENT


def _strchr(run: Run, string: int, wanted: int, _r3: int) -> int:
    return _strnchr(run, string, XATTR_SIZE_MAX, wanted)


def _strchrnul(run: Run, string: int, wanted: int, _r3: int) -> int:
    for at in range(XATTR_SIZE_MAX):
        if _byte(run, string + at) in (0, wanted & 0xFF):
            return at
    return -Errno.E2BIG


def _strrchr(run: Run, string: int, wanted: int, _r3: int) -> int:
    last: int = -Errno.ENOENT
    for at in range(XATTR_SIZE_MAX):
        byte = _byte(run, string + at)
        if byte == wanted & 0xFF:
            last = at
        if not byte:
            return last
    return -Errno.E2BIG


def _strnlen(run: Run, string: int, count: int, _r3: int) -> int:
    for at in range(min(count, XATTR_SIZE_MAX)):
        if not _byte(run, string + at):
            return at
    return -Errno.E2BIG if count >= XATTR_SIZE_MAX else count


def _strlen(run: Run, string: int, _r2: int, _r3: int) -> int:
    return _strnlen(run, string, XATTR_SIZE_MAX, 0)


def _span(run: Run, string: int, chars: int, *, among: bool) -> int:
    # how many of the first bytes are among those of the other string, or are not
    for at in range(XATTR_SIZE_MAX):
        byte = _byte(run, string + at)
        if not byte:
            return at
        for other in range(XATTR_SIZE_MAX):
            found = _byte(run, chars + other)
            if found in (0, byte):
                break
        else:
            return -Errno.E2BIG
        if bool(found) != among:
            return at
    return -Errno.E2BIG


def _strspn(run: Run, string: int, accept: int, _r3: int) -> int:
    return _span(run, string, accept, among=True)


def _strcspn(run: Run, string: int, reject: int, _r3: int) -> int:
    return _span(run, string, reject, among=False)


def _strnstr(run: Run, string: int, part: int, length: int) -> int:
    for at in range(XATTR_SIZE_MAX):
        offset = 0
        while at + offset <= length and offset < XATTR_SIZE_MAX:
            wanted = _byte(run, part + offset)
            if not wanted:
                return at
            if at + offset == length:
                break
            byte = _byte(run, string + at + offset)
            if not byte:
                return -Errno.ENOENT
            if byte != wanted:
                break
            offset += 1
        if offset == XATTR_SIZE_MAX:
            return -Errno.E2BIG
        if at + offset == length:
            return -Errno.ENOENT
    return -Errno.E2BIG


def _strstr(run: Run, string: int, part: int, _r3: int) -> int:
    return _strnstr(run, string, part, XATTR_SIZE_MAX)


KFUNCS: dict[str, Helper] = {
    "bpf_strcmp": _returns_int(_strcmp, 2),
    "bpf_strcasecmp": _returns_int(_strcasecmp, 2),
    "bpf_strnchr": _returns_int(_strnchr, 1),
    "bpf_strchr": _returns_int(_strchr, 1),
    "bpf_strchrnul": _returns_int(_strchrnul, 1),
    "bpf_strrchr": _returns_int(_strrchr, 1),
    "bpf_strnlen": _returns_int(_strnlen, 1),
    "bpf_strlen": _returns_int(_strlen, 1),
    "bpf_strspn": _returns_int(_strspn, 2),
    "bpf_strcspn": _returns_int(_strcspn, 2),
    "bpf_strnstr": _returns_int(_strnstr, 2),
    "bpf_strstr": _returns_int(_strstr, 2),
}
