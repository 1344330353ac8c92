"""Dentries and inodes that come and go (fs/dcache.c, fs/inode.c, v6.18): references, and what happens with the last."""

from typing import cast

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from ebpfsim.helpers.time import TAI_AT_BOOT_NS, TICK_NS
from tracing.fs import FsKernel, dentry_at, file_at, fs_call, inode_at
from tracing.functions import kernel_function
from tracing.namei import qstr_text

__all__ = ["now_at"]

GFP_KERNEL = 0xCC0
FMODE_WRITER = 0x1_0000
_RWSEM, _RWSEM2 = place("inode", "i_rwsem")[0], place("inode", "i_data.i_mmap_rwsem")[0]


@kernel_function
def dput(k: FsKernel, cpu: Cpu, dentry: int) -> None:
    """Let go of a dentry; one that no lookup finds any more, or that stands for nothing, goes."""
    if not dentry:
        return
    entry = dentry_at(k, dentry)
    entry.opens -= 1
    if entry.opens or (entry.hashed and entry.inode is not None):
        return
    functions = k.functions
    if entry.hashed:
        functions.always_delete_dentry(cpu, dentry)
    functions.lock_for_kill(cpu, dentry)
    functions.__dentry_kill(cpu, dentry)


@kernel_function
def __dentry_kill(k: FsKernel, cpu: Cpu, dentry: int) -> int:
    """Let a dentry go."""
    entry, functions = dentry_at(k, dentry), k.functions
    if entry.hashed:
        functions.___d_drop(cpu, dentry)
        k.vfs.unhash(entry)
    if entry.inode is not None:
        functions.dentry_unlink_inode(cpu, dentry)
    functions.dentry_free(cpu, dentry)
    return 0


@kernel_function
def dentry_free(k: FsKernel, _cpu: Cpu, dentry: int) -> None:
    """Give the memory back."""
    k.vfs.free_dentry(dentry_at(k, dentry))


@kernel_function
def dentry_unlink_inode(k: FsKernel, cpu: Cpu, dentry: int) -> None:
    """Let a name stand for nothing."""
    entry = dentry_at(k, dentry)
    inode, entry.inode, entry.d_inode = entry.inode, None, 0
    assert inode is not None
    if entry.parent.children.get(entry.name) is entry:
        del entry.parent.children[entry.name]
    if not inode.i_nlink:
        k.functions.__fsnotify_inode_delete(cpu, inode.address)
    k.functions.iput(cpu, inode.address)


@kernel_function
def d_invalidate(k: FsKernel, cpu: Cpu, dentry: int) -> None:
    """Let no lookup find a name any more, nor what is under it; what somebody has stays until it is let go."""
    entry = dentry_at(k, dentry)
    for child in list(entry.children.values()):
        k.functions.d_invalidate(cpu, child.address)
    for child in entry.children.values():
        # somebody has it, and what is above it
        child.hashed = False
        entry.opens += 1
    entry.opens += 1
    k.vfs.unhash(entry)
    k.vfs.unhold(entry)


@kernel_function
def d_delete(k: FsKernel, cpu: Cpu, dentry: int) -> None:
    """Take a removed name away: it stands for nothing, or is dropped when others have it."""
    entry = dentry_at(k, dentry)
    if entry.opens == 1:
        k.functions.dentry_unlink_inode(cpu, dentry)
    else:
        k.functions.___d_drop(cpu, dentry)
        k.vfs.unhash(entry)


@kernel_function
def __d_alloc(k: FsKernel, _cpu: Cpu, sb: int, name: int) -> int:
    """Return a new dentry that stands for nothing, with one reference, in no directory."""
    super_block = k.vfs.supers[sb]
    made = k.vfs.d_alloc(None, qstr_text(k, name), super_block)
    made.opens = 1
    return made.address


@kernel_function
def d_alloc(k: FsKernel, cpu: Cpu, parent: int, name: int) -> int:
    """Return a new dentry of a directory."""
    above = dentry_at(k, parent)
    address: int = k.functions.__d_alloc(cpu, above.d_sb, name)
    made = dentry_at(k, address)
    made.parent, made.d_parent = above, parent
    return address


@kernel_function
def d_alloc_pseudo(k: FsKernel, cpu: Cpu, sb: int, name: int) -> int:
    """Return a new dentry that is in no directory."""
    return cast(int, k.functions.__d_alloc(cpu, sb, name))


@kernel_function
def d_alloc_parallel(k: FsKernel, cpu: Cpu, parent: int, name: int, _wq: int) -> int:
    """Return a new dentry that the file system is going to be asked for."""
    above = dentry_at(k, parent)
    address: int = k.functions.__d_alloc(cpu, above.d_sb, name)
    made = dentry_at(k, address)
    made.parent, made.d_parent, made.in_lookup = above, parent, True
    k.functions.__d_lookup_rcu(cpu, parent, name, 0)
    return address


