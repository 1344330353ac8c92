"""Reads of kernel memory that may fail (kernel/trace/bpf_trace.c, v6.18).

A read of what is not mapped returns EFAULT and clears the destination. Left out: reads of user memory, which is not
modelled yet.
"""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops, NotModelled
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS"]

_TASK_SIZE = 0x7FFF_FFFF_F000  # TASK_SIZE_MAX, arch/x86/include/asm/page_64.h, 4-level paging


def probe_read_kernel(run: Run, dst: int, size: int, unsafe_ptr: int, _r4: int, _r5: int) -> int:
    """Copy ``size`` bytes (u32) of kernel memory."""
    count = u32(size)
    try:
        data = run.mem.read(unsafe_ptr, count)
    except KernelOops:
        run.mem.fill(dst, count)
        return -Errno.EFAULT
    run.mem.write(dst, data)
    return 0


def probe_read_kernel_str(run: Run, dst: int, size: int, unsafe_ptr: int, _r4: int, _r5: int) -> int:
    """Copy a string with its NUL, cut to ``size`` bytes (u32); return the bytes written."""
    count = u32(size)
    if not count:
        return 0
    try:
        text = run.mem.read_string(unsafe_ptr, count)[: count - 1] + b"\0"
    except KernelOops:
        run.mem.fill(dst, count)
        return -Errno.EFAULT
    run.mem.write(dst, text)
    return len(text)


# bpf_probe_read_compat() and _compat_str(): the address says whose memory it is
def _compat(helper: Helper) -> Helper:
    def read(run: Run, dst: int, size: int, unsafe_ptr: int, r4: int, r5: int) -> int:
        if unsafe_ptr < _TASK_SIZE:
            raise NotModelled("reads of user memory by bpf_probe_read()", "kernel/trace/bpf_trace.c")
        return helper(run, dst, size, unsafe_ptr, r4, r5)

    return read


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_probe_read"]: _compat(probe_read_kernel),
    HELPER_IDS["bpf_probe_read_str"]: _compat(probe_read_kernel_str),
    HELPER_IDS["bpf_probe_read_kernel"]: probe_read_kernel,
    HELPER_IDS["bpf_probe_read_kernel_str"]: probe_read_kernel_str,
}
