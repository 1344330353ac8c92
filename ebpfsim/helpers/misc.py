"""Helpers about the machine and about strings (kernel/bpf/helpers.c and kernel/bpf/core.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.native_text import native_text
from ebpfsim.isa.alu import s64, u32
from ebpfsim.progs.runtime import Helper, Run, Runtime
from ebpfsim.rng import Numbers
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "prandom_numbers"]

_BASES = (0, 8, 10, 16)
_BASE_MASK = 0x1F  # BPF_STRTOX_BASE_MASK
_MAX_DIGITS = 63  # struct of 64 characters in __bpf_strtoull()
_SPACES = b" \t\n\v\f\r\xa0"  # isspace() of lib/ctype.c


def prandom_numbers(kernel: Runtime) -> Numbers:
    """Return the random numbers that the programs of a kernel get."""
    return kernel.rng.numbers(f"{kernel.name} bpf_get_prandom_u32")


def get_prandom_u32(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return a random u32 from the stream of this kernel."""
    return prandom_numbers(run.kernel).take()


def get_smp_processor_id(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the number of the CPU."""
    return run.cpu.number


@native_text("r0 = 0; exit")
def get_numa_node_id(_run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the NUMA node of the CPU; there is one."""
    return 0


def strncmp(run: Run, s1: int, s1_size: int, s2: int, _r4: int, _r5: int) -> int:
    """Compare at most ``s1_size`` bytes of two strings; -1, 0 or 1."""
    left = run.mem.read_string(s1, u32(s1_size)) + b"\0"
    right = run.mem.read_string(s2, u32(s1_size)) + b"\0"
    limit = u32(s1_size)
    left, right = left[:limit], right[:limit]
    return (left > right) - (left < right)


def strtol(run: Run, buf: int, buf_len: int, flags: int, result: int, _r5: int) -> int:
    """Parse a long; return the number of characters used, EINVAL or ERANGE (and store 0)."""
    used, value = _parse(run, buf, buf_len, flags)
    if not -(1 << 63) <= value < 1 << 63:
        used, value = -Errno.ERANGE, 0
    run.mem.store(result, 8, value)
    return used


def strtoul(run: Run, buf: int, buf_len: int, flags: int, result: int, _r5: int) -> int:
    """Parse an unsigned long; as ``strtol``, but a minus sign is EINVAL."""
    used, value = _parse(run, buf, buf_len, flags, signed=False)
    run.mem.store(result, 8, value)
    return used


# __bpf_strtoull(): characters used (or a negative errno) and the value
def _parse(run: Run, buf: int, buf_len: int, flags: int, *, signed: bool = True) -> tuple[int, int]:
    base = flags & _BASE_MASK
    size = s64(buf_len)
    if base not in _BASES or flags & ~_BASE_MASK or size <= 0:
        return -Errno.EINVAL, 0
    text = run.mem.read(buf, size)
    stripped = text.lstrip(_SPACES)
    negative = stripped.startswith(b"-")
    digits = stripped[negative:]
    start = size - len(digits)
    if not digits:
        return -Errno.EINVAL, 0
    length, value = _integer(digits[:_MAX_DIGITS], base)
    if value >= 1 << 64:
        return -Errno.ERANGE, 0
    if not length or (negative and not signed):
        return -Errno.EINVAL, 0
    return start + length, -value if negative else value


# _parse_integer_fixup_radix() and _parse_integer() of lib/kstrtox.c: characters used and the value
def _integer(digits: bytes, base: int) -> tuple[int, int]:
    hexadecimal = digits[:2].lower() == b"0x" and digits[2:3].lower() in [b"%x" % n for n in range(16)]
    if base == 0:
        base = 16 if hexadecimal else 8 if digits.startswith(b"0") else 10
    prefix = 2 if base == 16 and digits[:2].lower() == b"0x" else 0
    allowed = b"0123456789abcdefABCDEF" if base == 16 else b"0123456789"[:base]
    rest = digits[prefix:]
    number = rest[: len(rest) - len(rest.lstrip(allowed))]
    return (prefix + len(number), int(number, base)) if number else (0, 0)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_get_prandom_u32"]: get_prandom_u32,
    HELPER_IDS["bpf_get_smp_processor_id"]: get_smp_processor_id,
    HELPER_IDS["bpf_get_numa_node_id"]: get_numa_node_id,
    HELPER_IDS["bpf_strncmp"]: strncmp,
    HELPER_IDS["bpf_strtol"]: strtol,
    HELPER_IDS["bpf_strtoul"]: strtoul,
}
