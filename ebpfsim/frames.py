"""From what users write (scapy packets, bytes) to the bytes of a frame at a simulated device.

scapy fills in missing addresses by asking the machine it runs on: its routes, its ARP cache, even its network. Here
they are filled in from the simulated network before scapy builds the packet, so a frame depends on the simulation only.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ebpfsim.errors import InputError
from netstack.device import NetDevice
from netstack.headers import format_ip, parse_ip

if TYPE_CHECKING:
    from scapy.packet import Packet

__all__ = ["to_frames"]

BROADCAST = "ff:ff:ff:ff:ff:ff"


def to_frames(
    packets: "Packet | bytes | Iterable[Packet | bytes]", dev: NetDevice, owners: dict[int, bytes]
) -> list[bytes]:
    """Return the frames of a packet, of bytes, or of several of either, as ``dev`` would send them.

    ``owners`` gives the MAC address of each IPv4 address of the simulation.
    """
    if isinstance(packets, (bytes, bytearray, memoryview)):
        return [bytes(packets)]
    if hasattr(packets, "fields_desc"):
        return [_build(packet, dev, owners) for packet in packets]
    frames: list[bytes] = []
    for packet in packets:
        frames += to_frames(packet, dev, owners)
    return frames


def _build(packet: Any, dev: NetDevice, owners: dict[int, bytes]) -> bytes:
    packet = packet.copy()
    layer = packet
    while layer:
        _fill(layer, packet, dev, owners)
        layer = layer.payload
    try:
        return bytes(packet)
    except Exception as error:
        raise InputError("", f"packet {packet.summary()} cannot be built: {error}") from None


def _fill(layer: Any, packet: Any, dev: NetDevice, owners: dict[int, bytes]) -> None:
    name = layer.name
    fields = layer.fields
    source = format_ip(dev.addresses[0].address) if dev.addresses else "0.0.0.0"
    if name in ("Ethernet", "802.3"):
        fields.setdefault("src", _mac(dev.mac))
        fields.setdefault("dst", _next_hop_mac(packet, dev, owners))
    elif name == "IP":
        fields.setdefault("src", source)
    elif name == "IPv6":
        fields.setdefault("src", "::")
    elif name == "ARP":
        fields.setdefault("hwsrc", _mac(dev.mac))
        fields.setdefault("psrc", source)
        fields.setdefault("hwdst", "00:00:00:00:00:00")


def _next_hop_mac(packet: Any, dev: NetDevice, owners: dict[int, bytes]) -> str:
    """The address that ARP would have found for the packet's IPv4 destination; broadcast when there is no such host."""
    ip = packet.getlayer("IP")
    if ip is None or not isinstance(ip.fields.get("dst"), str):
        return BROADCAST
    try:
        destination = parse_ip(ip.dst)
    except InputError:
        return BROADCAST
    route = dev.net.fib.lookup(destination)
    next_hop = route.gateway if route is not None and route.gateway else destination
    owner = owners.get(next_hop)
    return _mac(owner) if owner is not None else BROADCAST


def _mac(address: bytes) -> str:
    return address.hex(":")
