"""From what users write (scapy packets, bytes) to the bytes of a frame at a simulated device.

scapy fills in missing addresses by asking the machine it runs on: its routes, its ARP cache, even its network. Here
they are filled in from the simulated network before scapy builds the packet, so a frame depends on the simulation only.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from ebpfsim.errors import InputError
from netstack.device import NetDevice
from netstack.headers import format_ip, format_ip6, parse_ip
from netstack.headers6 import is_link_local, parse_ip6

if TYPE_CHECKING:
    from scapy.packet import Packet

__all__ = ["Sender", "build_frame", "sender_of", "to_frames"]

BROADCAST = "ff:ff:ff:ff:ff:ff"


@dataclass(frozen=True, slots=True)
class Sender:
    """What a packet that leaves addresses out gets: those of the sending device and of its next hop.

    ``next_hop_mac`` returns the MAC address that a frame to an address is sent to, None when no host has it;
    ``ipv6_source`` the source of a packet to an address.
    """

    mac: str
    ipv4: str
    next_hop_mac: Callable[[str], str | None]
    ipv6_source: Callable[[str], str] = lambda _destination: "::"


def sender_of(dev: NetDevice, owners: dict[int, bytes]) -> Sender:
    """Return the sender that a device is; ``owners`` gives the MAC address of each address of the simulation."""

    def next_hop_mac(address: str) -> str | None:
        if ":" in address:
            destination = parse_ip6(address)
            route = dev.net.ipv6.fib.lookup(destination, dev if is_link_local(destination) else None)
        else:
            destination = parse_ip(address)
            route = dev.net.fib.lookup(destination)
        owner = owners.get(route.gateway if route is not None and route.gateway else destination)
        return owner.hex(":") if owner is not None else None

    def ipv6_source(address: str) -> str:
        if dev.ifindex not in dev.net.ipv6.devices:
            return "::"
        return format_ip6(dev.net.ipv6.select_addr(dev, parse_ip6(address)))

    ipv4 = format_ip(dev.addresses[0].address) if dev.addresses else "0.0.0.0"
    return Sender(dev.mac.hex(":"), ipv4, next_hop_mac, ipv6_source)


def to_frames(
    packets: "Packet | bytes | Iterable[Packet | bytes]", dev: NetDevice, owners: dict[int, bytes]
) -> list[bytes]:
    """Return the frames of a packet, of bytes, or of several of either, as ``dev`` would send them.

    ``owners`` gives the MAC address of each address of the simulation.
    """
    if isinstance(packets, (bytes, bytearray, memoryview)):
        return [bytes(packets)]
    if hasattr(packets, "fields_desc"):
        sender = sender_of(dev, owners)
        return [build_frame(packet, sender) for packet in packets]
    frames: list[bytes] = []
    for packet in packets:
        frames += to_frames(packet, dev, owners)
    return frames


def build_frame(packet: Any, sender: Sender) -> bytes:
    """Return the bytes of one scapy packet, whose fields have one value each; InputError when they do not go together.

    A packet that starts with IP, IPv6 or ARP gets its Ethernet header.
    """
    if packet.name in ("IP", "IPv6", "ARP"):
        from scapy.layers.l2 import Ether

        packet = Ether() / packet
    packet = packet.copy()
    layer = packet
    while layer:
        _fill(layer, sender)
        layer = layer.payload
    try:
        return bytes(packet)
    except Exception as error:
        raise InputError("", f"packet cannot be built: {error}") from None


def _fill(layer: Any, sender: Sender) -> None:
    match layer.name:
        case "Ethernet" | "802.3":
            _default(layer, "src", sender.mac)
            if layer.fields.get("dst") is None:
                layer.fields["dst"] = _destination_mac(layer.payload, sender)
        case "IP":
            _default(layer, "src", sender.ipv4)
        case "IPv6":
            _default(layer, "src", sender.ipv6_source(_one_address(layer.dst)))
        case "ARP":
            _default(layer, "hwsrc", sender.mac)
            _default(layer, "psrc", sender.ipv4)
            _default(layer, "hwdst", "00:00:00:00:00:00")


def _default(layer: Any, field: str, value: str) -> None:
    # None asks scapy to find a value, which is what must not happen
    if layer.fields.get(field) is None:
        layer.fields[field] = value


def _destination_mac(layer: Any, sender: Sender) -> str:
    while layer.name in ("802.1Q", "802.1AD"):
        layer = layer.payload
    if layer.name == "ARP":
        # a reply goes to the one who asked, a request to everybody
        answered = layer.fields.get("hwdst") if layer.op == 2 else None
        return str(answered or BROADCAST)
    if layer.name not in ("IP", "IPv6"):
        return BROADCAST
    try:
        destination = ip_address(str(layer.dst))
    except ValueError:
        return BROADCAST
    if destination.is_multicast:
        return _multicast_mac(destination)
    return sender.next_hop_mac(str(destination)) or BROADCAST


def _one_address(value: object) -> str:
    # what scapy takes for an address may be something else
    try:
        return str(IPv6Address(str(value)))
    except ValueError:
        return "::"


def _multicast_mac(address: IPv4Address | IPv6Address) -> str:
    # RFC 1112 section 6.4: 01:00:5e and the low 23 bits; RFC 2464 section 7: 33:33 and the low 32 bits
    if address.version == 4:
        return (b"\x01\x00\x5e" + (int(address) & 0x7FFFFF).to_bytes(3, "big")).hex(":")
    return (b"\x33\x33" + (int(address) & 0xFFFFFFFF).to_bytes(4, "big")).hex(":")