@kernel_function
def d_add(k: FsKernel, cpu: Cpu, entry: int, _inode: int) -> None:
    """Let lookups find a dentry, which stands for nothing."""
    entry_, functions = dentry_at(k, entry), k.functions
    entry_.hashed = True
    if entry_.in_lookup:
        entry_.in_lookup = False
        functions.__d_lookup_unhash(cpu, entry)
        functions.__d_rehash(cpu, entry)
        functions.__wake_up(cpu, 0, 3, 0, 0)
    else:
        functions.__d_rehash(cpu, entry)


@kernel_function
def d_instantiate(k: FsKernel, cpu: Cpu, entry: int, inode: int) -> None:
    """Let a dentry stand for an inode."""
    k.functions.security_d_instantiate(cpu, entry, inode)
    k.functions.__d_instantiate(cpu, entry, inode)


@kernel_function
def __d_instantiate(k: FsKernel, cpu: Cpu, dentry: int, inode: int) -> None:
    """Put the inode into the dentry, where lookups find it."""
    k.functions.d_flags_for_inode(cpu, inode)
    k.vfs.instantiate(dentry_at(k, dentry), inode_at(k, inode))


@kernel_function
def new_inode(k: FsKernel, cpu: Cpu, sb: int) -> int:
    """Return a new inode of a file system; 0 when a security module refuses."""
    inode: int = k.functions.alloc_inode(cpu, sb)
    if inode:
        k.functions.inode_sb_list_add(cpu, inode)
    return inode


@kernel_function
def alloc_inode(k: FsKernel, cpu: Cpu, sb: int) -> int:
    """Return a new inode of a file system; 0 when a security module refuses."""
    super_block = k.vfs.supers[sb]
    if "alloc_inode" in super_block.fs.ops:
        getattr(k.functions, super_block.fs.ops["alloc_inode"])(cpu, sb)
    made = super_block.make_inode() if super_block.make_inode is not None else k.vfs.new_inode(super_block, 0, 0, 0)
    if k.functions.inode_init_always_gfp(cpu, sb, made.address, GFP_KERNEL):
        k.vfs.free_inode(made)
        return 0
    return made.address


@kernel_function
def inode_init_always_gfp(k: FsKernel, cpu: Cpu, _sb: int, inode: int, gfp: int) -> int:
    """Fill in what every inode has; what the security modules say."""
    functions = k.functions
    functions.__init_rwsem(cpu, inode + _RWSEM, 0, 0)
    functions.__init_rwsem(cpu, inode + _RWSEM2, 0, 0)
    ret: int = functions.security_inode_alloc(cpu, inode, gfp)
    return ret


@kernel_function
def inode_init_owner(k: FsKernel, cpu: Cpu, _idmap: int, inode: int, _dir: int, mode: int) -> None:
    """Let a new inode belong to the task."""
    functions, node, cred = k.functions, inode_at(k, inode), k.sched.current(cpu).cred
    functions.from_vfsuid(cpu, 0, 0, cred.fsuid)
    functions.from_vfsgid(cpu, 0, 0, cred.fsgid)
    node.i_uid, node.i_gid, node.i_mode = cred.fsuid, cred.fsgid, mode


@kernel_function
def simple_inode_init_ts(k: FsKernel, cpu: Cpu, inode: int) -> int:
    """Let a new inode be of now."""
    node = inode_at(k, inode)
    node.i_atime_sec, node.i_atime_nsec = node.i_mtime_sec, node.i_mtime_nsec = now_at(cpu)
    node.i_ctime_sec, node.i_ctime_nsec = now_at(cpu)
    return 0


@kernel_function
def ihold(k: FsKernel, _cpu: Cpu, inode: int) -> None:
    """Take a reference of an inode."""
    inode_at(k, inode).opens += 1


@kernel_function
def iput(k: FsKernel, cpu: Cpu, inode: int) -> None:
    """Let go of an inode."""
    node = inode_at(k, inode)
    node.opens -= 1
    if not node.opens:
        k.functions.evict(cpu, inode)


@kernel_function
def evict(k: FsKernel, cpu: Cpu, inode: int) -> None:
    """Let an inode go that nobody has."""
    functions, node = k.functions, inode_at(k, inode)
    functions.inode_wait_for_writeback(cpu, inode)
    if "evict_inode" in node.sb.fs.ops:
        fs_call(k, cpu, node, "evict_inode", inode)
    else:
        functions.truncate_inode_pages_final(cpu, inode + place("inode", "i_data")[0])
        functions.clear_inode(cpu, inode)
    functions.wake_up_var(cpu, inode + place("inode", "i_state")[0])
    functions.destroy_inode(cpu, inode)
    k.vfs.free_inode(node)


