"""What makes, moves and removes names: mkdir, mknod, symlink, link, unlink, rmdir, rename (fs/namei.c, v6.18)."""

from typing import cast

from ebpfsim.btf.view import Field, KernelStruct, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from tracing.devcgroup import devcgroup_inode_mknod
from tracing.fs import FsKernel, dentry_at, inode_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.namei import (
    LOOKUP_DIRECTORY,
    LOOKUP_FOLLOW,
    Filename,
    Walk,
    begin_walk,
    end_walk,
    move_path,
)
from tracing.permission import MAY_EXEC, MAY_WRITE
from tracing.shmem import RENAME_EXCHANGE, inode_op
from tracing.vfs import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, Dentry, Inode

__all__ = ["AT_REMOVEDIR", "Renamedata"]

LAST_NORM, LAST_ROOT, LAST_DOT, LAST_DOTDOT = range(4)
AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x200, 0x400, 0x1000
RENAME_NOREPLACE = 1
CAP_FOWNER, CAP_MKNOD = 3, 27
S_ISVTX = 0o1000
_TEXT = size_of("filename")


class Renamedata(KernelStruct):
    """``struct renamedata``: what vfs_rename() is asked for."""

    struct_name = "renamedata"
    old_parent = Field()
    old_dentry = Field()
    new_parent = Field()
    new_dentry = Field()
    flags = Field()


class _Place:
    """The directory and the last name of a path: ``path`` has a reference, ``last`` is a ``struct qstr``."""

    def __init__(self, k: FsKernel) -> None:
        self.k = k
        # path (16), last (16), type (4)
        self.path = k.mem.alloc(40)
        self.last = self.path + 16
        self.type = self.path + 32

    @property
    def mnt(self) -> int:
        return self.k.mem.load(self.path, 8)

    @property
    def directory(self) -> Dentry:
        return dentry_at(self.k, self.k.mem.load(self.path + 8, 8))

    @property
    def last_type(self) -> int:
        return self.k.mem.load(self.type, 4)

    def free(self) -> None:
        self.k.mem.free(self.path)


@kernel_function
def __filename_parentat(
    k: FsKernel, cpu: Cpu, dfd: int, name: int, flags: int, parent: int, last: int, type_: int, _root: int
) -> int:
    """Walk to the directory of the last name; store where that is, the name, and what kind of name it is."""
    if is_err(name):
        return is_err(name)
    walk, functions = begin_walk(k, dfd, name), k.functions
    nd = walk.address
    start = functions.path_init(cpu, nd, flags)
    ret = is_err(start)
    ret = ret or functions.link_path_walk(cpu, start, nd)
    if not ret:
        _store_last(k, walk, last, type_)
        ret = functions.complete_walk(cpu, nd)
    if not ret:
        move_path(k, walk, parent)
    functions.terminate_walk(cpu, nd)
    end_walk(k, walk)
    return ret


def _store_last(k: FsKernel, walk: Walk, last: int, type_: int) -> None:
    name, at = walk.names[-1] if walk.names else ("", 0)
    kind = {"": LAST_ROOT, ".": LAST_DOT, "..": LAST_DOTDOT}.get(name, LAST_NORM)
    k.mem.store(last, 8, len(name.encode(errors="surrogateescape")) << 32)
    k.mem.store(last + 8, 8, at)
    k.mem.store(type_, 4, kind)


def _is_slashed(k: FsKernel, name: int) -> bool:
    return k.mem.read_string(name + _TEXT, 4096).endswith(b"/")


