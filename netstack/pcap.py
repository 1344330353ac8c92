"""Reading captures for replay: pcap (through scapy) and pcapng (through python-pcapng), to the nanosecond.

Only whole Ethernet frames are taken: a capture of another link type, or one whose packets were cut by a snapshot
length, is refused, because what would be sent is not what was seen.
"""

import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from ebpfsim.errors import InputError

__all__ = [
    "PCAPNG_MAGIC",
    "PCAP_HEADER_BYTES",
    "PCAP_MAGICS",
    "PCAP_RECORD_BYTES",
    "CapturedFrame",
    "check_packet",
    "read_capture",
]

LINKTYPE_ETHERNET = 1  # https://www.tcpdump.org/linktypes.html
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
# microseconds and nanoseconds, either byte order (pcap-savefile(5))
PCAP_MAGICS = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1")
PCAP_HEADER_BYTES, PCAP_RECORD_BYTES = 24, 16

_NS_PER_S = 1_000_000_000


class CapturedFrame(NamedTuple):
    """A frame of a capture: nanoseconds since 1970, bytes, the interface's name where the file has one."""

    time_ns: int
    data: bytes
    interface: str = ""


def read_capture(source: str | Path | bytes, *, interface: str | None = None, where: str = "") -> list[CapturedFrame]:
    """Return the frames of a capture file (or its bytes), of one interface if named; InputError says what is wrong."""
    if isinstance(source, bytes):
        data, where = source, where or "capture"
    else:
        where = where or str(source)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise InputError(where, f"capture cannot be read: {error.strerror}") from None
    if data[:4] == PCAPNG_MAGIC:
        frames = _read_pcapng(data, where)
    elif data[:4] in PCAP_MAGICS:
        frames = list(_read_pcap(data, where))
    else:
        raise InputError(where, "this is no capture: it begins neither as pcap nor as pcapng")
    if interface is not None:
        names = sorted({frame.interface for frame in frames})
        frames = [frame for frame in frames if frame.interface == interface]
        if not frames:
            raise InputError(where, f"no packet of interface '{interface}'", f"one of {', '.join(names)}")
    return frames


def _read_pcap(data: bytes, where: str) -> Iterator[CapturedFrame]:
    from scapy.utils import RawPcapReader

    if len(data) < PCAP_HEADER_BYTES:
        raise InputError(where, f"the capture's header is cut short: {len(data)} of {PCAP_HEADER_BYTES} bytes")
    read = PCAP_HEADER_BYTES
    with RawPcapReader(BytesIO(data)) as reader:  # type: ignore[arg-type]
        unit_ns = 1 if reader.nano else 1000
        for number, (frame, meta) in enumerate(reader, 1):
            read += PCAP_RECORD_BYTES + meta.caplen
            check_packet(where, number, reader.linktype & 0xFFFF, len(frame), meta.caplen, meta.wirelen)
            yield CapturedFrame(meta.sec * _NS_PER_S + meta.usec * unit_ns, frame)
    if read != len(data):
        raise InputError(where, "the capture ends in the middle of a packet's header")


def _read_pcapng(data: bytes, where: str) -> list[CapturedFrame]:
    from pcapng import FileScanner  # type: ignore[import-untyped]
    from pcapng.exceptions import PcapngException  # type: ignore[import-untyped]

    stream = BytesIO(data)
    frames: list[CapturedFrame] = []
    complete = 0
    with warnings.catch_warnings():
        # of the library about itself
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            for block in FileScanner(stream):
                complete = stream.tell()
                frame = _packet_of(block, len(frames) + 1, where)
                if frame is not None:
                    frames.append(frame)
        except (PcapngException, ValueError, IndexError, KeyError) as error:
            raise InputError(where, f"the capture is damaged: {error}") from None
    if complete != len(data):
        raise InputError(where, "the capture is damaged: it ends in the middle of a block")
    return frames


def _packet_of(block: Any, number: int, where: str) -> CapturedFrame | None:
    # the frame of a pcapng block, None when it is of another kind
    from pcapng.blocks import EnhancedPacket, SimplePacket  # type: ignore[import-untyped]

    if isinstance(block, SimplePacket):
        raise InputError(where, f"packet {number} has no time stamp (a Simple Packet Block)")
    if not isinstance(block, EnhancedPacket):
        return None
    options = block.interface.options
    frame = bytes(block.packet_data)
    check_packet(where, number, block.interface.link_type, len(frame), len(frame), block.packet_len)
    ticks = block.timestamp_high << 32 | block.timestamp_low
    time_ns = _ticks_to_ns(ticks, options["if_tsresol"][0] if "if_tsresol" in options else 6)
    return CapturedFrame(time_ns + options.get("if_tsoffset", 0) * _NS_PER_S, frame, options.get("if_name", ""))


def _ticks_to_ns(ticks: int, resolution: int) -> int:
    # if_tsresol: the lower 7 bits are a negative power of 10, or of 2 when the highest bit is set
    per_second: int = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)
    return ticks * _NS_PER_S // per_second


def check_packet(where: str, number: int, link_type: int, present: int, captured: int, original: int) -> None:
    """Refuse a packet that is no whole Ethernet frame; ``present`` of its ``captured`` bytes are in the file."""
    if link_type != LINKTYPE_ETHERNET:
        problem = f"packet {number} has link type {link_type}, only Ethernet ({LINKTYPE_ETHERNET}) can be sent"
        raise InputError(where, problem, "capture on a device, not on 'any'")
    if present != captured:
        raise InputError(where, f"packet {number} is cut short: {present} of {captured} bytes are in the file")
    if captured < original:
        problem = f"packet {number} was captured with {captured} of its {original} bytes"
        raise InputError(where, problem, "capture with a snapshot length of 0")
