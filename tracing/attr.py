"""What files are, and changing it: stat, access, chmod, chown, truncate, utimes, readlink, statfs, working directories
(fs/{stat,open,attr,utimes,statfs,d_path}.c, v6.18)."""

from collections.abc import Callable
from struct import Struct
from typing import cast

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault, UserMemory
from tracing.dcache import now_at
from tracing.fs import FsKernel, dentry_at, file_at, is_err, task_of
from tracing.fs_syscalls import opened
from tracing.functions import kernel_function
from tracing.namei import AT_FDCWD, LOOKUP_DIRECTORY, LOOKUP_EMPTY, LOOKUP_FOLLOW
from tracing.permission import MAY_EXEC, MAY_WRITE
from tracing.shmem import (
    ATTR_ATIME,
    ATTR_ATIME_SET,
    ATTR_CTIME,
    ATTR_GID,
    ATTR_MODE,
    ATTR_MTIME,
    ATTR_MTIME_SET,
    ATTR_SIZE,
    ATTR_UID,
    Iattr,
    inode_op,
)
from tracing.syscalls import syscall
from tracing.vfs import Dentry, Inode

__all__ = ["Kstat"]

AT_SYMLINK_NOFOLLOW, AT_EACCESS, AT_NO_AUTOMOUNT, AT_EMPTY_PATH, AT_STATX_SYNC = 0x100, 0x200, 0x800, 0x1000, 0x6000
STATX_BASIC_STATS, STATX_RESERVED = 0x7FF, 0x8000_0000
CAP_CHOWN, CAP_FOWNER = 0, 3
# include/linux/fs.h: times are given, times are now
ATTR_TIMES_SET, ATTR_TOUCH = 1 << 16, 1 << 17
ATTR_ANY_SET = ATTR_ATIME_SET | ATTR_MTIME_SET | ATTR_TIMES_SET
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
S_ISUID, S_ISGID = 0o4000, 0o2000
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


def _inode_of(k: FsKernel, path: int) -> Inode:
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
    inode = _inode_of(k, path)
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
        ret = functions.inode_permission(cpu, 0, _inode_of(k, path).address, mode)
        functions.path_put(cpu, path)
    cred.fsuid, cred.fsgid, cred.cap_effective = before
    k.mem.free(path)
    return ret


@kernel_function
def notify_change(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, attr: int, _delegated: int) -> int:
    """Change what an inode is, as ``struct iattr`` says; EPERM, what the security modules say."""
    functions, change = k.functions, Iattr(k.mem, attr)
    inode = dentry_at(k, dentry).inode
    assert inode is not None
    valid = change.ia_valid
    ret: int = functions.may_setattr(cpu, idmap, inode.address, valid)
    if ret:
        return ret
    change.ia_ctime_sec, change.ia_ctime_nsec = now_at(cpu)
    if not valid & ATTR_ATIME_SET:
        change.ia_atime_sec, change.ia_atime_nsec = now_at(cpu)
    if not valid & ATTR_MTIME_SET:
        change.ia_mtime_sec, change.ia_mtime_nsec = now_at(cpu)
    if valid & (ATTR_UID | ATTR_GID) and not inode.is_dir:
        functions.security_inode_need_killpriv(cpu, dentry)
    if valid & (ATTR_UID | ATTR_GID):
        functions.from_vfsuid(cpu, 0, 0, change.ia_uid)
        functions.from_vfsgid(cpu, 0, 0, change.ia_gid)
    ret = functions.security_inode_setattr(cpu, idmap, dentry, attr)
    ret = ret or _prepared(k, cpu, inode, dentry, attr)
    ret = ret or inode_op(k, cpu, inode, "setattr", idmap, dentry, attr)
    if not ret:
        inode.i_ctime_sec, inode.i_ctime_nsec = change.ia_ctime_sec, change.ia_ctime_nsec
        functions.security_inode_post_setattr(cpu, idmap, dentry, valid)
    return ret


def _prepared(k: FsKernel, cpu: Cpu, inode: Inode, dentry: int, attr: int) -> int:
    # of file systems whose functions are their own
    if "setattr" in inode.sb.fs.ops:
        return 0
    change, cred = Iattr(k.mem, attr), task_of(k, cpu).cred
    ret = _refused_owners(k, cpu, inode, change, lambda cap: bool(cred.cap_effective >> cap & 1))
    may = cred.fsuid == inode.i_uid or bool(cred.cap_effective >> CAP_FOWNER & 1)
    return ret or (-Errno.EPERM if change.ia_valid & (ATTR_MODE | ATTR_ANY_SET) and not may else 0)


