"""What AF_UNIX sockets are made of: ``struct unix_sock`` in RAM, packets with files and credentials, names (v6.18)."""

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ebpfsim.btf.view import Field, KernelStruct, place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import MapType
from hooks.cgroup import Cgroup
from netstack.filtered import Filtered
from netstack.sk_buff import SkbStruct
from netstack.sock_file import SockFile
from tracing.functions import packet_function
from tracing.waiting import WaitHead

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.sockfs import SocketKernel
    from tracing.vfs import Dentry, Inode

__all__ = ["AF_UNIX", "UNIX_PROTO", "PeerCred", "UnixNames", "UnixSkb", "UnixSock"]

AF_UNIX = 1
SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET = 1, 2, 5
# struct proto.name
UNIX_PROTO = {SOCK_STREAM: "UNIX-STREAM", SOCK_DGRAM: "UNIX", SOCK_SEQPACKET: "UNIX"}
TCP_ESTABLISHED, TCP_CLOSE, TCP_LISTEN = 1, 7, 10
MEM_DEFAULT = 212992  # net.core.wmem_default, net.core.rmem_default
MAX_DGRAM_QLEN = 10  # net.unix.max_dgram_qlen
OVERFLOW_ID = 65534
PAGE, SKB_BYTES, SHARED_INFO_BYTES = 4096, 256, 320
_UCRED = Struct("<iII")


class PeerCred(NamedTuple):
    """``struct ucred``: who a socket's peer is."""

    pid: int
    uid: int
    gid: int

    @property
    def packed(self) -> bytes:
        """The structure."""
        return _UCRED.pack(self.pid, self.uid & 0xFFFF_FFFF, self.gid & 0xFFFF_FFFF)


NOBODY = PeerCred(0, -1, -1)


class UnixStruct(KernelStruct):
    """``struct unix_sock``."""

    struct_name = "unix_sock"
    family = Field("sk.__sk_common.skc_family")
    state = Field("sk.__sk_common.skc_state")
    type = Field("sk.sk_type")
    shutdown = Field("sk.sk_shutdown")
    err = Field("sk.sk_err")
    max_ack_backlog = Field("sk.sk_max_ack_backlog")
    qlen = Field("sk.sk_receive_queue.qlen")
    wmem_alloc = Field("sk.sk_wmem_alloc.refs.counter")
    sndbuf = Field("sk.sk_sndbuf")
    rcvbuf = Field("sk.sk_rcvbuf")
    addr = Field()
    path_mnt = Field("path.mnt")
    path_dentry = Field("path.dentry")
    peer = Field()
    inq_len = Field()


class UnixAddress(KernelStruct):
    """``struct unix_address``; the name lies behind it."""

    struct_name = "unix_address"
    refcnt = Field("refcnt.refs.counter")
    len = Field()


