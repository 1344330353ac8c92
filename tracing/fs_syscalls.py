"""System calls of open files: what is behind ``__x64_sys_openat()`` and its kin (fs/, v6.18)."""

from typing import cast

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault
from tracing.fs import FsKernel, borrow, file_at, give_back, task_of
from tracing.functions import kernel_function
from tracing.namei import AT_FDCWD
from tracing.open import (
    NR_OPEN,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_NONBLOCK,
    O_TRUNC,
    O_WRONLY,
    OpenHow,
    close_fd,
    file_of,
)
from tracing.read_write import SEEK_CUR, SEEK_END, SEEK_SET
from tracing.syscalls import syscall
from tracing.vfs import S_IFDIR, S_IFIFO, S_IFMT, Dentry, File

__all__: list[str] = []

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
F_GETLK, F_SETLK, F_SETLKW, F_SETOWN, F_GETOWN, F_GETPIPE_SZ, F_SETPIPE_SZ = 5, 6, 7, 8, 9, 1032, 1031
FD_CLOEXEC = 1
O_DIRECT, O_NOATIME, O_ASYNC = 0o40000, 0o1000000, 0o20000
SETFL_MASK = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC
CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4
FIOCLEX, FIONCLEX, FIONBIO = 0x5451, 0x5450, 0x5421
# include/linux/fs_types.h
DT_BY_KIND_SHIFT = 12
FDTABLE_BITS = 64  # BITS_PER_LONG: what a table of descriptors begins with
_F_PATH = place("file", "f_path")[0]


def opened(k: FsKernel, cpu: Cpu, fd: int) -> File | None:
    """Return the open file of a descriptor, None when it is none."""
    return file_of(task_of(k, cpu), u32(fd))


@syscall(0)
def sys_read(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int) -> int:
    ret: int = k.functions.ksys_read(cpu, u32(fd), buf, count)
    return ret


@syscall(1)
def sys_write(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int) -> int:
    ret: int = k.functions.ksys_write(cpu, u32(fd), buf, count)
    return ret


@syscall(19)
def sys_readv(k: FsKernel, cpu: Cpu, fd: int, vec: int, vlen: int) -> int:
    ret: int = k.functions.do_readv(cpu, fd, vec, vlen, 0)
    return ret


@syscall(20)
def sys_writev(k: FsKernel, cpu: Cpu, fd: int, vec: int, vlen: int) -> int:
    ret: int = k.functions.do_writev(cpu, fd, vec, vlen, 0)
    return ret


@kernel_function
def do_readv(k: FsKernel, cpu: Cpu, fd: int, vec: int, vlen: int, flags: int) -> int:
    """Read into several pieces of memory where the file is."""
    k.functions.fdget_pos(cpu, u32(fd))
    file = opened(k, cpu, fd)
    return -Errno.EBADF if file is None else k.functions.vfs_readv(cpu, file.address, vec, vlen, 0, flags)


@kernel_function
def do_writev(k: FsKernel, cpu: Cpu, fd: int, vec: int, vlen: int, flags: int) -> int:
    """Write from several pieces of memory where the file is."""
    k.functions.fdget_pos(cpu, u32(fd))
    file = opened(k, cpu, fd)
    return -Errno.EBADF if file is None else k.functions.vfs_writev(cpu, file.address, vec, vlen, 0, flags)


@syscall(2)
def sys_open(k: FsKernel, cpu: Cpu, filename: int, flags: int, mode: int) -> int:
    return _open(k, cpu, AT_FDCWD, filename, flags, mode)


@syscall(85)
def sys_creat(k: FsKernel, cpu: Cpu, pathname: int, mode: int) -> int:
    return _open(k, cpu, AT_FDCWD, pathname, O_CREAT | O_WRONLY | O_TRUNC, mode)


@syscall(257)
def sys_openat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, flags: int, mode: int) -> int:
    return _open(k, cpu, s32(dfd), filename, flags, mode)