@kernel_function
def setattr_prepare(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, attr: int) -> int:
    """Whether the task may change this: owners change permissions, CAP_CHOWN owners; EPERM."""
    functions, change = k.functions, Iattr(k.mem, attr)
    inode = dentry_at(k, dentry).inode
    assert inode is not None
    if change.ia_valid & ATTR_SIZE:
        functions.inode_newsize_ok(cpu, inode.address, change.ia_size)

    def capable(cap: int) -> bool:
        return bool(functions.capable_wrt_inode_uidgid(cpu, idmap, inode.address, cap))

    def owns() -> bool:
        return bool(functions.inode_owner_or_capable(cpu, idmap, inode.address))

    ret = _refused_owners(k, cpu, inode, change, capable)
    if not ret and change.ia_valid & ATTR_MODE:
        if not owns():
            return -Errno.EPERM
        functions.in_group_or_capable(cpu, idmap, inode.address, inode.i_gid)
    if not ret and change.ia_valid & ATTR_ANY_SET and not owns():
        ret = -Errno.EPERM
    return ret


@kernel_function
def may_setattr(k: FsKernel, cpu: Cpu, idmap: int, inode: int, ia_valid: int) -> int:
    """Whether an inode may be changed at all; its times to now by who may write it."""
    functions = k.functions
    if ia_valid & ATTR_TOUCH and not functions.inode_owner_or_capable(cpu, idmap, inode):
        ret: int = functions.inode_permission(cpu, idmap, inode, MAY_WRITE)
        return ret
    return 0


@kernel_function
def setattr_copy(k: FsKernel, cpu: Cpu, idmap: int, inode: int, attr: int) -> None:
    """See what of a change the task may really have."""
    functions, change = k.functions, Iattr(k.mem, attr)
    valid = change.ia_valid
    if valid & (ATTR_UID | ATTR_GID):
        functions.from_vfsuid(cpu, 0, 0, change.ia_uid)
        functions.from_vfsgid(cpu, 0, 0, change.ia_gid)
    if valid & ATTR_MODE:
        functions.in_group_or_capable(cpu, idmap, inode, change.ia_gid)


def _refused_owners(k: FsKernel, cpu: Cpu, inode: Inode, change: Iattr, capable: Callable[[int], bool]) -> int:
    cred, valid = task_of(k, cpu).cred, change.ia_valid
    owns = cred.fsuid == inode.i_uid
    if valid & ATTR_UID and not (owns and change.ia_uid == inode.i_uid) and not capable(CAP_CHOWN):
        return -Errno.EPERM
    if valid & ATTR_GID:
        if "setattr" in inode.sb.fs.ops:
            k.functions.vfsgid_in_group_p(cpu, change.ia_gid)
        own_group = owns and change.ia_gid in (cred.fsgid, inode.i_gid)
        if not own_group and not capable(CAP_CHOWN):
            return -Errno.EPERM
    return 0


def _change(k: FsKernel, cpu: Cpu, dentry: int, valid: int, **values: int) -> int:
    attr = Iattr.alloc(k.mem)
    attr.ia_valid = valid
    for name, value in values.items():
        setattr(attr, f"ia_{name}", value)
    ret: int = k.functions.notify_change(cpu, 0, dentry, attr.address, 0)
    attr.free()
    return ret


@kernel_function
def chmod_common(k: FsKernel, cpu: Cpu, path: int, mode: int) -> int:
    """Change permissions."""
    functions, mnt, dentry = k.functions, k.mem.load(path, 8), k.mem.load(path + 8, 8)
    functions.mnt_want_write(cpu, mnt)
    ret: int = functions.security_path_chmod(cpu, path, mode)
    ret = ret or _change(k, cpu, dentry, ATTR_MODE | ATTR_CTIME, mode=mode & 0o7777)
    functions.mnt_drop_write(cpu, mnt)
    return ret


@kernel_function
def do_fchmodat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, mode: int, flags: int) -> int:
    """Change permissions of what is at a path."""
    return _at_path(k, cpu, dfd, filename, flags, lambda path: k.functions.chmod_common(cpu, path, mode))


def _at_path(k: FsKernel, cpu: Cpu, dfd: int, filename: int, flags: int, what: object) -> int:
    assert callable(what)
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        return -Errno.EINVAL
    path = k.mem.alloc(16)
    how = (0 if flags & AT_SYMLINK_NOFOLLOW else LOOKUP_FOLLOW) | (LOOKUP_EMPTY if flags & AT_EMPTY_PATH else 0)
    ret: int = k.functions.user_path_at(cpu, dfd, filename, how, path)
    if not ret:
        ret = what(path)
        k.functions.path_put(cpu, path)
    k.mem.free(path)
    return ret


