"""The file system in memory (mm/shmem.c, fs/libfs.c, v6.18), and what all file systems in memory do.

A function without a mark does what its operation is about. Files of systems whose functions are their own get that
directly; those of tmpfs through the functions that its operations are, with what these call.
"""

from collections.abc import Callable, Mapping

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from tracing.fs import FsKernel, dentry_at, inode_at
from tracing.functions import kernel_function
from tracing.vfs import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Inode

__all__ = ["ATTR_GID", "ATTR_MODE", "ATTR_SIZE", "ATTR_UID", "Iattr", "inode_op"]

ATTR_MODE, ATTR_UID, ATTR_GID, ATTR_SIZE, ATTR_ATIME, ATTR_MTIME, ATTR_CTIME = (1 << bit for bit in range(7))
ATTR_ATIME_SET, ATTR_MTIME_SET = 1 << 7, 1 << 8
RENAME_EXCHANGE = 2
VM_NORESERVE = 0x20_0000
PAGE = 4096
MAX_PAGE = (1 << 52) - 1  # the one that holds the last byte a file can have
_I_DATA = place("inode", "i_data")[0]


class Iattr(KernelStruct):
    """``struct iattr``: what of an inode is to change."""

    struct_name = "iattr"
    ia_valid = Field()
    ia_mode = Field()
    ia_uid = Field("ia_uid.val")
    ia_gid = Field("ia_gid.val")
    ia_size = Field()
    ia_atime_sec = Field("ia_atime.tv_sec")
    ia_atime_nsec = Field("ia_atime.tv_nsec")
    ia_mtime_sec = Field("ia_mtime.tv_sec")
    ia_mtime_nsec = Field("ia_mtime.tv_nsec")
    ia_ctime_sec = Field("ia_ctime.tv_sec")
    ia_ctime_nsec = Field("ia_ctime.tv_nsec")
    ia_file = Field()


def _new(k: FsKernel, cpu: Cpu, directory: int, dentry: int, mode: int, dev: int = 0, target: bytes = b"") -> int:
    # a new inode and its name, without anything that tmpfs would do
    functions, parent, cred = k.functions, inode_at(k, directory), k.sched.current(cpu).cred
    inode = k.vfs.new_inode(parent.sb, mode, cred.fsuid, cred.fsgid)
    inode.i_rdev = dev
    ret: int = functions.security_inode_alloc(cpu, inode.address, 0xCC0)
    if ret:
        k.vfs.free_inode(inode)
        return -Errno.ENOSPC
    functions.simple_inode_init_ts(cpu, inode.address)
    k.vfs.set_data(inode, target)
    functions.d_instantiate(cpu, dentry, inode.address)
    return 0


def create(k: FsKernel, cpu: Cpu, _idmap: int, dir_: int, dentry: int, mode: int, _excl: int) -> int:
    """Make a file."""
    return _new(k, cpu, dir_, dentry, S_IFREG | mode & 0o7777)


def mkdir(k: FsKernel, cpu: Cpu, _idmap: int, dir_: int, dentry: int, mode: int) -> int:
    """Make a directory."""
    return _new(k, cpu, dir_, dentry, S_IFDIR | mode & 0o7777)


def mknod(k: FsKernel, cpu: Cpu, _idmap: int, dir_: int, dentry: int, mode: int, dev: int) -> int:
    """Make a file of another kind."""
    return _new(k, cpu, dir_, dentry, mode, dev)


def symlink(k: FsKernel, cpu: Cpu, _idmap: int, dir_: int, dentry: int, symname: int) -> int:
    """Make a symbolic link."""
    return _new(k, cpu, dir_, dentry, S_IFLNK | 0o777, target=k.mem.read_string(symname, 4096))


def link(k: FsKernel, cpu: Cpu, old_dentry: int, _dir: int, dentry: int) -> int:
    """Give an inode one more name."""
    inode = dentry_at(k, old_dentry).inode
    assert inode is not None
    inode.i_nlink += 1
    k.functions.d_instantiate(cpu, dentry, inode.address)
    return 0


def unlink(k: FsKernel, _cpu: Cpu, _dir: int, dentry: int) -> int:
    """Take a name away."""
    k.vfs.drop_links(dentry_at(k, dentry))
    return 0


def rmdir(k: FsKernel, cpu: Cpu, dir_: int, dentry: int) -> int:
    """Take an empty directory away; ENOTEMPTY."""
    return -Errno.ENOTEMPTY if dentry_at(k, dentry).children else unlink(k, cpu, dir_, dentry)


