"""Sockets as simulated objects: UDP and ping sockets of an application that reads at once.

Follows net/ipv4/udp.c and net/ipv4/ping.c, v6.18, as far as addresses and ports go; ``netstack.socket_api`` makes
sockets of tasks of them, which wait. Left out: buffers (what arrives is received at once, so nothing is dropped for a
full buffer), options. An ICMP error about a datagram is kept in ``errors``, as with IP_RECVERR. Differs: free ports are
given in ascending order; a call takes no CPU time and does not wait for a CPU that is busy receiving.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, MapType
from ebpfsim.uapi.net import IpProto
from hooks.cgroup import Cgroup
from netstack.cgroup_bpf import CgroupSock, SockAddr
from netstack.fib import RouteType
from netstack.filtered import Filtered
from netstack.flow import Flow4
from netstack.headers import IP_HLEN, UDP_HLEN, format_ip, icmp_bytes, parse_ip
from netstack.ip_output import ip_route_output, ip_send, route_output
from netstack.marks import touch
from netstack.reuseport import ReuseportGroup
from netstack.skb import SkBuff
from netstack.sock_file import SockFile
from netstack.sock_struct import SockStruct
from netstack.udp import udp_send

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["FATAL", "Datagram", "Endpoint", "PingSocket", "SockError", "SocketTable", "UdpSocket"]

# net.ipv4.ip_local_port_range
FIRST_FREE_PORT, LAST_FREE_PORT = 32768, 60999
MAX_DATAGRAM = 0xFFFF - IP_HLEN - UDP_HLEN
ICMP_ECHO = 8
RMEM_DEFAULT = 212992  # net.core.rmem_default
# ICMP errors that are final whatever their code (icmp_err_convert[], net/ipv4/icmp.c)
FATAL = (Errno.ECONNREFUSED, Errno.ENOPROTOOPT, Errno.EHOSTDOWN, Errno.ENONET)
LOOPBACK = 0x7F000001  # where packets to 0.0.0.0 go


class Endpoint(NamedTuple):
    """Address as text and port."""

    address: str
    port: int


class Datagram(NamedTuple):
    """What a socket received: when, from whom, which bytes. Ping sockets have the sequence number as port."""

    time_ns: int
    source: Endpoint
    data: bytes


class SockError(NamedTuple):
    """An ICMP error: when, errno, the destination it is about, who reported it (``struct sock_extended_err``)."""

    time_ns: int
    errno: Errno
    destination: Endpoint
    offender: str


class _Socket:
    """What both kinds share: what was received, read by ``recvfrom`` in order, and errors."""

    def __init__(self, net: "Net") -> None:
        self.net = net
        self.received: list[Datagram] = []
        self.errors: list[SockError] = []
        self._read = 0

    def deliver(self, time_ns: int, source: tuple[int, int], data: bytes) -> None:
        """Take data from the protocol."""
        self.received.append(Datagram(time_ns, Endpoint(format_ip(source[0]), source[1]), data))

    def report_error(self, time_ns: int, errno: Errno, destination: tuple[int, int], offender: int) -> None:
        """Take an ICMP error from the protocol."""
        target = Endpoint(format_ip(destination[0]), destination[1])
        self.errors.append(SockError(time_ns, errno, target, format_ip(offender)))

    def recvfrom(self) -> Datagram:
        """Return the next datagram that was not read yet; EAGAIN when there is none."""
        return self.take()

    @property
    def readable(self) -> bool:
        """Whether there is a datagram that was not read yet."""
        return self._read < len(self.received)

    def peek(self) -> Datagram:
        """Return the next datagram, which stays the next one."""
        if self._read == len(self.received):
            raise KernelError("recvfrom", Errno.EAGAIN)
        return self.received[self._read]

    def take(self) -> Datagram:
        """Return the next datagram as it came."""
        if self._read == len(self.received):
            raise KernelError("recvfrom", Errno.EAGAIN)
        self._read += 1
        return self.received[self._read - 1]


class UdpSocket(_Socket, Filtered):
    """A bound UDP socket; ``broadcast`` is SO_BROADCAST, ``reuseport`` SO_REUSEPORT."""

    header_bytes = UDP_HLEN
    # SOCK_RCU_FREE, sk->sk_destruct
    rcu_free, destructor = True, ""

    def __init__(self, net: "Net", cgroup: Cgroup) -> None:
        super().__init__(net)
        # shutdown(2): RCV_SHUTDOWN, SEND_SHUTDOWN
        self.sk_shutdown = 0
        self.cgroup = cgroup
        self.address = self.port = 0
        self.peer: tuple[int, int] | None = None
        Filtered.__init__(self)
        self.broadcast = self.reuseport = False
        self.reuseport_group: ReuseportGroup | None = None
        self._file: SockFile | None = None
        # what a task has not read yet, and how much memory that takes (sk_rmem_alloc, SO_RCVBUF)
        self.queue: deque[SkBuff] = deque()
        # how many of those that wait were seen by a reader before (udp_sk(sk)->reader_queue)
        self.in_reader = 0
        # whether somebody asked for address and port (SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK)
        self.address_locked = self.port_locked = False
        self.rmem, self.rcvbuf, self.drops = 0, RMEM_DEFAULT, 0
        self.sndbuf, self.reuse = RMEM_DEFAULT, False
        # IP_MTU_DISCOVER: IP_PMTUDISC_WANT
        self.pmtudisc = 1
        # IP_TTL, IP_TOS, SO_PRIORITY, SO_MARK; 0 is the default
        self.ttl = self.tos = self.priority = self.mark = 0
        # takes datagrams of a tunnel: True when it did
        self.encap_rcv: Callable[[SkBuff, Cpu], bool] | None = None
        # sk->sk_data_ready, sk->sk_error_report: told after a datagram or an error has come
        self.data_ready: Callable[[Cpu], object] | None = None
        self.error_report: Callable[[Cpu], object] | None = None
        # sk->sk_err: what the next call of a connected socket returns
        self._error = 0
        self._struct: SockStruct | None = None

    @property
    def struct(self) -> SockStruct:
        """Its ``struct sock``, made when a program is there to see it."""
        if self._struct is None:
            self._struct = SockStruct(self.net.kernel.mem, IpProto.UDP)
            self._struct.set_bound(self.address, self.port)
        return self._struct

    def bound_struct(self) -> bool:
        """Show the address that it was bound to in ``struct sock``; whether its cgroup has programs."""
        if self._struct is not None:
            self._struct.set_bound(self.address, self.port)
        return bool(self.cgroup.effective)

    @property
    def is_connected(self) -> bool:
        """Whether it has another end."""
        return self.peer is not None

    @property
    def struct_address(self) -> int:
        """Where its ``struct sock`` lies."""
        return self.struct.address

    def __repr__(self) -> str:
        return f"<UdpSocket {self.net.name} {format_ip(self.address)}:{self.port}>"

    def report_error(self, time_ns: int, errno: Errno, destination: tuple[int, int], offender: int) -> None:
        """Take an ICMP error from the protocol; a connected socket keeps one that is final (``__udp4_lib_err``)."""
        super().report_error(time_ns, errno, destination, offender)
        if self.peer is not None and errno in FATAL:
            self._error = errno

    @property
    def has_error(self) -> bool:
        """Whether the next call fails with an error."""
        return bool(self._error)

    def put_error(self, errno: int) -> None:
        """Let the next call fail."""
        self._error = errno

    def queued(self, incoming: bool) -> int:
        """Return how many bytes the next datagram has, or are yet to be sent (SIOCINQ, SIOCOUTQ)."""
        return len(self.peek().data) if incoming and self.readable else 0

    def take_error(self) -> int:
        """Return the errno that the next call fails with, once (``sock_error``)."""
        error, self._error = self._error, 0
        return error

    def send_to(self, data: bytes, address: int, port: int, cpu: Cpu) -> None:
        """Send a datagram now, with the address as a number (``udp_sendmsg``)."""
        self._send(data, address, port, cpu, saddr=0, op="sendto")

    def sendto(self, data: bytes, address: str, port: int, cpu: Cpu | None = None) -> None:
        """Send a datagram now (``udp_sendmsg``); KernelError when it cannot be routed, is too long or refused."""
        self._send(data, parse_ip(address), port, cpu, saddr=0, op="sendto")

    def connect(self, address: str, port: int, cpu: Cpu | None = None) -> None:
        """Choose whom to talk to (``udp_pre_connect``, ``__ip4_datagram_connect``); programs may choose another."""
        self.connect_to(*self.pre_connect(parse_ip(address), port, cpu or self.net.cpus[0]))

    def pre_connect(self, address: int, port: int, cpu: Cpu) -> tuple[int, int]:
        """Ask programs whom to connect to (``udp_pre_connect``)."""
        done = self._sock_addr("connect", AttachType.CGROUP_INET4_CONNECT, address, port, cpu)
        return done.address, done.port

    def connect_to(self, address: int, port: int) -> None:
        """Choose whom to talk to, without asking anybody (``__ip4_datagram_connect``)."""
        net, op, daddr = self.net, "connect", address or LOOPBACK
        route, saddr = ip_route_output(net, daddr, self.address if net.fib.is_local(self.address) else 0)
        if route.type == RouteType.BROADCAST and not self.broadcast:
            raise KernelError(op, Errno.EACCES, f"{format_ip(daddr)} is a broadcast address")
        self.address = self.address or saddr
        self.peer = (daddr, port)
        self.struct.set_bound(self.address, self.port)
        self.struct.set_peer(*self.peer)

    def disconnected(self) -> None:
        """Have no other end any more, nor an address that came with it (``__udp_disconnect``)."""
        self.peer = None
        if not self.address_locked:
            self.address = 0
        self.struct.set_peer(0, 0)

    def send(self, data: bytes, cpu: Cpu | None = None) -> None:
        """Send a datagram to the other end that ``connect`` chose; EDESTADDRREQ without one."""
        if self.peer is None:
            raise KernelError("send", Errno.EDESTADDRREQ)
        self._send(data, *self.peer, cpu, saddr=0, op="send", connected=True)

    @property
    def file(self) -> SockFile:
        """What descriptors of it stand for."""
        if self._file is None:
            self._file = SockFile(self, self.net.next_cookie())
        return self._file

    def attach_reuseport_bpf(self, prog: Prog, label: str = "") -> None:
        """Let a program choose among the sockets of its group (SO_ATTACH_REUSEPORT_EBPF): EINVAL without one."""
        if self.reuseport_group is None:
            raise KernelError("setsockopt", Errno.EINVAL, "the socket was not bound with SO_REUSEPORT")
        self.reuseport_group.attach_prog(prog, label)

    def detach_reuseport_bpf(self) -> None:
        """Let a hash choose again (SO_DETACH_REUSEPORT_BPF): ENOENT, EINVAL without SO_REUSEPORT."""
        if self.reuseport_group is None:
            raise KernelError("setsockopt", Errno.ENOENT if self.reuseport else Errno.EINVAL)
        self.reuseport_group.detach_prog()

    def getpeername(self, cpu: Cpu | None = None) -> Endpoint:
        """Return the other end; ENOTCONN without one. Programs may show another."""
        if self.peer is None:
            raise KernelError("getpeername", Errno.ENOTCONN)
        cpu = cpu or self.net.cpus[0]
        done = self._sock_addr("getpeername", AttachType.CGROUP_INET4_GETPEERNAME, *self.peer, cpu)
        return Endpoint(format_ip(done.address), done.port)

    def getsockname(self, cpu: Cpu | None = None) -> Endpoint:
        """Return the socket's own address. Programs may show another."""
        kind = AttachType.CGROUP_INET4_GETSOCKNAME
        done = self._sock_addr("getsockname", kind, self.address, self.port, cpu or self.net.cpus[0])
        return Endpoint(format_ip(done.address), done.port)

    def recvfrom(self, cpu: Cpu | None = None) -> Datagram:
        """Return the next datagram that was not read; EAGAIN when there is none. Programs may change the sender."""
        return self.shown(self.take(), cpu)

    def shown(self, found: Datagram, cpu: Cpu | None = None) -> Datagram:
        """Return a datagram with the sender that programs show."""
        kind = AttachType.CGROUP_UDP4_RECVMSG
        if not self.cgroup.effective.get(kind):
            return found
        address, port = parse_ip(found.source.address), found.source.port
        done = self._sock_addr("recvfrom", kind, address, port, cpu or self.net.cpus[0])
        return found._replace(source=Endpoint(format_ip(done.address), done.port))

    def _sock_addr(self, op: str, kind: AttachType, address: int, port: int, cpu: Cpu, source: int = 0) -> SockAddr:
        done = self.net.cgroup_bpf.run_filter_sock_addr(self, kind, address, port, cpu, source)
        if done.err:
            raise KernelError(op, -done.err, f"a program of cgroup '{self.cgroup.path}' refused")
        return done

    def _send(
        self, data: bytes, daddr: int, port: int, cpu: Cpu | None, *, saddr: int, op: str, connected: bool = False
    ) -> None:
        net = self.net
        cpu = cpu or net.cpus[0]
        if len(data) > MAX_DATAGRAM:
            raise KernelError(op, Errno.EMSGSIZE, f"{len(data)} bytes, a datagram holds {MAX_DATAGRAM}")
        if not connected and self.cgroup.effective:
            done = self._sock_addr(op, AttachType.CGROUP_UDP4_SENDMSG, daddr, port, cpu, self.address)
            daddr, port, saddr = done.address, done.port, done.source
        if not 0 < port <= 0xFFFF:
            raise KernelError(op, Errno.EINVAL, f"port {port}")
        saddr = saddr or self.address
        daddr = daddr or LOOPBACK
        saddr = saddr if net.fib.is_local(saddr) else 0
        flow = Flow4(net, daddr, saddr, IpProto.UDP, self.port, port, tos=self.tos, mark=self.mark)
        if connected:
            # sk_dst_check(): the socket has its way
            route, saddr = ip_route_output(net, daddr, saddr, flow)
            if net.functions.watched:
                touch(cpu, "sk_dst_check", "ipv4_dst_check", sock=self)
        else:
            route, saddr = route_output(net, cpu, flow, self)
        if route.type == RouteType.BROADCAST and not self.broadcast:
            raise KernelError(op, Errno.EACCES, f"{format_ip(daddr)} is a broadcast address")
        err = udp_send(cpu, self, route, (saddr, daddr, port), data)
        net.softnet[cpu.number].settle()
        if err < 0:
            raise KernelError(op, -err, f"a program of cgroup '{self.cgroup.path}' refused")
        net.snmp.inc("UdpOutDatagrams")
        if err:
            # ENOBUFS, which udp_send_skb() keeps from sockets without IP_RECVERR
            net.snmp.inc("UdpSndbufErrors")

    def has_struct_at(self, address: int) -> bool:
        """Tell whether its ``struct sock`` was made and lies there."""
        return self._struct is not None and self._struct.address == address

    def left_tables(self) -> None:
        """Leave the maps of sockets (``bpf_sk_reuseport_detach``), as one that nobody can send to."""
        if self._file is not None:
            self._file.closed()

    def close(self) -> None:
        """Free the port; programs hear of it (``inet_release``)."""
        self.net.cgroup_bpf.run_filter_sk(self, AttachType.CGROUP_INET_SOCK_RELEASE, self.net.cpus[0])
        self.net.sockets.remove_udp(self)
        self.destruct()

    def destruct(self) -> None:
        """Let go what a closed socket holds (``sk_destruct``)."""
        self._drop_filter()
        if self._struct is not None:
            self.net.kernel.forget_owner(MapType.SK_STORAGE, self._struct.address)
            self._struct.free()
            self._struct = None