@kernel_function
def filename_create(k: FsKernel, cpu: Cpu, dfd: int, name: int, path: int, lookup_flags: int) -> int:
    """Return a dentry for a name that is to be made, in the directory ``path``; EEXIST, ENOENT."""
    functions, where = k.functions, _Place(k)
    ret = functions.__filename_parentat(cpu, dfd, name, 0, where.path, where.last, where.type, 0)
    if ret:
        where.free()
        return cast(int, ret)
    k.mem.write(path, k.mem.read(where.path, 16))
    dentry = -Errno.EEXIST
    if where.last_type == LAST_NORM:
        functions.mnt_want_write(cpu, where.mnt)
        dentry = functions.lookup_one_qstr_excl(cpu, where.last, where.directory.address, 0)
        if not is_err(dentry):
            refusal = 0
            if dentry_at(k, dentry).inode is not None:
                refusal = -Errno.EEXIST
            elif _is_slashed(k, name) and not lookup_flags & LOOKUP_DIRECTORY:
                refusal = -Errno.ENOENT
            if refusal:
                functions.dput(cpu, dentry)
                dentry = refusal
        if is_err(dentry):
            functions.mnt_drop_write(cpu, where.mnt)
    if is_err(dentry):
        put_path(k, cpu, path)
    where.free()
    return dentry


def end_creating(k: FsKernel, cpu: Cpu, path: int, dentry: int) -> None:
    """Let go of what filename_create() gave (done_path_create, end_creating_path)."""
    functions = k.functions
    functions.dput(cpu, dentry)
    functions.mnt_drop_write(cpu, k.mem.load(path, 8))
    put_path(k, cpu, path)


@kernel_function
def lookup_one_qstr_excl(k: FsKernel, cpu: Cpu, name: int, base: int, flags: int) -> int:
    """Find a name in a directory that nobody else changes; one that nobody knows stands for nothing."""
    functions = k.functions
    found = functions.lookup_dcache(cpu, name, base, flags)
    if found:
        return cast(int, found)
    if k.mem.load(name + 4, 4) > 255:
        return -Errno.ENAMETOOLONG
    dentry: int = functions.d_alloc(cpu, base, name)
    entry = dentry_at(k, dentry)
    own = entry.sb.fs.ops.get("lookup")
    if own is not None:
        getattr(functions, own)(cpu, entry.parent.d_inode, dentry, flags)
    else:
        entry.hashed = True
    return dentry


@kernel_function
def lookup_dcache(k: FsKernel, cpu: Cpu, name: int, dir_: int, _flags: int) -> int:
    """Find a name among the dentries; 0 when nobody knows it."""
    found: int = k.functions.d_lookup(cpu, dir_, name)
    return found


@kernel_function
def d_lookup(k: FsKernel, cpu: Cpu, parent: int, name: int) -> int:
    """Find a name among the dentries, and take a reference."""
    found: int = k.functions.__d_lookup(cpu, parent, name)
    if found:
        dentry_at(k, found).opens += 1
    return found


def put_path(k: FsKernel, cpu: Cpu, path: int) -> None:
    """Let go of a path (path_put, which is no function of its own in fs/namei.c)."""
    k.functions.dput(cpu, k.mem.load(path + 8, 8))
    k.functions.mntput(cpu, k.mem.load(path, 8))


def _may_create(k: FsKernel, cpu: Cpu, dir_: int) -> int:
    functions = k.functions
    if not inode_at(k, dir_).i_nlink:
        return -Errno.ENOENT
    functions.from_vfsuid(cpu, 0, 0, task_of(k, cpu).cred.fsuid)
    functions.from_vfsgid(cpu, 0, 0, task_of(k, cpu).cred.fsgid)
    ret: int = functions.inode_permission(cpu, 0, dir_, MAY_WRITE | MAY_EXEC)
    return ret


@kernel_function
def may_delete(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, victim: int, isdir: int) -> int:
    """Whether a name may be removed: permissions of the directory, the sticky bit, what kind of name it is."""
    inode, directory = dentry_at(k, victim).inode, inode_at(k, dir_)
    if inode is None:
        return -Errno.ENOENT
    ret: int = k.functions.inode_permission(cpu, idmap, dir_, MAY_WRITE | MAY_EXEC)
    if ret:
        return ret
    if directory.i_mode & S_ISVTX and not _may_in_sticky(k, cpu, directory, inode):
        return -Errno.EPERM
    if isdir & 1:
        return 0 if inode.is_dir else -Errno.ENOTDIR
    return -Errno.EISDIR if inode.is_dir else 0


