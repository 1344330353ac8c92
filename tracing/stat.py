"""What files are: stat, access, readlink, statfs, working directories (fs/{stat,open,statfs,d_path}.c, v6.18)."""

from struct import Struct
from typing import cast

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory.user import UserFault
from tracing.fs import FsKernel, dentry_at, is_err, task_of
from tracing.fs_syscalls import opened
from tracing.functions import kernel_function
from tracing.namei import AT_FDCWD, LOOKUP_DIRECTORY, LOOKUP_EMPTY, LOOKUP_FOLLOW, PATH_MAX
from tracing.permission import MAY_EXEC
from tracing.syscalls import syscall
from tracing.vfs import Dentry, Inode

__all__ = ["Kstat", "inode_of"]

AT_SYMLINK_NOFOLLOW, AT_EACCESS, AT_NO_AUTOMOUNT, AT_EMPTY_PATH, AT_STATX_SYNC = 0x100, 0x200, 0x800, 0x1000, 0x6000
STATX_BASIC_STATS, STATX_RESERVED = 0x7FF, 0x8000_0000
_STAT = Struct("<QQQIIIIQqqqQQQQQQ24x")
_STATX_TIMES = Struct("<qI4x")
_STATFS = Struct("<qqQQQQQ8sqqq32x")
BLOCKS = 1 << 20  # of a file system in memory, in pages
NAME_MAX = 255


class Kstat(KernelStruct):
    """``struct kstat``: what the file system says of a file."""

    struct_name = "kstat"
    result_mask = Field()
    mode = Field()
    nlink = Field()
    blksize = Field()
    ino = Field()
    dev = Field()
    rdev = Field()
    uid = Field("uid.val")
    gid = Field("gid.val")
    size = Field()
    atime_sec = Field("atime.tv_sec")
    atime_nsec = Field("atime.tv_nsec")
    mtime_sec = Field("mtime.tv_sec")
    mtime_nsec = Field("mtime.tv_nsec")
    ctime_sec = Field("ctime.tv_sec")
    ctime_nsec = Field("ctime.tv_nsec")
    blocks = Field()
    mnt_id = Field()


def inode_of(k: FsKernel, path: int) -> Inode:
    """Return the inode of a ``struct path``."""
    inode = dentry_at(k, k.mem.load(path + 8, 8)).inode
    assert inode is not None
    return inode


@kernel_function
def vfs_statx(k: FsKernel, cpu: Cpu, dfd: int, filename: int, flags: int, stat: int, request_mask: int) -> int:
    """Find a path and say what is there."""
    functions, path = k.functions, k.mem.alloc(16)
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC):
        k.mem.free(path)
        return -Errno.EINVAL
    how = (0 if flags & AT_SYMLINK_NOFOLLOW else LOOKUP_FOLLOW) | (LOOKUP_EMPTY if flags & AT_EMPTY_PATH else 0)
    ret: int = functions.filename_lookup(cpu, dfd, filename, how, path, 0)
    if not ret:
        ret = functions.security_inode_getattr(cpu, path)
        ret = ret or functions.vfs_getattr_nosec(cpu, path, stat, request_mask, flags)
        functions.path_put(cpu, path)
    k.mem.free(path)
    return ret


@kernel_function
def vfs_getattr_nosec(k: FsKernel, cpu: Cpu, path: int, stat: int, request_mask: int, query_flags: int) -> int:
    """Let the file system say what a file is."""
    inode = inode_of(k, path)
    own = inode.sb.fs.ops.get("getattr")
    if own is not None and stat:
        getattr(k.functions, own)(cpu, 0, path, stat, request_mask, query_flags)
    if stat:
        _fill_stat(Kstat(k.mem, stat), inode)
    return 0


