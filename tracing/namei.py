"""From a path to a dentry: the walk, permissions, opening (fs/namei.c, v6.18). Names are made and removed in ``names``.

A walk begins without references (RCU) and takes them where Linux does: at its end, and where a name is not known.

Left out: roots of processes, name spaces of mounts, leases, automounts.
"""

import re
from functools import lru_cache
from struct import Struct
from typing import cast

from ebpfsim.btf.view import Field, KernelStruct, place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.memory.user import UserFault
from tracing.fs import FsKernel, borrow, dentry_at, file_at, give_back, is_err, task_of
from tracing.functions import kernel_function
from tracing.permission import MAY_EXEC, MAY_NOT_BLOCK, MAY_READ, MAY_WRITE
from tracing.shmem import inode_op
from tracing.vfs import S_IFDIR, S_IFMT, S_IFREG, Dentry

__all__ = ["AT_FDCWD", "MAY_EXEC", "MAY_READ", "MAY_WRITE", "Walk"]

AT_FDCWD = -100
PATH_MAX, NAME_MAX, MAXSYMLINKS = 4096, 255, 40
O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY, O_NOFOLLOW = 0o100, 0o200, 0o1000, 0o200000, 0o400000
O_ACCMODE, O_NOATIME, O_PATH = 0o3, 0o1000000, 0o10000000
FMODE_OPENED, FMODE_CREATED = 0x8_0000, 0x10_0000
# include/linux/namei.h
LOOKUP_FOLLOW, LOOKUP_DIRECTORY, LOOKUP_EMPTY, LOOKUP_MOUNTPOINT = 0x1, 0x2, 0x8, 0x10
WALK_TRAILING, WALK_MORE, WALK_NOFOLLOW = 1, 2, 4
_DOTS = (".", "..")
_WHERE = Struct("<QQ")  # struct path (the first member of struct nameidata), struct qstr
_FILENAME_BYTES = size_of("filename")
_LAST, _ROOT, _PATH = (place("nameidata", member)[0] for member in ("last", "root", "path"))


class Filename(KernelStruct):
    """``struct filename``: a path that was copied from user memory."""

    struct_name = "filename"
    name = Field()
    uptr = Field()


class Walk(KernelStruct):
    """``struct nameidata``: how far a walk has come.

    ``names`` are still to be looked up, the last one first, with where their text is. A walk that is not ``rcu`` has a
    reference of where it is; ``rooted`` says that it knows its root, ``grabbed`` that it has a reference of that too.
    ``stack`` has the links that it is in, with how many names there are left behind theirs, and references of them.
    """

    __slots__ = ("dentry", "dfd", "grabbed", "links", "must_be_dir", "names", "rcu", "rooted", "stack", "text", "texts")
    struct_name = "nameidata"
    path_dentry = Field("path.dentry")
    path_mnt = Field("path.mnt")
    root_dentry = Field("root.dentry")
    nd_inode = Field("inode")
    name = Field()
    flags = Field()
    last_hash_len = Field("last.hash_len")
    last_name = Field("last.name")

    dentry: Dentry
    dfd: int
    names: list[tuple[str, int]]
    stack: list[tuple[int, Dentry]]
    text: str
    links: int
    rcu: bool
    rooted: bool
    grabbed: bool
    must_be_dir: bool
    # paths of links that were made for this walk
    texts: list[int]


class OpenFlags(KernelStruct):
    """``struct open_flags``."""

    struct_name = "open_flags"
    open_flag = Field()
    mode = Field()
    acc_mode = Field()
    lookup_flags = Field()


@kernel_function
def getname_flags(k: FsKernel, cpu: Cpu, filename: int, flags: int) -> int:
    """Copy a path from user memory; an address of ``struct filename``, EFAULT, ENOENT or ENAMETOOLONG."""
    user = task_of(k, cpu).user
    try:
        text = user.read_string(filename, PATH_MAX) if user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    if not text and not flags & LOOKUP_EMPTY:
        return -Errno.ENOENT
    return -Errno.ENAMETOOLONG if len(text) >= PATH_MAX else getname_kernel(k, cpu, text, filename)


