"""Reads of kernel memory that may fail (kernel/trace/bpf_trace.c, v6.18).

A read of what is not mapped returns EFAULT and clears the destination; an address that can be none of the kernel's
gives ERANGE (``copy_from_kernel_nofault_allowed``, arch/x86/mm/maccess.c). Reads of user memory: ``helpers.user``.
"""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops
from ebpfsim.helpers.user import probe_read_user, probe_read_user_str
from ebpfsim.isa.alu import u32
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "probe_errno"]

_TASK_SIZE = 0x7FFF_FFFF_F000  # TASK_SIZE_MAX, arch/x86/include/asm/page_64.h, 4-level paging
_FIRST_KERNEL_ADDRESS = 0xFFFF_8000_0000_0000  # the higher half of the canonical addresses
_VSYSCALL = 0xFFFF_FFFF_FF60_0000  # VSYSCALL_ADDR, arch/x86/include/uapi/asm/vsyscall.h


def probe_read_kernel(run: Run, dst: int, size: int, unsafe_ptr: int, _r4: int, _r5: int) -> int:
    """Copy ``size`` bytes (u32) of kernel memory."""
    count = u32(size)
    try:
        data = run.mem.read(unsafe_ptr, count)
    except KernelOops:
        run.mem.fill(dst, count)
        return -probe_errno(unsafe_ptr)
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
        return -probe_errno(unsafe_ptr)
    run.mem.write(dst, text)
    return len(text)


def probe_errno(address: int) -> int:
    """Return why an address cannot be read: EFAULT, or ERANGE when it can be none of the kernel's."""
    kernels = address >= _FIRST_KERNEL_ADDRESS and address & -PAGE_SIZE != _VSYSCALL
    return Errno.EFAULT if kernels else Errno.ERANGE


# bpf_probe_read_compat() and _compat_str(): the address says whose memory it is
def _compat(kernel: Helper, user: Helper) -> Helper:
    def read(run: Run, dst: int, size: int, unsafe_ptr: int, r4: int, r5: int) -> int:
        helper = user if unsafe_ptr < _TASK_SIZE else kernel
        return helper(run, dst, size, unsafe_ptr, r4, r5)

    return read


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_probe_read"]: _compat(probe_read_kernel, probe_read_user),
    HELPER_IDS["bpf_probe_read_str"]: _compat(probe_read_kernel_str, probe_read_user_str),
    HELPER_IDS["bpf_probe_read_kernel"]: probe_read_kernel,
    HELPER_IDS["bpf_probe_read_kernel_str"]: probe_read_kernel_str,
}