def _fill_stat(stat: Kstat, inode: Inode) -> None:
    stat.result_mask, stat.mode, stat.nlink, stat.blksize = STATX_BASIC_STATS, inode.i_mode, inode.i_nlink, 4096
    stat.ino, stat.dev, stat.rdev = inode.i_ino, inode.sb.s_dev, inode.i_rdev
    stat.uid, stat.gid, stat.size, stat.blocks = inode.i_uid, inode.i_gid, inode.i_size, inode.i_blocks
    stat.atime_sec, stat.atime_nsec = inode.i_atime_sec, inode.i_atime_nsec
    stat.mtime_sec, stat.mtime_nsec = inode.i_mtime_sec, inode.i_mtime_nsec
    stat.ctime_sec, stat.ctime_nsec = inode.i_ctime_sec, inode.i_ctime_nsec
    stat.mnt_id = inode.sb.mount.mnt_id if inode.sb.mount is not None else 0


def _is_empty(k: FsKernel, cpu: Cpu, filename: int) -> bool:
    # getname_maybe_null()
    user = task_of(k, cpu).user
    try:
        return not filename or user is None or not user.read(filename, 1)[0]
    except UserFault:
        return False


@kernel_function
def vfs_fstatat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, stat: int, flags: int) -> int:
    """Say what is at a path, or what a descriptor stands for (AT_EMPTY_PATH)."""
    functions = k.functions
    if flags & ~AT_NO_AUTOMOUNT == AT_EMPTY_PATH and dfd >= 0 and _is_empty(k, cpu, filename):
        return cast(int, functions.vfs_fstat(cpu, dfd, stat))
    name = functions.getname_flags(cpu, filename, LOOKUP_EMPTY if flags & AT_EMPTY_PATH else 0)
    ret = is_err(name)
    if not ret:
        ret = functions.vfs_statx(cpu, dfd, name, flags | AT_NO_AUTOMOUNT, stat, STATX_BASIC_STATS)
        functions.putname(cpu, name)
    return ret


@kernel_function
def vfs_fstat(k: FsKernel, cpu: Cpu, fd: int, stat: int) -> int:
    """Say what a descriptor stands for; EBADF."""
    functions = k.functions
    functions.fdget_raw(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    path = file.struct.member_address("f_path")
    ret: int = functions.security_inode_getattr(cpu, path)
    return ret or functions.vfs_getattr_nosec(cpu, path, stat, STATX_BASIC_STATS, 0)


@kernel_function
def cp_new_stat(k: FsKernel, cpu: Cpu, stat: int, statbuf: int) -> int:
    """Copy ``struct stat`` to the task."""
    s = Kstat(k.mem, stat)
    data = _STAT.pack(
        _device(s.dev), s.ino, s.nlink, s.mode, s.uid, s.gid, 0, _device(s.rdev), s.size, s.blksize, s.blocks,
        s.atime_sec, s.atime_nsec, s.mtime_sec, s.mtime_nsec, s.ctime_sec, s.ctime_nsec,
    )  # fmt: skip
    return _put(k, cpu, statbuf, data)


@kernel_function
def cp_statx(k: FsKernel, cpu: Cpu, stat: int, buffer: int) -> int:
    """Copy ``struct statx`` to the task."""
    s = Kstat(k.mem, stat)
    head = Struct("<IIQIIIHxxQQQQ").pack(
        STATX_BASIC_STATS | 0x1000, s.blksize, 0, s.nlink, s.uid, s.gid, s.mode, s.ino, s.size, s.blocks, 0
    )
    times = ((s.atime_sec, s.atime_nsec), (0, 0), (s.ctime_sec, s.ctime_nsec), (s.mtime_sec, s.mtime_nsec))
    numbers = (s.rdev >> 20, s.rdev & 0xF_FFFF, s.dev >> 20, s.dev & 0xF_FFFF)
    tail = b"".join(_STATX_TIMES.pack(*time) for time in times) + Struct("<IIIIQ").pack(*numbers, s.mnt_id)
    return _put(k, cpu, buffer, (head + tail).ljust(256, b"\0"))


def _device(number: int) -> int:
    # new_encode_dev()
    major, minor = number >> 20, number & 0xF_FFFF
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _put(k: FsKernel, cpu: Cpu, address: int, data: bytes) -> int:
    user = task_of(k, cpu).user
    try:
        if user is not None:
            user.write(address, data)
    except UserFault:
        return -Errno.EFAULT
    return 0


def _stat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, statbuf: int, flags: int) -> int:
    stat = Kstat.alloc(k.mem)
    ret: int = k.functions.vfs_fstatat(cpu, dfd, filename, stat.address, flags)
    ret = ret or k.functions.cp_new_stat(cpu, stat.address, statbuf)
    stat.free()
    return ret


