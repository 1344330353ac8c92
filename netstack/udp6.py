"""UDP over IPv6: datagrams to and from sockets of applications that read at once (net/ipv6/udp.c, v6.18).

Sockets of tasks are in inet6.py and udpv6.py.
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.net import IpProto
from netstack.drop_reasons import SkbDropReason
from netstack.headers import UDP_HLEN, UdpHdr, format_ip6
from netstack.headers6 import (
    Ip6Hdr,
    checksum6,
    icmp6_bytes,
    is_link_local,
    is_multicast6,
    parse_ip6,
    udp6_bytes,
)
from netstack.icmpv6 import ECHO_REQUEST, count_out
from netstack.ip6_output import ip6_send
from netstack.marks import touch
from netstack.sk_lookup import bpf_sk_lookup_run_v6
from netstack.skb import SkBuff
from netstack.sock import FIRST_FREE_PORT, Datagram, Endpoint, SockError, UdpSocket
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["PingSocket6", "SocketTable6", "UdpSocket6"]

DEST_UNREACH, PORT_UNREACH = 1, 4
MAX_DATAGRAM = 0xFFFF - UDP_HLEN


class _Socket6:
    def __init__(self, net: "Net") -> None:
        self.net = net
        self.received: list[Datagram] = []
        self.errors: list[SockError] = []
        self._read = 0

    def deliver(self, time_ns: int, source: tuple[int, int], data: bytes) -> None:
        """Take data from the protocol."""
        self.received.append(Datagram(time_ns, Endpoint(format_ip6(source[0]), source[1]), data))

    def report_error(self, time_ns: int, errno: Errno, destination: tuple[int, int], offender: int) -> None:
        """Take an ICMPv6 error from the protocol."""
        target = Endpoint(format_ip6(destination[0]), destination[1])
        self.errors.append(SockError(time_ns, errno, target, format_ip6(offender)))

    def recvfrom(self) -> Datagram:
        """Return the next datagram that was not read yet; EAGAIN when there is none."""
        if self._read == len(self.received):
            raise KernelError("recvfrom", Errno.EAGAIN)
        self._read += 1
        return self.received[self._read - 1]


class UdpSocket6(_Socket6):
    """A bound UDP socket of IPv6."""

    # those of tasks may be connected (``netstack.udpv6``)
    peer6: tuple[int, int] | None = None

    def __init__(self, net: "Net", address: int, port: int) -> None:
        super().__init__(net)
        self.address, self.port = address, port

    @property
    def struct_address(self) -> int:
        """No ``struct sock`` of it is modelled."""
        return 0

    @property
    def cgroup(self) -> Any:
        """It is in the root."""
        return self.net.kernel.cgroups.root

    def sendto(self, data: bytes, address: str, port: int, cpu: Cpu | None = None, *, device: str = "") -> None:
        """Send a datagram now (``udpv6_sendmsg``); ``device`` names the link of a link-local address."""
        net = self.net
        cpu = cpu or net.cpus[0]
        daddr = parse_ip6(address) or 1
        if len(data) > MAX_DATAGRAM:
            raise KernelError("sendto", Errno.EMSGSIZE, f"{len(data)} bytes")
        if not 0 < port <= 0xFFFF or (is_link_local(daddr) and not device):
            raise KernelError("sendto", Errno.EINVAL, f"port {port}, address {address}")
        route, saddr = net.ipv6.route_output(daddr, self.address, net.devices[device] if device else None)
        datagram = udp6_bytes(saddr, daddr, self.port, port, data)
        ip6_send(net, route, saddr, daddr, IpProto.UDP, datagram, cpu)
        net.softnet[cpu.number].settle()
        net.snmp.inc("Udp6OutDatagrams")

    def close(self) -> None:
        """Free the port."""
        self.net.sockets6.remove(self)


class PingSocket6(_Socket6):
    """An ICMPv6 echo socket."""

    def __init__(self, net: "Net", ident: int) -> None:
        super().__init__(net)
        self.ident, self._sequence = ident, 0

    def send_echo(self, address: str, data: bytes = b"", cpu: Cpu | None = None, *, device: str = "") -> int:
        """Send an echo request now and return its sequence number, counted from 1."""
        net, daddr = self.net, parse_ip6(address) or 1
        cpu = cpu or net.cpus[0]
        route, saddr = net.ipv6.route_output(daddr, 0, net.devices[device] if device else None)
        self._sequence = self._sequence + 1 & 0xFFFF
        count_out(net, ECHO_REQUEST)
        message = icmp6_bytes(saddr, daddr, ECHO_REQUEST, 0, self.ident << 16 | self._sequence, data)
        ip6_send(net, route, saddr, daddr, IpProto.ICMPV6, message, cpu)
        net.softnet[cpu.number].settle()
        return self._sequence


class SocketTable6:
    """The IPv6 sockets of one host by port."""

    def __init__(self, net: "Net") -> None:
        self._net = net
        self._udp: dict[int, list[UdpSocket6]] = {}
        self._ping: dict[int, PingSocket6] = {}

    def bind(self, address: str, port: int) -> UdpSocket6:
        """Return a new socket bound to an address of the host (``::``: any) and a port (0: a free one)."""
        wanted = parse_ip6(address)
        if wanted and not self._net.ipv6.is_local(wanted):
            raise KernelError("bind", Errno.EADDRNOTAVAIL, f"{address} is not an address of {self._net.name}")
        if not 0 <= port <= 0xFFFF:
            raise KernelError("bind", Errno.EINVAL, f"port {port}")
        port = port or next(number for number in range(FIRST_FREE_PORT, 0x10000) if not self._udp.get(number))
        users = self._udp.setdefault(port, [])
        if any(not wanted or not user.address or user.address == wanted for user in users):
            raise KernelError("bind", Errno.EADDRINUSE, f"UDP port {port} of {self._net.name}")
        users.append(UdpSocket6(self._net, wanted, port))
        return users[-1]

    def get_port(self, sock: Any, address: int, port: int) -> None:
        """Give a task's socket a port, 0 for a free one, in both families if it speaks both; EADDRINUSE."""
        v4 = self._net.sockets
        both = not sock.v6only and (sock.is_v4 or not address)
        if not port:
            port = next(
                number
                for number in range(FIRST_FREE_PORT, 0x10000)
                if not self._udp.get(number) and not v4.has_udp(number)
            )
        if both:
            v4.get_port(sock, address, port)
        if not sock.is_v4:
            rivals = [user for user in self._udp.get(port, ()) if user is not sock]
            shared = all(sock.reuseport and getattr(user, "reuseport", False) for user in rivals)
            if not shared and any(not address or not user.address or user.address == address for user in rivals):
                if both:
                    v4.remove_udp(sock)
                    sock.port = 0
                raise KernelError("bind", Errno.EADDRINUSE, f"UDP port {port} of {self._net.name}")
            self._udp.setdefault(port, []).append(sock)
        sock.address, sock.port = address, port

    def remove_task(self, sock: Any) -> None:
        """Forget a task's socket, if it is here."""
        if sock in self._udp.get(sock.port, ()):
            self._udp[sock.port].remove(sock)

    def remove(self, sock: UdpSocket6) -> None:
        """Forget a socket."""
        self._udp[sock.port].remove(sock)

    def receivers(self, address: int, port: int, source: tuple[int, int]) -> list[UdpSocket6]:
        """Return the socket that gets a datagram: one that is connected, one of that address, or one of any."""
        users = [user for user in self._udp.get(port, []) if user.peer6 in (None, source)]
        connected = [user for user in users if user.peer6 is not None and user.address == address]
        if connected:
            return connected[:1]
        exact = [user for user in users if user.address == address]
        return (exact or [user for user in users if not user.address])[:1]

    def ping(self) -> PingSocket6:
        """Return a new echo socket."""
        ident = len(self._ping) + 1
        self._ping[ident] = PingSocket6(self._net, ident)
        return self._ping[ident]

    def find_ping(self, ident: int) -> PingSocket6 | None:
        """Return the echo socket with that id, or None."""
        return self._ping.get(ident)


