"""Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2) and their kin (fs/xattr.c, v6.18).

Files in memory keep those that begin with ``user.``, ``trusted.`` and ``security.``; other file systems have none.
"""

from collections.abc import Callable
from typing import cast

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.memory.user import UserFault
from tracing.fs import FsKernel, dentry_at, inode_at, task_of
from tracing.fs_syscalls import opened
from tracing.functions import kernel_function
from tracing.namei import AT_FDCWD, LOOKUP_FOLLOW
from tracing.permission import MAY_READ, MAY_WRITE
from tracing.syscalls import syscall

__all__: list[str] = []

XATTR_NAME_MAX, XATTR_SIZE_MAX, XATTR_LIST_MAX = 255, 65536, 65536
XATTR_CREATE, XATTR_REPLACE = 1, 2
PREFIXES = ("user.", "trusted.", "security.")
CAP_SYS_ADMIN = 21
CAPABILITIES = b"security.capability"


def _text(k: FsKernel, cpu: Cpu, address: int) -> bytes | int:
    # import_xattr_name()
    user = task_of(k, cpu).user
    try:
        name = user.read_string(address, XATTR_NAME_MAX + 1) if user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    return name if 0 < len(name) <= XATTR_NAME_MAX else -Errno.ERANGE


def _room(k: FsKernel, text: bytes) -> int:
    room = k.mem.alloc(len(text) + 1)
    k.mem.write(room, text + b"\0")
    return room


def _by_path(k: FsKernel, cpu: Cpu, pathname: int, follows: bool, what: Callable[[int], int], *, writes: bool) -> int:
    functions, path = k.functions, k.mem.alloc(16)
    ret: int = functions.user_path_at(cpu, AT_FDCWD, pathname, LOOKUP_FOLLOW * follows, path)
    if not ret:
        mnt = k.mem.load(path, 8)
        if writes:
            functions.mnt_want_write(cpu, mnt)
        ret = what(k.mem.load(path + 8, 8))
        if writes:
            functions.mnt_drop_write(cpu, mnt)
        functions.path_put(cpu, path)
    k.mem.free(path)
    return ret