@syscall(4)
def sys_newstat(k: FsKernel, cpu: Cpu, filename: int, statbuf: int) -> int:
    return _stat(k, cpu, AT_FDCWD, filename, statbuf, 0)


@syscall(5)
def sys_newfstat(k: FsKernel, cpu: Cpu, fd: int, statbuf: int) -> int:
    stat = Kstat.alloc(k.mem)
    ret: int = k.functions.vfs_fstat(cpu, s32(fd), stat.address)
    ret = ret or k.functions.cp_new_stat(cpu, stat.address, statbuf)
    stat.free()
    return ret


@syscall(6)
def sys_newlstat(k: FsKernel, cpu: Cpu, filename: int, statbuf: int) -> int:
    return _stat(k, cpu, AT_FDCWD, filename, statbuf, AT_SYMLINK_NOFOLLOW)


@syscall(262)
def sys_newfstatat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, statbuf: int, flag: int) -> int:
    return _stat(k, cpu, s32(dfd), filename, statbuf, u32(flag))


@syscall(332)
def sys_statx(k: FsKernel, cpu: Cpu, dfd: int, filename: int, flags: int, mask: int, buffer: int) -> int:
    functions = k.functions
    if flags & AT_EMPTY_PATH and s32(dfd) >= 0 and _is_empty(k, cpu, filename):
        ret: int = functions.do_statx_fd(cpu, s32(dfd), u32(flags) & ~AT_NO_AUTOMOUNT, u32(mask), buffer)
        return ret
    name = functions.getname_flags(cpu, filename, LOOKUP_EMPTY if flags & AT_EMPTY_PATH else 0)
    ret = is_err(name)
    if not ret:
        ret = functions.do_statx(cpu, s32(dfd), name, u32(flags), u32(mask), buffer)
        functions.putname(cpu, name)
    return ret


@kernel_function
def do_statx(k: FsKernel, cpu: Cpu, dfd: int, filename: int, flags: int, mask: int, buffer: int) -> int:
    """Say what is at a path, in more words; EINVAL."""
    if mask & STATX_RESERVED or flags & AT_STATX_SYNC == AT_STATX_SYNC:
        return -Errno.EINVAL
    stat = Kstat.alloc(k.mem)
    ret: int = k.functions.vfs_statx(cpu, dfd, filename, flags, stat.address, mask)
    ret = ret or k.functions.cp_statx(cpu, stat.address, buffer)
    stat.free()
    return ret


@kernel_function
def do_statx_fd(k: FsKernel, cpu: Cpu, fd: int, flags: int, mask: int, buffer: int) -> int:
    """Say what a descriptor stands for, in more words; EBADF, EINVAL."""
    if mask & STATX_RESERVED or flags & AT_STATX_SYNC == AT_STATX_SYNC:
        return -Errno.EINVAL
    stat = Kstat.alloc(k.mem)
    ret = vfs_fstat(k, cpu, fd, stat.address)
    ret = ret or k.functions.cp_statx(cpu, stat.address, buffer)
    stat.free()
    return ret


@syscall(21)
def sys_access(k: FsKernel, cpu: Cpu, filename: int, mode: int) -> int:
    ret: int = k.functions.do_faccessat(cpu, AT_FDCWD, filename, s32(mode), 0)
    return ret


@syscall(269)
def sys_faccessat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, mode: int) -> int:
    ret: int = k.functions.do_faccessat(cpu, s32(dfd), filename, s32(mode), 0)
    return ret


@syscall(439)
def sys_faccessat2(k: FsKernel, cpu: Cpu, dfd: int, filename: int, mode: int, flags: int) -> int:
    ret: int = k.functions.do_faccessat(cpu, s32(dfd), filename, s32(mode), u32(flags))
    return ret


