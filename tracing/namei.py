"""From a path to a dentry: the walk, permissions, and what makes and removes names (fs/namei.c, v6.18).

Left out: mounts on the way, name spaces of mounts, leases, automounts, and the walk under RCU: every lookup finds its
dentry in the tree of ``tracing.vfs``.
"""

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.memory.user import UserFault
from tracing.fs import FsKernel, dentry_at, file_at, inode_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.vfs import S_IFDIR, S_IFMT, S_IFREG, Dentry

__all__ = ["AT_FDCWD", "MAY_EXEC", "MAY_READ", "MAY_WRITE", "Walk"]

AT_FDCWD = -100
PATH_MAX, NAME_MAX, MAXSYMLINKS = 4096, 255, 40
MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4
O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY, O_NOFOLLOW = 0o100, 0o200, 0o1000, 0o200000, 0o400000
LOOKUP_FOLLOW, LOOKUP_PARENT = 0x1, 0x10
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1 << 1, 1 << 2


class Filename(KernelStruct):
    """``struct filename``: a path that was copied from user memory."""

    struct_name = "filename"
    name = Field()
    uptr = Field()


class Walk(KernelStruct):
    """``struct nameidata``: how far a walk has come. ``names`` are still to be looked up, the last one first."""

    __slots__ = ("dentry", "links", "names")
    struct_name = "nameidata"
    path_dentry = Field("path.dentry")
    path_mnt = Field("path.mnt")
    nd_inode = Field("inode")
    name = Field()
    flags = Field()

    dentry: Dentry
    names: list[str]
    links: int


class OpenFlags(KernelStruct):
    """``struct open_flags``."""

    struct_name = "open_flags"
    open_flag = Field()
    mode = Field()
    acc_mode = Field()


@kernel_function
def getname_flags(k: FsKernel, cpu: Cpu, filename: int, _flags: int) -> int:
    """Copy a path from user memory; an address of ``struct filename``, EFAULT, ENOENT or ENAMETOOLONG."""
    user = task_of(k, cpu).user
    try:
        text = user.read_string(filename, PATH_MAX) if user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    if not text:
        return -Errno.ENOENT
    return -Errno.ENAMETOOLONG if len(text) >= PATH_MAX else getname_kernel(k, cpu, text, filename)


def getname_kernel(k: FsKernel, cpu: Cpu, text: bytes, uptr: int = 0) -> int:
    """Return a ``struct filename`` with that path."""
    room = Filename.alloc(k.mem)
    room.name = k.mem.alloc(len(text) + 1)
    k.mem.write(room.name, text + b"\0")
    room.uptr = uptr
    return room.address


@kernel_function
def putname(k: FsKernel, _cpu: Cpu, name: int) -> None:
    """Let a path go."""
    if not is_err(name):
        room = Filename(k.mem, name)
        k.mem.free(room.name)
        room.free()


@kernel_function
def generic_permission(k: FsKernel, cpu: Cpu, _idmap: int, inode: int, mask: int) -> int:
    """Compare the mode bits with who the task is; EACCES."""
    node, cred = inode_at(k, inode), task_of(k, cpu).cred
    mode, mask = node.i_mode, mask & 7
    if cred.fsuid == node.i_uid:
        allowed = mode >> 6
    elif cred.fsgid == node.i_gid:
        allowed = mode >> 3
    else:
        allowed = mode
    if not mask & ~allowed & 7:
        return 0
    return 0 if cred.cap_effective & _overriding(mode, mask) else -Errno.EACCES


def _overriding(mode: int, mask: int) -> int:
    # the capabilities with either of which mode bits do not matter
    is_dir = mode & S_IFMT == S_IFDIR
    search = CAP_DAC_READ_SEARCH if mask == MAY_READ or (is_dir and not mask & MAY_WRITE) else 0
    override = CAP_DAC_OVERRIDE if is_dir or not mask & MAY_EXEC or mode & 0o111 else 0
    return search | override


@kernel_function
def inode_permission(k: FsKernel, cpu: Cpu, idmap: int, inode: int, mask: int) -> int:
    """Ask the mode bits, then the security modules."""
    ret: int = k.functions.generic_permission(cpu, idmap, inode, mask)
    return ret or k.functions.security_inode_permission(cpu, inode, mask)


@kernel_function
def lookup_fast(k: FsKernel, _cpu: Cpu, nd: int) -> int:
    """Find the next name in the directory; the address of its dentry, 0 when there is none."""
    walk = k.walks[nd]
    found = _child(walk, walk.names[-1])
    return found.address if found is not None else 0


