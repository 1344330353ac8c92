"""UDP sockets of tasks over IPv6, and over IPv4 by addresses that are mapped (net/ipv6/udp.c, v6.18)."""

from typing import TYPE_CHECKING

from ebpfsim.btf.view import place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import IpProto
from hooks.cgroup import Cgroup
from netstack.fib import Route
from netstack.headers import format_ip, format_ip6
from netstack.headers6 import is_link_local, udp6_bytes
from netstack.ip6_output import ip6_send
from netstack.marks import touch
from netstack.sock import FATAL, LOOPBACK, Datagram, Endpoint, SockError, UdpSocket
from netstack.sock_struct import SockStruct

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["MAPPED", "Udp6Sock", "is_mapped", "mapped"]

AF_INET6, SOCK_DGRAM = 10, 2
MAPPED = 0xFFFF << 32  # ::ffff:0.0.0.0
LOOPBACK6 = 1
MAX_DATAGRAM = 0xFFFF - 8
_DADDR, _RCV_SADDR = (place("sock_common", name)[0] for name in ("skc_v6_daddr", "skc_v6_rcv_saddr"))


def is_mapped(address: int) -> bool:
    """Whether an address is one of IPv4 in IPv6 (``ipv6_addr_v4mapped``)."""
    return address >> 32 == 0xFFFF


def mapped(address: int) -> int:
    """Return an address of IPv4 in IPv6."""
    return MAPPED | address


