"""What iterators write: bpf_seq_write() and bpf_seq_printf() (kernel/trace/bpf_trace.c and fs/seq_file.c, v6.18).

A ``struct seq_file`` begins with the address of its buffer, its size, where reading goes on, and how much is in it; a
full one has as much in it as its size.
"""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.bprintf import FormatError, bprintf
from ebpfsim.isa.alu import u32
from ebpfsim.memory import Memory
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "SEQ_COUNT", "SEQ_SIZE", "append"]

SEQ_BUF, SEQ_SIZE, SEQ_COUNT = 0, 8, 24
MAX_VARARGS = 12  # MAX_BPRINTF_VARARGS, include/linux/bpf.h


def append(mem: Memory, seq: int, data: bytes, needed: int) -> int:
    """Append bytes: 0, or EOVERFLOW. ``needed`` bytes must be free; one always stays so."""
    size, count = mem.load(seq + SEQ_SIZE, 8), mem.load(seq + SEQ_COUNT, 8)
    if count + needed >= size:
        mem.store(seq + SEQ_COUNT, 8, size)
        return -Errno.EOVERFLOW
    mem.write(mem.load(seq + SEQ_BUF, 8) + count, data)
    mem.store(seq + SEQ_COUNT, 8, count + len(data))
    return 0


def seq_write(run: Run, seq: int, data: int, size: int, _r4: int, _r5: int) -> int:
    """Append bytes: 0, or EOVERFLOW when there is no room."""
    return append(run.mem, seq, run.mem.read(data, u32(size)), u32(size))


def seq_printf(run: Run, seq: int, fmt: int, fmt_size: int, data: int, data_len: int) -> int:
    """Append text: 0, EOVERFLOW, or what is wrong with format and arguments."""
    count = u32(data_len)
    if count % 8 or count > MAX_VARARGS * 8 or (count and not data):
        return -Errno.EINVAL
    text = run.mem.read(fmt, u32(fmt_size))
    if 0 not in text:
        return -Errno.EINVAL
    values = tuple(run.mem.load(data + offset, 8) for offset in range(0, count, 8))
    try:
        formatted = bprintf(run.mem, text[: text.find(0)], values, run.kernel.rng.seed)
    except FormatError as error:
        return -error.errno
    return append(run.mem, seq, formatted, len(formatted))


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_seq_write"]: seq_write,
    HELPER_IDS["bpf_seq_printf"]: seq_printf,
}
