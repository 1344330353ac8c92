"""Pairs of virtual Ethernet devices (drivers/net/veth.c, v6.18): what one sends the other receives.

Without a program, or GRO, at the receiver a packet goes to the backlog of the CPU that sends. With native XDP it waits
in the receiver's ring for NAPI, and so do frames that XDP sends by the other end, which are lost when there is no NAPI.
Counters of a pair are one set that both ends show. Left out: more than one queue, GRO (``gro`` only turns NAPI on),
back pressure of a qdisc when the ring is full.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.net import XdpAction
from hooks.xdp import SHARED_INFO_BYTES, XDP_PACKET_HEADROOM, check_xdp_mtu, max_xdp_mtu
from netstack.drop_reasons import SkbDropReason
from netstack.eth import set_protocol
from netstack.headers import ETH_HLEN, VLAN_HLEN
from netstack.marks import touch
from netstack.napi import NAPI_POLL_WEIGHT, Napi
from netstack.rx import netif_receive_skb
from netstack.skb import SkBuff, tagged_frame
from netstack.soft_device import SoftDevice, dev_forward_skb
from netstack.tc import NET_XMIT_DROP, NET_XMIT_SUCCESS
from netstack.xdp_buff import XdpFrame, XdpRing
from netstack.xdp_run import ACTION_NAMES
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["VETH_RING_SIZE", "Veth", "VethRq"]

VETH_RING_SIZE = 256
VETH_XDP_TX_BULK_SIZE = 16
SMP_CACHE_BYTES = 64
_DROPS = (XdpAction.XDP_DROP, XdpAction.XDP_ABORTED)


@dataclass(slots=True)
class VethStats:
    """``struct veth_stats`` of a receive queue; the last two count for the other end."""

    xdp_packets: int = 0
    xdp_bytes: int = 0
    rx_drops: int = 0
    xdp_redirect: int = 0
    xdp_drops: int = 0
    xdp_tx: int = 0
    xdp_tx_err: int = 0
    peer_tq_xdp_xmit: int = 0
    peer_tq_xdp_xmit_err: int = 0


class VethRq(Napi):
    """A receive queue (``struct veth_rq``): packets and XDP frames wait in its ring."""

    def __init__(self, dev: "Veth", softnet_number: int = 0) -> None:
        super().__init__(dev.net.softnet[softnet_number])
        self.dev = dev
        self.ring: deque[SkBuff | XdpFrame] = deque()
        self.stats = VethStats()
        # frames of XDP_TX until the end of the poll (struct veth_xdp_tx_bq)
        self.bulk: list[XdpFrame] = []
        self._buffers: XdpRing | None = None
        # how much of its page the last packet that shares one has left (page_pool.frag_offset)
        self._frag_offset = PAGE_SIZE

    @property
    def buffers(self) -> XdpRing:
        """The pages that native XDP works on, made with the first frame."""
        if self._buffers is None:
            self._buffers = XdpRing(self.dev.net.kernel.mem, self.dev.xdp_rxqs[0].address, NAPI_POLL_WEIGHT)
        return self._buffers

    def produce(self, item: SkBuff | XdpFrame) -> bool:
        """Put something into the ring; False when it is full."""
        if len(self.ring) >= VETH_RING_SIZE:
            return False
        self.ring.append(item)
        return True

    def notify(self, cpu: Cpu) -> None:
        """Let the ring be polled, on the CPU that asks (``__veth_xdp_flush``)."""
        if not self.scheduled:
            self.softnet = self.dev.net.softnet[cpu.number]
            self.schedule()

    def poll(self, cpu: Cpu, budget: int) -> int:
        """Receive at most ``budget`` packets (``veth_xdp_rcv``)."""
        done, dev = 0, self.dev
        while done < budget and self.ring:
            item = self.ring.popleft()
            done += 1
            if isinstance(item, XdpFrame):
                size = len(item.data)
                dev.count_napi(size)
                self._receive_frame(item, cpu)
            else:
                # the link-layer header has been pulled
                dev.count_napi(len(item.data) - ETH_HLEN)
                self._receive_skb(item, cpu)
        return done

    def flush(self, cpu: Cpu) -> None:
        """Send what programs have redirected, then what they have sent back."""
        self.dev.net.xdp.xdp_do_flush(cpu)
        if self.bulk:
            self.dev.flush_tx(cpu)

    def _room(self, size: int) -> int:
        # skb_pp_cow_data(), page_pool_alloc_va(): pages are shared while two packets fit, the last gets what is left
        room = min(XDP_PACKET_HEADROOM + -(-size // SMP_CACHE_BYTES) * SMP_CACHE_BYTES + SHARED_INFO_BYTES, PAGE_SIZE)
        if 2 * room > PAGE_SIZE:
            return PAGE_SIZE
        if self._frag_offset + room > PAGE_SIZE:
            self._frag_offset = 0
        start = self._frag_offset
        self._frag_offset += room
        if self._frag_offset + room > PAGE_SIZE:
            self._frag_offset = PAGE_SIZE
        return self._frag_offset - start

    def _receive_skb(self, skb: SkBuff, cpu: Cpu) -> None:
        # veth_xdp_rcv_skb()
        dev, record = self.dev, skb.record
        if dev.xdp.native is not None and record is not None:
            cpu.charge(dev.net.xdp.runner.costs.driver_ps + dev.net.xdp.runner.costs.copy_ps)
            frame = XdpFrame(skb.data, frame_sz=self._room(len(skb.data)))
            done = dev.net.xdp.receive(dev, self.buffers, frame, cpu)
            record.verdict = ACTION_NAMES[done.verdict]
            self._count(done.verdict, done.reason)
            if done.verdict is not XdpAction.XDP_PASS:
                if done.reason:
                    skb.drop(done.reason)
                return
            skb.data, skb.metadata = done.frame, done.metadata
            set_protocol(skb)
        netif_receive_skb(skb, cpu)

    def _receive_frame(self, frame: XdpFrame, cpu: Cpu) -> None:
        # veth_xdp_rcv_one()
        dev = self.dev
        record = dev.record("in", frame.data, cpu)
        if dev.xdp.native is not None:
            cpu.charge(dev.net.xdp.runner.costs.driver_ps)
            done = dev.net.xdp.receive(dev, self.buffers, frame, cpu)
            record.verdict = ACTION_NAMES[done.verdict]
            self._count(done.verdict, done.reason)
            if done.verdict is not XdpAction.XDP_PASS:
                if done.reason:
                    dev.net.drop_frame(record, done.reason)
                return
            frame = XdpFrame(done.frame, metadata=done.metadata)
        # veth_xdp_rcv_bulk_skb(), __xdp_build_skb_from_frame()
        cpu.charge(dev.net.xdp.runner.costs.copy_ps)
        skb = SkBuff(frame.data, dev, record=record)
        skb.metadata, skb.skb_iif = frame.metadata, dev.ifindex
        set_protocol(skb)
        netif_receive_skb(skb, cpu)

    def _count(self, verdict: XdpAction, reason: str) -> None:
        stats = self.stats
        if verdict in _DROPS:
            stats.xdp_drops += 1
        elif verdict is XdpAction.XDP_PASS:
            return
        elif reason:
            # the driver has counted it among the device's
            stats.rx_drops += 1
        elif verdict is XdpAction.XDP_REDIRECT:
            stats.xdp_redirect += 1


class Veth(SoftDevice):
    """One end of a pair; ``peer`` is the other one, perhaps in another namespace."""

    features_check = "passthru_features_check"

    def __init__(self, net: "Net", name: str, ifindex: int, mac: bytes, mtu: int) -> None:
        super().__init__(net, name, ifindex, mac, mtu)
        self.rq = VethRq(self)
        self.gro = False

    def takes_segments(self) -> bool:
        """Whether the other end takes several segments as one packet; it does not while it has native XDP."""
        return not (isinstance(self.peer, Veth) and self.peer.xdp.native is not None)

    @property
    def napi(self) -> bool:
        """Whether what it receives waits for NAPI."""
        return self.xdp.native is not None or self.gro

    @property
    def ndo_bpf(self) -> Callable[[Prog | None], None]:
        """The driver's XDP_SETUP_PROG."""
        return self._xdp_set

    @property
    def ndo_xdp_xmit(self) -> Callable[[Sequence[XdpFrame], Cpu], int] | None:
        """The driver's way to send the frames of XDP_REDIRECT, while the other end has NAPI."""
        return self._ndo_xdp_xmit if isinstance(self.peer, Veth) and self.peer.napi else None

    def ethtool_stats(self) -> dict[str, int]:
        """Return the counters that ``ethtool -S`` shows, in its order, without those of the page pool."""
        stats, peer = self.rq.stats, self.peer
        shown = {"peer_ifindex": peer.ifindex if peer is not None else 0}
        names = ("xdp_packets", "xdp_bytes", "drops", "xdp_redirect", "xdp_drops", "xdp_tx", "xdp_tx_errors")
        counts = (
            stats.xdp_packets, stats.xdp_bytes, stats.rx_drops, stats.xdp_redirect, stats.xdp_drops, stats.xdp_tx,
            stats.xdp_tx_err,
        )  # fmt: skip
        shown |= {f"rx_queue_0_{name}": count for name, count in zip(names, counts, strict=True)}
        if isinstance(peer, Veth):
            shown["tx_queue_0_xdp_xmit"] = peer.rq.stats.peer_tq_xdp_xmit
            shown["tx_queue_0_xdp_xmit_errors"] = peer.rq.stats.peer_tq_xdp_xmit_err
        return shown

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Let the other end receive a packet."""
        result: int = self.net.functions.veth_xmit(cpu, skb, self)
        return result

    def xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Let the other end receive a packet."""
        if self.net.functions.watched:
            touch(cpu, "skb_clone_tx_timestamp", "__dev_forward_skb", sk_buff=skb, net_device=self)
        peer, size = self.peer, len(skb.data)
        skb.record = self.record("out", tagged_frame(skb), cpu)
        if not isinstance(peer, Veth):
            skb.drop(SkbDropReason.NOT_SPECIFIED, f"'{self.full_name}' has no peer")
            self.stats.tx_dropped += 1
            return NET_XMIT_DROP
        if not dev_forward_skb(peer, skb, cpu):
            self.stats.tx_dropped += 1
            return NET_XMIT_DROP
        # veth_skb_is_eligible_for_gro(): with GRO alone, only what can be put together
        if peer.xdp.native is not None:
            if not peer.rq.produce(skb):
                skb.drop(SkbDropReason.NOT_SPECIFIED, "the ring is full")
                self.stats.tx_dropped += 1
                return NET_XMIT_DROP
            peer.rq.notify(cpu)
            return NET_XMIT_SUCCESS
        self.stats.tx_packets += 1
        self.stats.tx_bytes += size
        peer.stats.rx_packets += 1
        peer.stats.rx_bytes += size
        peer.net.netif_rx(skb, cpu)
        return NET_XMIT_SUCCESS

    def count_napi(self, size: int) -> None:
        """Count what NAPI has taken from the ring, at both ends."""
        stats, peer = self.rq.stats, self.peer
        stats.xdp_packets += 1
        stats.xdp_bytes += size
        self.stats.rx_packets += 1
        self.stats.rx_bytes += size
        if peer is not None:
            peer.stats.tx_packets += 1
            peer.stats.tx_bytes += size

    def xdp_tx(self, frame: XdpFrame, cpu: Cpu) -> bool:
        """Keep a frame of XDP_TX for the end of the poll (``veth_xdp_tx``)."""
        if len(self.rq.bulk) == VETH_XDP_TX_BULK_SIZE:
            self.flush_tx(cpu)
        self.rq.bulk.append(frame)
        return True

    def flush_tx(self, cpu: Cpu) -> None:
        """Send the frames of XDP_TX (``veth_xdp_flush_bq``) and wake their receiver."""
        frames, self.rq.bulk = self.rq.bulk, []
        sent, err = self._xdp_xmit(frames), 0
        if sent < 0:
            sent, err = 0, sent
        drops = len(frames) - sent
        self.net.xdp.runner.trace_xdp_bulk_tx(self, sent, drops, err, cpu)
        stats = self.rq.stats
        stats.xdp_tx += sent
        stats.xdp_tx_err += drops
        self.stats.tx_dropped += drops
        peer = self.peer
        if peer is not None:
            peer.stats.rx_dropped += drops
        for frame in frames[sent:]:
            self.net.drop_frame(self.record("out", frame.data, cpu), "XDP: the other end takes no XDP frames")
        if isinstance(peer, Veth) and peer.napi:
            peer.rq.notify(cpu)

    def uninstall(self) -> None:
        """Let a pair go: the other end is left without one, its device removed as well (``veth_dellink``)."""
        super().uninstall()
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.peer = None
            peer.net.unregister(peer)

    def _xdp_xmit(self, frames: Sequence[XdpFrame]) -> int:
        # veth_xdp_xmit(): how many the other end's ring took
        peer = self.peer
        if not isinstance(peer, Veth) or not peer.napi:
            return -Errno.ENXIO
        most = peer.mtu + peer.hard_header_len + VLAN_HLEN
        sent = 0
        for frame in frames:
            if len(frame.data) > most or not peer.rq.produce(frame):
                break
            sent += 1
        return sent

    def _ndo_xdp_xmit(self, frames: Sequence[XdpFrame], cpu: Cpu) -> int:
        sent = self._xdp_xmit(frames)
        if sent < 0:
            self.stats.tx_dropped += len(frames)
            return sent
        peer = self.peer
        assert isinstance(peer, Veth)
        peer.rq.notify(cpu)
        stats, lost = peer.rq.stats, len(frames) - sent
        stats.peer_tq_xdp_xmit += sent
        stats.peer_tq_xdp_xmit_err += lost
        peer.stats.rx_dropped += lost
        self.stats.tx_dropped += lost
        return sent

    def _xdp_set(self, prog: Prog | None) -> None:
        # veth_xdp_set()
        peer = self.peer
        if prog is None:
            return
        if peer is None:
            raise KernelError("xdp_setup_prog", Errno.ENOTCONN, "veth: Cannot set XDP when peer is detached")
        check_xdp_mtu(prog, peer.mtu)

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU; EINVAL above what the other end's program allows."""
        peer = self.peer
        native = peer.xdp.native if peer is not None else None
        if native is not None and mtu > max_xdp_mtu(native.prog):
            text = f"mtu greater than device maximum ({max_xdp_mtu(native.prog)} bytes)"
            raise KernelError("link set", Errno.EINVAL, text)
        super().set_mtu(mtu)


@packet_function
def veth_xmit(cpu: Cpu, skb: SkBuff, dev: Veth) -> int:
    """Let the other end of a pair receive a packet: NET_XMIT_*."""
    return dev.xmit(skb, cpu)