@kernel_function
def do_faccessat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, mode: int, flags: int) -> int:
    """Whether a file may be read, written, executed, by the real ids unless AT_EACCESS asks for the others."""
    if mode & ~7 or flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        return -Errno.EINVAL
    functions, path, cred = k.functions, k.mem.alloc(16), task_of(k, cpu).cred
    before = cred.fsuid, cred.fsgid, cred.cap_effective
    if not flags & AT_EACCESS and (cred.fsuid, cred.fsgid) != (cred.uid, cred.gid):
        cred.fsuid, cred.fsgid = cred.uid, cred.gid
        cred.cap_effective = 0 if cred.uid else cred.cap_permitted
    how = 0 if flags & AT_SYMLINK_NOFOLLOW else LOOKUP_FOLLOW
    how |= LOOKUP_EMPTY if flags & AT_EMPTY_PATH else 0
    ret: int = functions.user_path_at(cpu, dfd, filename, how, path)
    if not ret:
        ret = functions.inode_permission(cpu, 0, inode_of(k, path).address, mode)
        functions.path_put(cpu, path)
    cred.fsuid, cred.fsgid, cred.cap_effective = before
    k.mem.free(path)
    return ret


@syscall(89)
def sys_readlink(k: FsKernel, cpu: Cpu, path: int, buf: int, bufsiz: int) -> int:
    return _readlink(k, cpu, AT_FDCWD, path, buf, s32(bufsiz))


@syscall(267)
def sys_readlinkat(k: FsKernel, cpu: Cpu, dfd: int, pathname: int, buf: int, bufsiz: int) -> int:
    return _readlink(k, cpu, s32(dfd), pathname, buf, s32(bufsiz))


def _readlink(k: FsKernel, cpu: Cpu, dfd: int, pathname: int, buf: int, size: int) -> int:
    if size <= 0:
        return -Errno.EINVAL
    functions, path = k.functions, k.mem.alloc(16)
    name = functions.getname_flags(cpu, pathname, LOOKUP_EMPTY)
    ret: int = functions.filename_lookup(cpu, dfd, name, 0, path, 0)
    if not ret:
        dentry = k.mem.load(path + 8, 8)
        ret = -Errno.EINVAL if is_err(name) or not inode_of(k, path).is_link else 0
        if not ret:
            ret = functions.security_inode_readlink(cpu, dentry)
        if not ret:
            functions.touch_atime(cpu, path)
            ret = functions.vfs_readlink(cpu, dentry, buf, size)
        functions.path_put(cpu, path)
    functions.putname(cpu, name)
    k.mem.free(path)
    return ret


@kernel_function
def vfs_readlink(k: FsKernel, cpu: Cpu, dentry: int, buffer: int, buflen: int) -> int:
    """Copy the path that a link names to the task."""
    inode = dentry_at(k, dentry).inode
    assert inode is not None
    functions, ops = k.functions, inode.ops or {}
    if "readlink" in ops:
        return cast(int, getattr(functions, ops["readlink"])(cpu, dentry, buffer, buflen))
    if "get_link" not in ops:
        return cast(int, functions.readlink_copy(cpu, buffer, buflen, k.vfs.link_text(inode), len(inode.data)))
    link = getattr(functions, ops["get_link"])(cpu, dentry, inode.address, 0)
    ret: int = is_err(link)
    if not ret:
        ret = functions.readlink_copy(cpu, buffer, buflen, link, len(k.mem.read_string(link, PATH_MAX)))
        k.mem.free(link)
    return ret


@kernel_function
def readlink_copy(k: FsKernel, cpu: Cpu, buffer: int, buflen: int, link: int, linklen: int) -> int:
    """Copy a path to the task, as much as it has room for."""
    data = k.mem.read(link, min(linklen, buflen))
    return _put(k, cpu, buffer, data) or len(data)


@syscall(80)
def sys_chdir(k: FsKernel, cpu: Cpu, filename: int) -> int:
    functions, path = k.functions, k.mem.alloc(16)
    ret: int = functions.user_path_at(cpu, AT_FDCWD, filename, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, path)
    if not ret:
        ret = functions.inode_permission(cpu, 0, inode_of(k, path).address, MAY_EXEC)
        if not ret:
            functions.set_fs_pwd(cpu, task_of(k, cpu).struct.fs_ptr, path)
        functions.path_put(cpu, path)
    k.mem.free(path)
    return ret


