"""Names of AF_UNIX sockets: in the file system and abstract ones (net/unix/af_unix.c, fs/namei.c, v6.18)."""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u64
from netstack.marks import touch
from netstack.sockfs import SocketKernel
from netstack.unix_sock import AF_UNIX, UnixNames, UnixSock
from tracing.fs import FsKernel, dentry_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.namei import LOOKUP_FOLLOW, getname_kernel
from tracing.names import end_creating
from tracing.permission import MAY_WRITE
from tracing.vfs import S_IFSOCK

__all__ = ["MAX_NAME", "bind_file", "checked_name", "names_of", "new_name", "put_sock", "unix_at"]

MAX_NAME = 110  # sizeof(struct sockaddr_un)
AT_FDCWD = -100
SOCK_PATH_MODE = 0o777


def names_of(k: SocketKernel) -> UnixNames:
    """Return the names of a kernel's sockets."""
    return k.sockfs.unix_names


def unix_at(k: SocketKernel, sk: int) -> UnixSock:
    """Return the socket whose ``struct unix_sock`` lies at an address, whether or not it has a ``struct socket``."""
    found: Any = k.sockfs.orphans.get(sk)
    if found is None and sk in k.sockfs.born:
        found = k.sockfs.born[sk][0]
    found = found if found is not None else k.sockfs.at(sk).sk
    assert isinstance(found, UnixSock)
    return found


def put_sock(k: SocketKernel, cpu: Cpu, sk: UnixSock) -> None:
    """Let a reference of a socket go (``sock_put``)."""
    sk.refs -= 1
    if not sk.refs:
        k.functions.sk_free(cpu, sk.struct_address)


def checked_name(k: SocketKernel, uaddr: int, size: int) -> bytes | int:
    """Return a name as the task gave it, one in the file system up to its NUL; EINVAL (``unix_validate_addr``)."""
    if not 2 < size <= MAX_NAME:
        return -Errno.EINVAL
    name = bytes(k.mem.read(uaddr, size))
    if int.from_bytes(name[:2], "little") != AF_UNIX:
        return -Errno.EINVAL
    if name[2]:
        # unix_mkname_bsd(): with its NUL
        name = name[:2] + name[2:].partition(b"\0")[0] + b"\0"
    return name


def hash_name(k: SocketKernel, cpu: Cpu) -> None:
    """Tell that an abstract name is looked up by its hash (``unix_abstract_hash``)."""
    if k.net.functions.watched:
        touch(cpu, "csum_partial")


def new_name(k: SocketKernel, cpu: Cpu, sk: UnixSock, name: bytes) -> None:
    """Let a socket have a name from now on."""
    sk.set_name(name)
    if not name[2]:
        names_of(k).abstract[sk.type, name] = sk
    k.functions.__unix_set_addr_hash(cpu, k.sched.namespaces.net, sk.struct_address, sk.struct.addr, 0)


def bind_file(k: SocketKernel, cpu: Cpu, sk: UnixSock, name: bytes) -> int:
    """Give a socket a name in the file system: EADDRINUSE, EINVAL, and what making it says (``unix_bind_bsd``)."""
    functions, path, room = k.functions, k.mem.alloc(16), k.mem.alloc(MAX_NAME + 1)
    k.mem.write(room, name)
    functions.current_umask(cpu)
    functions.unix_mkname_bsd(cpu, room, len(name))
    functions.unix_create_addr(cpu, room, len(name))
    dentry = functions.start_creating_path(cpu, AT_FDCWD, room + 2, path, 0)
    err = is_err(dentry)
    if not err:
        mode = S_IFSOCK | SOCK_PATH_MODE & ~task_of(k, cpu).umask
        directory = dentry_at(k, dentry).parent.d_inode
        err = functions.security_path_mknod(cpu, path, dentry, mode, 0)
        err = err or functions.vfs_mknod(cpu, 0, directory, dentry, mode, 0)
        if not err:
            err = _named(k, cpu, sk, name, path, dentry)
            if err:
                functions.vfs_unlink(cpu, 0, directory, dentry, 0)
        functions.end_creating_path(cpu, path, dentry)
    k.mem.free(path)
    k.mem.free(room)
    return -Errno.EADDRINUSE if err == -Errno.EEXIST else int(err)


