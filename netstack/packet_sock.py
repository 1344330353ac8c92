"""Packet sockets: what they are, and the packets that they see come and go (net/packet/af_packet.c, v6.18).

What tasks do with them is in ``netstack.af_packet``. Left out: rings (PACKET_RX_RING), fanouts by classic filters.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ebpfsim.btf.view import place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.isa.alu import u32
from ebpfsim.memory import Memory
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import MapType
from hooks.cgroup import Cgroup
from hooks.link import HookStats
from netstack.device import NetDevice
from netstack.drop_reasons import SkbDropReason
from netstack.filtered import Filtered
from netstack.marks import touch
from netstack.raw import received
from netstack.skb import PacketType, SkBuff
from netstack.skb_run import skb_struct
from netstack.sock_file import SockFile
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.sockfs import SocketKernel

__all__ = ["AF_PACKET", "ETH_P_ALL", "Fanout", "FanoutKind", "PacketSock", "Seen"]

AF_PACKET, ETH_P_ALL = 17, 3
SOCK_DGRAM, SOCK_RAW = 2, 3
MEM_DEFAULT = 212992
SK_SOURCES = ("sk.__sk_common.skc_family", "sk.sk_type", "num", "ifindex")


class Seen(NamedTuple):
    """A packet in a queue: its bytes, ``struct sockaddr_ll`` of it, when it came, and where its network header is."""

    data: bytes
    protocol: int
    ifindex: int
    pkt_type: int
    source: bytes
    time_ns: int
    network: int
    size: int
    truesize: int
    ip_summed: int
    skb: SkBuff


class FanoutKind:
    """PACKET_FANOUT_*, include/uapi/linux/if_packet.h."""

    HASH, LB, CPU, ROLLOVER, RND, QM, CBPF, EBPF = range(8)


class Fanout:
    """``struct packet_fanout``: sockets that share what they see."""

    def __init__(self, number: int, kind: int, flags: int) -> None:
        self.number, self.kind, self.flags = number, kind, flags
        self.members: list[PacketSock] = []
        self.prog: Prog | None = None
        self.stats = HookStats()
        self._next = 0

    def choose(self, skb: SkBuff, cpu: Cpu) -> "PacketSock":
        """Return who gets a packet (``packet_rcv_fanout``)."""
        count = len(self.members)
        if self.kind == FanoutKind.LB:
            self._next += 1
            index = self._next % count
        elif self.kind == FanoutKind.CPU:
            index = cpu.number % count
        elif self.kind == FanoutKind.QM:
            index = skb.queue_mapping % count
        elif self.kind == FanoutKind.EBPF:
            index = self._by_program(skb, cpu) % count if self.prog is not None else 0
        elif self.kind == FanoutKind.HASH:
            index = flow_hash(skb) * count >> 32
        else:
            index = 0
        return self.members[index]

    def _by_program(self, skb: SkBuff, cpu: Cpu) -> int:
        assert self.prog is not None
        net = skb.dev.net
        with skb_struct(skb, net.kernel.mem, ingress=False) as struct:
            return net.sk_filter.run_prog(self.prog, struct.address, cpu, "packet_fanout", self.stats, "", verdict="")


def flow_hash(skb: SkBuff) -> int:
    """Return the hash of a packet's flow, the same for both directions of nothing (``skb_get_hash``)."""
    if skb.hash:
        return skb.hash
    # FNV-1a of addresses, protocol and ports
    at, value = skb.network_header, 0x811C_9DC5
    for byte in skb.data[at + 9 : at + 10] + skb.data[at + 12 : at + 24]:
        value = (value ^ byte) * 0x0100_0193 & 0xFFFF_FFFF
    return value


class PacketSock(Filtered):
    """A ``struct packet_sock``."""

    sk_family = AF_PACKET
    rcu_free, destructor = False, "packet_sock_destruct"

    def __init__(self, k: "SocketKernel", cgroup: Cgroup) -> None:
        super().__init__()
        self.net: Net = k.net
        self.mem: Memory = k.mem
        self.cgroup = cgroup
        self.address = k.mem.alloc(size_of("packet_sock"), what="struct packet_sock")
        self.type, self.protocol, self.ifindex = SOCK_RAW, 0, 0
        self.queue: deque[Seen] = deque()
        self.rmem, self.rcvbuf, self.sndbuf = 0, MEM_DEFAULT, MEM_DEFAULT
        self.packets = self.drops = 0
        self.sk_shutdown = self._error = self.priority = self.mark = 0
        self.is_running = self.auxdata = self.ignore_outgoing = False
        self.fanout: Fanout | None = None
        self.data_ready: Callable[[Cpu], object] | None = None
        self.error_report: Callable[[Cpu], object] | None = None
        self._file: SockFile | None = None
        self.show()

    @property
    def struct_address(self) -> int:
        """Where its ``struct packet_sock`` lies."""
        return self.address

    def show(self) -> None:
        """Show type, protocol and device in RAM."""
        for member, value in (
            ("sk.__sk_common.skc_family", AF_PACKET),
            ("sk.sk_type", self.type),
            ("num", self.protocol >> 8 | (self.protocol & 0xFF) << 8),
            ("ifindex", self.ifindex),
        ):
            offset, size = place("packet_sock", member)
            self.mem.store(self.address + offset, size, u32(value))

    def wants(self, protocol: int, ifindex: int) -> bool:
        """Whether packets of a protocol on a device are for it."""
        return self.is_running and self.protocol == protocol and self.ifindex in (0, ifindex)

    @property
    def readable(self) -> bool:
        """Whether a packet waits."""
        return bool(self.queue)

    @property
    def has_error(self) -> bool:
        """Whether the next call fails."""
        return bool(self._error)

    def put_error(self, errno: int) -> None:
        """Let the next call fail."""
        self._error = errno

    def take_error(self) -> int:
        """Return the errno that the next call fails with, once."""
        error, self._error = self._error, 0
        return error

    def queued(self, incoming: bool) -> int:
        """Return how many bytes the next packet has (``packet_ioctl``)."""
        return len(self.queue[0].data) if incoming and self.queue else 0

    @property
    def file(self) -> SockFile:
        """What descriptors of it stand for, in maps."""
        if self._file is None:
            self._file = SockFile(self, self.net.next_cookie())
        return self._file

    def destruct(self) -> None:
        """Let go what a closed socket holds."""
        self._drop_filter()
        self.net.kernel.forget_owner(MapType.SK_STORAGE, self.address)
        self.mem.free(self.address)