def getname_kernel(k: FsKernel, _cpu: Cpu, text: bytes, uptr: int = 0) -> int:
    """Return a ``struct filename`` with that path, which is behind it."""
    room = Filename(k.mem, k.mem.alloc(_FILENAME_BYTES + len(text) + 1, what="struct filename"))
    room.name = room.address + _FILENAME_BYTES
    k.mem.write(room.address + _FILENAME_BYTES, text + b"\0")
    room.uptr = uptr
    return room.address


@kernel_function
def putname(k: FsKernel, _cpu: Cpu, name: int) -> None:
    """Let a path go."""
    if not is_err(name):
        k.mem.free(name)


@kernel_function
def lookup_fast(k: FsKernel, cpu: Cpu, nd: int) -> int:
    """Find the next name in the directory; the address of its dentry, 0 when nobody has looked for it before."""
    walk = k.walks[nd]
    name, functions = walk.names[-1][0], k.functions
    if walk.rcu:
        functions.__d_lookup_rcu(cpu, walk.dentry.address, nd + _LAST, 0)
    else:
        functions.__d_lookup(cpu, walk.dentry.address, nd + _LAST)
    found = walk.dentry.children.get(name)
    if found is not None and not _revalidate(k, cpu, walk, found):
        found = None
    if found is None:
        if walk.rcu:
            functions.try_to_unlazy(cpu, nd)
        return 0
    if not walk.rcu:
        found.opens += 1
    address: int = found.address
    return address


def _revalidate(k: FsKernel, cpu: Cpu, walk: Walk, found: Dentry) -> bool:
    # d_revalidate(): what stands for something that is gone is forgotten
    inode, functions = found.inode, k.functions
    if inode is None or inode.ops is None:
        return True
    own = inode.ops.get("d_revalidate")
    above = walk.dentry.d_inode
    if own is None or getattr(functions, own)(cpu, above, walk.address + _LAST, found.address, walk.flags):
        return True
    functions.d_invalidate(cpu, found.address)
    return False


@kernel_function
def __d_lookup(k: FsKernel, cpu: Cpu, parent: int, name: int) -> int:
    """Find a name in the table of dentries."""
    found = dentry_at(k, parent).children.get(qstr_text(k, name))
    if found is None:
        return 0
    k.functions.d_same_name(cpu, found.address, parent, name)
    return found.address


@kernel_function
def try_to_unlazy(k: FsKernel, cpu: Cpu, nd: int) -> int:
    """Take references of where the walk is, and of its root."""
    walk, functions = k.walks[nd], k.functions
    functions.legitimize_links(cpu, nd)
    for _, link in walk.stack:
        functions.__legitimize_path(cpu, nd + _PATH, 0, 0)
        link.opens += 1
    functions.__legitimize_path(cpu, nd + _PATH, 0, 0)
    walk.dentry.opens += 1
    walk.rcu = False
    if walk.rooted:
        functions.__legitimize_path(cpu, nd + _ROOT, 0, 0)
        root_of(k, cpu).opens += 1
        walk.grabbed = True
    return 1


@kernel_function
def complete_walk(k: FsKernel, cpu: Cpu, nd: int) -> int:
    """End a walk that has come where it wanted."""
    walk = k.walks[nd]
    if walk.rcu:
        walk.rooted = False
        k.functions.try_to_unlazy(cpu, nd)
    return 0


@kernel_function
def __lookup_slow(k: FsKernel, cpu: Cpu, name: int, dir_: int, flags: int) -> int:
    """Ask the file system for a name: the address of a dentry without an inode, as all that are there are known."""
    dentry: int = k.functions.d_alloc_parallel(cpu, dir_, name, 0)
    ask_for(k, cpu, dentry, flags)
    return dentry