class PingSocket(_Socket):
    """An ICMP echo socket (``socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)``); ``ident`` is its id."""

    def __init__(self, net: "Net", ident: int) -> None:
        super().__init__(net)
        self.ident = ident
        self._sequence = 0

    def send_echo(self, address: str, data: bytes = b"", cpu: Cpu | None = None) -> int:
        """Send an echo request now and return its sequence number, counted from 1."""
        net, daddr = self.net, parse_ip(address) or LOOPBACK
        route, saddr = ip_route_output(net, daddr)
        cpu = cpu or net.cpus[0]
        self._sequence = self._sequence + 1 & 0xFFFF
        net.snmp.inc("IcmpOutMsgs")
        net.snmp.inc("IcmpOutEchos")
        message = icmp_bytes(ICMP_ECHO, 0, self.ident << 16 | self._sequence, data)
        ip_send(net, route, saddr, daddr, IpProto.ICMP, message, cpu, df=True)
        net.softnet[cpu.number].settle()
        return self._sequence


class SocketTable:
    """The sockets of one host by port."""

    def __init__(self, net: "Net") -> None:
        self._net = net
        self._udp: dict[int, list[UdpSocket]] = {}
        self._ping: dict[int, PingSocket] = {}
        self._nr_groups = 0

    @property
    def any_udp(self) -> bool:
        """Whether any UDP socket is open."""
        return any(self._udp.values())

    def has_udp(self, port: int) -> bool:
        """Whether a UDP socket has a port."""
        return bool(self._udp.get(port))

    def bind_udp(self, address: str, port: int, cgroup: Cgroup, *, reuseport: bool = False) -> UdpSocket:
        """Return a new socket bound to an address of the host (``0.0.0.0``: any) and a port (0: a free one).

        Programs of its cgroup are asked when it is made, before it is bound, and after.
        """
        addr, cpu = parse_ip(address), self._net.cpus[0]
        sock = self.create_udp(cgroup, cpu)
        sock.reuseport = reuseport
        if (addr or port) and cgroup.effective:
            done = self.ask_bind(sock, addr, port, cpu)
            addr, port = done.address, done.port
        self.check_address(addr)
        self.get_port(sock, addr, port)
        self.post_bind(sock, cpu)
        return sock

    def create_udp(self, cgroup: Cgroup, cpu: Cpu) -> UdpSocket:
        """Return a new socket without address and port; programs of its cgroup may refuse it (``inet_create``)."""
        sock = UdpSocket(self._net, cgroup)
        _refused("socket", self._net.cgroup_bpf.run_filter_sk(sock, AttachType.CGROUP_INET_SOCK_CREATE, cpu))
        return sock

    def ask_bind(self, sock: CgroupSock, address: int, port: int, cpu: Cpu) -> SockAddr:
        """Ask programs where to bind a socket (``inet_bind_sk``)."""
        done = self._net.cgroup_bpf.run_filter_sock_addr(sock, AttachType.CGROUP_INET4_BIND, address, port, cpu)
        _refused("bind", done.err)
        return done

    def check_address(self, address: int) -> None:
        """EADDRNOTAVAIL unless a socket can have that address; a broadcast address is fine too."""
        if address and self._net.fib.local.lookup(address) is None:
            raise KernelError(
                "bind", Errno.EADDRNOTAVAIL, f"{format_ip(address)} is not an address of {self._net.name}"
            )

    def get_port(self, sock: UdpSocket, address: int, port: int) -> None:
        """Give a socket an address and a port, 0 for a free one; EADDRINUSE (``udp_lib_get_port``)."""
        if not 0 <= port <= 0xFFFF:
            raise KernelError("bind", Errno.EINVAL, f"port {port}")
        port = port or self._free_port()
        users = self._udp.setdefault(port, [])
        rivals = [user for user in users if not address or not user.address or user.address == address]
        if any(not (sock.reuseport and user.reuseport) for user in rivals):
            raise KernelError("bind", Errno.EADDRINUSE, f"UDP port {port} of {self._net.name}")
        sock.address, sock.port = address, port
        users.append(sock)
        if sock.reuseport:
            self._add_to_group(sock, users)

    def _add_to_group(self, sock: UdpSocket, users: list[UdpSocket]) -> None:
        # udp_reuseport_add_sock(): those with the same address are one group
        groups = [user.reuseport_group for user in users if user.address == sock.address]
        group = next((group for group in groups if group is not None), None)
        if group is None:
            self._nr_groups += 1
            group = ReuseportGroup(self._net, self._nr_groups, bind_inany=not sock.address)
        group.add(sock)

    def post_bind(self, sock: UdpSocket, cpu: Cpu) -> None:
        """Ask programs about a socket that was bound; when they refuse, it is not (``__inet_bind``)."""
        if sock.bound_struct():
            err = self._net.cgroup_bpf.run_filter_sk(sock, AttachType.CGROUP_INET4_POST_BIND, cpu)
            if err:
                self.remove_udp(sock)
                sock.address = sock.port = 0
                _refused("bind", err)

    def remove_udp(self, sock: UdpSocket) -> None:
        """Forget a socket that was bound."""
        if sock in self._udp.get(sock.port, ()):
            self._udp[sock.port].remove(sock)
        if sock.reuseport_group is not None:
            sock.reuseport_group.remove(sock)
        sock.left_tables()

    def udp_sockets(self) -> list[UdpSocket]:
        """Return all UDP sockets that have a port."""
        return [sock for users in self._udp.values() for sock in users]

    def udp_at(self, address: int) -> UdpSocket | None:
        """Return the socket whose ``struct sock`` lies at an address, or None."""
        bound = (sock for users in self._udp.values() for sock in users)
        return next((sock for sock in bound if sock.has_struct_at(address)), None)

    def udp_receivers(
        self, address: int, port: int, *, broadcast: bool, source: tuple[int, int] | None = None
    ) -> list[UdpSocket]:
        """Return the sockets that get a datagram: the best match, or for a broadcast every match.

        A connected socket gets those of its other end only (``source``), and before all others (compute_score).
        """
        bound = [sock for sock in self._udp.get(port, ()) if sock.peer is None or sock.peer == source]
        connected = [sock for sock in bound if sock.peer is not None and sock.address == address]
        if connected and not broadcast:
            return connected[:1]
        if broadcast:
            return [sock for sock in bound if not sock.address or sock.address == address]
        exact = [sock for sock in bound if sock.address == address]
        return (exact or [sock for sock in bound if not sock.address])[:1]

    def ping(self) -> PingSocket:
        """Return a new echo socket with an id of its own."""
        ident = len(self._ping) + 1
        self._ping[ident] = PingSocket(self._net, ident)
        return self._ping[ident]

    def find_ping(self, ident: int) -> PingSocket | None:
        """Return the echo socket with that id, or None."""
        return self._ping.get(ident)

    def _free_port(self) -> int:
        for port in range(FIRST_FREE_PORT, LAST_FREE_PORT + 1):
            if not self._udp.get(port):
                return port
        raise KernelError("bind", Errno.EADDRINUSE, "no free port is left")


def _refused(op: str, err: int) -> None:
    if err:
        raise KernelError(op, -err, "a program of the socket's cgroup refused")