def _may_in_sticky(k: FsKernel, cpu: Cpu, directory: Inode, inode: Inode) -> bool:
    # __check_sticky()
    cred = task_of(k, cpu).cred
    if cred.fsuid in (inode.i_uid, directory.i_uid):
        return True
    return bool(k.functions.capable_wrt_inode_uidgid(cpu, 0, inode.address, CAP_FOWNER))


@kernel_function
def do_mkdirat(k: FsKernel, cpu: Cpu, dfd: int, name: int, mode: int) -> int:
    """Make a directory."""
    functions, path = k.functions, k.mem.alloc(16)
    dentry = functions.filename_create(cpu, dfd, name, path, LOOKUP_DIRECTORY)
    ret = is_err(dentry)
    if not ret:
        dir_ = dentry_at(k, dentry).parent.d_inode
        mode &= ~task_of(k, cpu).umask & 0o1777
        ret = functions.security_path_mkdir(cpu, path, dentry, mode)
        ret = ret or is_err(functions.vfs_mkdir(cpu, 0, dir_, dentry, mode))
        end_creating(k, cpu, path, dentry)
    k.mem.free(path)
    functions.putname(cpu, name)
    return ret


@kernel_function
def vfs_mkdir(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, mode: int) -> int:
    """Make a directory: the dentry, or an errno as a pointer."""
    functions, directory = k.functions, inode_at(k, dir_)
    ret = _may_create(k, cpu, dir_)
    if not ret:
        functions.mode_strip_sgid(cpu, idmap, dir_, S_IFDIR | mode)
        ret = functions.security_inode_mkdir(cpu, dir_, dentry, mode)
    ret = ret or is_err(inode_op(k, cpu, directory, "mkdir", idmap, dir_, dentry, mode))
    return ret or dentry


@kernel_function
def do_mknodat(k: FsKernel, cpu: Cpu, dfd: int, name: int, mode: int, dev: int) -> int:
    """Make a file, a device, a pipe or the name of a socket; EPERM for directories."""
    functions, path, kind = k.functions, k.mem.alloc(16), mode & S_IFMT
    kinds = (0, S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK)
    ret = 0 if kind in kinds else -Errno.EPERM if kind == S_IFDIR else -Errno.EINVAL
    dentry = ret or functions.filename_create(cpu, dfd, name, path, 0)
    ret = is_err(dentry)
    if not ret:
        dir_ = dentry_at(k, dentry).parent.d_inode
        mode &= ~task_of(k, cpu).umask
        ret = functions.security_path_mknod(cpu, path, dentry, mode, dev)
        if not ret and kind in (0, S_IFREG):
            ret = functions.vfs_create(cpu, 0, dir_, dentry, mode, 1)
            if not ret:
                functions.security_path_post_mknod(cpu, 0, dentry)
        elif not ret:
            number = new_decode_dev(dev) if kind in (S_IFCHR, S_IFBLK) else 0
            ret = functions.vfs_mknod(cpu, 0, dir_, dentry, mode, number)
        end_creating(k, cpu, path, dentry)
    k.mem.free(path)
    functions.putname(cpu, name)
    return ret


def new_decode_dev(dev: int) -> int:
    """Return the kernel's number of a device from that of user space (include/linux/kdev_t.h)."""
    major, minor = dev >> 8 & 0xFFF, dev & 0xFF | dev >> 12 & 0xF_FF00
    return major << 20 | minor


@kernel_function
def vfs_create(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, mode: int, want_excl: int) -> int:
    """Make a file."""
    ret = _may_create(k, cpu, dir_)
    if not ret:
        k.functions.mode_strip_sgid(cpu, idmap, dir_, mode)
        ret = k.functions.security_inode_create(cpu, dir_, dentry, S_IFREG | mode & 0o7777)
    return ret or inode_op(k, cpu, inode_at(k, dir_), "create", idmap, dir_, dentry, mode & 0o7777, want_excl)