@syscall(437)
def sys_openat2(k: FsKernel, cpu: Cpu, dfd: int, filename: int, how: int, usize: int) -> int:
    if usize < 24:
        return -Errno.EINVAL
    user = task_of(k, cpu).user
    try:
        data = user.read(how, min(usize, 4096)) if user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    if any(data[24:]):
        return -Errno.E2BIG
    asked = OpenHow.alloc(k.mem)
    k.mem.write(asked.address, data[:24])
    if asked.mode and not asked.flags & (O_CREAT | 0o20000000):
        ret = -Errno.EINVAL
    else:
        ret = k.functions.do_sys_openat2(cpu, s32(dfd), filename, asked.address)
    asked.free()
    return ret


def _open(k: FsKernel, cpu: Cpu, dfd: int, filename: int, flags: int, mode: int) -> int:
    how = borrow(k, OpenHow)
    # what open() and openat() do not know is not there (build_open_how)
    how.flags, how.mode, how.resolve = u32(flags) & 0o37777777, u32(mode) & 0o7777, 0
    fd: int = k.functions.do_sys_openat2(cpu, dfd, filename, how.address)
    give_back(k, how)
    return fd


@syscall(3)
def sys_close(k: FsKernel, cpu: Cpu, fd: int) -> int:
    return close_fd(k, cpu, u32(fd))


@syscall(436)
def sys_close_range(k: FsKernel, cpu: Cpu, fd: int, max_fd: int, flags: int) -> int:
    if u32(flags) & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) or u32(fd) > u32(max_fd):
        return -Errno.EINVAL
    files, functions = task_of(k, cpu).files, k.functions
    last = max(FDTABLE_BITS - 1, *files.numbers(), 0)
    for number in range(u32(fd), min(u32(max_fd), last) + 1):
        if flags & CLOSE_RANGE_CLOEXEC:
            if files.lookup(number) is not None:
                files.close_on_exec.add(number)
            continue
        file = functions.file_close_fd_locked(cpu, task_of(k, cpu).struct.files_ptr, number)
        if file and s64(file) != -1:
            functions.filp_close(cpu, file, task_of(k, cpu).struct.files_ptr)
    return 0


@syscall(8)
def sys_lseek(k: FsKernel, cpu: Cpu, fd: int, offset: int, whence: int) -> int:
    ret: int = k.functions.ksys_lseek(cpu, u32(fd), offset, u32(whence))
    return ret


@kernel_function
def ksys_lseek(k: FsKernel, cpu: Cpu, fd: int, offset: int, whence: int) -> int:
    """Move where a file is read and written; EBADF, ESPIPE, EINVAL."""
    k.functions.fdget_pos(cpu, fd)
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    inode = file.inode
    own = file.ops.get("llseek")
    if inode.is_socket or inode.i_mode & S_IFMT == S_IFIFO or (file.private is not None and own is None):
        return -Errno.ESPIPE
    if own is not None and inode.is_plain:
        return cast(int, getattr(k.functions, own)(cpu, file.address, offset, whence))
    return _seek(file, s64(offset), whence)


@kernel_function
def shmem_file_llseek(k: FsKernel, cpu: Cpu, file: int, offset: int, whence: int) -> int:
    """Move where a file in memory is read and written."""
    inode = file_at(k, file).inode
    assert inode is not None
    ret: int = k.functions.generic_file_llseek_size(cpu, file, offset, whence, 1 << 62, len(inode.data))
    return ret


@kernel_function
def generic_file_llseek_size(
    k: FsKernel, _cpu: Cpu, file: int, offset: int, whence: int, _maxsize: int, _eof: int
) -> int:
    """Move where a file is read and written."""
    return _seek(file_at(k, file), s64(offset), whence)


def _seek(file: File, offset: int, whence: int) -> int:
    inode = file.inode
    assert inode is not None
    size = len(inode.data)
    if whence in (3, 4):
        # SEEK_DATA, SEEK_HOLE: a file is all data
        if not 0 <= offset < size:
            return -Errno.ENXIO
        base = size - offset if whence == 4 else 0
    else:
        found = {SEEK_SET: 0, SEEK_CUR: file.struct.f_pos, SEEK_END: size}.get(whence)
        if found is None or found + offset < 0 or found + offset >> 62:
            return -Errno.EINVAL
        base = found
    file.struct.f_pos = base + offset
    return base + offset