class UnixSkb:
    """A packet on its way to an AF_UNIX socket: ``sk`` pays for it, or is a connection that waits to be accepted."""

    protocol = 0

    def __init__(self, sk: "UnixSock", data: bytes, linear: int | None = None) -> None:
        self.destructor = "unix_wfree"
        self.sk: UnixSock | None = sk
        self.data, self.consumed = data, 0
        self.cred: PeerCred | None = None
        # the name of who sent it, files and what kind they are of
        self.sender: UnixSock = sk
        self.files: list[KernelObject] = []
        self.time_ns = 0
        linear = len(data) if linear is None else linear
        pages = -(-(len(data) - linear) // PAGE)
        self.truesize = _truesize(linear) + PAGE * pages
        self.dev: Any = _Dev(sk.net)
        self.where = "consume_skb"
        # whether it counts for what the sender may have under way; told when it goes
        self.paid = False
        self.space: Callable[[Cpu], object] | None = None
        self._struct: SkbStruct | None = None

    def __len__(self) -> int:
        return len(self.data) - self.consumed

    @property
    def struct_address(self) -> int:
        """Where its ``struct sk_buff`` lies, made for whoever looks."""
        mem = self.sender.mem
        if self._struct is None:
            self._struct = SkbStruct.build(mem, max(len(self.data), 64), 0)
            mem.write(self._struct.data, self.data)
            self._struct.len = len(self.data)
            mem.store(self._struct.address + place("sk_buff", "truesize")[0], 4, self.truesize)
        return self._struct.address

    def free(self) -> None:
        """Give the structure back."""
        if self._struct is not None:
            self._struct.free()
            self._struct = None


def _truesize(size: int) -> int:
    # a linear part without room for headers, from kmalloc, as it is accounted for (GFP_KERNEL_ACCOUNT)
    area = -(-size // 64) * 64 + SHARED_INFO_BYTES
    return SKB_BYTES + (1 << (area - 1).bit_length())


class _Dev:
    # functions of the stack find the network by the device
    __slots__ = ("net",)

    def __init__(self, net: "Net") -> None:
        self.net = net


class UnixSock(Filtered):
    """A ``struct unix_sock``."""

    sk_family = AF_UNIX
    rcu_free, destructor = False, "unix_sock_destructor"

    def __init__(self, k: "SocketKernel", cgroup: Cgroup) -> None:
        super().__init__()
        self.net, self.mem, self.cgroup = k.net, k.mem, cgroup
        self.type = SOCK_STREAM
        self.struct = UnixStruct.alloc(k.mem)
        self.struct.family = AF_UNIX
        self.struct.sndbuf = self.struct.rcvbuf = MEM_DEFAULT
        self.peer_wait = WaitHead(k.mem, k.walks, self.struct.address + place("unix_sock", "peer_wq.wait")[0])
        self.queue: deque[UnixSkb] = deque()
        self.wmem = 0
        self.peer: UnixSock | None = None
        self.name = b""
        self.inode: Inode | None = None
        self.dentry: Dentry | None = None
        # who made it or listened, as the other end sees it
        self.peer_cred = NOBODY
        self.passcred = False
        self.is_dead = False
        self.refs = 1
        self.max_ack_backlog = MAX_DGRAM_QLEN
        self.data_ready: Callable[[Cpu], object] | None = None
        self.error_report: Callable[[Cpu], object] | None = None
        self._state, self._shutdown, self._error = TCP_CLOSE, 0, 0
        self._file: SockFile | None = None
        self._address: UnixAddress | None = None
        self.state = TCP_CLOSE
        self.set_backlog(MAX_DGRAM_QLEN)

    @property
    def struct_address(self) -> int:
        """Where it lies."""
        return self.struct.address

    @property
    def path(self) -> int:
        """Where its ``struct path`` lies."""
        return self.struct.address + place("unix_sock", "path")[0]

    @property
    def state(self) -> int:
        """TCP_ESTABLISHED, TCP_CLOSE or TCP_LISTEN."""
        return self._state

    @state.setter
    def state(self, state: int) -> None:
        self._state = self.struct.state = state

    @property
    def sk_shutdown(self) -> int:
        """RCV_SHUTDOWN, SEND_SHUTDOWN."""
        return self._shutdown

    @sk_shutdown.setter
    def sk_shutdown(self, how: int) -> None:
        self._shutdown = self.struct.shutdown = how

    @property
    def sndbuf(self) -> int:
        """SO_SNDBUF."""
        return int(self.struct.sndbuf)

    @sndbuf.setter
    def sndbuf(self, size: int) -> None:
        self.struct.sndbuf = size

    @property
    def rcvbuf(self) -> int:
        """SO_RCVBUF."""
        return int(self.struct.rcvbuf)

    @rcvbuf.setter
    def rcvbuf(self, size: int) -> None:
        self.struct.rcvbuf = size

    @property
    def is_listening(self) -> bool:
        """SO_ACCEPTCONN."""
        return self._state == TCP_LISTEN

    @property
    def file(self) -> SockFile:
        """What descriptors of it stand for, in maps."""
        if self._file is None:
            self._file = SockFile(self, self.net.next_cookie())
        return self._file

    def set_backlog(self, backlog: int) -> None:
        """Let so many packets or connections wait."""
        self.max_ack_backlog = self.struct.max_ack_backlog = backlog

    def set_peer(self, peer: "UnixSock | None") -> None:
        """Show the other end, which stays as long as somebody knows it."""
        if peer is not None:
            peer.refs += 1
        self.peer, self.struct.peer = peer, peer.struct_address if peer is not None else 0

    def forget_peer(self) -> "UnixSock | None":
        """Have no other end any more; return who it was, whose reference is the caller's now."""
        peer, self.peer, self.struct.peer = self.peer, None, 0
        return peer

    def set_name(self, name: bytes) -> None:
        """Show the name: ``struct sockaddr_un`` as far as it goes."""
        self.name = name
        room = self.mem.alloc(size_of("unix_address") + len(name) + 1, what="struct unix_address")
        self._address = UnixAddress(self.mem, room)
        self._address.refcnt, self._address.len = 1, len(name)
        self.mem.write(room + size_of("unix_address"), name + b"\0")
        self.struct.addr = room

    # ---- the queue -------------------------------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """Whether something waits."""
        return bool(self.queue)

    @property
    def recvq_full(self) -> bool:
        """Whether no more packets or connections may wait (``unix_recvq_full``)."""
        return len(self.queue) > self.max_ack_backlog

    @property
    def writable(self) -> bool:
        """Whether there is room for more (``unix_writable``)."""
        return self._state != TCP_LISTEN and self.wmem << 2 <= self.sndbuf

    def push(self, skb: UnixSkb) -> None:
        """Queue a packet."""
        self.queue.append(skb)
        self._show_queue()

    def unlink(self, skb: UnixSkb) -> None:
        """Take a packet out of the queue."""
        self.queue.remove(skb)
        self._show_queue()

    def _show_queue(self) -> None:
        self.struct.qlen = len(self.queue)

    def charge(self, size: int) -> None:
        """Account for a packet that was sent, or that has gone."""
        self.wmem += size
        self.struct.wmem_alloc = self.wmem

    def queued(self, incoming: bool) -> int:
        """Return how many bytes can be read, or wait at the other end (``unix_inq_len``, ``unix_outq_len``)."""
        if not incoming:
            return self.wmem
        if self.is_listening:
            return -22
        if self.type == SOCK_DGRAM:
            return len(self.queue[0]) if self.queue else 0
        return sum(map(len, self.queue))

    # ---- errors ----------------------------------------------------------------------------------------------------

    @property
    def has_error(self) -> bool:
        """Whether the next call fails."""
        return bool(self._error)

    def put_error(self, errno: int) -> None:
        """Let the next call fail."""
        self._error = self.struct.err = errno

    def take_error(self) -> int:
        """Return the errno that the next call fails with, once."""
        error = self._error
        if error:
            self.put_error(0)
        return error

    # ---- the end ---------------------------------------------------------------------------------------------------

    def destruct(self) -> None:
        """Nobody has the socket any more (``__sk_destruct``)."""
        self._drop_filter()
        if self._file is not None:
            self._file.closed()
        self.net.kernel.forget_owner(MapType.SK_STORAGE, self.struct_address)
        self.peer_wait.free()
        if self._address is not None:
            self._address.free()
        self.struct.free()


class UnixNames:
    """The names of a host's AF_UNIX sockets: abstract ones, and inodes of files (``net->unx.table``)."""

    def __init__(self) -> None:
        # types of sockets have names of their own (unix_abstract_hash)
        self.abstract: dict[tuple[int, bytes], UnixSock] = {}
        self.files: dict[int, UnixSock] = {}
        self.all: list[UnixSock] = []
        self._auto = 0

    def find_file(self, inode: int) -> UnixSock | None:
        """Return the socket that has an inode's name."""
        return self.files.get(inode)

    def free_name(self, kind: int) -> bytes:
        """Return an abstract name that nobody has (``unix_autobind``)."""
        while True:
            self._auto = self._auto + 1 & 0xF_FFFF
            name = b"\x01\0\0%05x" % self._auto
            if (kind, name) not in self.abstract:
                return name

    def remove(self, sk: UnixSock) -> None:
        """Forget a socket and its name."""
        if self.abstract.get((sk.type, sk.name)) is sk:
            del self.abstract[sk.type, sk.name]
        if sk.inode is not None and self.files.get(sk.inode.address) is sk:
            del self.files[sk.inode.address]
        if sk in self.all:
            self.all.remove(sk)


@packet_function
def unix_wfree(cpu: Cpu, skb: UnixSkb) -> None:
    """Let what is in a packet go, and give its sender room."""
    functions: Any = skb.dev.net.functions
    functions.put_pid(cpu, 0)
    functions.sock_wfree(cpu, skb)