@kernel_function
def vfs_mknod(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, mode: int, dev: int) -> int:
    """Make a file of another kind; EPERM for devices without CAP_MKNOD."""
    functions = k.functions
    ret = _may_create(k, cpu, dir_)
    if not ret and mode & S_IFMT in (S_IFCHR, S_IFBLK):
        ret = 0 if functions.capable(cpu, CAP_MKNOD) else -Errno.EPERM
    if not ret:
        functions.mode_strip_sgid(cpu, idmap, dir_, mode)
        ret = devcgroup_inode_mknod(k, cpu, mode, dev)
        ret = ret or functions.security_inode_mknod(cpu, dir_, dentry, mode, dev)
    return ret or inode_op(k, cpu, inode_at(k, dir_), "mknod", idmap, dir_, dentry, mode, dev)


@kernel_function
def do_symlinkat(k: FsKernel, cpu: Cpu, from_: int, newdfd: int, to: int) -> int:
    """Make a symbolic link."""
    functions, path = k.functions, k.mem.alloc(16)
    dentry = is_err(from_) or functions.filename_create(cpu, newdfd, to, path, 0)
    ret = is_err(dentry)
    if not ret:
        text = Filename(k.mem, from_).name
        ret = functions.security_path_symlink(cpu, path, dentry, text)
        ret = ret or functions.vfs_symlink(cpu, 0, dentry_at(k, dentry).parent.d_inode, dentry, text)
        end_creating(k, cpu, path, dentry)
    k.mem.free(path)
    functions.putname(cpu, to)
    functions.putname(cpu, from_)
    return ret


@kernel_function
def vfs_symlink(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, oldname: int) -> int:
    """Make a symbolic link."""
    ret = _may_create(k, cpu, dir_)
    ret = ret or k.functions.security_inode_symlink(cpu, dir_, dentry, oldname)
    return ret or inode_op(k, cpu, inode_at(k, dir_), "symlink", idmap, dir_, dentry, oldname)


@kernel_function
def do_linkat(k: FsKernel, cpu: Cpu, olddfd: int, old: int, newdfd: int, new: int, flags: int) -> int:
    """Give a file one more name; EXDEV across mounts, EPERM for directories."""
    functions, paths = k.functions, k.mem.alloc(32)
    ret = 0 if not flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) else -Errno.EINVAL
    how = LOOKUP_FOLLOW if flags & AT_SYMLINK_FOLLOW else 0
    ret = ret or int(functions.filename_lookup(cpu, olddfd, old, how, paths, 0))
    if not ret:
        dentry = functions.filename_create(cpu, newdfd, new, paths + 16, 0)
        ret = is_err(dentry)
        if not ret:
            source = k.mem.load(paths + 8, 8)
            ret = 0 if k.mem.load(paths, 8) == k.mem.load(paths + 16, 8) else -Errno.EXDEV
            ret = ret or functions.may_linkat(cpu, 0, paths)
            ret = ret or functions.security_path_link(cpu, source, paths + 16, dentry)
            ret = ret or functions.vfs_link(cpu, source, 0, dentry_at(k, dentry).parent.d_inode, dentry, 0)
            end_creating(k, cpu, paths + 16, dentry)
        put_path(k, cpu, paths)
    k.mem.free(paths)
    functions.putname(cpu, old)
    functions.putname(cpu, new)
    return ret


@kernel_function
def may_linkat(k: FsKernel, cpu: Cpu, idmap: int, link: int) -> int:
    """Whether a task may link a file that is not its own (protected_hardlinks): it must be able to write it."""
    inode = dentry_at(k, k.mem.load(link + 8, 8)).inode
    assert inode is not None
    functions = k.functions
    if inode.i_mode & S_IFMT == S_IFREG and not inode.i_mode & 0o6000:
        ret: int = functions.inode_permission(cpu, idmap, inode.address, 4 | MAY_WRITE)
        if not ret:
            return 0
    return 0 if functions.inode_owner_or_capable(cpu, idmap, inode.address) else -Errno.EPERM


@kernel_function
def vfs_link(k: FsKernel, cpu: Cpu, old_dentry: int, _idmap: int, dir_: int, new_dentry: int, _delegated: int) -> int:
    """Give a file one more name."""
    inode = dentry_at(k, old_dentry).inode
    if inode is None:
        return -Errno.ENOENT
    ret = _may_create(k, cpu, dir_)
    if not ret and inode.is_dir:
        ret = -Errno.EPERM
    ret = ret or k.functions.security_inode_link(cpu, old_dentry, dir_, new_dentry)
    if not ret and not inode.i_nlink:
        ret = -Errno.ENOENT
    return ret or inode_op(k, cpu, inode_at(k, dir_), "link", old_dentry, dir_, new_dentry)