# do_fchmodat() is a part of these that the compiler made no function of its own
@syscall(90)
def sys_chmod(k: FsKernel, cpu: Cpu, filename: int, mode: int) -> int:
    return _at_path(k, cpu, AT_FDCWD, filename, 0, lambda path: k.functions.chmod_common(cpu, path, u32(mode) & 0xFFFF))


@syscall(91)
def sys_fchmod(k: FsKernel, cpu: Cpu, fd: int, mode: int) -> int:
    k.functions.fdget(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    ret: int = k.functions.vfs_fchmod(cpu, file.address, u32(mode) & 0xFFFF)
    return ret


@kernel_function
def vfs_fchmod(k: FsKernel, cpu: Cpu, file: int, mode: int) -> int:
    """Change permissions of an open file."""
    ret: int = k.functions.chmod_common(cpu, file_at(k, file).struct.member_address("f_path"), mode)
    return ret


@syscall(268)
def sys_fchmodat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, mode: int) -> int:
    ret: int = k.functions.do_fchmodat(cpu, s32(dfd), filename, u32(mode) & 0xFFFF, 0)
    return ret


@kernel_function
def do_fchownat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, user: int, group: int, flag: int) -> int:
    """Change the owners of what is at a path."""

    def change(path: int) -> int:
        mnt = k.mem.load(path, 8)
        k.functions.mnt_want_write(cpu, mnt)
        ret: int = k.functions.chown_common(cpu, path, user, group)
        k.functions.mnt_drop_write(cpu, mnt)
        return ret

    return _at_path(k, cpu, dfd, filename, flag, change)


@kernel_function
def chown_common(k: FsKernel, cpu: Cpu, path: int, user: int, group: int) -> int:
    """Change owners; -1 leaves one as it is. Files that are no directories lose their set-id bits."""
    functions, dentry, inode = k.functions, k.mem.load(path + 8, 8), _inode_of(k, path)
    valid, values = ATTR_CTIME, {}
    if user != 0xFFFF_FFFF:
        valid, values["uid"] = valid | ATTR_UID, user
    if group != 0xFFFF_FFFF:
        valid, values["gid"] = valid | ATTR_GID, group
    if not inode.is_dir:
        functions.setattr_should_drop_sgid(cpu, 0, inode.address)
        if inode.i_mode & (S_ISUID | S_ISGID) and inode.is_plain:
            dropped = S_ISUID | (S_ISGID if inode.i_mode & 0o10 else 0)
            valid, values["mode"] = valid | ATTR_MODE, inode.i_mode & ~dropped
    functions.from_vfsgid(cpu, 0, 0, group)
    functions.from_vfsuid(cpu, 0, 0, user)
    ret: int = functions.security_path_chown(cpu, path, user, group)
    return ret or _change(k, cpu, dentry, valid, **values)


@syscall(92)
def sys_chown(k: FsKernel, cpu: Cpu, filename: int, user: int, group: int) -> int:
    ret: int = k.functions.do_fchownat(cpu, AT_FDCWD, filename, u32(user), u32(group), 0)
    return ret


@syscall(94)
def sys_lchown(k: FsKernel, cpu: Cpu, filename: int, user: int, group: int) -> int:
    ret: int = k.functions.do_fchownat(cpu, AT_FDCWD, filename, u32(user), u32(group), AT_SYMLINK_NOFOLLOW)
    return ret


@syscall(260)
def sys_fchownat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, user: int, group: int, flag: int) -> int:
    ret: int = k.functions.do_fchownat(cpu, s32(dfd), filename, u32(user), u32(group), u32(flag))
    return ret


@syscall(93)
def sys_fchown(k: FsKernel, cpu: Cpu, fd: int, user: int, group: int) -> int:
    ret: int = k.functions.ksys_fchown(cpu, u32(fd), u32(user), u32(group))
    return ret


@kernel_function
def ksys_fchown(k: FsKernel, cpu: Cpu, fd: int, user: int, group: int) -> int:
    """Change the owners of an open file."""
    k.functions.fdget(cpu, fd)
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    ret: int = k.functions.vfs_fchown(cpu, file.address, user, group)
    return ret


@kernel_function
def vfs_fchown(k: FsKernel, cpu: Cpu, file: int, user: int, group: int) -> int:
    """Change the owners of an open file."""
    functions = k.functions
    functions.mnt_want_write_file(cpu, file)
    ret: int = functions.chown_common(cpu, file_at(k, file).struct.member_address("f_path"), user, group)
    functions.mnt_drop_write_file(cpu, file)
    return ret