@kernel_function
def walk_component(k: FsKernel, cpu: Cpu, nd: int, flags: int) -> int:
    """Go on by one name; 0 or an errno."""
    found = k.functions.lookup_fast(cpu, nd)
    ret: int = k.functions.step_into(cpu, nd, flags, found)
    return ret


@kernel_function
def step_into(k: FsKernel, _cpu: Cpu, nd: int, flags: int, dentry: int) -> int:
    """Enter what was found; a symbolic link puts its names in front of the rest. ELOOP after 40 of them.

    ``dentry`` 0 is a negative one, which Linux would have made to remember that there is nothing: ENOENT.
    """
    walk = k.walks[nd]
    if not dentry:
        return -Errno.ENOENT
    found = dentry_at(k, dentry)
    walk.names.pop()
    inode = found.inode
    assert inode is not None
    if inode.is_link and (walk.names or flags & LOOKUP_FOLLOW):
        walk.links += 1
        if walk.links > MAXSYMLINKS:
            return -Errno.ELOOP
        target = inode.data.decode(errors="surrogateescape")
        if target.startswith("/"):
            _enter(k, walk, k.vfs.root)
        walk.names += reversed(_names(target))
        return 0
    _enter(k, walk, found)
    return 0


@kernel_function
def link_path_walk(k: FsKernel, cpu: Cpu, _name: int, nd: int) -> int:
    """Walk through all names but the last one; every directory on the way must let the task search it."""
    walk, functions = k.walks[nd], k.functions
    while walk.names:
        inode = walk.dentry.inode
        assert inode is not None
        if not inode.is_dir:
            return -Errno.ENOTDIR
        ret: int = functions.inode_permission(cpu, 0, inode.address, MAY_EXEC)
        if ret:
            return ret
        if len(walk.names[-1].encode(errors="surrogateescape")) > NAME_MAX:
            return -Errno.ENAMETOOLONG
        if len(walk.names) == 1:
            return 0
        ret = functions.walk_component(cpu, nd, LOOKUP_FOLLOW)
        if ret:
            return ret
    return 0


def path_init(k: FsKernel, cpu: Cpu, dfd: int, name: int) -> Walk | int:
    """Begin a walk at the root, the working directory or an open directory; a negative errno."""
    text = k.mem.read_string(Filename(k.mem, name).name, PATH_MAX).decode(errors="surrogateescape")
    task = task_of(k, cpu)
    start = k.vfs.root
    if not text.startswith("/"):
        if dfd == AT_FDCWD:
            start = task.cwd or k.vfs.root
        else:
            file = task.files.lookup(dfd)
            dentry = getattr(file, "dentry", None)
            if file is None:
                return -Errno.EBADF
            if dentry is None or not dentry.inode.is_dir:
                return -Errno.ENOTDIR
            start = dentry
    walk = Walk.alloc(k.mem)
    walk.names, walk.links = list(reversed(_names(text))), 0
    walk.name = Filename(k.mem, name).name
    walk.path_mnt = k.vfs.vfsmount
    _enter(k, walk, start)
    k.walks[walk.address] = walk
    return walk


def terminate_walk(k: FsKernel, walk: Walk) -> None:
    """End a walk."""
    del k.walks[walk.address]
    walk.free()


@kernel_function
def path_lookupat(k: FsKernel, cpu: Cpu, nd: int, flags: int, path: int) -> int:
    """Walk to the end; store ``struct path``."""
    walk, functions = k.walks[nd], k.functions
    while True:
        ret: int = functions.link_path_walk(cpu, walk.name, nd)
        if ret or not walk.names:
            break
        ret = functions.walk_component(cpu, nd, flags)
        if ret:
            break
    if not ret:
        k.mem.store(path, 8, k.vfs.vfsmount)
        k.mem.store(path + 8, 8, walk.dentry.address)
    return ret


@kernel_function
def filename_lookup(k: FsKernel, cpu: Cpu, dfd: int, name: int, flags: int, path: int, _root: int) -> int:
    """Find what a path names."""
    if is_err(name):
        return is_err(name)
    walk = path_init(k, cpu, dfd, name)
    if isinstance(walk, int):
        return walk
    ret: int = k.functions.path_lookupat(cpu, walk.address, flags, path)
    terminate_walk(k, walk)
    return ret


