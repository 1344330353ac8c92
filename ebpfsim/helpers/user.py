"""Reads of the memory of the task that runs (kernel/trace/bpf_trace.c and kernel/bpf/helpers.c, v6.18).

The address space is the one that the CPU has in use, ``cpu.user``. What is not mapped gives EFAULT and a destination of
zeroes; kernel threads have no memory of this kind. There is no paging, so what may sleep finds nothing more.
"""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.memory.user import UserFault
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "probe_read_user", "probe_read_user_str"]


def probe_read_user(run: Run, dst: int, size: int, unsafe_ptr: int, _r4: int, _r5: int) -> int:
    """Copy ``size`` bytes (u32) of user memory."""
    count = u32(size)
    data = _read(run, unsafe_ptr, count)
    run.mem.write(dst, bytes(count) if data is None else data)
    return -Errno.EFAULT if data is None else 0


def probe_read_user_str(run: Run, dst: int, size: int, unsafe_ptr: int, _r4: int, _r5: int) -> int:
    """Copy a string with its NUL, cut to ``size`` bytes (u32); return the bytes written."""
    count = u32(size)
    if not count:
        return 0
    text = _read_string(run, unsafe_ptr, count)
    if text is None:
        run.mem.fill(dst, count)
        return -Errno.EFAULT
    text = text[: count - 1] + b"\0"
    run.mem.write(dst, text)
    return len(text)


def copy_from_user(run: Run, dst: int, size: int, user_ptr: int, _r4: int, _r5: int) -> int:
    """Copy ``size`` bytes (u32) of user memory, whose pages may come with that."""
    user, count = run.cpu.user, u32(size)
    try:
        data = user.read(user_ptr, count) if user is not None else None
    except UserFault:
        data = None
    if data is None:
        run.mem.fill(dst, count)
        return -Errno.EFAULT
    run.mem.write(dst, data)
    return 0


def _read(run: Run, address: int, size: int) -> bytes | None:
    try:
        return run.cpu.user.peek(address, size) if run.cpu.user is not None else None
    except UserFault:
        return None


def _read_string(run: Run, address: int, limit: int) -> bytes | None:
    try:
        return run.cpu.user.peek_string(address, limit) if run.cpu.user is not None else None
    except UserFault:
        return None


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_probe_read_user"]: probe_read_user,
    HELPER_IDS["bpf_probe_read_user_str"]: probe_read_user_str,
    HELPER_IDS["bpf_copy_from_user"]: copy_from_user,
}
