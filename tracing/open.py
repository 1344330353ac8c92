"""Opening and closing: fs/open.c, fs/file.c and fs/file_table.c, v6.18."""

from typing import cast

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from tracing.fs import FsKernel, dentry_at, file_at, inode_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.namei import MAY_READ, MAY_WRITE, OpenFlags
from tracing.vfs import File

__all__ = ["FMODE_READ", "FMODE_WRITE", "OpenHow", "close_fd"]

O_ACCMODE, O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND, O_CLOEXEC = 3, 1, 2, 0o100, 0o1000, 0o2000, 0o2000000
O_DIRECTORY, O_TMPFILE, O_PATH = 0o200000, 0o20000000, 0o10000000
# what open() knows, of which a 64-bit system has O_LARGEFILE set always
VALID_OPEN_FLAGS = 0o37777703 | 0o100
O_LARGEFILE = 0o100000
FMODE_READ, FMODE_WRITE, FMODE_OPENED = 0x1, 0x2, 0x80000
NR_OPEN = 1024  # RLIMIT_NOFILE of a task, as systems begin


class OpenHow(KernelStruct):
    """``struct open_how``: what openat2() is asked for."""

    struct_name = "open_how"
    flags = Field()
    mode = Field()
    resolve = Field()


@kernel_function
def do_sys_openat2(k: FsKernel, cpu: Cpu, dfd: int, filename: int, how: int) -> int:
    """Open a path; a descriptor or an errno."""
    functions, asked = k.functions, OpenHow(k.mem, how)
    op = OpenFlags.alloc(k.mem)
    flags = asked.flags & VALID_OPEN_FLAGS
    op.open_flag = flags
    op.mode = asked.mode & 0o7777 if flags & O_CREAT else 0
    op.acc_mode = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)[flags & O_ACCMODE]
    if flags & O_TRUNC:
        op.acc_mode |= MAY_WRITE
    name = functions.getname_flags(cpu, filename, 0)
    fd = is_err(name)
    if not fd:
        fd = functions.get_unused_fd_flags(cpu, flags)
        if fd >= 0:
            file = functions.do_filp_open(cpu, dfd, name, op.address)
            if is_err(file):
                functions.put_unused_fd(cpu, fd)
                fd = is_err(file)
            else:
                functions.fd_install(cpu, fd, file)
        functions.putname(cpu, name)
    op.free()
    return fd


@kernel_function
def get_unused_fd_flags(k: FsKernel, cpu: Cpu, flags: int) -> int:
    """Take the lowest free descriptor; EMFILE."""
    return cast(int, k.functions.alloc_fd(cpu, 0, NR_OPEN, flags))


@kernel_function
def alloc_fd(k: FsKernel, cpu: Cpu, start: int, end: int, _flags: int) -> int:
    """Take the lowest free descriptor from ``start`` on; EMFILE when it is ``end``."""
    fd = task_of(k, cpu).files.reserve(start)
    return fd if fd < end else -Errno.EMFILE


@kernel_function
def put_unused_fd(k: FsKernel, cpu: Cpu, fd: int) -> None:
    """Give a descriptor back that was taken and not used."""
    task_of(k, cpu).files.unreserve(fd)


@kernel_function
def fd_install(k: FsKernel, cpu: Cpu, fd: int, file: int) -> None:
    """Let a descriptor stand for a file."""
    opened = file_at(k, file)
    mode = opened.struct.f_mode
    task_of(k, cpu).files.install_at(fd, opened, readable=bool(mode & FMODE_READ), writable=bool(mode & FMODE_WRITE))


@kernel_function
def alloc_empty_file(k: FsKernel, cpu: Cpu, flags: int, cred: int) -> int:
    """Return a new ``struct file`` that is not open yet, or an errno."""

    def on_fput(file: File) -> None:
        if file.struct.f_mode & FMODE_OPENED:
            k.functions.__fput(k.sched.running_cpu(), file.address)
        else:
            _file_free(k, k.sched.running_cpu(), file)

    file = File(k.mem, on_fput)
    k.vfs.by_address[file.address] = file
    ret = k.functions.init_file(cpu, file.address, flags, cred)
    if ret:
        k.vfs.forget(file)
    return ret or file.address


