"""Captures of a run for Wireshark: pcapng with one interface a device, nanoseconds, direction and XDP verdict.

Time stamps are simulated nanoseconds since boot, so a capture starts in 1970. Each packet that a program decided about
carries the verdict as ``epb_verdict`` (type 2, Linux eBPF XDP) and as a comment, as does a packet that was dropped with
its reason (draft-ietf-opsawg-pcapng, section 4.3).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from ebpfsim.recorder import PacketRecord
from ebpfsim.uapi.net import XdpAction

__all__ = ["Interface", "write_pcapng"]

LINKTYPE_ETHERNET = 1
TSRESOL_NANOSECONDS = b"\x09"
VERDICT_XDP = 2
INBOUND, OUTBOUND = 1, 2


@dataclass(frozen=True)
class Interface:
    """A device of a capture: ``name`` is ``host/eth0``, ``mac`` as text, ``speed_bps`` 0 when unlimited."""

    name: str
    mac: str = ""
    speed_bps: int = 0


def write_pcapng(stream: BinaryIO, interfaces: Iterable[Interface], packets: Iterable[PacketRecord]) -> int:
    """Write the packets in the order of their time; return how many. ``interfaces`` have every device they name."""
    from pcapng import FileWriter  # type: ignore[import-untyped]
    from pcapng.blocks import EnhancedPacket, InterfaceDescription, SectionHeader  # type: ignore[import-untyped]

    section = SectionHeader(options={"shb_os": "Linux 6.18, simulated", "shb_userappl": "ebpfsim"}, endianness="<")
    ids: dict[str, int] = {}
    for interface in interfaces:
        ids[interface.name] = len(ids)
        section.new_member(
            InterfaceDescription, link_type=LINKTYPE_ETHERNET, snaplen=0, options=_interface_options(interface)
        )
    writer = FileWriter(stream, section)
    count = 0
    for record in sorted(packets, key=lambda packet: packet.time_ns):
        block = section.new_member(
            EnhancedPacket,
            interface_id=ids[f"{record.host}/{record.device}"],
            packet_len=len(record.data),
            packet_data=record.data,
            timestamp_high=record.time_ns >> 32,
            timestamp_low=record.time_ns & 0xFFFFFFFF,
            options=_packet_options(record),
        )
        writer.write_block(block)
        count += 1
    return count


def _interface_options(interface: Interface) -> Mapping[str, Any]:
    options: dict[str, Any] = {"if_name": interface.name, "if_tsresol": TSRESOL_NANOSECONDS}
    if interface.mac:
        options["if_MACaddr"] = interface.mac
    if interface.speed_bps:
        options["if_speed"] = interface.speed_bps
    return options


def _packet_options(record: PacketRecord) -> Mapping[str, Any]:
    options: dict[str, Any] = {}
    words = [word for word in (record.verdict, record.reason) if word]
    if words:
        options["opt_comment"] = ", ".join(words)
    options["epb_flags"] = INBOUND if record.direction == "in" else OUTBOUND
    if record.queue:
        options["epb_queue"] = record.queue
    if record.verdict in XdpAction.__members__:
        verdict = XdpAction[record.verdict]
        options["epb_verdict"] = [(VERDICT_XDP, verdict.to_bytes(8, "little"))]
    return options
