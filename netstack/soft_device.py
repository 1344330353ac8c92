"""Devices that are made of software: what they send is work of the CPU that sends it, done at once.

Here is what such drivers of v6.18 share: ``__dev_forward_skb`` of net/core/dev.c, by which a packet that one device
sends is one that another receives, and ``skb_scrub_packet`` of net/core/skbuff.c.
"""

from copy import copy

from ebpfsim.cpu import Cpu
from netstack.device import NetDevice
from netstack.drop_reasons import SkbDropReason
from netstack.eth import ETH_P_802_2, ETH_P_802_3_MIN, set_protocol
from netstack.headers import ETH_HLEN, VLAN_HLEN
from netstack.skb import PacketType, SkBuff, tagged_frame

__all__ = ["SoftDevice", "clone_skb", "dev_forward_skb", "frame_skb", "receive_from", "skb_scrub_packet"]


def frame_skb(frame: bytes, dev: NetDevice) -> SkBuff:
    """Return a packet of a frame that is about to leave a device, as a packet socket makes it."""
    protocol = int.from_bytes(frame[12:14], "big")
    skb = SkBuff(frame, dev, protocol if protocol >= ETH_P_802_3_MIN else ETH_P_802_2)
    # packet_parse_headers(): behind the VLAN tags
    offset = ETH_HLEN
    while frame[offset - 2 : offset] in (b"\x81\0", b"\x88\xa8") and len(frame) >= offset + VLAN_HLEN:
        offset += VLAN_HLEN
    skb.network_header = offset
    return skb


def clone_skb(skb: SkBuff) -> SkBuff:
    """Return another packet with the same data and all that belongs to it (``skb_clone``)."""
    clone = copy(skb)
    clone.sk = None
    return clone


def skb_scrub_packet(skb: SkBuff, *, xnet: bool) -> None:
    """Forget what belongs to the place that a packet leaves; with ``xnet`` it leaves the namespace as well."""
    skb.pkt_type = PacketType.HOST
    skb.skb_iif = 0
    skb.route = None
    if xnet:
        skb.mark = skb.tstamp = 0


def dev_forward_skb(dev: NetDevice, skb: SkBuff, cpu: Cpu) -> bool:
    """Let a packet that was sent be one that ``dev`` received; False when it is too long for it and dropped."""
    if len(skb.data) > dev.mtu + dev.hard_header_len + VLAN_HLEN and not skb.gso_size:
        # is_skb_forwardable()
        dev.stats.rx_dropped += 1
        skb.drop(SkbDropReason.NOT_SPECIFIED, f"{len(skb.data)} bytes are too long for '{dev.full_name}'")
        return False
    skb_scrub_packet(skb, xnet=skb.dev.net is not dev.net)
    skb.priority = 0
    receive_from(dev, skb, cpu)
    return True


def receive_from(dev: NetDevice, skb: SkBuff, cpu: Cpu) -> None:
    """Say that a packet with its link-layer header came in by a device now (``eth_type_trans``)."""
    skb.dev = dev
    skb.transport_header = 0
    skb.redirected = False
    skb.record = dev.record("in", tagged_frame(skb), cpu)
    set_protocol(skb)


class SoftDevice(NetDevice):
    """A device without a cable; subclasses say in ``ndo_start_xmit`` what becomes of a packet."""

    hw_vlan_tx = True

    def transmit(self, frame: bytes, cpu: Cpu | None = None) -> None:
        """Send a frame past the queues, on a CPU (the first, when none is given)."""
        self.ndo_start_xmit(frame_skb(bytes(frame), self), cpu if cpu is not None else self.net.cpus[0])

    def inject(self, frame: bytes) -> None:
        """Send a frame as a packet generator of this host does: past the queues, at no cost to any CPU."""
        self.transmit(frame)
