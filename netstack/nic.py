"""A network card: receive queues with rings and interrupts, receive-side scaling, a cable.

Follows what PCI drivers of v6.18 have in common (i40e, ice, mlx5): a frame is put into the ring of the queue that its
hash chooses, the queue's interrupt schedules NAPI on the queue's CPU, the poll hands each frame to XDP and then builds
an skb. Queue ``i`` interrupts CPU ``i % cpus``. Counters are those of ``ip -s link`` and, per queue, ``ethtool -S``.

Left out: transmit rings (the wire's queue stands for them and for the qdisc), DMA and page pools, checksum offload,
VLAN stripping. Differs: there is no destination filter in the card, as in promiscuous mode, so programs see every
frame; the stack then drops those for other hosts (OTHERHOST).
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import PacketRecord
from ebpfsim.uapi.net import XdpAction
from hooks.xdp import max_xdp_mtu
from netstack.device import NetDevice
from netstack.drop_reasons import RX_MISSED, SkbDropReason
from netstack.eth import eth_type_trans
from netstack.gro import Gro
from netstack.gso import gso_frames
from netstack.headers import BROADCAST_MAC, ETH_HLEN
from netstack.napi import NAPI_POLL_WEIGHT, Napi
from netstack.rss import rss_hash
from netstack.rx import netif_receive_skb
from netstack.skb import SkBuff
from netstack.tc import NET_XMIT_SUCCESS
from netstack.wire import Channel
from netstack.xdp import DROP_REASON, XdpResult
from netstack.xdp_batch import LEAST_FRAMES, XdpBatch
from netstack.xdp_buff import XdpFrame, XdpRing
from netstack.xdp_run import ACTION_NAMES

if TYPE_CHECKING:
    from netstack.line import Line
    from netstack.net import Net

__all__ = ["DEFAULT_RING", "Nic", "RxQueue"]

DEFAULT_RING = 512  # descriptors; I40E_DEFAULT_NUM_DESCRIPTORS, drivers/net/ethernet/intel/i40e
# I40E_ITR_RX_DEF: what is between interrupts of bulk traffic
BULK_ITR_NS = 50_000
# entries of the indirection table that maps hashes to queues; filled round robin (ethtool_rxfh_indir_default)
INDIR_SIZE = 128


class RxQueue(Napi):
    """A receive queue: its ring holds frames from their arrival to their poll."""

    def __init__(self, nic: "Nic", index: int, ring_size: int) -> None:
        super().__init__(nic.net.softnet[index % len(nic.net.softnet)])
        self.nic = nic
        self.index = index
        self.ring_size = ring_size
        self.ring: deque[PacketRecord] = deque()
        # XDP works on the frames of one poll at a time
        self.xdp_ring = XdpRing(nic.net.kernel.mem, nic.xdp_rxqs[index].address, NAPI_POLL_WEIGHT)
        self.batch = XdpBatch(nic.net.xdp, nic, self.xdp_ring)
        # what computes its polls ahead of the clock (netstack.line)
        self.line: Line | None = None
        self.gro = Gro(nic, index)
        self._interrupt_ns, self._put_off = -BULK_ITR_NS, False
        # frames that are to be taken one by one before the next batch
        self._alone = 0
        self.rx_packets = 0
        self.rx_bytes = 0

    def interrupt(self) -> None:
        """Raise the queue's interrupt, unless it is masked; its name is that of the device and the queue."""
        if not self.scheduled and not self._moderated():
            self._interrupt_ns = self.nic.net.clock.now_ns
            name, softnet = f"{self.nic.name}-{self.index}", self.softnet
            # the softirq runs behind the interrupt
            softnet.bh_off += 1
            self.nic.net.kernel.interrupt(softnet.cpu, name, lambda: softnet.interrupt(self))
            softnet.bh_off -= 1
            if not softnet.bh_off and not softnet.in_softirq:
                softnet.settle()

    def _moderated(self) -> bool:
        # after a poll of long TCP segments the next interrupt comes no earlier than that much later
        clock = self.nic.net.clock
        if not self.gro.bulk or clock.now_ns >= self._interrupt_ns + BULK_ITR_NS:
            return False
        if not self._put_off:
            self._put_off = True
            clock.call_at(self._interrupt_ns + BULK_ITR_NS, self._interrupt_now)
        return True

    def _interrupt_now(self) -> None:
        self._put_off = False
        if self.ring:
            self.interrupt()

    def poll(self, cpu: Cpu, budget: int) -> int:
        """Process at most ``budget`` frames of the ring."""
        done, ring, nic = 0, self.ring, self.nic
        while done < budget and ring:
            if not self._alone and len(ring) >= LEAST_FRAMES and nic.xdp.native is not None:
                done += self._poll_batch(cpu, budget - done)
                continue
            nic.clean_rx(self, self._next(), cpu)
            self._alone = max(0, self._alone - 1)
            done += 1
        return done

    def _next(self) -> PacketRecord:
        record = self.ring.popleft()
        self.rx_packets += 1
        self.rx_bytes += len(record.data)
        return record

    def _poll_batch(self, cpu: Cpu, budget: int) -> int:
        nic, batch = self.nic, self.batch
        if not batch.run([record.data for record in islice(self.ring, budget)], cpu):
            self._alone = NAPI_POLL_WEIGHT
            return 0
        if batch.dropped < LEAST_FRAMES:
            # other frames than dropped ones would each be a batch of their own
            self._alone = NAPI_POLL_WEIGHT
        for _ in range(batch.dropped):
            record = self._next()
            nic.count_rx(record)
            record.verdict = "XDP_DROP"
            nic.net.drop_frame(record, DROP_REASON)
        if batch.error is not None:
            nic.count_rx(self._next())
            raise batch.error
        if batch.result is None:
            return batch.dropped
        record = self._next()
        nic.count_rx(record)
        nic.after_xdp(self, record, batch.result, cpu)
        return batch.dropped + 1

    def flush(self, cpu: Cpu) -> None:
        """Send what programs have redirected during the poll, and let go what was held back."""
        self.nic.net.xdp.xdp_do_flush(cpu)
        self.gro.flush(cpu)


