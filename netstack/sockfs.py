"""What sockets of tasks are made of: ``struct socket`` beside its inode, its file, and who waits (net/socket.c, v6.18).

A ``TaskSocket`` is a ``struct socket`` in RAM with the ``UdpSocket`` that is behind it. Functions of the kernel find it
by the address of either structure.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ebpfsim.btf.view import Field, KernelStruct, Text, place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from hooks.cgroup import CgroupTree
from hooks.text import function_address
from netstack.net import Net
from netstack.sock import UdpSocket
from netstack.tcp_sock import TcpSock
from netstack.unix_sock import UnixNames
from tracing.fs import FsKernel
from tracing.pseudo_fs import PseudoFs
from tracing.vfs import S_IFSOCK, File, Inode, Vfs
from tracing.waiting import WaitHead

__all__ = ["AF_INET", "SOCK_DGRAM", "SOCK_STREAM", "SocketKernel", "Sockfs", "TaskSocket"]

SOCKFS_MAGIC = 0x534F_434B  # include/uapi/linux/magic.h
AF_INET, SOCK_STREAM, SOCK_DGRAM = 2, 1, 2
GFP_KERNEL = 0xCC0
SS_UNCONNECTED = 1  # enum socket_state
# functions behind the operations of a socket's family (struct proto_ops) and of its file
_INET = {"release": "inet_release", "bind": "inet_bind", "sendmsg": "inet_sendmsg", "recvmsg": "inet_recvmsg"}
_DGRAM = {**_INET, "connect": "inet_dgram_connect", "getname": "inet_getname", "shutdown": "inet_shutdown"}
_OPTIONS = {"setsockopt": "sock_common_setsockopt", "getsockopt": "sock_common_getsockopt"}
PROTO_OPS: dict[str, Mapping[str, str]] = {
    "inet_dgram_ops": {**_DGRAM, **_OPTIONS, "poll": "udp_poll"},
    "inet_stream_ops": {
        **_INET, **_OPTIONS, "connect": "inet_stream_connect", "accept": "inet_accept", "getname": "inet_getname",
        "listen": "inet_listen", "shutdown": "inet_shutdown", "poll": "tcp_poll",
    },
}  # fmt: skip
SOCKET_FILE_OPS = {
    "release": "sock_close", "read_iter": "sock_read_iter", "write_iter": "sock_write_iter", "poll": "sock_poll",
    "unlocked_ioctl": "sock_ioctl",
}  # fmt: skip


class SocketStruct(KernelStruct):
    """``struct socket``."""

    struct_name = "socket"
    state = Field()
    type = Field()
    file = Field()
    sk = Field()
    ops = Field()


class _Proto(KernelStruct):
    struct_name = "proto"
    name = Text()


class _SocketInode(Inode):
    """The inode in ``struct socket_alloc``, which goes as a whole."""

    def free(self) -> None:
        self.mem.free(self.address - place("socket_alloc", "vfs_inode")[0])


class TaskSocket:
    """One socket of a task; ``sk`` is there once its family has made it."""

    __slots__ = (
        *("cookie_", "file", "inode", "ioctl", "ops", "options", "own_options", "prot", "protocol", "rcvtimeo_ns"),
        *("sk", "sndtimeo_ns", "struct", "values", "wait"),
    )

    def __init__(self, mem: Memory, walks: dict[int, Any]) -> None:
        address = mem.alloc(size_of("socket_alloc"), what="struct socket_alloc")
        self.struct = SocketStruct(mem, address + place("socket_alloc", "socket")[0])
        self.struct.state = SS_UNCONNECTED
        self.inode: Inode = _SocketInode(mem, address + place("socket_alloc", "vfs_inode")[0])
        self.sk: Any = None
        self.file: File | None = None
        # what its family does, by the members of struct proto_ops
        self.ops: Mapping[str, str] = {}
        # options of receiving that are on, by level and number
        self.options: set[tuple[int, int]] = set()
        # options by level and number: their values, and those that its family has of its own
        self.values: dict[tuple[int, int], int] = {}
        self.own_options: frozenset[tuple[int, int]] = frozenset()
        # SO_PROTOCOL, SO_COOKIE
        self.protocol = self.cookie_ = 0
        # the name of its protocol, and what ioctl(2) asks
        self.prot = ""
        self.ioctl: Callable[[Cpu, int, int], int] | None = None
        # SO_RCVTIMEO, SO_SNDTIMEO; None waits for ever
        self.rcvtimeo_ns: int | None = None
        self.sndtimeo_ns: int | None = None
        # where tasks wait: for a datagram, each of which wakes one, or for something of a connection
        self.wait = WaitHead(mem, walks, self.struct.address + place("socket", "wq.wait")[0])

    @property
    def address(self) -> int:
        """Where its ``struct socket`` lies."""
        return self.struct.address

    @property
    def udp(self) -> UdpSocket:
        """Its UDP socket."""
        assert isinstance(self.sk, UdpSocket)
        return self.sk

    @property
    def tcp(self) -> TcpSock:
        """Its TCP socket."""
        assert isinstance(self.sk, TcpSock)
        return self.sk

    @property
    def is_stream(self) -> bool:
        """Whether it is one of TCP."""
        return isinstance(self.sk, TcpSock)

    @property
    def cookie(self) -> int:
        """A number that no other socket has (``sock_gen_cookie``)."""
        if not self.cookie_:
            self.cookie_ = self.sk.file.cookie
        return self.cookie_

    def take_error(self) -> int:
        """Return the errno that the next call would fail with, once (``sock_error``)."""
        if isinstance(self.sk, TcpSock):
            error, self.sk.sk_err = self.sk.sk_err, 0
            return error
        return int(self.sk.take_error())

    def put_error(self, errno: int) -> None:
        """Let the next call fail."""
        if isinstance(self.sk, TcpSock):
            self.sk.sk_err = errno
        else:
            self.sk.put_error(errno)

    @property
    def family(self) -> int:
        """AF_*."""
        return int(getattr(self.sk, "sk_family", AF_INET))

    def poll(self, _file: File) -> int:
        """What its file is asked by ``sock_poll``; that it has this says that it can be waited for."""
        return 0

    def heads(self, _file: File) -> list[WaitHead]:
        """Return the queue that somebody waits at who waits for this file."""
        return [self.wait]


class Sockfs(PseudoFs):
    """The sockets of the tasks of one kernel, as files."""

    def __init__(self, vfs: Vfs, walks: dict[int, Any]) -> None:
        super().__init__(
            vfs, "sockfs", SOCKFS_MAGIC, {"alloc_inode": "sock_alloc_inode", "free_inode": "sock_free_inode"}
        )
        self._walks = walks
        self._by_address: dict[int, TaskSocket] = {}
        # a ``struct sock`` that no socket has yet, by its address
        self.born: dict[int, tuple[Any, str]] = {}
        # those that no socket has yet or any more, by their addresses
        self.orphans: dict[int, Any] = {}
        self._protos: dict[str, _Proto] = {}
        self._ops: dict[str, int] = {}
        self.unix_names = UnixNames()
        self.file_ops = self._table("file_operations", SOCKET_FILE_OPS)

    def proto(self, name: str) -> _Proto:
        """Return the ``struct proto`` of that name."""
        if name not in self._protos:
            self._protos[name] = _Proto.alloc(self.mem)
            self._protos[name].name = name
        return self._protos[name]

    def proto_of(self, socket: "TaskSocket") -> _Proto:
        """Return the ``struct proto`` of a socket."""
        return self.proto(socket.prot)

    def proto_name(self, address: int) -> str:
        """Return the name of the ``struct proto`` at an address."""
        return next(name for name, proto in self._protos.items() if proto.address == address)

    def set_ops(self, socket: TaskSocket, name: str) -> None:
        """Let a socket be one of a family: ``name`` is that of its ``struct proto_ops``."""
        if name not in self._ops:
            self._ops[name] = self._table("proto_ops", PROTO_OPS[name])
        socket.ops, socket.struct.ops = PROTO_OPS[name], self._ops[name]

    def new(self, uid: int, gid: int) -> TaskSocket:
        """Return a new ``struct socket`` without anything behind it."""
        socket = TaskSocket(self.mem, self._walks)
        self.add_inode(socket.inode, S_IFSOCK | 0o777, uid, gid)
        self._by_address[socket.address] = socket
        return socket

    def graft(self, socket: TaskSocket, sk: Any, uid: int, prot: str) -> None:
        """Put a ``struct sock`` behind a socket (``sock_init_data_uid``); ``prot`` names its protocol."""
        address = sk.struct_address
        socket.sk, socket.prot = sk, prot
        socket.struct.sk = address
        self._set("sock", address, "sk_socket", socket.address)
        self._set("sock", address, "sk_wq", socket.address + place("socket", "wq")[0])
        self._set("sock", address, "sk_uid", uid)
        self._set("sock", address, "__sk_common.skc_prot", self.proto(prot).address)
        self._by_address[address] = socket

    def orphan(self, sk: Any, uid: int, prot: str) -> None:
        """Fill in a ``struct sock`` that has no socket yet."""
        self._set("sock", sk.struct_address, "sk_uid", uid)
        self._set("sock", sk.struct_address, "__sk_common.skc_prot", self.proto(prot).address)
        self.orphans[sk.struct_address] = sk

    def adopt(self, socket: TaskSocket, sk: Any, uid: int, prot: str) -> None:
        """Put a ``struct sock`` that had no socket behind one (``sock_graft``)."""
        self.orphans.pop(sk.struct_address, None)
        self.graft(socket, sk, uid, prot)

    def socket_of(self, sk: Any) -> int:
        """Return where the ``struct socket`` of what is behind one lies, 0 without."""
        socket = self._by_address.get(sk.struct_address)
        return socket.address if socket is not None else 0

    def forget_sk(self, address: int) -> Any:
        """Forget a ``struct sock`` and return what it stands for."""
        sk = self.orphans.pop(address, None)
        if sk is not None:
            return sk
        socket = self._by_address[address]
        sk = socket.sk
        self.forget_sock(socket)
        return sk

    def leave(self, socket: TaskSocket) -> Any:
        """Take the ``struct sock`` from behind a socket (``sock_orphan``)."""
        sk = socket.sk
        self.forget_sock(socket)
        self.orphans[sk.struct_address] = sk
        return sk

    def at(self, address: int) -> TaskSocket:
        """Return the socket whose ``struct socket`` or ``struct sock`` is at an address."""
        return self._by_address[address]

    def find(self, address: int) -> TaskSocket | None:
        """Return the socket at an address, None when it was closed."""
        return self._by_address.get(address)

    def of_file(self, file: File) -> TaskSocket | None:
        """Return the socket that a file is (``sock_from_file``), None for other files."""
        return self._by_address.get(file.struct.private_data)

    def forget_sock(self, socket: TaskSocket) -> None:
        """Forget what is behind a socket."""
        self._by_address.pop(socket.struct.sk, None)
        socket.sk = None
        socket.struct.sk = 0

    def forget(self, socket: TaskSocket) -> None:
        """Forget a socket that was closed; its inode goes with its file."""
        self._by_address.pop(socket.address, None)
        socket.wait.free()
        if socket.file is None:
            self.drop_inode(socket.inode)

    def _table(self, struct: str, members: Mapping[str, str]) -> int:
        address = self.mem.alloc(size_of(struct), what=f"struct {struct}")
        for member, function in members.items():
            self._set(struct, address, member, function_address(function))
        return address


class SocketKernel(FsKernel, Protocol):
    """What sockets of tasks need of a kernel."""

    net: Net
    cgroups: CgroupTree

    @property
    def sockfs(self) -> Sockfs:
        """Its sockets."""
        ...

    @property
    def functions(self) -> Any:
        """Its functions."""
        ...
