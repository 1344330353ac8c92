"""Raw sockets over IPv4: what they are, and what they receive (net/ipv4/raw.c, v6.18).

What tasks do with them is in ``netstack.raw_calls``.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.uapi.net import IpProto
from hooks.cgroup import Cgroup
from netstack.drop_reasons import SkbDropReason
from netstack.marks import touch
from netstack.skb import SkBuff
from netstack.sock import UdpSocket
from netstack.sock_struct import SKC_STATE, TCP_ESTABLISHED, SockStruct
from tracing.functions import packet_function

__all__ = ["RawSock", "queue_rcv_skb", "received"]

SOCK_RAW = 3


class RawSock(UdpSocket):
    """A raw socket: ``number`` is the protocol that it is for."""

    header_bytes = 0

    def __init__(self, net: Any, cgroup: Cgroup) -> None:
        super().__init__(net, cgroup)
        self.has_options = False
        self.number, self.hdrincl, self.icmp_filter, self.bound_dev_if = 0, False, 0, 0

    @property
    def struct(self) -> SockStruct:
        """Its ``struct sock``."""
        if self._struct is None:
            self._struct = SockStruct(self.net.kernel.mem, self.number, SOCK_RAW)
        return self._struct

    @property
    def protocol(self) -> int:
        """The protocol that it is for."""
        return self.number

    @property
    def readable(self) -> bool:
        """Whether a packet waits."""
        return bool(self.queue)

    def queued(self, incoming: bool) -> int:
        """Return how many bytes the next packet has (``raw_ioctl``)."""
        return len(self.queue[0].data) - self.queue[0].network_header if incoming and self.queue else 0

    def connect_to(self, address: int, port: int) -> None:
        """Choose whom to talk to."""
        super().connect_to(address, port)
        self.struct.mem.store(self.struct_address + SKC_STATE, 1, TCP_ESTABLISHED)

    def takes(self, protocol: int, source: int, destination: int, device: int) -> bool:
        """Whether a packet is for this socket (``raw_v4_match``)."""
        return (
            self.number == protocol
            and (self.peer is None or self.peer[0] == source)
            and (not self.address or self.address == destination)
            and (not self.bound_dev_if or self.bound_dev_if == device)
        )


@packet_function
def raw_local_deliver(cpu: Cpu, skb: SkBuff, protocol: int) -> int:
    """Give copies of a packet to raw sockets: whether there is one for that protocol."""
    net, found = skb.dev.net, 0
    if not net.raw_sockets:
        return 0
    at = skb.network_header
    source, destination = (int.from_bytes(skb.data[at + off : at + off + 4], "big") for off in (12, 16))
    for sock in list(net.raw_sockets):
        if isinstance(sock, RawSock) and sock.takes(protocol, source, destination, skb.skb_iif):
            found = 1
            if net.functions.watched:
                touch(cpu, "ip_mc_sf_allow", sock=sock)
            kind = skb.data[skb.transport_header] if len(skb.data) > skb.transport_header else 255
            if protocol == IpProto.ICMP and kind < 32 and sock.icmp_filter >> kind & 1:
                continue
            if net.functions.watched:
                touch(cpu, "skb_clone", sk_buff=skb)
            net.functions.raw_rcv(cpu, sock, skb.clone())
    return found


@packet_function
def raw_rcv(cpu: Cpu, sock: RawSock, skb: SkBuff) -> int:
    """Give a packet to a raw socket, from its IP header on."""
    net = skb.dev.net
    if net.functions.watched:
        touch(cpu, "skb_push", "ipv4_pktinfo_prepare", sk_buff=skb, sock=sock)
    skb.pulled = skb.network_header
    if net.functions.sock_queue_rcv_skb_reason(cpu, sock, skb, None):
        skb.release()
    return 0


@packet_function
def sock_queue_rcv_skb_reason(cpu: Cpu, sock: Any, skb: SkBuff, _reason: Any) -> int:
    """Ask filters, then queue a packet: 0 or -errno."""
    functions = skb.dev.net.functions
    if functions.watched or sock.cgroup.effective or sock.filter is not None:
        err = functions.sk_filter_trim_cap(cpu, sock, skb, 1, _Reason())
        if err:
            return int(err)
    return int(functions.__sock_queue_rcv_skb(cpu, sock, skb))


class _Reason:
    struct_address = 0
    value = SkbDropReason.NOT_SPECIFIED


@packet_function
def __sock_queue_rcv_skb(cpu: Cpu, sock: Any, skb: SkBuff) -> int:
    """Queue a packet at a socket and wake who waits: 0, or ENOMEM when the socket's buffer is full."""
    return queue_rcv_skb(cpu, sock, skb)


class ReceivedSkb(SkBuff):
    """A packet that counts for a socket that receives (``skb_set_owner_r``)."""

    __slots__ = ()
    destructor = "sock_rfree"


def received(skb: SkBuff, sock: Any) -> None:
    """Let a packet be one that a socket has received."""
    skb.__class__ = ReceivedSkb
    skb.sk = sock


def queue_rcv_skb(cpu: Cpu, sock: Any, skb: SkBuff) -> int:
    """Queue a packet at a socket and wake who waits: 0, or ENOMEM when the socket's buffer is full."""
    if sock.rmem >= sock.rcvbuf:
        sock.drops += 1
        return -Errno.ENOMEM
    skb.tstamp = cpu.now_ns
    received(skb, sock)
    sock.rmem += skb.truesize
    sock.queue.append(skb)
    sock.data_ready(cpu)
    return 0