def ask_for(k: FsKernel, cpu: Cpu, dentry: int, flags: int = 0) -> None:
    """Let the file system look for a name; it is there now, and stands for nothing."""
    entry = dentry_at(k, dentry)
    above = entry.parent.inode
    own = (above.ops if above is not None and above.ops is not None else entry.sb.fs.ops).get("lookup")
    if own is not None:
        getattr(k.functions, own)(cpu, entry.parent.d_inode, dentry, flags)
    else:
        entry.hashed = True


@kernel_function
def walk_component(k: FsKernel, cpu: Cpu, nd: int, flags: int) -> int:
    """Go on by one name; 0 or an errno."""
    functions, walk = k.functions, k.walks[nd]
    if not walk.names or walk.names[-1][0] in _DOTS:
        return _dots(k, cpu, walk)
    found = functions.lookup_fast(cpu, nd)
    if not found:
        found = functions.__lookup_slow(cpu, nd + _LAST, walk.dentry.address, walk.flags)
    put_links(k, cpu, walk)
    return cast(int, functions.step_into(cpu, nd, flags, found))


def _dots(k: FsKernel, cpu: Cpu, walk: Walk) -> int:
    # handle_dots(), follow_dotdot()
    put_links(k, cpu, walk)
    if not walk.names:
        return 0
    if walk.names[-1][0] == ".":
        walk.names.pop()
        return 0
    if not walk.rooted:
        k.functions.set_root(cpu, walk.address)
    above = walk.dentry.above
    if not walk.rcu:
        above.opens += 1
    return cast(int, k.functions.step_into(cpu, walk.address, WALK_NOFOLLOW, above.address))


def put_links(k: FsKernel, cpu: Cpu, walk: Walk) -> None:
    """Leave the links whose last name the next one is (put_link)."""
    while walk.stack and len(walk.names) - 1 <= walk.stack[-1][0]:
        _, link = walk.stack.pop()
        if not walk.rcu:
            k.functions.dput(cpu, link.address)
            k.functions.mntput(cpu, link.sb.mount.vfsmount if link.sb.mount is not None else 0)


@kernel_function
def step_into(k: FsKernel, cpu: Cpu, nd: int, flags: int, dentry: int) -> int:
    """Enter what was found, and what is mounted on it; a symbolic link puts its names in front of the rest.

    ENOENT for a name that stands for nothing, ELOOP after 40 links. A walk that is not RCU gives the reference of
    ``dentry`` away.
    """
    walk, functions = k.walks[nd], k.functions
    found = dentry_at(k, dentry)
    if found.inode is None:
        functions.dput(cpu, dentry)
        return -Errno.ENOENT
    if not flags & WALK_NOFOLLOW:
        walk.names.pop()
        found = _mounted(k, cpu, walk, found)
    inode = found.inode
    assert inode is not None
    if inode.is_link and not flags & WALK_NOFOLLOW and (walk.names or walk.flags & LOOKUP_FOLLOW):
        return _follow(k, cpu, walk, found)
    if not walk.rcu:
        functions.dput(cpu, walk.dentry.address)
        if found.sb is not walk.dentry.sb:
            functions.mntput(cpu, walk.path_mnt)
    if flags & WALK_NOFOLLOW and walk.names:
        walk.names.pop()
    _enter(walk, found)
    return 0


def _mounted(k: FsKernel, cpu: Cpu, walk: Walk, found: Dentry) -> Dentry:
    # handle_mounts()
    if found.mounted is None:
        return found
    functions = k.functions
    if walk.rcu:
        while found.mounted is not None:
            functions.__lookup_mnt(cpu, walk.path_mnt, found.address)
            found = found.mounted.root
        return found
    below, found = found, found.top
    functions.__traverse_mounts(cpu, walk.address, 0, 0, 0, walk.flags)
    found.opens += 1
    functions.dput(cpu, below.address)
    return found


