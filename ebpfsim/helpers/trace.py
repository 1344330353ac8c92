"""Helpers that print: to the trace pipe and into memory (kernel/trace/bpf_trace.c, kernel/bpf/helpers.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.bprintf import FormatError, bprintf
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS"]

MAX_VARARGS = 12  # MAX_BPRINTF_VARARGS, include/linux/bpf.h
MAX_TEXT_BYTES = 1024  # MAX_BPRINTF_BUF, with the NUL
MAX_FORMAT_BYTES = 1 << 16  # bounds the search for the NUL of a constant string


def trace_printk(run: Run, fmt: int, fmt_size: int, arg1: int, arg2: int, arg3: int) -> int:
    """Print to the trace pipe; return the length of the text or a negative errno."""
    return _print(run, fmt, u32(fmt_size), (arg1, arg2, arg3))


def trace_vprintk(run: Run, fmt: int, fmt_size: int, data: int, data_len: int, _r5: int) -> int:
    """Print to the trace pipe with up to 12 arguments in an array of u64 of ``data_len`` bytes."""
    values = _values(run, data, u32(data_len))
    return _print(run, fmt, u32(fmt_size), values) if values is not None else -Errno.EINVAL


def snprintf(run: Run, text: int, text_size: int, fmt: int, data: int, data_len: int) -> int:
    """Print into memory, at most ``text_size`` bytes with the NUL; return the bytes that the whole text needs."""
    values = _values(run, data, u32(data_len))
    if values is None:
        return -Errno.EINVAL
    try:
        formatted = bprintf(run.mem, run.mem.read_string(fmt, MAX_FORMAT_BYTES), values, run.kernel.rng.seed)
    except FormatError as error:
        return -error.errno
    room = u32(text_size)
    if room:
        run.mem.write(text, formatted[: room - 1] + b"\0")
    return len(formatted) + 1


def _values(run: Run, data: int, data_len: int) -> tuple[int, ...] | None:
    if data_len % 8 or data_len > MAX_VARARGS * 8 or (data_len and not data):
        return None
    return tuple(run.mem.load(data + offset, 8) for offset in range(0, data_len, 8))


def _print(run: Run, fmt: int, fmt_size: int, values: tuple[int, ...]) -> int:
    text = run.mem.read(fmt, fmt_size)
    end = text.find(0)
    if end < 0:
        return -Errno.EINVAL
    try:
        formatted = bprintf(run.mem, text[:end], values, run.kernel.rng.seed)
    except FormatError as error:
        return -error.errno
    shown = formatted[: MAX_TEXT_BYTES - 1]
    run.kernel.trace_print(run.cpu, shown[: shown.find(0)] if 0 in shown else shown)
    return len(formatted)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_trace_printk"]: trace_printk,
    HELPER_IDS["bpf_trace_vprintk"]: trace_vprintk,
    HELPER_IDS["bpf_snprintf"]: snprintf,
}
