"""Changing what files are: chmod, chown, truncate, utimes, umask (fs/{open,attr,utimes}.c, v6.18)."""

from collections.abc import Callable
from typing import cast

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault, UserMemory
from tracing.dcache import now_at
from tracing.fs import FsKernel, dentry_at, file_at, task_of
from tracing.fs_syscalls import opened
from tracing.functions import kernel_function
from tracing.namei import AT_FDCWD, LOOKUP_EMPTY, LOOKUP_FOLLOW
from tracing.permission import MAY_WRITE
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
from tracing.stat import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, inode_of
from tracing.syscalls import syscall
from tracing.vfs import Inode

__all__: list[str] = []

CAP_CHOWN, CAP_FOWNER = 0, 3
# include/linux/fs.h: times are given, times are now
ATTR_TIMES_SET, ATTR_TOUCH = 1 << 16, 1 << 17
ATTR_ANY_SET = ATTR_ATIME_SET | ATTR_MTIME_SET | ATTR_TIMES_SET
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
S_ISUID, S_ISGID = 0o4000, 0o2000


@kernel_function
def notify_change(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, attr: int, _delegated: int) -> int:
    """Change what an inode is, as ``struct iattr`` says; EPERM, what the security modules say."""
    functions, change = k.functions, Iattr(k.mem, attr)
    inode = dentry_at(k, dentry).inode
    assert inode is not None
    valid = change.ia_valid
    ret: int = functions.may_setattr(cpu, idmap, inode.address, valid)
    if not ret and valid & ATTR_MODE and inode.ops is not None and "d_revalidate" in inode.ops:
        # proc_setattr()
        ret = -Errno.EPERM
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
    functions, dentry, inode = k.functions, k.mem.load(path + 8, 8), inode_of(k, path)
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
    functions, mnt, inode = k.functions, k.mem.load(path, 8), inode_of(k, path)
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