@kernel_function
def do_unlinkat(k: FsKernel, cpu: Cpu, dfd: int, name: int) -> int:
    """Remove a name of a file; EISDIR, ENOENT, ENOTDIR."""
    functions, where = k.functions, _Place(k)
    ret: int = functions.__filename_parentat(cpu, dfd, name, 0, where.path, where.last, where.type, 0)
    if not ret:
        ret = -Errno.EISDIR
        if where.last_type == LAST_NORM:
            functions.mnt_want_write(cpu, where.mnt)
            ret = _unlink(k, cpu, where, name)
            functions.mnt_drop_write(cpu, where.mnt)
        put_path(k, cpu, where.path)
    where.free()
    functions.putname(cpu, name)
    return ret


def _unlink(k: FsKernel, cpu: Cpu, where: _Place, name: int) -> int:
    functions, directory = k.functions, where.directory
    dentry = functions.lookup_one_qstr_excl(cpu, where.last, directory.address, 0)
    if is_err(dentry):
        return is_err(dentry)
    inode = dentry_at(k, dentry).inode
    if inode is None or _is_slashed(k, name):
        functions.dput(cpu, dentry)
        return -(Errno.ENOENT if inode is None else Errno.EISDIR if inode.is_dir else Errno.ENOTDIR)
    functions.ihold(cpu, inode.address)
    ret: int = functions.security_path_unlink(cpu, where.path, dentry)
    ret = ret or functions.vfs_unlink(cpu, 0, directory.d_inode, dentry, 0)
    functions.dput(cpu, dentry)
    functions.iput(cpu, inode.address)
    return ret


@kernel_function
def vfs_unlink(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, _delegated: int) -> int:
    """Remove a name of a file; EBUSY for what something is mounted on."""
    functions, entry = k.functions, dentry_at(k, dentry)
    ret: int = functions.may_delete(cpu, idmap, dir_, dentry, 0)
    if not ret and entry.mounted is not None:
        ret = -Errno.EBUSY
    ret = ret or functions.security_inode_unlink(cpu, dir_, dentry)
    ret = ret or inode_op(k, cpu, inode_at(k, dir_), "unlink", dir_, dentry)
    if not ret:
        _deleted(k, cpu, dentry)
    return ret


def _deleted(k: FsKernel, cpu: Cpu, dentry: int) -> None:
    # d_delete_notify()
    functions, inode = k.functions, dentry_at(k, dentry).d_inode
    functions.ihold(cpu, inode)
    functions.d_delete(cpu, dentry)
    functions.iput(cpu, inode)


@kernel_function
def do_rmdir(k: FsKernel, cpu: Cpu, dfd: int, name: int) -> int:
    """Remove an empty directory; ENOTEMPTY, EINVAL for ``.``, EBUSY for the root."""
    functions, where = k.functions, _Place(k)
    ret: int = functions.__filename_parentat(cpu, dfd, name, 0, where.path, where.last, where.type, 0)
    if not ret:
        wrong = {LAST_DOTDOT: Errno.ENOTEMPTY, LAST_DOT: Errno.EINVAL, LAST_ROOT: Errno.EBUSY}
        ret = -wrong.get(where.last_type, 0)
        if not ret:
            functions.mnt_want_write(cpu, where.mnt)
            dentry = functions.lookup_one_qstr_excl(cpu, where.last, where.directory.address, 0)
            ret = is_err(dentry)
            if not ret:
                ret = 0 if dentry_at(k, dentry).inode is not None else -Errno.ENOENT
                ret = ret or functions.security_path_rmdir(cpu, where.path, dentry)
                ret = ret or functions.vfs_rmdir(cpu, 0, where.directory.d_inode, dentry)
                functions.dput(cpu, dentry)
            functions.mnt_drop_write(cpu, where.mnt)
        put_path(k, cpu, where.path)
    where.free()
    functions.putname(cpu, name)
    return ret