def _follow(k: FsKernel, cpu: Cpu, walk: Walk, link: Dentry) -> int:
    # pick_link()
    walk.links += 1
    if walk.links > MAXSYMLINKS:
        return -Errno.ELOOP
    functions = k.functions
    if len(walk.names) == 0 or walk.must_be_dir:
        walk.must_be_dir = walk.must_be_dir or bool(link.inode and link.inode.data.endswith((b"/", b"/.")))
    walk.stack.append((len(walk.names), link))
    _touch_link(k, cpu, walk, link)
    ret: int = functions.security_inode_follow_link(cpu, link.address, link.d_inode, int(walk.rcu))
    if ret:
        return ret
    assert link.inode is not None
    if link.inode.ops is not None and "get_link" in link.inode.ops:
        if walk.rcu:
            functions.try_to_unlazy(cpu, walk.address)
        base = getattr(functions, link.inode.ops["get_link"])(cpu, link.address, link.d_inode, 0)
        if not base or is_err(base):
            # it has gone where the link leads, or must not
            return is_err(base)
        walk.texts.append(base)
        text = k.mem.read_string(base, PATH_MAX).decode(errors="surrogateescape")
    else:
        base = k.vfs.link_text(link.inode)
        text = link.inode.data.decode(errors="surrogateescape")
    if text.startswith("/"):
        functions.nd_jump_root(cpu, walk.address)
    walk.names += [(name, base + at) for name, at in reversed(_names(text))]
    return 0


def _touch_link(k: FsKernel, cpu: Cpu, walk: Walk, link: Dentry) -> None:
    # the time of access is only changed with references
    functions, path = k.functions, k.mem.alloc(16)
    k.mem.store(path, 8, link.sb.mount.vfsmount if link.sb.mount is not None else 0)
    k.mem.store(path + 8, 8, link.address)
    if not walk.rcu:
        functions.mntget(cpu, k.mem.load(path, 8))
        functions.touch_atime(cpu, path)
    elif functions.atime_needs_update(cpu, path, link.d_inode):
        functions.try_to_unlazy(cpu, walk.address)
        functions.touch_atime(cpu, path)
    k.mem.free(path)


@kernel_function
def __lookup_mnt(k: FsKernel, _cpu: Cpu, _mnt: int, dentry: int) -> int:
    """Return the ``struct mount`` that is on a directory, 0 without one."""
    mount = dentry_at(k, dentry).mounted
    return mount.address if mount is not None else 0


@kernel_function
def nd_jump_root(k: FsKernel, cpu: Cpu, nd: int) -> int:
    """Go to the root."""
    walk = k.walks[nd]
    if not walk.rooted:
        k.functions.set_root(cpu, nd)
    before, functions = (walk.path_dentry, walk.path_mnt), k.functions
    _enter(walk, root_of(k, cpu))
    if not walk.rcu and before[0]:
        functions.dput(cpu, before[0])
        functions.mntput(cpu, before[1])
        walk.dentry.opens += 1
        functions.mntget(cpu, walk.path_mnt)
    return 0


@kernel_function
def nd_jump_link(k: FsKernel, cpu: Cpu, path: int) -> int:
    """Let the walk that a task is at go on at a ``struct path``, whose references it takes."""
    walk = next(each for each in reversed(k.walks.values()) if isinstance(each, Walk))
    k.functions.path_put(cpu, walk.address + _PATH)
    _enter(walk, dentry_at(k, k.mem.load(path + 8, 8)))
    k.mem.store(walk.address + _PATH, 8, k.mem.load(path, 8))
    return 0


@kernel_function
def set_root(k: FsKernel, _cpu: Cpu, nd: int) -> int:
    """Find out what the root of the task is."""
    walk = k.walks[nd]
    walk.rooted = True
    walk.root_dentry = root_of(k, _cpu).address
    return 0