@kernel_function
def may_open(k: FsKernel, cpu: Cpu, idmap: int, path: int, acc_mode: int, flag: int) -> int:
    """Ask whether a file may be opened so: EISDIR for writing a directory, ELOOP for a link, then permissions."""
    dentry = dentry_at(k, k.mem.load(path + 8, 8))
    inode = dentry.inode
    assert inode is not None
    if inode.is_link:
        return -Errno.ELOOP
    if inode.is_dir and acc_mode & (MAY_WRITE | MAY_EXEC):
        return -Errno.EISDIR if acc_mode & MAY_WRITE else -Errno.EACCES
    if flag & O_DIRECTORY and not inode.is_dir:
        return -Errno.ENOTDIR
    ret: int = k.functions.inode_permission(cpu, idmap, inode.address, acc_mode)
    return ret


@kernel_function
def do_filp_open(k: FsKernel, cpu: Cpu, dfd: int, pathname: int, op: int) -> int:
    """Open what a path names; the address of ``struct file`` or an errno."""
    walk = path_init(k, cpu, dfd, pathname)
    if isinstance(walk, int):
        return walk
    file: int = k.functions.path_openat(cpu, walk.address, op, 0)
    terminate_walk(k, walk)
    return file


@kernel_function
def path_openat(k: FsKernel, cpu: Cpu, nd: int, op: int, _flags: int) -> int:
    """Allocate a file, walk, make what is not there if asked, open it."""
    walk, functions, flags = k.walks[nd], k.functions, OpenFlags(k.mem, op)
    file: int = functions.alloc_empty_file(cpu, flags.open_flag, task_of(k, cpu).cred.address)
    if is_err(file):
        return file
    ret, created = _walk_to_open(k, cpu, walk, flags)
    if not ret:
        # do_open(): what was just made needs no permission
        acc_mode = 0 if created else flags.acc_mode
        ret = functions.may_open(cpu, 0, walk.member_address("path"), acc_mode, flags.open_flag)
    if not ret:
        ret = functions.vfs_open(cpu, walk.member_address("path"), file)
    if not ret:
        ret = functions.security_file_post_open(cpu, file, flags.acc_mode)
    if not ret and flags.open_flag & O_TRUNC:
        inode = walk.dentry.inode
        assert inode is not None
        k.vfs.set_data(inode, b"")
    if ret:
        file_at(k, file).put()
        return ret
    return file


def _walk_to_open(k: FsKernel, cpu: Cpu, walk: Walk, flags: OpenFlags) -> tuple[int, bool]:
    functions, nd = k.functions, walk.address
    open_flag = flags.open_flag
    follow = 0 if open_flag & O_NOFOLLOW else LOOKUP_FOLLOW
    if open_flag & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL:
        follow = 0
    while True:
        ret: int = functions.link_path_walk(cpu, walk.name, nd)
        if ret or not walk.names:
            return ret, False
        name = walk.names[-1]
        found = functions.lookup_fast(cpu, nd)
        if not found and open_flag & O_CREAT:
            return _create(k, cpu, walk, name, flags.mode), True
        if found and open_flag & O_EXCL and open_flag & O_CREAT:
            return -Errno.EEXIST, False
        ret = functions.step_into(cpu, nd, follow, found)
        if ret:
            return ret, False


def _create(k: FsKernel, cpu: Cpu, walk: Walk, name: str, mode: int) -> int:
    # lookup_open(): may_o_create(), then the file system
    functions, parent = k.functions, walk.dentry
    directory = parent.inode
    assert directory is not None
    task = task_of(k, cpu)
    mode = S_IFREG | mode & 0o7777 & ~task.umask
    negative = Dentry.alloc(k.mem)
    ret: int = functions.security_path_mknod(cpu, walk.member_address("path"), negative.address, mode, 0)
    ret = ret or functions.inode_permission(cpu, 0, directory.address, MAY_WRITE | MAY_EXEC)
    ret = ret or functions.security_inode_create(cpu, directory.address, negative.address, mode)
    negative.free()
    if not ret:
        made = k.vfs.create(parent, name, mode, task.cred.fsuid, task.cred.fsgid)
        _enter(k, walk, made)
    return ret


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name and name != "."]


def _child(walk: Walk, name: str) -> Dentry | None:
    return walk.dentry.parent if name == ".." else walk.dentry.children.get(name)


def _enter(k: FsKernel, walk: Walk, dentry: Dentry) -> None:
    walk.dentry = dentry
    walk.path_dentry = dentry.address
    walk.nd_inode = dentry.d_inode