def rename(
    k: FsKernel, cpu: Cpu, _idmap: int, old_dir: int, old_dentry: int, new_dir: int, new_dentry: int, flags: int
) -> int:
    """Let go of what has the new name; the names themselves are moved by d_move()."""
    new = dentry_at(k, new_dentry)
    if new.inode is not None and not flags & RENAME_EXCHANGE:
        return (rmdir if new.inode.is_dir else unlink)(k, cpu, new_dir, new_dentry)
    return 0


def setattr_(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, attr: int) -> int:
    """Change an inode as ``struct iattr`` says."""
    entry, change = dentry_at(k, dentry), Iattr(k.mem, attr)
    inode = entry.inode
    assert inode is not None
    if change.ia_valid & ATTR_SIZE:
        size = change.ia_size
        k.vfs.set_data(inode, inode.data[:size] + bytes(max(0, size - len(inode.data))))
    _copy(inode, change)
    return 0


def _copy(inode: Inode, change: Iattr) -> None:
    valid = change.ia_valid
    if valid & ATTR_UID:
        inode.i_uid = change.ia_uid
    if valid & ATTR_GID:
        inode.i_gid = change.ia_gid
    if valid & ATTR_MODE:
        inode.i_mode = inode.i_mode & S_IFMT | change.ia_mode & 0o7777
    if valid & ATTR_ATIME:
        inode.i_atime_sec, inode.i_atime_nsec = change.ia_atime_sec, change.ia_atime_nsec
    if valid & ATTR_MTIME:
        inode.i_mtime_sec, inode.i_mtime_nsec = change.ia_mtime_sec, change.ia_mtime_nsec


PLAIN: Mapping[str, Callable[..., int]] = {
    "create": create, "mkdir": mkdir, "mknod": mknod, "symlink": symlink, "link": link, "unlink": unlink,
    "rmdir": rmdir, "rename": rename, "setattr": setattr_,
}  # fmt: skip


# where the kernel alone makes names: of one that is not there the file system says so before anything is made
FIXED = {
    **dict.fromkeys(("create", "mkdir", "mknod", "symlink"), Errno.ENOENT),
    **dict.fromkeys(("link", "unlink", "rmdir", "rename"), Errno.EPERM),
}


def inode_op(k: FsKernel, cpu: Cpu, inode: Inode, op: str, *args: int) -> int:
    """Let the file system of an inode do something, through its function if it has one of a name."""
    if inode.sb.fs.is_fixed and op in FIXED:
        return -FIXED[op]
    own = inode.sb.fs.ops.get(op)
    ret: int = getattr(k.functions, own)(cpu, *args) if own is not None else PLAIN[op](k, cpu, *args)
    return ret


@kernel_function
def shmem_create(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, mode: int, _excl: int) -> int:
    """Make a file."""
    ret: int = k.functions.shmem_mknod(cpu, idmap, dir_, dentry, S_IFREG | mode, 0)
    return ret


@kernel_function
def shmem_mkdir(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, mode: int) -> int:
    """Make a directory; 0, or the errno as a pointer."""
    ret: int = k.functions.shmem_mknod(cpu, idmap, dir_, dentry, S_IFDIR | mode, 0)
    if not ret:
        k.functions.inc_nlink(cpu, dir_)
    return ret


@kernel_function
def shmem_mknod(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, mode: int, dev: int) -> int:
    """Make an inode and let the name stand for it; ENOSPC, or what a security module says."""
    functions = k.functions
    sb = inode_at(k, dir_).i_sb
    inode = functions.__shmem_get_inode(cpu, idmap, sb, dir_, mode, dev, VM_NORESERVE)
    if not inode:
        return -Errno.ENOSPC
    functions.simple_acl_create(cpu, dir_, inode)
    return _named(k, cpu, dir_, dentry, inode)


def _named(k: FsKernel, cpu: Cpu, dir_: int, dentry: int, inode: int) -> int:
    functions = k.functions
    name = dentry + place("dentry", "d_name")[0]
    ret: int = functions.security_inode_init_security(cpu, inode, dir_, name, 0, 0)
    if ret and ret != -Errno.EOPNOTSUPP:
        k.vfs.free_inode(inode_at(k, inode))
        return ret
    functions.simple_offset_add(cpu, 0, dentry)
    functions.inode_maybe_inc_iversion(cpu, dir_, 0)
    functions.d_instantiate(cpu, dentry, inode)
    return 0