class Udp6Sock(UdpSocket):
    """A UDP socket of AF_INET6.

    ``address`` is of IPv6, or of IPv4 when ``is_v4``; ``peer6`` is the other end in IPv6, ``peer`` one in IPv4.
    """

    sk_family = AF_INET6

    def __init__(self, net: "Net", cgroup: Cgroup) -> None:
        super().__init__(net, cgroup)
        self.v6only = self.is_v4 = False
        self.peer6: tuple[int, int] | None = None
        self.hops, self.tclass, self.bound_dev_if = -1, 0, 0

    @property
    def struct(self) -> SockStruct:
        """Its ``struct sock``."""
        if self._struct is None:
            mem = self.net.kernel.mem
            self._struct = SockStruct(mem, IpProto.UDP, SOCK_DGRAM, size_of("udp6_sock"))
            mem.store(self._struct.address + 16, 2, AF_INET6)
        return self._struct

    @property
    def is_connected(self) -> bool:
        """Whether it has another end."""
        return self.peer is not None or self.peer6 is not None

    @property
    def own(self) -> int:
        """Its own address in IPv6."""
        return mapped(self.address) if self.is_v4 else self.address

    def bound_struct(self) -> bool:
        """Show the address that it is bound to; whether its cgroup has programs."""
        struct = self.struct
        struct.set_bound(self.address if self.is_v4 else 0, self.port)
        struct.mem.write(struct.address + _RCV_SADDR, self.own.to_bytes(16, "big"))
        return bool(self.cgroup.effective)

    def show_peer(self, address: int, port: int) -> None:
        """Show the other end."""
        struct = self.struct
        struct.set_peer(address & 0xFFFF_FFFF if is_mapped(address) else 0, port)
        struct.mem.write(struct.address + _DADDR, address.to_bytes(16, "big"))
        self.bound_struct()

    def disconnected(self) -> None:
        """Have no other end any more, nor an address that came with it."""
        self.peer6 = None
        if not self.address_locked:
            self.is_v4 = False
        super().disconnected()
        self.show_peer(0, 0)

    # ---- in --------------------------------------------------------------------------------------------------------

    def deliver(self, time_ns: int, source: tuple[int, int], data: bytes) -> None:
        """Take data from UDP over IPv4."""
        self.received.append(Datagram(time_ns, Endpoint("::ffff:" + format_ip(source[0]), source[1]), data))

    def deliver6(self, time_ns: int, source: tuple[int, int], data: bytes) -> None:
        """Take data from UDP over IPv6."""
        self.received.append(Datagram(time_ns, Endpoint(format_ip6(source[0]), source[1]), data))

    def report_error(self, time_ns: int, errno: Errno, destination: tuple[int, int], offender: int) -> None:
        """Take an error from ICMP or ICMPv6; a connected socket keeps one that is final."""
        address, port = destination
        is_v4 = address <= 0xFFFF_FFFF and self.peer6 is None
        target = Endpoint(format_ip(address) if is_v4 else format_ip6(address), port)
        self.errors.append(SockError(time_ns, errno, target, format_ip(offender) if is_v4 else format_ip6(offender)))
        if destination in (self.peer, self.peer6) and errno in FATAL:
            self.put_error(errno)

    # ---- out -------------------------------------------------------------------------------------------------------

    def connect6(self, address: int, port: int, scope: int) -> None:
        """Choose whom to talk to (``__ip6_datagram_connect``): ENETUNREACH, EINVAL, EACCES."""
        address = address or (mapped(LOOPBACK) if self.is_v4 else LOOPBACK6)
        if is_mapped(address):
            if self.v6only:
                raise KernelError("connect", Errno.ENETUNREACH)
            self.is_v4 = self.is_v4 or not self.address
            self.connect_to(address & 0xFFFF_FFFF, port)
            self.peer6 = None
            self.show_peer(address, port)
            return
        _, saddr = self.route_to(address, scope, "connect")
        self.address = self.address or saddr
        self.peer, self.peer6 = None, (address, port)
        self.show_peer(address, port)

    def route_to(self, address: int, scope: int, op: str) -> tuple[Route, int]:
        """Return the way to an address: EAFNOSUPPORT, EINVAL, ENODEV, ENETUNREACH."""
        net = self.net
        if self.is_v4:
            # ip6_dst_lookup_tail()
            raise KernelError(op, Errno.EAFNOSUPPORT, "the socket has an address of IPv4")
        index = scope or self.bound_dev_if
        if is_link_local(address) and not index:
            errno = Errno.EINVAL if op == "connect" else Errno.ENETUNREACH
            raise KernelError(op, errno, f"{format_ip6(address)} without a device")
        dev = next((each for each in net.devices.values() if each.ifindex == index), None) if index else None
        if index and dev is None:
            raise KernelError(op, Errno.ENODEV)
        return net.ipv6.route_output(address, self.address, dev)

    def send6(self, data: bytes, address: int, port: int, scope: int, cpu: Cpu, *, connected: bool = False) -> None:
        """Send a datagram over IPv6 (``udpv6_sendmsg``): EMSGSIZE, EINVAL, what programs and routes say."""
        net = self.net
        if len(data) > MAX_DATAGRAM:
            raise KernelError("sendto", Errno.EMSGSIZE)
        saddr = 0
        if not connected and self.cgroup.effective:
            done = net.cgroup_bpf.run_filter_sock_addr6(
                self, AttachType.CGROUP_UDP6_SENDMSG, address, port, cpu, self.address
            )
            if done.err:
                raise KernelError("sendto", -done.err)
            address, port, saddr = done.address, done.port, done.source
        if not port:
            raise KernelError("sendto", Errno.EINVAL)
        address = address or LOOPBACK6
        route, found = self.route_to(address, scope, "sendto")
        saddr = saddr or self.address or found
        if net.functions.watched:
            touch(
                cpu,
                "fl6_update_dst",
                "security_sk_classify_flow",
                "ip6_sk_dst_lookup_flow",
                "ip6_dst_hoplimit",
                sock=self,
            )
            touch(cpu, "ip6_make_skb", "udp_v6_send_skb", sock=self)
        datagram = udp6_bytes(saddr, address, self.port, port, data)
        hops = self.hops if self.hops > 0 else 0
        err = ip6_send(net, route, saddr, address, IpProto.UDP, datagram, cpu, hop_limit=hops, sk=self)
        net.softnet[cpu.number].settle()
        if err < 0:
            raise KernelError("sendto", -err)
        net.snmp.inc("Udp6OutDatagrams")