def _by_fd(
    k: FsKernel, cpu: Cpu, fd: int, what: Callable[[int], int], *, writes: bool, begin: Callable[[], int] = lambda: 0
) -> int:
    functions = k.functions
    functions.fdget(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    begin()
    if writes:
        functions.mnt_want_write_file(cpu, file.address)
    ret = what(file.struct.f_path_dentry)
    if writes:
        functions.mnt_drop_write_file(cpu, file.address)
    return ret


# ---- setting ---------------------------------------------------------------------------------------------------------


def _set(
    k: FsKernel, cpu: Cpu, where: Callable[[Callable[[int], int]], int], args: tuple[int, int, int, int], *,
    by_path: bool = True,
) -> int:  # fmt: skip
    name, value, size, flags = args
    if flags & ~(XATTR_CREATE | XATTR_REPLACE):
        return -Errno.EINVAL
    text, user = _text(k, cpu, name), task_of(k, cpu).user
    if isinstance(text, int):
        return text
    if size > XATTR_SIZE_MAX:
        return -Errno.E2BIG
    if by_path:
        k.functions.setxattr_copy(cpu, name, 0)
    try:
        data = user.read(value, size) if user is not None and size else b""
    except UserFault:
        return -Errno.EFAULT
    kname, kvalue = _room(k, text), _room(k, data)

    def change(dentry: int) -> int:
        k.walks[kname] = (dentry, kvalue, size, flags)
        try:
            return cast(int, k.functions.do_setxattr(cpu, 0, dentry, kname))
        finally:
            del k.walks[kname]

    ret = where(change)
    k.mem.free(kname)
    k.mem.free(kvalue)
    return ret


@kernel_function
def do_setxattr(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, ctx: int) -> int:
    """Set an attribute."""
    _, value, size, flags = k.walks[ctx]
    return cast(int, k.functions.vfs_setxattr(cpu, idmap, dentry, ctx, value, size, flags))


@kernel_function
def vfs_setxattr(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, name: int, value: int, size: int, flags: int) -> int:
    """Set an attribute, when the task may."""
    return cast(int, k.functions.__vfs_setxattr_locked(cpu, idmap, dentry, name, value, size, flags, 0))


@kernel_function
def __vfs_setxattr_locked(
    k: FsKernel, cpu: Cpu, idmap: int, dentry: int, name: int, value: int, size: int, flags: int, _delegated: int
) -> int:
    """Ask for permission, then the security modules, then the file system."""
    functions = k.functions
    ret: int = functions.xattr_permission(cpu, idmap, dentry_at(k, dentry).d_inode, name, MAY_WRITE)
    ret = ret or functions.security_inode_setxattr(cpu, idmap, dentry, name, value, size, flags)
    return ret or functions.__vfs_setxattr_noperm(cpu, idmap, dentry, name, value, size, flags)


@kernel_function
def __vfs_setxattr_noperm(
    k: FsKernel, cpu: Cpu, idmap: int, dentry: int, name: int, value: int, size: int, flags: int
) -> int:
    """Set an attribute, and tell the security modules."""
    functions, inode = k.functions, dentry_at(k, dentry).d_inode
    ret: int = functions.__vfs_setxattr(cpu, idmap, dentry, inode, name, value, size, flags)
    if not ret:
        functions.security_inode_post_setxattr(cpu, dentry, name, value, size, flags)
    return ret


@kernel_function
def __vfs_setxattr(
    k: FsKernel, cpu: Cpu, idmap: int, _dentry: int, inode: int, name: int, value: int, size: int, flags: int
) -> int:
    """Let the file system set an attribute; EOPNOTSUPP where there are none."""
    functions = k.functions
    handler = functions.xattr_resolve_name(cpu, inode, name)
    if not handler:
        return -Errno.EOPNOTSUPP
    return cast(int, functions.shmem_xattr_handler_set(cpu, 0, idmap, 0, inode, name, value, size, flags))


@kernel_function
def xattr_resolve_name(k: FsKernel, _cpu: Cpu, inode: int, name: int) -> int:
    """Find who has attributes of a name; 0 for nobody."""
    text = k.mem.read_string(name, XATTR_NAME_MAX + 1).decode("latin-1")
    return int(inode_at(k, inode).sb.fs.name == "tmpfs" and text.startswith(PREFIXES))


@kernel_function
def shmem_xattr_handler_set(
    k: FsKernel, cpu: Cpu, handler: int, _idmap: int, _unused: int, inode: int, name: int, value: int, size: int,
    flags: int,
) -> int:  # fmt: skip
    """Set or remove (without a value) an attribute: EEXIST, ENODATA."""
    functions, node = k.functions, inode_at(k, inode)
    functions.xattr_full_name(cpu, handler, name)
    text = k.mem.read_string(name, XATTR_NAME_MAX + 1)
    there = node.xattrs is not None and text in node.xattrs
    if value:
        functions.simple_xattr_space(cpu, name, size)
    functions.simple_xattr_set(cpu, 0, name, value, size, flags)
    if value:
        functions.simple_xattr_alloc(cpu, value, size)
    else:
        functions.simple_xattr_space(cpu, name, size)
    if flags & XATTR_CREATE and there:
        return -Errno.EEXIST
    if (flags & XATTR_REPLACE or not value) and not there:
        return -Errno.ENODATA
    if node.xattrs is None:
        node.xattrs = {}
    if value:
        node.xattrs[text] = k.mem.read(value, size) if size else b""
    else:
        del node.xattrs[text]
    functions.inode_maybe_inc_iversion(cpu, inode, 0)
    return 0


@kernel_function
def xattr_permission(k: FsKernel, cpu: Cpu, idmap: int, inode: int, name: int, mask: int) -> int:
    """Whether a task may use an attribute: ``trusted.`` for CAP_SYS_ADMIN, ``user.`` of files and directories."""
    functions, node = k.functions, inode_at(k, inode)
    if mask & MAY_WRITE:
        functions.may_write_xattr(cpu, idmap, inode)
    text = k.mem.read_string(name, XATTR_NAME_MAX + 1)
    if text.startswith(b"security."):
        return 0
    if text.startswith(b"trusted."):
        denied = -Errno.EPERM if mask & MAY_WRITE else -Errno.ENODATA
        return 0 if functions.capable(cpu, CAP_SYS_ADMIN) else denied
    if text.startswith(b"user.") and not (node.is_plain or node.is_dir):
        return -Errno.EPERM if mask & MAY_WRITE else -Errno.ENODATA
    return cast(int, functions.inode_permission(cpu, idmap, inode, mask))


@syscall(188)
def sys_setxattr(k: FsKernel, cpu: Cpu, pathname: int, name: int, value: int, size: int, flags: int) -> int:
    where = lambda what: _by_path(k, cpu, pathname, True, what, writes=True)  # noqa: E731
    return _set(k, cpu, where, (name, value, size, u32(flags)))


@syscall(189)
def sys_lsetxattr(k: FsKernel, cpu: Cpu, pathname: int, name: int, value: int, size: int, flags: int) -> int:
    where = lambda what: _by_path(k, cpu, pathname, False, what, writes=True)  # noqa: E731
    return _set(k, cpu, where, (name, value, size, u32(flags)))


@syscall(190)
def sys_fsetxattr(k: FsKernel, cpu: Cpu, fd: int, name: int, value: int, size: int, flags: int) -> int:
    def where(what: Callable[[int], int]) -> int:
        return _by_fd(k, cpu, fd, what, writes=True, begin=lambda: k.functions.setxattr_copy(cpu, name, 0))

    return _set(k, cpu, where, (name, value, size, u32(flags)), by_path=False)


# ---- getting ---------------------------------------------------------------------------------------------------------


def _get(k: FsKernel, cpu: Cpu, where: Callable[[Callable[[int], int]], int], args: tuple[int, int, int]) -> int:
    name, value, size = args
    text = _text(k, cpu, name)
    if isinstance(text, int):
        return text
    kname = _room(k, text)

    def ask(dentry: int) -> int:
        k.walks[kname] = (dentry, value, size)
        try:
            return cast(int, k.functions.do_getxattr(cpu, 0, dentry, kname))
        finally:
            del k.walks[kname]

    ret = where(ask)
    k.mem.free(kname)
    return ret


@kernel_function
def do_getxattr(k: FsKernel, cpu: Cpu, idmap: int, d: int, ctx: int) -> int:
    """Copy the value of an attribute to the task; ERANGE when there is no room, how long it is without any."""
    _, value, size = k.walks[ctx]
    ret: int = k.functions.vfs_getxattr(cpu, idmap, d, ctx, 0, min(size, XATTR_SIZE_MAX))
    inode, user = dentry_at(k, d).inode, task_of(k, cpu).user
    if ret < 0 or not size or inode is None or inode.xattrs is None or user is None:
        return ret
    data = inode.xattrs.get(k.mem.read_string(ctx, XATTR_NAME_MAX + 1), b"")
    try:
        user.write(value, data)
    except UserFault:
        return -Errno.EFAULT
    return ret


@kernel_function
def vfs_getxattr(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, name: int, value: int, size: int) -> int:
    """Ask for permission, then the security modules, then the file system."""
    functions, inode = k.functions, dentry_at(k, dentry).d_inode
    ret: int = functions.xattr_permission(cpu, idmap, inode, name, MAY_READ)
    ret = ret or functions.security_inode_getxattr(cpu, dentry, name)
    return ret or functions.__vfs_getxattr(cpu, dentry, inode, name, value, size)


@kernel_function
def __vfs_getxattr(k: FsKernel, cpu: Cpu, _dentry: int, inode: int, name: int, value: int, size: int) -> int:
    """Let the file system say what an attribute is: EOPNOTSUPP, ENODATA, ERANGE."""
    functions = k.functions
    if not functions.xattr_resolve_name(cpu, inode, name):
        return -Errno.EOPNOTSUPP
    return cast(int, functions.shmem_xattr_handler_get(cpu, 0, 0, inode, name, value, size))


@kernel_function
def shmem_xattr_handler_get(
    k: FsKernel, cpu: Cpu, handler: int, _unused: int, inode: int, name: int, buffer: int, size: int
) -> int:
    """Say how long an attribute is: ENODATA, ERANGE."""
    functions, node = k.functions, inode_at(k, inode)
    functions.xattr_full_name(cpu, handler, name)
    functions.simple_xattr_get(cpu, 0, name, buffer, size)
    data = (node.xattrs or {}).get(k.mem.read_string(name, XATTR_NAME_MAX + 1))
    if data is None:
        return -Errno.ENODATA
    return -Errno.ERANGE if size and size < len(data) else len(data)


@syscall(191)
def sys_getxattr(k: FsKernel, cpu: Cpu, pathname: int, name: int, value: int, size: int) -> int:
    return _get(k, cpu, lambda what: _by_path(k, cpu, pathname, True, what, writes=False), (name, value, size))


@syscall(192)
def sys_lgetxattr(k: FsKernel, cpu: Cpu, pathname: int, name: int, value: int, size: int) -> int:
    return _get(k, cpu, lambda what: _by_path(k, cpu, pathname, False, what, writes=False), (name, value, size))


@syscall(193)
def sys_fgetxattr(k: FsKernel, cpu: Cpu, fd: int, name: int, value: int, size: int) -> int:
    return _get(k, cpu, lambda what: _by_fd(k, cpu, fd, what, writes=False), (name, value, size))


@kernel_function
def cap_inode_need_killpriv(k: FsKernel, cpu: Cpu, dentry: int) -> int:
    """Whether a file has capabilities that it loses when it is changed (security/commoncap.c)."""
    name = _room(k, CAPABILITIES)
    found: int = k.functions.__vfs_getxattr(cpu, dentry, dentry_at(k, dentry).d_inode, name, 0, 0)
    k.mem.free(name)
    return int(found > 0)


# ---- listing and removing --------------------------------------------------------------------------------------------


def _list(k: FsKernel, cpu: Cpu, dentry: int, address: int, size: int) -> int:
    ret: int = k.functions.listxattr(cpu, dentry, address, min(size, XATTR_LIST_MAX))
    return ret


@kernel_function
def listxattr(k: FsKernel, cpu: Cpu, d: int, list_: int, size: int) -> int:
    """Copy the names of all attributes to the task; ERANGE."""
    ret: int = k.functions.vfs_listxattr(cpu, d, 0, size)
    inode, user = dentry_at(k, d).inode, task_of(k, cpu).user
    if ret <= 0 or not size or inode is None or user is None:
        return ret
    try:
        user.write(list_, b"".join(name + b"\0" for name in inode.xattrs or ()))
    except UserFault:
        return -Errno.EFAULT
    return ret


@kernel_function
def vfs_listxattr(k: FsKernel, cpu: Cpu, dentry: int, list_: int, size: int) -> int:
    """Ask the security modules, then the file system."""
    ret: int = k.functions.security_inode_listxattr(cpu, dentry)
    if ret or dentry_at(k, dentry).sb.fs.name != "tmpfs":
        return ret
    return cast(int, k.functions.shmem_listxattr(cpu, dentry, list_, size))


@kernel_function
def shmem_listxattr(k: FsKernel, cpu: Cpu, dentry: int, buffer: int, size: int) -> int:
    """Say how long the names of all attributes are; ERANGE."""
    inode = dentry_at(k, dentry).inode
    assert inode is not None
    k.functions.simple_xattr_list(cpu, inode.address, 0, buffer, size)
    total = sum(len(name) + 1 for name in inode.xattrs or ())
    return -Errno.ERANGE if size and size < total else total


@syscall(194)
def sys_listxattr(k: FsKernel, cpu: Cpu, pathname: int, list: int, size: int) -> int:  # noqa: A002
    return _by_path(k, cpu, pathname, True, lambda dentry: _list(k, cpu, dentry, list, size), writes=False)


@syscall(195)
def sys_llistxattr(k: FsKernel, cpu: Cpu, pathname: int, list: int, size: int) -> int:  # noqa: A002
    return _by_path(k, cpu, pathname, False, lambda dentry: _list(k, cpu, dentry, list, size), writes=False)


@syscall(196)
def sys_flistxattr(k: FsKernel, cpu: Cpu, fd: int, list: int, size: int) -> int:  # noqa: A002
    return _by_fd(k, cpu, fd, lambda dentry: _list(k, cpu, dentry, list, size), writes=False)


def _remove(k: FsKernel, cpu: Cpu, where: Callable[[Callable[[int], int]], int], name: int) -> int:
    text = _text(k, cpu, name)
    if isinstance(text, int):
        return text
    kname = _room(k, text)
    ret = where(lambda dentry: cast(int, k.functions.vfs_removexattr(cpu, 0, dentry, kname)))
    k.mem.free(kname)
    return ret


@kernel_function
def vfs_removexattr(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, name: int) -> int:
    """Remove an attribute, when the task may."""
    return cast(int, k.functions.__vfs_removexattr_locked(cpu, idmap, dentry, name, 0))


@kernel_function
def __vfs_removexattr_locked(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, name: int, _delegated: int) -> int:
    """Ask for permission, then the security modules, then the file system."""
    functions = k.functions
    ret: int = functions.xattr_permission(cpu, idmap, dentry_at(k, dentry).d_inode, name, MAY_WRITE)
    ret = ret or functions.security_inode_removexattr(cpu, idmap, dentry, name)
    ret = ret or functions.__vfs_removexattr(cpu, idmap, dentry, name)
    if not ret:
        functions.security_inode_post_removexattr(cpu, dentry, name)
    return ret


@kernel_function
def __vfs_removexattr(k: FsKernel, cpu: Cpu, idmap: int, dentry: int, name: int) -> int:
    """Let the file system remove an attribute: EOPNOTSUPP, ENODATA."""
    functions, inode = k.functions, dentry_at(k, dentry).d_inode
    if not functions.xattr_resolve_name(cpu, inode, name):
        return -Errno.EOPNOTSUPP
    return cast(int, functions.shmem_xattr_handler_set(cpu, 0, idmap, 0, inode, name, 0, 0, XATTR_REPLACE))


@syscall(197)
def sys_removexattr(k: FsKernel, cpu: Cpu, pathname: int, name: int) -> int:
    return _remove(k, cpu, lambda what: _by_path(k, cpu, pathname, True, what, writes=True), name)


@syscall(198)
def sys_lremovexattr(k: FsKernel, cpu: Cpu, pathname: int, name: int) -> int:
    return _remove(k, cpu, lambda what: _by_path(k, cpu, pathname, False, what, writes=True), name)


@syscall(199)
def sys_fremovexattr(k: FsKernel, cpu: Cpu, fd: int, name: int) -> int:
    return _remove(k, cpu, lambda what: _by_fd(k, cpu, fd, what, writes=True), name)