# ---- packets that come and go ----------------------------------------------------------------------------------------


def deliver_taps(net: "Net", skb: SkBuff, cpu: Cpu, protocol: int) -> bool:
    """Show a packet to sockets of a protocol (ETH_P_ALL: all of them); whether anybody wanted it."""
    ifindex, found = skb.dev.ifindex, False
    fanouts: list[Fanout] = []
    for sk in list(net.taps):
        if not sk.wants(protocol, ifindex):
            continue
        found = True
        if sk.fanout is not None:
            if sk.fanout not in fanouts:
                fanouts.append(sk.fanout)
                net.functions.packet_rcv_fanout(cpu, skb, skb.dev, _Hook(sk), skb.dev)
            continue
        net.functions.packet_rcv(cpu, skb, skb.dev, _Hook(sk), skb.dev)
    return found


class _Hook:
    # struct packet_type of a socket
    def __init__(self, sk: PacketSock) -> None:
        self.sk = sk

    @property
    def struct_address(self) -> int:
        return self.sk.struct_address + place("packet_sock", "prot_hook")[0]


@packet_function
def packet_rcv_fanout(cpu: Cpu, skb: SkBuff, dev: NetDevice, hook: _Hook, orig_dev: NetDevice) -> int:
    """Give a packet to one of several sockets."""
    assert hook.sk.fanout is not None
    chosen = hook.sk.fanout.choose(skb, cpu)
    return int(dev.net.functions.packet_rcv(cpu, skb, dev, _Hook(chosen), orig_dev))


@packet_function
def packet_rcv(cpu: Cpu, skb: SkBuff, dev: NetDevice, hook: _Hook, orig_dev: NetDevice) -> int:
    """Queue what a socket wants to see of a packet."""
    sk, net = hook.sk, dev.net
    watched = net.functions.watched
    if skb.pkt_type == PacketType.LOOPBACK:
        return 0
    if watched:
        touch(cpu, "skb_push", sk_buff=skb)
    start = skb.network_header if sk.type == SOCK_DGRAM else 0
    data = skb.data[start:]
    size = len(data)
    if sk.filter is not None:
        size = min(size, _run_filter(net, sk, skb, cpu))
        if not size:
            return 0
    if sk.rmem >= sk.rcvbuf:
        sk.drops += 1
        if watched:
            net.functions.sk_skb_reason_drop(cpu, sk, skb.clone(), SkbDropReason.PACKET_SOCK_ERROR)
        return 0
    if watched:
        touch(cpu, "eth_header_parse", sk_buff=skb, net_device=dev)
    source = skb.data[6:12] if len(skb.data) >= 14 else b""
    seen = Seen(data[:size], skb.protocol, orig_dev.ifindex, skb.pkt_type, source, cpu.now_ns,
                skb.network_header - start, len(data), skb.truesize, skb.ip_summed, skb.clone())  # fmt: skip
    sk.rmem += seen.truesize
    sk.packets += 1
    received(seen.skb, sk)
    sk.queue.append(seen)
    if sk.data_ready is not None:
        sk.data_ready(cpu)
    return 0


def _run_filter(net: "Net", sk: PacketSock, skb: SkBuff, cpu: Cpu) -> int:
    assert sk.filter is not None
    other = skb.clone()
    with skb_struct(
        other, net.kernel.mem, ingress=False, sk=sk.struct_address, network=sk.type == SOCK_DGRAM
    ) as struct:
        result = net.sk_filter.run_prog(
            sk.filter, struct.address, cpu, "socket_filter", sk.filter_stats, "", verdict=""
        )
    return u32(result)


@packet_function
def dev_queue_xmit_nit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> None:
    """Show a packet that leaves to those who see all packets."""
    net = dev.net
    other: SkBuff | None = None
    for sk in list(net.taps):
        if sk.wants(ETH_P_ALL, dev.ifindex) and not sk.ignore_outgoing and skb.sk is not sk:
            if other is None:
                if net.functions.watched:
                    touch(cpu, "skb_clone", sk_buff=skb)
                other = skb.clone()
                other.pkt_type = PacketType.OUTGOING
                other.network_header = 14 if other.protocol else other.network_header
            call = net.functions.packet_rcv_fanout if sk.fanout is not None else net.functions.packet_rcv
            if sk.fanout is None or sk is sk.fanout.members[0]:
                call(cpu, other, dev, _Hook(sk), dev)