@kernel_function
def init_file(k: FsKernel, cpu: Cpu, f: int, flags: int, cred: int) -> int:
    """Fill in what a file has before it is open."""
    struct = file_at(k, f).struct
    struct.f_cred, struct.f_flags = cred, flags
    # OPEN_FMODE
    struct.f_mode = flags + 1 & O_ACCMODE
    ret: int = k.functions.security_file_alloc(cpu, f)
    return ret


@kernel_function
def vfs_open(k: FsKernel, cpu: Cpu, path: int, file: int) -> int:
    """Open the file at ``struct path``."""
    k.vfs.opened(file_at(k, file), dentry_at(k, k.mem.load(path + 8, 8)))
    ret: int = k.functions.do_dentry_open(cpu, file, 0)
    return ret


@kernel_function
def do_dentry_open(k: FsKernel, cpu: Cpu, f: int, _open: int) -> int:
    """Ask the security modules, then the file system."""
    functions, file = k.functions, file_at(k, f)
    inode = file.inode
    assert inode is not None
    functions.path_get(cpu, file.struct.member_address("f_path"))
    ret: int = functions.security_file_open(cpu, f)
    ret = ret or functions.shmem_file_open(cpu, inode.address, f)
    if not ret:
        file.struct.f_mode |= FMODE_OPENED
        file.struct.f_flags &= ~(O_CREAT | 0o200 | 0o400 | O_TRUNC)
    return ret


@kernel_function
def path_get(_k: FsKernel, _cpu: Cpu, _path: int) -> None:
    """Take a reference of a path."""


@kernel_function
def shmem_file_open(k: FsKernel, cpu: Cpu, inode: int, file: int) -> int:
    """Open a file in memory."""
    ret: int = k.functions.generic_file_open(cpu, inode, file)
    return ret


@kernel_function
def generic_file_open(k: FsKernel, _cpu: Cpu, inode: int, _filp: int) -> int:
    """Nothing to refuse: O_LARGEFILE is set on 64-bit systems."""
    inode_at(k, inode)
    return 0


@kernel_function
def file_close_fd(k: FsKernel, cpu: Cpu, fd: int) -> int:
    """Take a descriptor away; the address of its file, 0 when it is not open."""
    file = task_of(k, cpu).files.take(fd)
    if file is None:
        return 0
    # what is no File (a map, a program) has no struct file here
    return file.address if isinstance(file, File) else _release_other(file)


def _release_other(file: object) -> int:
    file.put_user()  # type: ignore[attr-defined]
    return -1


def close_fd(k: FsKernel, cpu: Cpu, fd: int) -> int:
    """close(2): EBADF for what is not open."""
    functions = k.functions
    file = functions.file_close_fd(cpu, fd)
    if not file:
        return -Errno.EBADF
    if file == -1 or file == (1 << 64) - 1:
        return 0
    functions.filp_flush(cpu, file, 0)
    functions.fput_close_sync(cpu, file)
    return 0


@kernel_function
def filp_flush(_k: FsKernel, _cpu: Cpu, _filp: int, _id: int) -> int:
    """Tell the file system that a descriptor was closed; files in memory have nothing to write back."""
    return 0


@kernel_function
def fput_close_sync(k: FsKernel, cpu: Cpu, file: int) -> None:
    """Drop a reference of a file at close(2)."""
    file_at(k, file).put_user()


@kernel_function
def __fput(k: FsKernel, cpu: Cpu, file: int) -> None:
    """Let a file go that nobody has open any more."""
    functions = k.functions
    functions.security_file_release(cpu, file)
    opened = file_at(k, file)
    if opened.release:
        getattr(functions, opened.release)(cpu, opened.struct.f_inode, file)
    _file_free(k, cpu, opened)


def _file_free(k: FsKernel, cpu: Cpu, file: File) -> None:
    k.vfs.closed(file)
    k.functions.security_file_free(cpu, file.address)
    k.vfs.forget(file)