def _named(k: SocketKernel, cpu: Cpu, sk: UnixSock, name: bytes, path: int, dentry: int) -> int:
    if sk.name:
        return -Errno.EINVAL
    sk.dentry = dentry_at(k, dentry)
    sk.inode = sk.dentry.inode
    assert sk.inode is not None
    sk.struct.path_mnt, sk.struct.path_dentry = k.mem.load(path, 8), dentry
    k.functions.mntget(cpu, sk.struct.path_mnt)
    k.vfs.hold(sk.dentry)
    names_of(k).files[sk.inode.address] = sk
    new_name(k, cpu, sk, name)
    return 0


@kernel_function
def start_creating_path(k: FsKernel, cpu: Cpu, dfd: int, pathname: int, path: int, lookup_flags: int) -> int:
    """Return a dentry for a name that the kernel makes, in the directory ``path``."""
    name = getname_kernel(k, cpu, k.mem.read_string(pathname, 4096))
    dentry: int = k.functions.filename_create(cpu, dfd, name, path, lookup_flags)
    k.functions.putname(cpu, name)
    return dentry


@kernel_function
def end_creating_path(k: FsKernel, cpu: Cpu, path: int, dentry: int) -> None:
    """Let go of what ``start_creating_path`` gave."""
    end_creating(k, cpu, path, dentry)


@kernel_function
def kern_path(k: FsKernel, cpu: Cpu, name: int, flags: int, path: int) -> int:
    """Find what a path of the kernel names."""
    filename = getname_kernel(k, cpu, k.mem.read_string(name, 4096))
    ret: int = k.functions.filename_lookup(cpu, AT_FDCWD, filename, flags, path, 0)
    k.functions.putname(cpu, filename)
    return ret


@kernel_function
def unix_find_other(k: SocketKernel, cpu: Cpu, _net: int, sunaddr: int, addr_len: int, kind: int, _flags: int) -> int:
    """Return the socket of a name: ECONNREFUSED, EPROTOTYPE of files, EACCES, and what the file system says."""
    name = bytes(k.mem.read(sunaddr, addr_len))
    if name[2:3] != b"\0":
        return _find_file(k, cpu, sunaddr, addr_len, kind)
    hash_name(k, cpu)
    found = names_of(k).abstract.get((kind, name))
    if found is None:
        return u64(-Errno.ECONNREFUSED)
    if found.dentry is not None:
        k.functions.touch_atime(cpu, found.path)
    return found.struct_address


def _find_file(k: SocketKernel, cpu: Cpu, sunaddr: int, addr_len: int, sock_type: int) -> int:
    # unix_find_bsd()
    functions, path = k.functions, k.mem.alloc(16)
    functions.unix_mkname_bsd(cpu, sunaddr, addr_len)
    err = functions.kern_path(cpu, sunaddr + 2, LOOKUP_FOLLOW, path)
    found: UnixSock | None = None
    if not err:
        inode = dentry_at(k, k.mem.load(path + 8, 8)).inode
        assert inode is not None
        err = functions.inode_permission(cpu, 0, inode.address, MAY_WRITE)
        if not err:
            found = names_of(k).find_file(inode.address) if inode.is_socket else None
            err = -Errno.ECONNREFUSED if found is None else -Errno.EPROTOTYPE if found.type != sock_type else 0
        if not err:
            functions.touch_atime(cpu, path)
        functions.path_put(cpu, path)
    k.mem.free(path)
    return u64(err) if err or found is None else found.struct_address