@kernel_function
def destroy_inode(k: FsKernel, cpu: Cpu, inode: int) -> None:
    """Let go of what hangs on an inode."""
    functions, node = k.functions, inode_at(k, inode)
    functions.__destroy_inode(cpu, inode)
    if "destroy_inode" in node.sb.fs.ops:
        fs_call(k, cpu, node, "destroy_inode", inode)
    elif "free_inode" not in node.sb.fs.ops:
        # others free theirs behind a grace period
        functions.free_inode_nonrcu(cpu, inode)


@kernel_function
def inode_update_timestamps(k: FsKernel, cpu: Cpu, inode: int, flags: int) -> int:
    """Set the times that flags name: 1 for access, 2 for contents, 4 for the inode."""
    node, now = inode_at(k, inode), now_at(cpu)
    if flags & 1:
        node.i_atime_sec, node.i_atime_nsec = now
    if flags & 2:
        node.i_mtime_sec, node.i_mtime_nsec = now
        if "setattr" in node.sb.fs.ops:
            k.functions.inode_maybe_inc_iversion(cpu, inode, 0)
    if flags & 4:
        node.i_ctime_sec, node.i_ctime_nsec = now
    return flags


@kernel_function
def atime_needs_update(k: FsKernel, cpu: Cpu, _path: int, inode: int) -> int:
    """Whether a reading changes the time of access (relatime): when it is not after the last change."""
    node = inode_at(k, inode)
    seen = node.i_atime_sec, node.i_atime_nsec
    changed = max((node.i_mtime_sec, node.i_mtime_nsec), (node.i_ctime_sec, node.i_ctime_nsec))
    return int(seen <= changed and seen != now_at(cpu))


@kernel_function
def touch_atime(k: FsKernel, cpu: Cpu, path: int) -> None:
    """Note that a file was read."""
    functions, mem = k.functions, k.mem
    mnt, inode = mem.load(path, 8), dentry_at(k, mem.load(path + 8, 8)).d_inode
    if functions.atime_needs_update(cpu, path, inode):
        functions.mnt_get_write_access(cpu, mnt)
        functions.generic_update_time(cpu, inode, 1)
        functions.mnt_put_write_access(cpu, mnt)


@kernel_function
def __mark_inode_dirty(k: FsKernel, cpu: Cpu, inode: int, _flags: int) -> None:
    """Note that an inode is to be written back; that needs who writes it back the first time."""
    node = inode_at(k, inode)
    if not node.dirty and "setattr" in node.sb.fs.ops:
        node.dirty = True
        k.functions.__inode_attach_wb(cpu, inode, 0)
        k.functions.locked_inode_to_wb_and_lock_list(cpu, inode)


@kernel_function
def mnt_get_write_access_file(k: FsKernel, cpu: Cpu, file: int) -> int:
    """Begin to write through a file, which has asked for that already when it is open for writing."""
    struct = file_at(k, file).struct
    if not struct.f_mode & FMODE_WRITER:
        k.functions.mnt_get_write_access(cpu, struct.f_path_mnt)
    return 0


@kernel_function
def mnt_want_write_file(k: FsKernel, cpu: Cpu, file: int) -> int:
    """Begin to change what a file is, which asks for nothing when the file is open for writing."""
    struct = file_at(k, file).struct
    if not struct.f_mode & FMODE_WRITER:
        k.functions.mnt_get_write_access(cpu, struct.f_path_mnt)
    return 0


@kernel_function
def file_update_time(k: FsKernel, cpu: Cpu, file: int) -> int:
    """Note that a file was written."""
    functions = k.functions
    inode = k.mem.load(file + place("file", "f_inode")[0], 8)
    functions.mnt_get_write_access_file(cpu, file)
    functions.generic_update_time(cpu, inode, 6)
    functions.mnt_put_write_access_file(cpu, file)
    return 0


@kernel_function
def mntput(k: FsKernel, cpu: Cpu, mnt: int) -> None:
    """Let go of a mount."""
    if mnt:
        k.functions.mntput_no_expire(cpu, mnt - place("mount", "mnt")[0])


@kernel_function
def path_get(k: FsKernel, cpu: Cpu, path: int) -> None:
    """Take a reference of a path."""
    k.functions.mntget(cpu, k.mem.load(path, 8))
    dentry_at(k, k.mem.load(path + 8, 8)).opens += 1


@kernel_function
def path_put(k: FsKernel, cpu: Cpu, path: int) -> None:
    """Let go of a path."""
    k.functions.dput(cpu, k.mem.load(path + 8, 8))
    k.functions.mntput(cpu, k.mem.load(path, 8))


def now_at(cpu: Cpu) -> tuple[int, int]:
    """Return the wall clock of the last tick as seconds and nanoseconds, which is what files have (current_time)."""
    return divmod(TAI_AT_BOOT_NS + cpu.now_ns // TICK_NS * TICK_NS, 10**9)