@syscall(17)
def sys_pread64(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int, pos: int) -> int:
    return call_at(k, cpu, "vfs_read", fd, buf, count, pos)


@syscall(18)
def sys_pwrite64(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int, pos: int) -> int:
    return call_at(k, cpu, "vfs_write", fd, buf, count, pos)


def call_at(k: FsKernel, cpu: Cpu, name: str, fd: int, buf: int, count: int, pos: int, *more: int) -> int:
    """Let a kernel function read or write at a place that is not the file's own: EINVAL, EBADF, ESPIPE."""
    if s64(pos) < 0:
        return -Errno.EINVAL
    k.functions.fdget(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    if file.inode.is_socket or file.private is not None:
        return -Errno.ESPIPE
    room = k.mem.alloc(8)
    k.mem.store(room, 8, pos)
    ret: int = getattr(k.functions, name)(cpu, file.address, buf, count, room, *more)
    k.mem.free(room)
    return ret


@syscall(32)
def sys_dup(k: FsKernel, cpu: Cpu, fildes: int) -> int:
    file = task_of(k, cpu).files.lookup(u32(fildes))
    if file is None:
        return -Errno.EBADF
    fd: int = k.functions.alloc_fd(cpu, 0, NR_OPEN, 0)
    return fd if fd < 0 else _duplicate(k, cpu, u32(fildes), fd)


@syscall(33)
def sys_dup2(k: FsKernel, cpu: Cpu, oldfd: int, newfd: int) -> int:
    if u32(oldfd) == u32(newfd):
        return u32(oldfd) if task_of(k, cpu).files.lookup(u32(oldfd)) is not None else -Errno.EBADF
    ret: int = k.functions.ksys_dup3(cpu, u32(oldfd), u32(newfd), 0)
    return ret


@syscall(292)
def sys_dup3(k: FsKernel, cpu: Cpu, oldfd: int, newfd: int, flags: int) -> int:
    ret: int = k.functions.ksys_dup3(cpu, u32(oldfd), u32(newfd), u32(flags))
    return ret


@kernel_function
def ksys_dup3(k: FsKernel, cpu: Cpu, oldfd: int, newfd: int, flags: int) -> int:
    """Let a descriptor stand for what another one does, in the place of what it stood for."""
    files = task_of(k, cpu).files
    if flags & ~O_CLOEXEC or oldfd == newfd:
        return -Errno.EINVAL
    if newfd >= NR_OPEN or files.lookup(oldfd) is None:
        return -Errno.EBADF
    # whether the new one is on the way to be a file elsewhere does not come up: calls do not overlap
    k.functions.expand_files(cpu, task_of(k, cpu).struct.files_ptr, newfd)
    before = files.take(newfd)
    ret = _duplicate(k, cpu, oldfd, newfd, cloexec=bool(flags & O_CLOEXEC), inlined=True)
    if isinstance(before, File):
        k.functions.filp_close(cpu, before.address, task_of(k, cpu).struct.files_ptr)
    elif before is not None:
        before.put_user()
    return ret


def _duplicate(k: FsKernel, cpu: Cpu, oldfd: int, fd: int, *, cloexec: bool = False, inlined: bool = False) -> int:
    files = task_of(k, cpu).files
    entry = files.file(oldfd)
    assert entry is not None
    entry.obj.get()
    if isinstance(entry.obj, File) and not inlined:
        k.functions.fd_install(cpu, fd, entry.obj.address)
    else:
        files.install_at(fd, entry.obj, readable=entry.readable, writable=entry.writable)
    if cloexec:
        files.close_on_exec.add(fd)
    return fd


@syscall(72)
def sys_fcntl(k: FsKernel, cpu: Cpu, fd: int, cmd: int, arg: int) -> int:
    functions = k.functions
    functions.fdget_raw(cpu, u32(fd))
    if task_of(k, cpu).files.lookup(u32(fd)) is None:
        return -Errno.EBADF
    file = opened(k, cpu, fd)
    address = file.address if file is not None else 0
    ret: int = functions.security_file_fcntl(cpu, address, u32(cmd), arg) if address else 0
    return ret or functions.do_fcntl(cpu, u32(fd), u32(cmd), arg, address)


@kernel_function
def do_fcntl(k: FsKernel, cpu: Cpu, fd: int, cmd: int, arg: int, filp: int) -> int:
    """Do one of many things with a descriptor; EINVAL for what is not known."""
    files = task_of(k, cpu).files
    if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
        if u32(arg) >= NR_OPEN:
            return -Errno.EINVAL
        new = k.functions.alloc_fd(cpu, u32(arg), NR_OPEN, 0)
        return new if new < 0 else _duplicate(k, cpu, fd, new, cloexec=cmd == F_DUPFD_CLOEXEC)
    if cmd == F_GETFD:
        return FD_CLOEXEC if fd in files.close_on_exec else 0
    if cmd == F_SETFD:
        (files.close_on_exec.add if arg & FD_CLOEXEC else files.close_on_exec.discard)(fd)
        return 0
    if not filp:
        return -Errno.EINVAL
    file = file_at(k, filp)
    if cmd == F_GETFL:
        return file.struct.f_flags
    if cmd == F_SETFL:
        file.struct.f_flags = file.struct.f_flags & ~SETFL_MASK | arg & SETFL_MASK
        return 0
    if cmd in (F_GETLK, F_SETLK, F_SETLKW):
        # nobody else has a lock, ever
        return 0
    if cmd in (F_SETOWN, F_GETOWN):
        return 0
    if cmd in (F_GETPIPE_SZ, F_SETPIPE_SZ):
        pipe = getattr(file.private, "size", None)
        return pipe if pipe is not None else -Errno.EBADF
    return -Errno.EINVAL


@syscall(16)
def sys_ioctl(k: FsKernel, cpu: Cpu, fd: int, cmd: int, arg: int) -> int:
    functions = k.functions
    functions.fdget(cpu, u32(fd))
    obj = opened(k, cpu, fd) or task_of(k, cpu).files.lookup(u32(fd))
    if obj is None:
        return -Errno.EBADF
    if not isinstance(obj, File):
        own = getattr(obj, "ioctl", None)
        return own(cpu, u32(cmd), arg) if own is not None else -Errno.ENOTTY
    ret: int = functions.security_file_ioctl(cpu, obj.address, u32(cmd), arg)
    if ret:
        return ret
    ret = functions.do_vfs_ioctl(cpu, obj.address, u32(fd), u32(cmd), arg)
    if ret != -Errno.ENOTTY:
        return ret
    named = obj.ops.get("unlocked_ioctl") if obj.private is not None else None
    if named is not None:
        return int(getattr(functions, named)(cpu, obj.address, u32(cmd), arg))
    own = getattr(obj.private, "ioctl", None)
    return own(cpu, u32(cmd), arg) if own is not None else ret


@kernel_function
def do_vfs_ioctl(k: FsKernel, cpu: Cpu, filp: int, fd: int, cmd: int, arg: int) -> int:
    """Do what can be done with every file; ENOTTY for the rest."""
    task, file = task_of(k, cpu), file_at(k, filp)
    if cmd in (FIOCLEX, FIONCLEX):
        (task.files.close_on_exec.add if cmd == FIOCLEX else task.files.close_on_exec.discard)(fd)
        return 0
    if cmd == FIONBIO:
        try:
            on = any(task.user.read(arg, 4)) if task.user is not None else False
        except UserFault:
            return -Errno.EFAULT
        file.struct.f_flags = file.struct.f_flags | O_NONBLOCK if on else file.struct.f_flags & ~O_NONBLOCK
        return 0
    return -Errno.ENOTTY


@syscall(74)
def sys_fsync(k: FsKernel, cpu: Cpu, fd: int) -> int:
    ret: int = k.functions.do_fsync(cpu, u32(fd), 0)
    return ret


@syscall(75)
def sys_fdatasync(k: FsKernel, cpu: Cpu, fd: int) -> int:
    ret: int = k.functions.do_fsync(cpu, u32(fd), 1)
    return ret


@kernel_function
def do_fsync(k: FsKernel, cpu: Cpu, fd: int, datasync: int) -> int:
    """Write a file back; EBADF, EINVAL for what has nothing to write back."""
    k.functions.fdget(cpu, fd)
    file = opened(k, cpu, fd)
    if file is None:
        return -Errno.EBADF if task_of(k, cpu).files.lookup(fd) is None else -Errno.EINVAL
    ret: int = k.functions.vfs_fsync_range(cpu, file.address, 0, (1 << 63) - 1, datasync)
    return ret


@kernel_function
def vfs_fsync_range(k: FsKernel, cpu: Cpu, file: int, start: int, end: int, datasync: int) -> int:
    """Let the file system write a file back; EINVAL."""
    found = file_at(k, file)
    if found.private is not None or found.inode is None or found.inode.is_socket:
        return -Errno.EINVAL
    own = found.ops.get("fsync")
    return cast(int, getattr(k.functions, own)(cpu, file, start, end, datasync)) if own is not None else 0


@syscall(78)
def sys_getdents(k: FsKernel, cpu: Cpu, fd: int, dirent: int, count: int) -> int:
    return _getdents(k, cpu, fd, dirent, u32(count), old=True)


@syscall(217)
def sys_getdents64(k: FsKernel, cpu: Cpu, fd: int, dirent: int, count: int) -> int:
    return _getdents(k, cpu, fd, dirent, u32(count), old=False)


def _getdents(k: FsKernel, cpu: Cpu, fd: int, dirent: int, count: int, *, old: bool) -> int:
    functions = k.functions
    functions.fdget_pos(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None or file.inode is None or not file.struct.f_mode & 1:
        return -Errno.EBADF
    room = k.mem.alloc(8)
    # how many names there is room for
    k.mem.store(room, 8, _fitting(file, count, old=old))
    ret: int = functions.iterate_dir(cpu, file.address, room)
    k.mem.free(room)
    if ret:
        return ret
    assert file.dentry is not None
    rows, position, records = _rows(file.dentry), file.struct.f_pos, b""
    start = position
    for name, ino, kind in rows[position:]:
        record = _dirent(name, ino, kind, position + 1, old=old)
        if len(records) + len(record) > count:
            break
        records += record
        position += 1
    if not records and position < len(rows):
        return -Errno.EINVAL
    user = task_of(k, cpu).user
    try:
        if records and user is not None:
            user.write(dirent, records)
    except UserFault:
        file.struct.f_pos = start
        return -Errno.EFAULT
    file.struct.f_pos = position
    return len(records)


def _fitting(file: File, count: int, *, old: bool) -> int:
    if file.dentry is None or file.inode is None or not file.inode.is_dir or file.private is not None:
        return 0
    found = 0
    for name, ino, kind in _rows(file.dentry)[file.struct.f_pos :]:
        count -= len(_dirent(name, ino, kind, 0, old=old))
        if count < 0:
            break
        found += 1
    return found


def _rows(directory: Dentry) -> list[tuple[str, int, int]]:
    # name, inode and kind of all that is in a directory
    above = directory.above
    assert directory.inode is not None
    assert above.inode is not None
    rows = [(".", directory.inode.i_ino, S_IFDIR), ("..", above.inode.i_ino, S_IFDIR)]
    for name, child in directory.children.items():
        if child.inode is not None:
            rows.append((name, child.inode.i_ino, child.inode.i_mode & S_IFMT))
    return rows


def _dirent(name: str, ino: int, kind: int, following: int, *, old: bool) -> bytes:
    text = name.encode(errors="surrogateescape") + b"\0"
    type_ = (kind >> DT_BY_KIND_SHIFT).to_bytes(1, "little")
    size = -(-(19 + len(text)) // 8) * 8
    head = ino.to_bytes(8, "little") + following.to_bytes(8, "little") + size.to_bytes(2, "little")
    if old:
        return (head + text).ljust(size - 1, b"\0") + type_
    return (head + type_ + text).ljust(size, b"\0")


@kernel_function
def iterate_dir(k: FsKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through a directory; ENOTDIR, what the security modules say."""
    functions, found = k.functions, file_at(k, file)
    if found.inode is None or not found.inode.is_dir or found.private is not None:
        return -Errno.ENOTDIR
    ret: int = functions.security_file_permission(cpu, file, 4)
    if ret:
        return ret
    if found.dentry is None or found.dentry.inode is None or not found.dentry.inode.i_nlink:
        return -Errno.ENOENT
    own = found.ops.get("iterate_shared")
    if own is not None:
        getattr(functions, own)(cpu, file, ctx)
    functions.touch_atime(cpu, file + _F_PATH)
    return 0


@kernel_function
def offset_readdir(k: FsKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through a directory in memory, name by name."""
    functions, found = k.functions, file_at(k, file)
    dentry = found.dentry
    assert dentry is not None
    assert dentry.inode is not None
    position, left = found.struct.f_pos, k.mem.load(ctx, 8) if ctx else 1 << 30
    children = [child for child in dentry.children.values() if child.inode is not None]
    if position == 0:
        functions.filldir64(cpu, ctx, 0, 1, 0, dentry.inode.i_ino, 4)
        left -= 1
    if position <= 1 and left >= 0:
        functions.d_parent_ino(cpu, dentry.address)
        functions.filldir64(cpu, ctx, 0, 2, 1, 0, 4)
        left -= 1
    if left < 0 or (children and position >= 2 + len(children)):
        # no room, or the end was seen before
        return 0
    functions.offset_dir_lookup(cpu, dentry.address, position)
    for child in children[max(0, position - 2) :]:
        inode = child.inode
        assert inode is not None
        functions.fs_umode_to_dtype(cpu, inode.i_mode)
        kind = inode.i_mode >> DT_BY_KIND_SHIFT & 15
        functions.filldir64(cpu, ctx, child.d_name_name, child.d_name_len, position, inode.i_ino, kind)
        if left > 0:
            functions.find_positive_dentry(cpu, dentry.address, child.address, 0)
        child.opens += 1
        functions.dput(cpu, child.address)
        left -= 1
        if left < 0:
            break
    return 0


@syscall(76)
def sys_truncate(k: FsKernel, cpu: Cpu, path: int, length: int) -> int:
    if s64(length) < 0:
        return -Errno.EINVAL
    where = k.mem.alloc(16)
    ret: int = k.functions.user_path_at(cpu, AT_FDCWD, path, 1, where)
    if not ret:
        ret = k.functions.vfs_truncate(cpu, where, s64(length))
        k.functions.path_put(cpu, where)
    k.mem.free(where)
    return ret


@syscall(77)
def sys_ftruncate(k: FsKernel, cpu: Cpu, fd: int, length: int) -> int:
    ret: int = k.functions.do_sys_ftruncate(cpu, u32(fd), s64(length), 1)
    return ret


@kernel_function
def do_sys_ftruncate(k: FsKernel, cpu: Cpu, fd: int, length: int, small: int) -> int:
    """Cut an open file; EBADF, EINVAL."""
    if length < 0:
        return -Errno.EINVAL
    k.functions.fdget(cpu, fd)
    file = opened(k, cpu, fd)
    if file is None:
        return -Errno.EBADF
    ret: int = k.functions.do_ftruncate(cpu, file.address, length, small)
    return ret


@kernel_function
def do_ftruncate(k: FsKernel, cpu: Cpu, file: int, length: int, _small: int) -> int:
    """Cut an open file; EINVAL for what is not open for writing, or no file."""
    found, functions = file_at(k, file), k.functions
    inode = found.inode
    if inode is None or not inode.is_plain or not found.struct.f_mode & 2 or found.private is not None:
        return -Errno.EINVAL
    ret: int = functions.security_file_truncate(cpu, file)
    return ret or functions.do_truncate(cpu, 0, found.struct.f_path_dentry, length, 0x60, file)