@kernel_function
def link_path_walk(k: FsKernel, cpu: Cpu, _name: int, nd: int) -> int:
    """Walk through all names but the last one; every directory on the way must let the task search it."""
    walk, functions = k.walks[nd], k.functions
    names = walk.names
    while names:
        inode = walk.dentry.inode
        if not inode.is_dir:
            if walk.rcu:
                functions.try_to_unlazy(cpu, nd)
            return -Errno.ENOTDIR
        ret: int = functions.inode_permission(cpu, 0, inode.address, MAY_EXEC | MAY_NOT_BLOCK * walk.rcu)
        if ret:
            if walk.rcu:
                # to be sure that it is so
                functions.try_to_unlazy(cpu, nd)
            return ret
        name, at = names[-1]
        length = len(name) if name.isascii() else len(name.encode(errors="surrogateescape"))
        walk.mem.write(nd + _LAST, _WHERE.pack(length << 32, at))
        if length > NAME_MAX:
            return -Errno.ENAMETOOLONG
        if len(names) == 1:
            return 0
        ret = functions.walk_component(cpu, nd, WALK_MORE)
        if ret:
            return ret
    return 0


@kernel_function
def path_init(k: FsKernel, cpu: Cpu, nd: int, flags: int) -> int:
    """Begin a walk at the root, the working directory or an open directory; the path's text or a negative errno."""
    walk = k.walks[nd]
    walk.flags = flags
    # who asks for nothing but where it begins has references at once
    walk.rcu = bool(walk.text)
    if walk.text.startswith("/"):
        k.functions.nd_jump_root(cpu, nd)
    elif walk.dfd == AT_FDCWD:
        _enter(walk, task_of(k, cpu).cwd or root_of(k, cpu))
    else:
        k.functions.fdget_raw(cpu, u32(walk.dfd))
        file = task_of(k, cpu).files.lookup(walk.dfd)
        dentry = getattr(file, "dentry", None)
        if file is None:
            return -Errno.EBADF
        if walk.names and (dentry is None or not dentry.inode.is_dir):
            return -Errno.ENOTDIR
        _enter(walk, dentry if dentry is not None else k.vfs.root)
    if not walk.rcu:
        k.functions.mntget(cpu, walk.path_mnt)
        walk.dentry.opens += 1
    return cast(int, walk.name)


def begin_walk(k: FsKernel, dfd: int, name: int) -> Walk:
    """Return a walk along a ``struct filename``, which has not begun (set_nameidata)."""
    text = _text(k, name)
    walk = borrow(k, Walk)
    walk.text, walk.dfd = text, dfd
    walk.name = name + _FILENAME_BYTES
    base = name + _FILENAME_BYTES
    walk.names = [(part, base + at) for part, at in reversed(_names(text))]
    walk.links, walk.stack, walk.rcu, walk.rooted, walk.grabbed = 0, [], True, False, False
    walk.must_be_dir, walk.texts = text.endswith(("/", "/.")), []
    k.walks[walk.address] = walk
    return walk


def end_walk(k: FsKernel, walk: Walk) -> None:
    """Forget a walk (restore_nameidata)."""
    del k.walks[walk.address]
    for text in walk.texts:
        k.mem.free(text)
    give_back(k, walk)


@kernel_function
def terminate_walk(k: FsKernel, cpu: Cpu, nd: int) -> None:
    """Let go of what a walk has references of."""
    walk, functions = k.walks[nd], k.functions
    if not walk.rcu:
        functions.dput(cpu, walk.path_dentry)
        functions.mntput(cpu, walk.path_mnt)
        for _, link in walk.stack:
            functions.dput(cpu, link.address)
            functions.mntput(cpu, link.sb.mount.vfsmount if link.sb.mount is not None else 0)
        if walk.grabbed:
            functions.dput(cpu, walk.root_dentry)
            functions.mntput(cpu, k.vfs.mount_of(dentry_at(k, walk.root_dentry)).vfsmount)