@packet_function
def udpv6_rcv(cpu: Cpu, skb: SkBuff) -> int:
    """Take a datagram from IPv6."""
    result: int = skb.dev.net.functions.__udp6_lib_rcv(cpu, skb, None, IpProto.UDP)
    return result


@packet_function
def __udp6_lib_rcv(cpu: Cpu, skb: SkBuff, _table: Any, _proto: int) -> int:
    """Check a datagram and give it to whom it is for."""
    net, off = skb.dev.net, skb.transport_header
    ip = Ip6Hdr.unpack(skb.data, skb.network_header)
    size = len(skb.data) - off
    udp = UdpHdr.unpack(skb.data, off) if size >= UDP_HLEN else None
    if udp is None or not UDP_HLEN <= udp.len <= size:
        net.snmp.inc("Udp6InErrors")
        skb.drop(SkbDropReason.PKT_TOO_SMALL, "short UDP datagram", cpu, "__udp6_lib_rcv")
        return 0
    datagram = skb.data[off : off + udp.len]
    if not udp.check or checksum6(ip.saddr, ip.daddr, IpProto.UDP, datagram):
        # RFC 8200, 8.1: a checksum of zero is wrong
        net.snmp.inc("Udp6InCsumErrors")
        net.snmp.inc("Udp6InErrors")
        skb.drop(SkbDropReason.UDP_CSUM, "", cpu, "__udp6_lib_rcv")
        return 0
    if net.functions.watched:
        touch(cpu, "__udp6_lib_lookup", net=net, sk_buff=skb)
    found = net.sockets6.receivers(ip.daddr, udp.dest, (ip.saddr, udp.source))
    # programs cannot choose one of these sockets, but may say that there is none
    if bpf_sk_lookup_run_v6(net, skb, (ip.saddr, udp.source, ip.daddr, udp.dest), IpProto.UDP, cpu).refused:
        found = []
    if not found and is_multicast6(ip.daddr):
        net.snmp.inc("Udp6IgnoredMulti")
        skb.consume(cpu, "__udp6_lib_rcv")
        return 0
    if not found:
        net.snmp.inc("Udp6NoPorts")
        net.functions.icmp6_send(cpu, skb, DEST_UNREACH, PORT_UNREACH, 0, 0, None)
        skb.drop(SkbDropReason.NO_SOCKET, "", cpu, "__udp6_lib_rcv")
        return 0
    if net.functions.watched:
        touch(cpu, "udp6_unicast_rcv_skb", sk_buff=skb)
    result: int = net.functions.udpv6_queue_rcv_skb(cpu, found[0], skb)
    return result