@kernel_function
def __shmem_get_inode(k: FsKernel, cpu: Cpu, idmap: int, sb: int, dir_: int, mode: int, dev: int, _flags: int) -> int:
    """Return a new inode; 0 when there is none to be had."""
    functions = k.functions
    inode: int = functions.new_inode(cpu, sb)
    if not inode:
        return 0
    functions.inode_init_owner(cpu, idmap, inode, dir_, mode)
    functions.simple_inode_init_ts(cpu, inode)
    functions.simple_xattrs_init(cpu, inode)
    inode_at(k, inode).i_rdev = dev
    kind = mode & S_IFMT
    if kind == S_IFDIR:
        functions.inc_nlink(cpu, inode)
        functions.simple_offset_init(cpu, inode)
    elif kind in (S_IFREG, S_IFLNK):
        functions.mpol_shared_policy_init(cpu, inode, 0)
    return inode


@kernel_function
def shmem_symlink(k: FsKernel, cpu: Cpu, idmap: int, dir_: int, dentry: int, symname: int) -> int:
    """Make a symbolic link; ENAMETOOLONG, ENOSPC."""
    sb = inode_at(k, dir_).i_sb
    inode = k.functions.__shmem_get_inode(cpu, idmap, sb, dir_, S_IFLNK | 0o777, 0, VM_NORESERVE)
    if not inode:
        return -Errno.ENOSPC
    k.vfs.set_data(inode_at(k, inode), k.mem.read_string(symname, 4096))
    return _named(k, cpu, dir_, dentry, inode)


@kernel_function
def shmem_link(k: FsKernel, cpu: Cpu, old_dentry: int, dir_: int, dentry: int) -> int:
    """Give an inode one more name."""
    functions, inode = k.functions, dentry_at(k, old_dentry).d_inode
    functions.simple_offset_add(cpu, 0, dentry)
    functions.inode_maybe_inc_iversion(cpu, dir_, 0)
    functions.inc_nlink(cpu, inode)
    functions.ihold(cpu, inode)
    ret = link(k, cpu, old_dentry, dir_, dentry)
    # the name has taken its own
    inode_at(k, inode).opens -= 1
    return ret


@kernel_function
def shmem_unlink(k: FsKernel, cpu: Cpu, dir_: int, dentry: int) -> int:
    """Take a name away."""
    functions, entry = k.functions, dentry_at(k, dentry)
    functions.simple_offset_remove(cpu, 0, dentry)
    functions.inode_maybe_inc_iversion(cpu, dir_, 0)
    functions.drop_nlink(cpu, entry.d_inode)
    unlink(k, cpu, dir_, dentry)
    # what kept the name in memory
    entry.opens += 1
    functions.dput(cpu, dentry)
    return 0


@kernel_function
def shmem_rmdir(k: FsKernel, cpu: Cpu, dir_: int, dentry: int) -> int:
    """Take an empty directory away; ENOTEMPTY."""
    functions, entry = k.functions, dentry_at(k, dentry)
    functions.simple_empty(cpu, dentry)
    if entry.children:
        return -Errno.ENOTEMPTY
    functions.drop_nlink(cpu, entry.d_inode)
    functions.drop_nlink(cpu, dir_)
    ret: int = functions.shmem_unlink(cpu, dir_, dentry)
    return ret


@kernel_function
def shmem_rename2(
    k: FsKernel, cpu: Cpu, idmap: int, old_dir: int, old_dentry: int, new_dir: int, new_dentry: int, flags: int
) -> int:
    """Let the directories know of a new name; ENOTEMPTY."""
    functions, new, old = k.functions, dentry_at(k, new_dentry), dentry_at(k, old_dentry)
    if flags & RENAME_EXCHANGE:
        ret: int = functions.simple_offset_rename_exchange(cpu, old_dir, old_dentry, new_dir, new_dentry)
        return ret
    functions.simple_empty(cpu, new_dentry)
    if new.children:
        return -Errno.ENOTEMPTY
    functions.simple_offset_add(cpu, 0, old_dentry)
    functions.simple_offset_rename(cpu, old_dir, old_dentry, new_dir, new_dentry)
    is_dir = old.inode is not None and old.inode.is_dir
    if new.inode is not None:
        functions.shmem_unlink(cpu, new_dir, new_dentry)
        if is_dir:
            functions.drop_nlink(cpu, new.d_inode)
            functions.drop_nlink(cpu, old_dir)
    elif is_dir:
        functions.drop_nlink(cpu, old_dir)
        functions.inc_nlink(cpu, new_dir)
    functions.simple_rename_timestamp(cpu, old_dir, old_dentry, new_dir, new_dentry)
    functions.inode_maybe_inc_iversion(cpu, old_dir, 0)
    functions.inode_maybe_inc_iversion(cpu, new_dir, 0)
    return 0