@kernel_function
def path_lookupat(k: FsKernel, cpu: Cpu, nd: int, flags: int, path: int) -> int:
    """Walk to the end; store ``struct path``, which has the reference that the walk had."""
    walk, functions = k.walks[nd], k.functions
    start = functions.path_init(cpu, nd, flags | LOOKUP_FOLLOW * walk.must_be_dir)
    ret = is_err(start)
    while not ret:
        ret = functions.link_path_walk(cpu, start, nd)
        ret = ret or functions.walk_component(cpu, nd, WALK_TRAILING)
        if not walk.names:
            break
    if not ret and flags & LOOKUP_MOUNTPOINT:
        if not walk.rcu:
            walk.dentry.opens += 1
        ret = functions.step_into(cpu, nd, WALK_NOFOLLOW, walk.dentry.address)
    if not ret:
        ret = functions.complete_walk(cpu, nd)
    if not ret and (flags & LOOKUP_DIRECTORY or walk.must_be_dir) and not _is_dir(walk.dentry):
        ret = -Errno.ENOTDIR
    if not ret:
        move_path(k, walk, path)
    functions.terminate_walk(cpu, nd)
    return ret


def move_path(k: FsKernel, walk: Walk, path: int) -> None:
    """Give a ``struct path`` the reference of where a walk is."""
    k.mem.store(path, 8, walk.path_mnt)
    k.mem.store(path + 8, 8, walk.dentry.address)
    walk.path_mnt = walk.path_dentry = 0


@kernel_function
def filename_lookup(k: FsKernel, cpu: Cpu, dfd: int, name: int, flags: int, path: int, _root: int) -> int:
    """Find what a path names."""
    if is_err(name):
        return is_err(name)
    walk = begin_walk(k, dfd, name)
    ret: int = k.functions.path_lookupat(cpu, walk.address, flags, path)
    end_walk(k, walk)
    return ret


@kernel_function
def user_path_at(k: FsKernel, cpu: Cpu, dfd: int, name: int, flags: int, path: int) -> int:
    """Find what a path in user memory names."""
    functions = k.functions
    filename = functions.getname_flags(cpu, name, flags)
    ret: int = functions.filename_lookup(cpu, dfd, filename, flags, path, 0)
    functions.putname(cpu, filename)
    return ret


@kernel_function
def may_open(k: FsKernel, cpu: Cpu, idmap: int, path: int, acc_mode: int, flag: int) -> int:
    """Ask whether a file may be opened so: EISDIR for writing a directory, ELOOP for a link, then permissions."""
    dentry = dentry_at(k, k.mem.load(path + 8, 8))
    inode = dentry.inode
    assert inode is not None
    kind = inode.i_mode & S_IFMT
    if inode.is_link:
        return -Errno.ELOOP
    if kind == S_IFDIR and acc_mode & (MAY_WRITE | MAY_EXEC):
        return -Errno.EISDIR if acc_mode & MAY_WRITE else -Errno.EACCES
    if kind not in (S_IFDIR, S_IFREG):
        if acc_mode & MAY_EXEC:
            return -Errno.EACCES
    elif acc_mode & MAY_EXEC:
        k.functions.path_noexec(cpu, path)
    ret: int = k.functions.inode_permission(cpu, idmap, inode.address, acc_mode)
    if not ret and flag & O_NOATIME and not k.functions.inode_owner_or_capable(cpu, idmap, inode.address):
        ret = -Errno.EPERM
    return ret


@kernel_function
def do_filp_open(k: FsKernel, cpu: Cpu, dfd: int, pathname: int, op: int) -> int:
    """Open what a path names; the address of ``struct file`` or an errno."""
    walk = begin_walk(k, dfd, pathname)
    file: int = k.functions.path_openat(cpu, walk.address, op, 0)
    end_walk(k, walk)
    return file