@kernel_function
def vfs_truncate(k: FsKernel, cpu: Cpu, path: int, length: int) -> int:
    """Cut the file at a path: EISDIR, EINVAL for what is no file."""
    functions, mnt, inode = k.functions, k.mem.load(path, 8), _inode_of(k, path)
    if not inode.is_plain:
        return -(Errno.EISDIR if inode.is_dir else Errno.EINVAL)
    functions.mnt_want_write(cpu, mnt)
    ret: int = functions.inode_permission(cpu, 0, inode.address, MAY_WRITE)
    ret = ret or functions.security_path_truncate(cpu, path)
    ret = ret or functions.do_truncate(cpu, 0, k.mem.load(path + 8, 8), length, 0, 0)
    functions.mnt_drop_write(cpu, mnt)
    return ret


@kernel_function
def do_truncate(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, length: int, time_attrs: int, _filp: int) -> int:
    """Let a file have another size; EFBIG."""
    if length > 1 << 30:
        return -Errno.EFBIG
    k.functions.dentry_needs_remove_privs(cpu, idmap, dentry)
    return _change(k, cpu, dentry, ATTR_SIZE | ATTR_MTIME | ATTR_CTIME | time_attrs, size=length)


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
        ret = -Errno.EINVAL if is_err(name) or not _inode_of(k, path).is_link else 0
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
    ret: int = k.functions.readlink_copy(cpu, buffer, buflen, k.vfs.link_text(inode), len(inode.data))
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
        ret = functions.inode_permission(cpu, 0, _inode_of(k, path).address, MAY_EXEC)
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


def _timespec(k: FsKernel, cpu: Cpu, user: UserMemory | None, address: int) -> bytes:
    k.functions.get_timespec64(cpu, 0, address)
    return user.read(address, 16) if user is not None else bytes(16)


@syscall(280)
def sys_utimensat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, utimes: int, flags: int) -> int:
    user = task_of(k, cpu).user
    times = 0
    if utimes:
        try:
            data = b"".join(_timespec(k, cpu, user, utimes + at) for at in (0, 16))
        except UserFault:
            return -Errno.EFAULT
        if [int.from_bytes(data[at : at + 8], "little") for at in (8, 24)] == [UTIME_OMIT] * 2:
            # nothing to do, wherever it is
            return 0
        times = k.mem.alloc(32)
        k.mem.write(times, data)
    ret: int = k.functions.do_utimes(cpu, s32(dfd), filename, times, u32(flags))
    if times:
        k.mem.free(times)
    return ret


@kernel_function
def do_utimes(k: FsKernel, cpu: Cpu, dfd: int, filename: int, times: int, flags: int) -> int:
    """Set the times of a file, by path or descriptor."""
    if not filename and dfd != AT_FDCWD:
        k.functions.fdget(cpu, u32(dfd))
        file = opened(k, cpu, dfd)
        if file is None or file.inode is None:
            return -Errno.EBADF
        return cast(int, k.functions.vfs_utimes(cpu, file.struct.member_address("f_path"), times))
    return _at_path(k, cpu, dfd, filename, flags, lambda path: k.functions.vfs_utimes(cpu, path, times))


@kernel_function
def vfs_utimes(k: FsKernel, cpu: Cpu, path: int, times: int) -> int:
    """Set the times of a file: now is for owners and who may write it, others are for owners."""
    functions, mnt, dentry = k.functions, k.mem.load(path, 8), k.mem.load(path + 8, 8)
    valid = ATTR_CTIME | ATTR_ATIME | ATTR_MTIME
    values: dict[str, int] = {}
    if not times or (s64(k.mem.load(times + 8, 8)) == s64(k.mem.load(times + 24, 8)) == UTIME_NOW):
        valid |= ATTR_TOUCH
    else:
        valid |= ATTR_TIMES_SET
        words = [s64(k.mem.load(times + 8 * index, 8)) for index in range(4)]
        rows = (("atime", words[:2], ATTR_ATIME, ATTR_ATIME_SET), ("mtime", words[2:], ATTR_MTIME, ATTR_MTIME_SET))
        for name, (seconds, nanoseconds), bit, given in rows:
            if nanoseconds == UTIME_OMIT:
                valid &= ~bit
            elif nanoseconds != UTIME_NOW:
                if not 0 <= nanoseconds < 10**9:
                    return -Errno.EINVAL
                valid |= given
                values |= {f"{name}_sec": seconds, f"{name}_nsec": nanoseconds}
    functions.mnt_want_write(cpu, mnt)
    ret = _change(k, cpu, dentry, valid, **values)
    functions.mnt_drop_write(cpu, mnt)
    return ret


@syscall(95)
def sys_umask(k: FsKernel, cpu: Cpu, mask: int) -> int:
    task = task_of(k, cpu)
    before = task.umask
    task.set_umask(u32(mask) & 0o777)
    return before