@kernel_function
def shmem_undo_range(k: FsKernel, cpu: Cpu, inode: int, lstart: int, _lend: int, _unfalloc: int) -> None:
    """Let the pages of a file behind a place go, and clear what is behind it on its page."""
    functions, size = k.functions, inode_at(k, inode).i_size
    mapping = inode + _I_DATA
    functions.find_lock_entries(cpu, mapping, 0, 0, 0, 0)
    pages = range(-(-lstart // PAGE), -(-size // PAGE))
    for _ in pages:
        functions.truncate_inode_folio(cpu, mapping, 0)
        functions.folio_unlock(cpu, 0)
    if pages:
        functions.find_lock_entries(cpu, mapping, 0, 0, 0, 0)
    functions.shmem_get_partial_folio(cpu, inode, lstart // PAGE)
    if lstart % PAGE and lstart < size:
        functions.folio_mark_dirty(cpu, 0)
        functions.truncate_inode_partial_folio(cpu, 0, lstart, size)
        functions.folio_unlock(cpu, 0)
    functions.shmem_get_partial_folio(cpu, inode, MAX_PAGE)
    functions.find_get_entries(cpu, mapping, 0, 0, 0, 0)
    functions.shmem_recalc_inode(cpu, inode, 0, 0)


@kernel_function
def shmem_evict_inode(k: FsKernel, cpu: Cpu, inode: int) -> None:
    """Let go of what is in a file in memory."""
    functions, node = k.functions, inode_at(k, inode)
    if node.i_size and node.i_mode & S_IFMT == S_IFREG:
        functions.shmem_undo_range(cpu, inode, 0, -1, 0)
        functions.inode_maybe_inc_iversion(cpu, inode, 0)
    functions.simple_xattrs_free(cpu, 0, 0)
    functions.clear_inode(cpu, inode)


@kernel_function
def shmem_destroy_inode(k: FsKernel, cpu: Cpu, inode: int) -> None:
    """Let go of what files and directories have of their own."""
    kind = inode_at(k, inode).i_mode & S_IFMT
    if kind == S_IFREG:
        k.functions.mpol_free_shared_policy(cpu, 0)
    if kind == S_IFDIR:
        k.functions.simple_offset_destroy(cpu, 0)


@kernel_function
def shmem_setattr(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, attr: int) -> int:
    """Change an inode; EPERM when it is not for the task to do so."""
    functions, change = k.functions, Iattr(k.mem, attr)
    inode = dentry_at(k, dentry).d_inode
    ret: int = functions.setattr_prepare(cpu, idmap, dentry, attr)
    if ret:
        return ret
    if change.ia_valid & ATTR_SIZE and change.ia_size <= inode_at(k, inode).i_size:
        # who has mapped pages that go loses them, those too that came meanwhile
        hole = -(-change.ia_size // PAGE) * PAGE
        unmaps = inode_at(k, inode).i_size > hole
        if unmaps:
            functions.unmap_mapping_range(cpu, inode + _I_DATA, hole, 0, 1)
        functions.shmem_undo_range(cpu, inode, change.ia_size, -1, 0)
        functions.inode_maybe_inc_iversion(cpu, inode, 0)
        if unmaps:
            functions.unmap_mapping_range(cpu, inode + _I_DATA, hole, 0, 1)
    if change.ia_valid & (ATTR_UID | ATTR_GID | ATTR_SIZE):
        functions.dquot_initialize(cpu, inode)
    if change.ia_valid & (ATTR_UID | ATTR_GID):
        functions.dquot_transfer(cpu, idmap, inode, attr)
    functions.setattr_copy(cpu, idmap, inode, attr)
    setattr_(k, cpu, idmap, dentry, attr)
    if change.ia_valid & ATTR_MODE:
        functions.posix_acl_chmod(cpu, idmap, dentry, change.ia_mode)
    functions.inode_maybe_inc_iversion(cpu, inode, 0)
    return 0