@kernel_function
def path_openat(k: FsKernel, cpu: Cpu, nd: int, op: int, _flags: int) -> int:
    """Allocate a file, walk, make what is not there if asked, open it."""
    walk, functions, flags = k.walks[nd], k.functions, OpenFlags(k.mem, op)
    open_flag = flags.open_flag
    file: int = functions.alloc_empty_file(cpu, open_flag, task_of(k, cpu).cred.address)
    if is_err(file):
        return file
    if open_flag & O_PATH:
        # do_o_path()
        path = k.mem.alloc(16)
        ret = functions.path_lookupat(cpu, nd, flags.lookup_flags, path)
        if not ret:
            ret = functions.vfs_open(cpu, path, file)
            functions.dput(cpu, k.mem.load(path + 8, 8))
            functions.mntput(cpu, k.mem.load(path, 8))
        k.mem.free(path)
        return file if not ret else _not_opened(k, cpu, file, ret)
    start = functions.path_init(cpu, nd, flags.lookup_flags)
    ret, created = is_err(start), False
    while not ret:
        ret = functions.link_path_walk(cpu, start, nd)
        if ret or not walk.names:
            break
        ret, created = _open_last(k, cpu, walk, open_flag, flags.mode)
        if not walk.names:
            break
    if not ret:
        ret = _do_open(k, cpu, walk, file, flags, created=created)
    functions.terminate_walk(cpu, nd)
    return file if not ret else _not_opened(k, cpu, file, ret)


def _not_opened(k: FsKernel, cpu: Cpu, file: int, ret: int) -> int:
    k.functions.fput(cpu, file)
    return ret


def _open_last(k: FsKernel, cpu: Cpu, walk: Walk, open_flag: int, mode: int) -> tuple[int, bool]:
    # open_last_lookups()
    functions, nd = k.functions, walk.address
    create = open_flag & O_CREAT
    if walk.names[-1][0] in _DOTS:
        return _dots(k, cpu, walk), False
    if walk.must_be_dir and create:
        return -Errno.EISDIR, False
    walk.flags |= LOOKUP_FOLLOW * walk.must_be_dir
    found = 0
    if not (create and open_flag & O_EXCL):
        found = functions.lookup_fast(cpu, nd)
    if found:
        put_links(k, cpu, walk)
        return functions.step_into(cpu, nd, WALK_TRAILING, found), False
    if walk.rcu:
        functions.try_to_unlazy(cpu, nd)
    writes = open_flag & (O_CREAT | O_TRUNC | O_ACCMODE)
    if writes:
        functions.mnt_want_write(cpu, walk.path_mnt)
    parent = walk.dentry
    ret, found = _lookup_open(k, cpu, walk, open_flag, mode)
    if writes:
        functions.mnt_drop_write(cpu, walk.path_mnt)
    if ret < 0:
        return ret, False
    if ret:
        # made just now
        functions.dput(cpu, parent.address)
        walk.names.pop()
        _enter(walk, dentry_at(k, found))
        return 0, True
    put_links(k, cpu, walk)
    return functions.step_into(cpu, nd, WALK_TRAILING, found), False