@syscall(81)
def sys_fchdir(k: FsKernel, cpu: Cpu, fd: int) -> int:
    functions = k.functions
    functions.fdget_raw(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    if not file.inode.is_dir:
        return -Errno.ENOTDIR
    ret: int = functions.inode_permission(cpu, 0, file.inode.address, MAY_EXEC)
    if not ret:
        functions.set_fs_pwd(cpu, task_of(k, cpu).struct.fs_ptr, file.struct.member_address("f_path"))
    return ret


@kernel_function
def set_fs_pwd(k: FsKernel, cpu: Cpu, _fs: int, path: int) -> None:
    """Change the working directory."""
    functions, leader = k.functions, task_of(k, cpu).leader
    functions.path_get(cpu, path)
    before = k.mem.alloc(16)
    if leader.cwd is not None:
        k.mem.store(before, 8, k.vfs.mount_of(leader.cwd).vfsmount)
        k.mem.store(before + 8, 8, leader.cwd.address)
    else:
        k.mem.store(before, 8, k.vfs.vfsmount)
        k.mem.store(before + 8, 8, k.vfs.root.address)
        k.vfs.root.opens += 1
    leader.set_cwd(dentry_at(k, k.mem.load(path + 8, 8)))
    functions.path_put(cpu, before)
    k.mem.free(before)


@syscall(79)
def sys_getcwd(k: FsKernel, cpu: Cpu, buf: int, size: int) -> int:
    directory: Dentry = task_of(k, cpu).leader.cwd or k.vfs.root
    k.functions.prepend_path(cpu, 0, 0, 0)
    text = directory.path.encode(errors="surrogateescape") + b"\0"
    if not directory.hashed:
        return -Errno.ENOENT
    if len(text) > size:
        return -Errno.ERANGE
    return _put(k, cpu, buf, text) or len(text)


@syscall(137)
def sys_statfs(k: FsKernel, cpu: Cpu, pathname: int, buf: int) -> int:
    room = k.mem.alloc(128)
    ret: int = k.functions.user_statfs(cpu, pathname, room)
    ret = ret or _put(k, cpu, buf, k.mem.read(room, 120))
    k.mem.free(room)
    return ret


@syscall(138)
def sys_fstatfs(k: FsKernel, cpu: Cpu, fd: int, buf: int) -> int:
    room = k.mem.alloc(128)
    ret: int = k.functions.fd_statfs(cpu, u32(fd), room)
    ret = ret or _put(k, cpu, buf, k.mem.read(room, 120))
    k.mem.free(room)
    return ret


@kernel_function
def user_statfs(k: FsKernel, cpu: Cpu, pathname: int, st: int) -> int:
    """Say of what kind and how full the file system of a path is."""
    functions, path = k.functions, k.mem.alloc(16)
    ret: int = functions.user_path_at(cpu, AT_FDCWD, pathname, LOOKUP_FOLLOW, path)
    if not ret:
        ret = functions.statfs_by_dentry(cpu, k.mem.load(path + 8, 8), st)
        functions.path_put(cpu, path)
    k.mem.free(path)
    return ret


@kernel_function
def fd_statfs(k: FsKernel, cpu: Cpu, fd: int, st: int) -> int:
    """Say of what kind and how full the file system of an open file is."""
    k.functions.fdget_raw(cpu, fd)
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    ret: int = k.functions.statfs_by_dentry(cpu, file.struct.f_path_dentry, st)
    return ret


@kernel_function
def statfs_by_dentry(k: FsKernel, cpu: Cpu, dentry: int, buf: int) -> int:
    """Ask the security modules, then the file system; the numbers are those of one with 4 GiB and nothing in it."""
    ret: int = k.functions.security_sb_statfs(cpu, dentry)
    if ret:
        return ret
    sb = dentry_at(k, dentry).sb
    own = sb.fs.ops.get("statfs")
    if own is not None:
        getattr(k.functions, own)(cpu, dentry, buf)
    number = sb.s_dev.to_bytes(8, "little")
    k.mem.write(
        buf, _STATFS.pack(sb.fs.magic, 4096, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, number, NAME_MAX, 4096, 0x20)
    )
    return 0
