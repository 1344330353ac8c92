"""System calls of files: what is behind ``__x64_sys_openat()`` and its kin (fs/, v6.18)."""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64, u32
from tracing.fs import FsKernel, file_at, is_err, task_of
from tracing.namei import AT_FDCWD
from tracing.open import O_CREAT, O_TRUNC, O_WRONLY, OpenHow, close_fd
from tracing.read_write import SEEK_CUR, SEEK_END, SEEK_SET
from tracing.syscalls import syscall
from tracing.vfs import File

__all__: list[str] = []


@syscall(0)
def sys_read(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int) -> int:
    ret: int = k.functions.ksys_read(cpu, u32(fd), buf, count)
    return ret


@syscall(1)
def sys_write(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int) -> int:
    ret: int = k.functions.ksys_write(cpu, u32(fd), buf, count)
    return ret


@syscall(2)
def sys_open(k: FsKernel, cpu: Cpu, filename: int, flags: int, mode: int) -> int:
    return _open(k, cpu, AT_FDCWD, filename, flags, mode)


@syscall(3)
def sys_close(k: FsKernel, cpu: Cpu, fd: int) -> int:
    return close_fd(k, cpu, u32(fd))


@syscall(8)
def sys_lseek(k: FsKernel, cpu: Cpu, fd: int, offset: int, whence: int) -> int:
    file = task_of(k, cpu).files.lookup(u32(fd))
    if not isinstance(file, File) or file.inode is None:
        return -Errno.EBADF
    if file.inode.is_socket:
        return -Errno.ESPIPE
    base = {SEEK_SET: 0, SEEK_CUR: file.struct.f_pos, SEEK_END: len(file.inode.data)}.get(u32(whence))
    if base is None or base + s64(offset) < 0:
        return -Errno.EINVAL
    file.struct.f_pos = base + s64(offset)
    return base + s64(offset)


@syscall(17)
def sys_pread64(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int, pos: int) -> int:
    return _at(k, cpu, "vfs_read", fd, buf, count, pos)


@syscall(18)
def sys_pwrite64(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int, pos: int) -> int:
    return _at(k, cpu, "vfs_write", fd, buf, count, pos)


@syscall(85)
def sys_creat(k: FsKernel, cpu: Cpu, pathname: int, mode: int) -> int:
    return _open(k, cpu, AT_FDCWD, pathname, O_CREAT | O_WRONLY | O_TRUNC, mode)


@syscall(257)
def sys_openat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, flags: int, mode: int) -> int:
    return _open(k, cpu, s32(dfd), filename, flags, mode)


@syscall(80)
def sys_chdir(k: FsKernel, cpu: Cpu, filename: int) -> int:
    functions = k.functions
    name = functions.getname_flags(cpu, filename, 0)
    if is_err(name):
        return is_err(name)
    path = k.mem.alloc(16)
    ret: int = functions.filename_lookup(cpu, AT_FDCWD, name, 1, path, 0)
    dentry = k.vfs.by_address.get(k.mem.load(path + 8, 8))
    k.mem.free(path)
    functions.putname(cpu, name)
    if ret:
        return ret
    inode = getattr(dentry, "inode", None)
    if inode is None or not inode.is_dir:
        return -Errno.ENOTDIR
    ret = functions.inode_permission(cpu, 0, inode.address, 1)
    if not ret:
        task_of(k, cpu).leader.cwd = dentry  # type: ignore[assignment]
    return ret


def _open(k: FsKernel, cpu: Cpu, dfd: int, filename: int, flags: int, mode: int) -> int:
    how = OpenHow.alloc(k.mem)
    how.flags, how.mode = u32(flags), u32(mode) & 0xFFFF
    fd: int = k.functions.do_sys_openat2(cpu, dfd, filename, how.address)
    how.free()
    return fd


def _at(k: FsKernel, cpu: Cpu, name: str, fd: int, buf: int, count: int, pos: int) -> int:
    if s64(pos) < 0:
        return -Errno.EINVAL
    file = task_of(k, cpu).files.lookup(u32(fd))
    if not isinstance(file, File):
        return -Errno.EBADF
    room = k.mem.alloc(8)
    k.mem.store(room, 8, pos)
    ret: int = getattr(k.functions, name)(cpu, file_at(k, file.address).address, buf, count, room)
    k.mem.free(room)
    return ret