@packet_function
def udpv6_queue_rcv_skb(cpu: Cpu, sock: UdpSocket6, skb: SkBuff) -> int:
    """Give a datagram to a socket."""
    result: int = skb.dev.net.functions.udpv6_queue_rcv_one_skb(cpu, sock, skb)
    return result


@packet_function
def udpv6_queue_rcv_one_skb(cpu: Cpu, sock: UdpSocket6, skb: SkBuff) -> int:
    """Give a datagram to a socket."""
    net, off = skb.dev.net, skb.transport_header
    ip, udp = Ip6Hdr.unpack(skb.data, skb.network_header), UdpHdr.unpack(skb.data, off)
    skb.pulled = off + UDP_HLEN
    if isinstance(sock, UdpSocket):
        return _to_task(cpu, sock, skb)
    net.snmp.inc("Udp6InDatagrams")
    sock.deliver(cpu.now_ns, (ip.saddr, udp.source), skb.data[off + UDP_HLEN : off + udp.len])
    skb.release()
    return 0


def _to_task(cpu: Cpu, sock: Any, skb: SkBuff) -> int:
    # udpv6_queue_rcv_one_skb(), __udp_enqueue_schedule_skb(): for a socket of a task
    net = skb.dev.net
    if net.functions.watched or sock.cgroup.effective or sock.filter is not None:
        reason = _Reason()
        if net.functions.sk_filter_trim_cap(cpu, sock, skb, UDP_HLEN, reason):
            net.snmp.inc("Udp6InErrors")
            sock.drops += 1
            skb.drop(SkbDropReason(reason.value), "", cpu, "udpv6_queue_rcv_one_skb")
            return -1
    if net.functions.watched:
        touch(cpu, "skb_pull_rcsum", sk_buff=skb)
    if net.functions.__dict__["__udp_enqueue_schedule_skb"](cpu, sock, skb):
        net.snmp.inc("Udp6RcvbufErrors")
        net.snmp.inc("Udp6InErrors")
        skb.drop(SkbDropReason.SOCKET_RCVBUFF, "", cpu, "udpv6_queue_rcv_one_skb")
        return -1
    return 0


class _Reason:
    # an ``enum skb_drop_reason *``
    struct_address = 0

    def __init__(self) -> None:
        self.value = 0
