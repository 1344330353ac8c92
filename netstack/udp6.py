"""UDP over IPv6: datagrams to and from sockets of applications that read at once (net/ipv6/udp.c, v6.18).

Left out: sockets of tasks, addresses of IPv4 in IPv6, connected sockets, programs of cgroups for IPv6.
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
from netstack.sk_lookup import bpf_sk_lookup_run_v6
from netstack.skb import SkBuff
from netstack.sock import FIRST_FREE_PORT, Datagram, Endpoint, SockError
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

    def remove(self, sock: UdpSocket6) -> None:
        """Forget a socket."""
        self._udp[sock.port].remove(sock)

    def receivers(self, address: int, port: int, _source: tuple[int, int]) -> list[UdpSocket6]:
        """Return the socket that gets a datagram: one of that address, or one of any."""
        users = self._udp.get(port, [])
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
    net.snmp.inc("Udp6InDatagrams")
    sock.deliver(cpu.now_ns, (ip.saddr, udp.source), skb.data[off + UDP_HLEN : off + udp.len])
    skb.release()
    return 0
