"""Sockets as simulated objects: UDP and ping sockets of an application that reads at once.

Follows net/ipv4/udp.c and net/ipv4/ping.c, v6.18, as far as addresses and ports go. Left out until there are tasks:
blocking, buffers (what arrives is received at once, so nothing is dropped for a full buffer), options, connect(). An
ICMP error about a datagram is kept in ``errors``, as with IP_RECVERR. Differs: free ports are given in ascending order;
a call takes no CPU time and does not wait for a CPU that is busy receiving.
"""

from typing import TYPE_CHECKING, NamedTuple

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.uapi.net import IpProto
from netstack.fib import Route, RouteType
from netstack.headers import ICMP_HLEN, IP_HLEN, UDP_HLEN, format_ip, icmp_bytes, parse_ip, udp_bytes
from netstack.ip_output import ip_route_output, ip_send_skb
from netstack.sock_struct import SockStruct

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["Datagram", "Endpoint", "PingSocket", "SockError", "SocketTable", "UdpSocket"]

# net.ipv4.ip_local_port_range
FIRST_FREE_PORT, LAST_FREE_PORT = 32768, 60999
MAX_DATAGRAM = 0xFFFF - IP_HLEN - UDP_HLEN
ICMP_ECHO = 8
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
        if self._read == len(self.received):
            raise KernelError("recvfrom", Errno.EAGAIN)
        self._read += 1
        return self.received[self._read - 1]


class UdpSocket(_Socket):
    """A bound UDP socket; ``broadcast`` is SO_BROADCAST."""

    def __init__(self, net: "Net", address: int, port: int) -> None:
        super().__init__(net)
        self.address = address
        self.port = port
        self.broadcast = False
        self._struct: SockStruct | None = None

    @property
    def struct(self) -> SockStruct:
        """Its ``struct sock``, made when a program is there to see it."""
        if self._struct is None:
            self._struct = SockStruct(self.net.kernel.mem, IpProto.UDP)
            self._struct.set_bound(self.address, self.port)
        return self._struct

    @property
    def struct_address(self) -> int:
        """Where its ``struct sock`` lies."""
        return self.struct.address

    def __repr__(self) -> str:
        return f"<UdpSocket {self.net.name} {format_ip(self.address)}:{self.port}>"

    def sendto(self, data: bytes, address: str, port: int, cpu: Cpu | None = None) -> None:
        """Send a datagram now (``udp_sendmsg``); KernelError when it cannot be routed or is too long."""
        net, daddr = self.net, parse_ip(address) or LOOPBACK
        if len(data) > MAX_DATAGRAM:
            raise KernelError("sendto", Errno.EMSGSIZE, f"{len(data)} bytes, a datagram holds {MAX_DATAGRAM}")
        if not 0 < port <= 0xFFFF:
            raise KernelError("sendto", Errno.EINVAL, f"port {port}")
        route, saddr = ip_route_output(net, daddr, self.address if net.fib.is_local(self.address) else 0)
        if route.type == RouteType.BROADCAST and not self.broadcast:
            raise KernelError("sendto", Errno.EACCES, f"{address} is a broadcast address")
        _check_size(IP_HLEN + UDP_HLEN + len(data), route)
        cpu = cpu or net.cpus[0]
        net.snmp.inc("UdpOutDatagrams")
        payload = udp_bytes(saddr, daddr, self.port, port, data)
        if ip_send_skb(net, route, saddr, daddr, IpProto.UDP, payload, cpu, df=True, sk=self):
            # ENOBUFS, which udp_send_skb() keeps from sockets without IP_RECVERR
            net.snmp.inc("UdpSndbufErrors")
        net.softnet[cpu.number].settle()

    def close(self) -> None:
        """Free the port."""
        self.net.sockets.remove_udp(self)
        if self._struct is not None:
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
        _check_size(IP_HLEN + ICMP_HLEN + len(data), route)
        cpu = cpu or net.cpus[0]
        self._sequence = self._sequence + 1 & 0xFFFF
        net.snmp.inc("IcmpOutMsgs")
        net.snmp.inc("IcmpOutEchos")
        message = icmp_bytes(ICMP_ECHO, 0, self.ident << 16 | self._sequence, data)
        ip_send_skb(net, route, saddr, daddr, IpProto.ICMP, message, cpu, df=True)
        net.softnet[cpu.number].settle()
        return self._sequence


class SocketTable:
    """The sockets of one host by port."""

    def __init__(self, net: "Net") -> None:
        self._net = net
        self._udp: dict[int, list[UdpSocket]] = {}
        self._ping: dict[int, PingSocket] = {}

    @property
    def any_udp(self) -> bool:
        """Whether any UDP socket is open."""
        return any(self._udp.values())

    def bind_udp(self, address: str, port: int) -> UdpSocket:
        """Return a new socket bound to an address of the host (``0.0.0.0``: any) and a port (0: a free one)."""
        addr = parse_ip(address)
        route = self._net.fib.local.lookup(addr)
        if addr and route is None:
            # a broadcast address is fine too
            raise KernelError("bind", Errno.EADDRNOTAVAIL, f"{address} is not an address of {self._net.name}")
        if not 0 <= port <= 0xFFFF:
            raise KernelError("bind", Errno.EINVAL, f"port {port}")
        port = port or self._free_port()
        users = self._udp.setdefault(port, [])
        if any(not addr or not user.address or user.address == addr for user in users):
            raise KernelError("bind", Errno.EADDRINUSE, f"UDP port {port} of {self._net.name}")
        sock = UdpSocket(self._net, addr, port)
        users.append(sock)
        return sock

    def remove_udp(self, sock: UdpSocket) -> None:
        """Forget a socket."""
        self._udp[sock.port].remove(sock)

    def udp_receivers(self, address: int, port: int, *, broadcast: bool) -> list[UdpSocket]:
        """Return the sockets that get a datagram: the best match, or for a broadcast every match."""
        bound = self._udp.get(port, ())
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


def _check_size(size: int, route: Route) -> None:
    if size > route.dev.mtu:
        raise NotModelled(
            f"IPv4 fragmentation: a packet of {size} bytes, mtu {route.dev.mtu} of '{route.dev.full_name}'"
        )