@kernel_function
def vfs_rmdir(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int) -> int:
    """Remove an empty directory; EBUSY for what something is mounted on."""
    functions, entry = k.functions, dentry_at(k, dentry)
    ret: int = functions.may_delete(cpu, idmap, dir_, dentry, 1)
    if not ret and entry.mounted is not None:
        ret = -Errno.EBUSY
    ret = ret or functions.security_inode_rmdir(cpu, dir_, dentry)
    if ret:
        return ret
    # dget()
    entry.opens += 1
    ret = inode_op(k, cpu, inode_at(k, dir_), "rmdir", dir_, dentry)
    if not ret:
        functions.shrink_dcache_parent(cpu, dentry)
    functions.dput(cpu, dentry)
    if not ret:
        _deleted(k, cpu, dentry)
    return ret


@kernel_function
def do_renameat2(k: FsKernel, cpu: Cpu, olddfd: int, from_: int, newdfd: int, to: int, flags: int) -> int:
    """Give a file another name, which may have been another file's; EXDEV, EBUSY, EEXIST, EINVAL, ENOTEMPTY."""
    functions = k.functions
    known = RENAME_NOREPLACE | RENAME_EXCHANGE
    if flags & ~(known | 4) or flags & known == known or flags & 4:
        functions.putname(cpu, from_)
        functions.putname(cpu, to)
        return -Errno.EINVAL
    old, new = _Place(k), _Place(k)
    ret: int = functions.__filename_parentat(cpu, olddfd, from_, 0, old.path, old.last, old.type, 0)
    if not ret:
        ret = functions.__filename_parentat(cpu, newdfd, to, 0, new.path, new.last, new.type, 0)
        if not ret:
            if old.mnt != new.mnt:
                ret = -Errno.EXDEV
            elif old.last_type != LAST_NORM or new.last_type != LAST_NORM:
                ret = -Errno.EBUSY
            else:
                functions.mnt_want_write(cpu, old.mnt)
                slashed = _is_slashed(k, from_) or _is_slashed(k, to)
                ret = _rename(k, cpu, old, new, flags, slashed=slashed)
                functions.mnt_drop_write(cpu, old.mnt)
            put_path(k, cpu, new.path)
        put_path(k, cpu, old.path)
    old.free()
    new.free()
    functions.putname(cpu, from_)
    functions.putname(cpu, to)
    return ret


def _rename(k: FsKernel, cpu: Cpu, old: _Place, new: _Place, flags: int, *, slashed: bool) -> int:
    functions = k.functions
    if old.directory is not new.directory:
        functions.lock_two_directories(cpu, old.directory.address, new.directory.address)
    source = functions.lookup_one_qstr_excl(cpu, old.last, old.directory.address, 0)
    if is_err(source):
        return is_err(source)
    ret = 0 if dentry_at(k, source).inode is not None else -Errno.ENOENT
    target = ret or functions.lookup_one_qstr_excl(cpu, new.last, new.directory.address, 0)
    if is_err(target):
        functions.dput(cpu, source)
        return is_err(target)
    ret = _refused(k, source, target, flags, slashed=slashed)
    ret = ret or functions.security_path_rename(cpu, old.path, source, new.path, target, flags)
    if not ret:
        rd = Renamedata.alloc(k.mem)
        rd.old_parent, rd.old_dentry = old.directory.address, source
        rd.new_parent, rd.new_dentry, rd.flags = new.directory.address, target, flags
        ret = functions.vfs_rename(cpu, rd.address)
        rd.free()
    functions.dput(cpu, target)
    functions.dput(cpu, source)
    return ret


def _refused(k: FsKernel, source: int, target: int, flags: int, *, slashed: bool) -> int:
    old, new = dentry_at(k, source), dentry_at(k, target)
    assert old.inode is not None
    if flags & RENAME_NOREPLACE and new.inode is not None:
        return -Errno.EEXIST
    if flags & RENAME_EXCHANGE and new.inode is None:
        return -Errno.ENOENT
    if slashed and not old.inode.is_dir:
        return -Errno.ENOTDIR
    if _is_above(old, new):
        return -Errno.EINVAL
    if _is_above(new, old):
        return -Errno.EINVAL if flags & RENAME_EXCHANGE else -Errno.ENOTEMPTY
    return 0