def _lookup_open(k: FsKernel, cpu: Cpu, walk: Walk, open_flag: int, mode: int) -> tuple[int, int]:
    # lookup_open(), may_o_create(): an errno, or whether the file was made just now, and its dentry
    functions, parent, last = k.functions, walk.dentry, walk.address + _LAST
    directory = parent.inode
    assert directory is not None
    functions.d_lookup(cpu, parent.address, last)
    known = parent.children.get(walk.names[-1][0])
    if known is not None:
        known.opens += 1
        return 0, known.address
    dentry = functions.d_alloc_parallel(cpu, parent.address, last, 0)
    ret = 0
    if open_flag & O_CREAT:
        mode = S_IFREG | mode & 0o7777 & ~task_of(k, cpu).umask
        functions.mode_strip_sgid(cpu, 0, directory.address, mode)
        ret = functions.security_path_mknod(cpu, walk.address + _PATH, dentry, mode, 0)
        if not ret:
            functions.from_vfsuid(cpu, 0, 0, 0)
            functions.from_vfsgid(cpu, 0, 0, 0)
            ret = functions.inode_permission(cpu, 0, directory.address, MAY_WRITE | MAY_EXEC)
        ret = ret or functions.security_inode_create(cpu, directory.address, dentry, mode)
    ask_for(k, cpu, dentry)
    if open_flag & O_CREAT and not ret:
        ret = inode_op(k, cpu, directory, "create", 0, directory.address, dentry, mode, int(bool(open_flag & O_EXCL)))
        if not ret:
            return 1, dentry
    if ret:
        functions.dput(cpu, dentry)
        return ret, 0
    return 0, dentry


def _do_open(k: FsKernel, cpu: Cpu, walk: Walk, file: int, flags: OpenFlags, *, created: bool) -> int:
    # do_open()
    functions, open_flag, path = k.functions, flags.open_flag, walk.address + _PATH
    opened = file_at(k, file)
    if created:
        opened.struct.f_mode |= FMODE_CREATED
    else:
        functions.complete_walk(cpu, walk.address)
    inode = walk.dentry.inode
    assert inode is not None
    if open_flag & O_CREAT and not created:
        if open_flag & O_EXCL:
            return -Errno.EEXIST
        if inode.is_dir:
            return -Errno.EISDIR
    if (open_flag & O_DIRECTORY or walk.must_be_dir) and not inode.is_dir:
        return -Errno.ENOTDIR
    truncates = not created and bool(open_flag & O_TRUNC) and inode.i_mode & S_IFMT == S_IFREG
    if truncates:
        functions.mnt_want_write(cpu, walk.path_mnt)
    # what was just made needs no permission
    ret: int = functions.may_open(cpu, 0, path, 0 if created else flags.acc_mode, open_flag)
    ret = ret or functions.vfs_open(cpu, path, file)
    ret = ret or functions.security_file_post_open(cpu, file, flags.acc_mode)
    if truncates:
        if not ret:
            ret = functions.security_file_truncate(cpu, file)
            ret = ret or functions.do_truncate(cpu, 0, walk.dentry.address, 0, 0, file)
        functions.mnt_drop_write(cpu, walk.path_mnt)
    return ret


def qstr_text(k: FsKernel, qstr: int) -> str:
    """Return the name in a ``struct qstr``."""
    text = k.mem.read(k.mem.load(qstr + 8, 8), k.mem.load(qstr + 4, 4))
    return text.decode(errors="surrogateescape")


def _text(k: FsKernel, name: int) -> str:
    return k.mem.read_string(name + _FILENAME_BYTES, PATH_MAX).decode(errors="surrogateescape")


@lru_cache(maxsize=4096)
def _names(path: str) -> tuple[tuple[str, int], ...]:
    # the names of a path, and where in its bytes they begin
    found = []
    for match in re.finditer(r"[^/]+", path):
        at = match.start() if path.isascii() else len(path[: match.start()].encode(errors="surrogateescape"))
        found.append((match[0], at))
    return tuple(found)


def root_of(k: FsKernel, cpu: Cpu) -> Dentry:
    """Return where absolute paths of a task begin."""
    return task_of(k, cpu).root or k.vfs.root


def _is_dir(dentry: Dentry) -> bool:
    return dentry.inode is not None and dentry.inode.is_dir


def _enter(walk: Walk, dentry: Dentry) -> None:
    mount = dentry.sb.mount
    walk.dentry, inode = dentry, dentry.inode
    walk.mem.write(walk.address, _WHERE.pack(mount.vfsmount if mount is not None else 0, dentry.address))
    walk.nd_inode = inode.address if inode is not None else 0