class Nic(NetDevice):
    """A card with ``nr_rx_queues`` queues of ``ring_size`` frames each.

    ``tso`` says that it cuts packets of several segments by itself, ``gro`` that segments are put together again
    (``ethtool -K``). Interrupts are moderated as by drivers that adapt (``ethtool -C adaptive-rx on``): while TCP
    brings long segments they are at least 50 us apart, otherwise each frame that finds the card idle raises one.
    """

    tso = True
    gro = True

    def __init__(
        self, net: "Net", name: str, ifindex: int, mac: bytes, mtu: int, nr_rx_queues: int, ring_size: int
    ) -> None:
        if nr_rx_queues < 1 or ring_size < 1:
            raise InputError("", f"device '{net.name}/{name}' needs at least one queue and one ring entry")
        super().__init__(net, name, ifindex, mac, mtu, nr_rx_queues)
        self.channel: Channel | None = None
        self.queues = [RxQueue(self, index, ring_size) for index in range(nr_rx_queues)]
        self._driver_ps = net.costs.ps("xdp.drop.driver")
        self._skb_ps = net.costs.ps("skb.alloc")

    def check_unplugged(self) -> None:
        """Raise InputError when the card has a cable."""
        if self.channel is not None:
            raise InputError("", f"device '{self.full_name}' is already linked to '{self.channel.dst.full_name}'")

    def plug(self, channel: Channel) -> None:
        """Connect the cable on which the card sends."""
        self.check_unplugged()
        self.channel = channel

    @property
    def ndo_bpf(self) -> Callable[[Prog | None], None]:
        """The driver's XDP_SETUP_PROG."""
        return self._xdp_setup

    @property
    def ndo_xdp_xmit(self) -> Callable[[Sequence[XdpFrame], Cpu], int]:
        """The driver's way to send the frames of XDP_REDIRECT."""
        return self._xdp_xmit

    def xdp_tx(self, frame: XdpFrame, cpu: Cpu) -> bool:
        """Send a frame of XDP_TX; it leaves by the same ring as redirected ones."""
        return self._xdp_xmit((frame,), cpu) == 1

    def ethtool_stats(self) -> dict[str, int]:
        """Return the counters that ``ethtool -S`` shows, by i40e's names."""
        queues = {f"rx-{queue.index}.packets": queue.rx_packets for queue in self.queues}
        return self.stats.as_dict() | queues | {f"rx-{queue.index}.bytes": queue.rx_bytes for queue in self.queues}

    def start_xmit(self, record: PacketRecord) -> bool:
        """Put a frame on the wire; without a cable it is dropped, as it is without a carrier."""
        if self.channel is None:
            self.stats.tx_dropped += 1
            self.net.drop_frame(record, SkbDropReason.QDISC_DROP)
            return False
        if not self.channel.send(record):
            return False
        self.stats.tx_packets += 1
        self.stats.tx_bytes += len(record.data)
        return True

    def ndo_start_xmit(self, skb: SkBuff, cpu: Cpu) -> int:
        """Send a packet that begins with its link-layer header, several segments as frames of their own: NET_XMIT_*."""
        if skb.gso_size:
            self.at_cpu_time(cpu, partial(self._transmit_segments, skb))
            return NET_XMIT_SUCCESS
        return super().ndo_start_xmit(skb, cpu)

    def _transmit_segments(self, skb: SkBuff) -> None:
        for frame in gso_frames(skb):
            record = self.record("out", frame)
            # all of them are the same packet
            skb.record = record
            self.start_xmit(record)

    def receive(self, frame: bytes, packet: int = 0) -> None:
        """Take a frame from the wire into a ring and interrupt the ring's CPU."""
        record = self.record("in", frame)
        record.packet = packet or record.packet
        size = len(frame)
        if not ETH_HLEN <= size <= self.max_frame_bytes:
            self.stats.rx_errors += 1
            self.stats.rx_length_errors += 1
            too_small = size < ETH_HLEN
            self.net.drop_frame(record, SkbDropReason.PKT_TOO_SMALL if too_small else SkbDropReason.PKT_TOO_BIG)
            return
        queue = self.queue_of(frame)
        record.queue = queue.index
        if queue.line is not None and queue.line.pending:
            queue.line.leave()
        if len(queue.ring) >= queue.ring_size:
            self.stats.rx_missed_errors += 1
            self.net.drop_frame(record, RX_MISSED)
            return
        queue.ring.append(record)
        queue.interrupt()

    def count_rx(self, record: PacketRecord) -> None:
        """Count a frame as received."""
        frame = record.data
        self.stats.rx_packets += 1
        self.stats.rx_bytes += len(frame)
        if frame[0] & 1 and not frame.startswith(BROADCAST_MAC):
            self.stats.multicast += 1

    def clean_rx(self, queue: RxQueue, record: PacketRecord, cpu: Cpu) -> None:
        """Process one frame of a ring, as a driver's ``clean_rx_irq`` loop does."""
        self.count_rx(record)
        cpu.charge(self._driver_ps)
        if self.xdp.native is not None:
            self.after_xdp(queue, record, self.net.xdp.receive(self, queue.xdp_ring, record.data, cpu), cpu)
        else:
            self._to_stack(queue, record, record.data, cpu)

    def after_xdp(self, queue: RxQueue, record: PacketRecord, result: XdpResult, cpu: Cpu) -> None:
        """Go on with a frame as its program decided."""
        record.verdict = ACTION_NAMES[result.verdict]
        if result.reason:
            self.net.drop_frame(record, result.reason)
        if result.verdict is XdpAction.XDP_PASS:
            self._to_stack(queue, record, result.frame, cpu, result.metadata)

    def _to_stack(self, queue: RxQueue, record: PacketRecord, frame: bytes, cpu: Cpu, metadata: bytes = b"") -> None:
        cpu.charge(self._skb_ps)
        if self.gro:
            queue.gro.receive(frame, record, metadata, cpu)
            return
        skb = eth_type_trans(frame, self, record, queue.index)
        skb.metadata = metadata
        netif_receive_skb(skb, cpu)

    def queue_of(self, frame: bytes) -> RxQueue:
        """Return the queue that a frame's hash chooses."""
        if len(self.queues) == 1:
            return self.queues[0]
        return self.queues[rss_hash(frame) % INDIR_SIZE % len(self.queues)]

    def _xdp_setup(self, prog: Prog | None) -> None:
        # i40e_xdp_setup: frames of a program without fragments must fit into a buffer
        if prog is not None and self.mtu > max_xdp_mtu(prog):
            text = f"mtu {self.mtu} of '{self.full_name}' is above {max_xdp_mtu(prog)} bytes, the most for this program"
            raise KernelError("xdp", Errno.EINVAL, text)

    def _xdp_xmit(self, frames: Sequence[XdpFrame], cpu: Cpu) -> int:
        # a frame counts as taken; whether the wire's queue has room for it shows when its time comes
        if self.channel is None:
            self.stats.tx_dropped += len(frames)
            return 0
        self.at_cpu_time(cpu, partial(self._xdp_xmit_now, [frame.data for frame in frames]))
        return len(frames)

    def _xdp_xmit_now(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            if not self.start_xmit(self.record("out", frame)):
                self.stats.tx_dropped += 1