def _is_above(above: Dentry, below: Dentry) -> bool:
    while below.parent is not below:
        below = below.parent
        if below is above:
            return True
    return False


@kernel_function
def vfs_rename(k: FsKernel, cpu: Cpu, rd: int) -> int:
    """Move a name over another one, or let them change places."""
    asked, functions = Renamedata(k.mem, rd), k.functions
    source, target = dentry_at(k, asked.old_dentry), dentry_at(k, asked.new_dentry)
    old_dir, new_dir = (dentry_at(k, parent).d_inode for parent in (asked.old_parent, asked.new_parent))
    moved, replaced = source.inode, target.inode
    assert moved is not None
    if moved is replaced:
        return 0
    ret: int = functions.may_delete(cpu, 0, old_dir, source.address, int(moved.is_dir))
    if not ret and replaced is None:
        ret = _may_create(k, cpu, new_dir)
    elif not ret:
        is_dir = replaced.is_dir if asked.flags & RENAME_EXCHANGE else moved.is_dir  # type: ignore[union-attr]
        ret = functions.may_delete(cpu, 0, new_dir, target.address, int(is_dir))
    if not ret and moved.is_dir and old_dir != new_dir:
        # its .. changes
        ret = functions.inode_permission(cpu, 0, moved.address, MAY_WRITE)
    ret = ret or functions.security_inode_rename(
        cpu, asked.old_parent, source.address, asked.new_parent, target.address, asked.flags
    )
    if ret:
        return ret
    functions.take_dentry_name_snapshot(cpu, 0, source.address)
    target.opens += 1
    if not moved.is_dir and not (replaced is not None and replaced.is_dir):
        functions.lock_two_nondirectories(cpu, moved.address, replaced.address if replaced is not None else 0)
    if source.mounted is not None or target.mounted is not None:
        ret = -Errno.EBUSY
    ret = ret or inode_op(
        k, cpu, inode_at(k, old_dir), "rename", 0, old_dir, source.address, new_dir, target.address, asked.flags
    )
    if not ret:
        if replaced is not None and moved.is_dir and not asked.flags & RENAME_EXCHANGE:
            functions.shrink_dcache_parent(cpu, target.address)
        mover = functions.d_exchange if asked.flags & RENAME_EXCHANGE else functions.d_move
        mover(cpu, source.address, target.address)
    functions.dput(cpu, target.address)
    if not ret:
        functions.fsnotify_get_cookie(cpu)
        if asked.flags & RENAME_EXCHANGE:
            functions.fsnotify_get_cookie(cpu)
    functions.release_dentry_name_snapshot(cpu, 0)
    return ret


@kernel_function
def d_move(k: FsKernel, cpu: Cpu, dentry: int, target: int) -> None:
    """Move a name to where another one was."""
    k.functions.__d_move(cpu, dentry, target, 0)


@kernel_function
def d_exchange(k: FsKernel, cpu: Cpu, dentry1: int, dentry2: int) -> None:
    """Let two names change places."""
    k.functions.__d_move(cpu, dentry1, dentry2, 1)


@kernel_function
def __d_move(k: FsKernel, cpu: Cpu, dentry: int, target: int, exchange: int) -> None:
    """Take both names out of where they are, and put them where they belong."""
    functions, vfs = k.functions, k.vfs
    source, other = dentry_at(k, dentry), dentry_at(k, target)
    functions.___d_drop(cpu, dentry)
    functions.___d_drop(cpu, target)
    parent, name = other.parent, other.name
    old_parent, old_name = source.parent, source.name
    if other.inode is not None:
        vfs.unhash(other)
    other.hashed = False
    vfs.move(source, parent, name)
    functions.__d_rehash(cpu, dentry)
    if exchange:
        other.hashed = True
        old_parent.children[old_name] = other
        other.parent, other.d_parent = old_parent, old_parent.address
        vfs.rename(other, old_name)
        functions.__d_rehash(cpu, target)
