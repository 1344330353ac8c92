"""Reading and writing (fs/read_write.c and mm/shmem.c, v6.18)."""

from collections.abc import Callable

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s64
from ebpfsim.memory.user import UserFault
from tracing.fs import FsKernel, file_at, task_of
from tracing.functions import kernel_function
from tracing.namei import MAY_READ, MAY_WRITE
from tracing.open import FMODE_READ, FMODE_WRITE, O_APPEND
from tracing.vfs import File

__all__ = ["SEEK_CUR", "SEEK_END", "SEEK_SET"]

MAX_RW_COUNT = 0x7FFF_F000  # INT_MAX & PAGE_MASK
READ, WRITE = 0, 1
SEEK_SET, SEEK_CUR, SEEK_END = range(3)


@kernel_function
def ksys_read(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int) -> int:
    """Read from where the file is; bytes or an errno."""
    return _at_position(k, cpu, fd, buf, count, k.functions.vfs_read)


@kernel_function
def ksys_write(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int) -> int:
    """Write where the file is; bytes or an errno."""
    return _at_position(k, cpu, fd, buf, count, k.functions.vfs_write)


def _at_position(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int, call: Callable[..., int]) -> int:
    file = task_of(k, cpu).files.lookup(fd)
    if not isinstance(file, File):
        return -Errno.EBADF if file is None else -Errno.EINVAL
    # the file's own position, as fdget_pos() and file_ppos() have it
    return call(cpu, file.address, buf, count, file.struct.member_address("f_pos"))


@kernel_function
def vfs_read(k: FsKernel, cpu: Cpu, file: int, buf: int, count: int, pos: int) -> int:
    """Read ``count`` bytes at ``*pos``, which moves on; EBADF, EISDIR, EFAULT."""
    opened = file_at(k, file)
    inode = opened.inode
    if not opened.struct.f_mode & FMODE_READ or inode is None:
        return -Errno.EBADF
    if inode.is_socket:
        raise NotModelled("read() on sockets", "net/socket.c, sock_read_iter")
    count = min(count, MAX_RW_COUNT)
    ret: int = k.functions.rw_verify_area(cpu, READ, file, pos, count)
    if ret:
        return ret
    if inode.is_dir:
        return -Errno.EISDIR
    at = s64(k.mem.load(pos, 8))
    data = bytes(inode.data[at : at + count])
    user = task_of(k, cpu).user
    try:
        if data and user is not None:
            user.write(buf, data)
    except UserFault:
        return -Errno.EFAULT
    k.mem.store(pos, 8, at + len(data))
    return len(data)


@kernel_function
def vfs_write(k: FsKernel, cpu: Cpu, file: int, buf: int, count: int, pos: int) -> int:
    """Write ``count`` bytes at ``*pos``, which moves on; EBADF, EFAULT."""
    opened = file_at(k, file)
    inode = opened.inode
    if not opened.struct.f_mode & FMODE_WRITE or inode is None:
        return -Errno.EBADF
    if inode.is_socket:
        raise NotModelled("write() on sockets", "net/socket.c, sock_write_iter")
    count = min(count, MAX_RW_COUNT)
    ret: int = k.functions.rw_verify_area(cpu, WRITE, file, pos, count)
    if ret:
        return ret
    user = task_of(k, cpu).user
    try:
        data = user.read(buf, count) if user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    at = len(inode.data) if opened.struct.f_flags & O_APPEND else s64(k.mem.load(pos, 8))
    if at > len(inode.data):
        inode.data += bytes(at - len(inode.data))
    inode.data[at : at + len(data)] = data
    inode.i_size = len(inode.data)
    k.mem.store(pos, 8, at + len(data))
    return len(data)


@kernel_function
def rw_verify_area(k: FsKernel, cpu: Cpu, read_write: int, file: int, _ppos: int, _count: int) -> int:
    """Ask the security modules."""
    ret: int = k.functions.security_file_permission(cpu, file, MAY_READ if read_write == READ else MAY_WRITE)
    return ret
