"""What sockets of tasks are made of: ``struct socket`` beside its inode, its file, and who waits (net/socket.c, v6.18).

A ``TaskSocket`` is a ``struct socket`` in RAM with the ``UdpSocket`` that is behind it. Functions of the kernel find it
by the address of either structure.
"""

from typing import Any, Protocol

from ebpfsim.btf.view import Field, KernelStruct, Text, place, size_of
from ebpfsim.memory import Memory
from hooks.cgroup import CgroupTree
from hooks.text import function_address
from netstack.net import Net
from netstack.sock import UdpSocket
from netstack.tcp_sock import TcpSock
from tracing.fs import FsKernel
from tracing.pseudo_fs import PseudoFs
from tracing.task import Task
from tracing.vfs import S_IFSOCK, File, Inode, Vfs

__all__ = ["AF_INET", "SOCK_DGRAM", "SOCK_STREAM", "SocketKernel", "Sockfs", "TaskSocket"]

SOCKFS_MAGIC = 0x534F_434B  # include/uapi/linux/magic.h
AF_INET, SOCK_STREAM, SOCK_DGRAM = 2, 1, 2
GFP_KERNEL = 0xCC0
SS_UNCONNECTED = 1  # enum socket_state
# functions behind the operations of an IPv4 datagram socket and of its file
INET_DGRAM_OPS = {
    "release": "inet_release", "bind": "inet_bind", "connect": "inet_dgram_connect", "getname": "inet_getname",
    "sendmsg": "inet_sendmsg", "recvmsg": "inet_recvmsg",
}  # fmt: skip
INET_STREAM_OPS = {
    "release": "inet_release", "bind": "inet_bind", "connect": "inet_stream_connect", "accept": "inet_accept",
    "getname": "inet_getname", "listen": "inet_listen", "shutdown": "inet_shutdown", "sendmsg": "inet_sendmsg",
    "recvmsg": "inet_recvmsg",
}  # fmt: skip
SOCKET_FILE_OPS = {"release": "sock_close"}


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

    __slots__ = ("file", "inode", "rcvtimeo_ns", "sk", "sndtimeo_ns", "struct", "waiting")

    def __init__(self, mem: Memory) -> None:
        address = mem.alloc(size_of("socket_alloc"), what="struct socket_alloc")
        self.struct = SocketStruct(mem, address + place("socket_alloc", "socket")[0])
        self.struct.state = SS_UNCONNECTED
        self.inode: Inode = _SocketInode(mem, address + place("socket_alloc", "vfs_inode")[0])
        self.sk: UdpSocket | TcpSock | None = None
        self.file: File | None = None
        # SO_RCVTIMEO, SO_SNDTIMEO; None waits for ever
        self.rcvtimeo_ns: int | None = None
        self.sndtimeo_ns: int | None = None
        # tasks that wait: for a datagram, each of which wakes one, or for something of a connection
        self.waiting: list[Task] = []

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


class Sockfs(PseudoFs):
    """The sockets of the tasks of one kernel, as files."""

    def __init__(self, vfs: Vfs) -> None:
        super().__init__(
            vfs, "sockfs", SOCKFS_MAGIC, {"alloc_inode": "sock_alloc_inode", "free_inode": "sock_free_inode"}
        )
        self._by_address: dict[int, TaskSocket] = {}
        # a ``struct sock`` that no socket has yet, by its address
        self.born: dict[int, UdpSocket | TcpSock] = {}
        self.udp_prot, self.tcp_prot = _Proto.alloc(vfs.mem), _Proto.alloc(vfs.mem)
        self.udp_prot.name, self.tcp_prot.name = "UDP", "TCP"
        self.inet_dgram_ops = self._table("proto_ops", INET_DGRAM_OPS)
        self.inet_stream_ops = self._table("proto_ops", INET_STREAM_OPS)
        self.file_ops = self._table("file_operations", SOCKET_FILE_OPS)

    def new(self, uid: int, gid: int) -> TaskSocket:
        """Return a new ``struct socket`` without anything behind it."""
        socket = TaskSocket(self.mem)
        self.add_inode(socket.inode, S_IFSOCK | 0o777, uid, gid)
        self._by_address[socket.address] = socket
        return socket

    def graft(self, socket: TaskSocket, sk: UdpSocket | TcpSock, uid: int) -> None:
        """Put a ``struct sock`` behind a socket (``sock_init_data_uid``)."""
        address = sk.struct_address
        prot = self.tcp_prot if isinstance(sk, TcpSock) else self.udp_prot
        socket.sk = sk
        socket.struct.sk = address
        self._set("sock", address, "sk_socket", socket.address)
        self._set("sock", address, "sk_uid", uid)
        self._set("sock", address, "__sk_common.skc_prot", prot.address)
        self._by_address[address] = socket

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
        if socket.file is not None:
            self.evict(socket.inode)
        else:
            self.drop_inode(socket.inode)

    def _table(self, struct: str, members: dict[str, str]) -> int:
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
