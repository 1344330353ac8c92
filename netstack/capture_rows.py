"""Captures as rows of a batch (``ebpfsim.jit.batch``): where each packet lies in memory, a part of the file at a time.

Captures are mapped into memory and walked, which takes a fraction of a microsecond a packet. What is refused, and with
which words, is what ``netstack.pcap`` refuses: a pcapng capture with anything unusual in it is read by that.
"""

import ctypes
import mmap
from array import array
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

from ebpfsim.errors import InputError
from ebpfsim.jit.batch import Rows
from netstack.pcap import (
    PCAP_HEADER_BYTES,
    PCAP_MAGICS,
    PCAP_RECORD_BYTES,
    PCAPNG_MAGIC,
    check_packet,
    read_capture,
)

__all__ = ["capture_rows"]

PART = 1 << 16  # packets
LITTLE = {b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"}
LINKTYPE_AT = 20
# pcapng (draft-ietf-opsawg-pcapng): types of blocks; the byte-order magic of a section in either order
SECTION, INTERFACE, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 3, 6
BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
PACKET_HEAD, PACKET_TAIL = 28, 4
LINKTYPE_ETHERNET = 1


def capture_rows(path: str) -> Iterator[Rows]:
    """Yield the packets of a capture; rows are good until the next ones are asked for."""
    magic = _magic(path)
    if magic in PCAP_MAGICS:
        with Path(path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as data:
            yield from _walk(data, path)
        return
    if magic == PCAPNG_MAGIC:
        with Path(path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as data:
            places = _places(data)
            if places is not None:
                yield from _at_places(data, places)
                return
    frames = [frame.data for frame in read_capture(Path(path), where=path)]
    for first in range(0, len(frames), PART):
        yield Rows.of(frames[first : first + PART])


def _magic(path: str) -> bytes:
    # what cannot be mapped (a pipe) is read whole; what cannot be read at all is refused there
    try:
        with Path(path).open("rb") as stream:
            return stream.read(4) if Path(path).is_file() else b""
    except OSError:
        return b""


def _walk(data: mmap.mmap, where: str) -> Iterator[Rows]:
    if len(data) < PCAP_HEADER_BYTES:
        raise InputError(where, f"the capture's header is cut short: {len(data)} of {PCAP_HEADER_BYTES} bytes")
    order = "<" if data[:4] in LITTLE else ">"
    (link_type,) = Struct(f"{order}I").unpack_from(data, LINKTYPE_AT)
    lengths = Struct(f"{order}8xII").unpack_from
    base = ctypes.c_char.from_buffer(data)
    try:
        at, done = PCAP_HEADER_BYTES, 0
        address, end = ctypes.addressof(base), len(data)
        while at < end:
            rows = Rows()
            words: array[int] = rows.words
            add = words.append
            last = min(end, end - PCAP_RECORD_BYTES)
            for number in range(done + 1, done + 1 + PART):
                if at > last:
                    if at < end:
                        raise InputError(where, "the capture ends in the middle of a packet's header")
                    break
                size, original = lengths(data, at)
                at += PCAP_RECORD_BYTES
                if size != original or size > end - at or link_type & 0xFFFF != LINKTYPE_ETHERNET:
                    check_packet(where, number, link_type & 0xFFFF, min(size, end - at), size, original)
                add(address + at)
                add(size)
                at += size
            done += len(rows)
            yield rows
    finally:
        # the mapping cannot be closed while something points into it
        del base


def _places(data: mmap.mmap) -> "array[int] | None":
    # offset and length of each packet of a pcapng capture; None when anything is not as nearly always
    places = array("Q")
    add = places.append
    at, end, interfaces, order = 0, len(data), 0, "<"
    head, tail = Struct("<7I").unpack_from, Struct("<I").unpack_from
    while at < end:
        if end - at < PACKET_HEAD:
            return None
        kind, size, interface, _, _, captured, original = head(data, at)
        if kind == SECTION:
            order = BYTE_ORDERS.get(data[at + 8 : at + 12], "")
            if not order:
                return None
            head, tail, interfaces = Struct(f"{order}7I").unpack_from, Struct(f"{order}I").unpack_from, 0
            size = head(data, at)[1]
        if size < 12 or size % 4 or size > end - at or tail(data, at + size - PACKET_TAIL)[0] != size:
            return None
        if kind == ENHANCED_PACKET:
            room = size - PACKET_HEAD - PACKET_TAIL
            if interface >= interfaces or captured != original or captured > room:
                return None
            add(at + PACKET_HEAD)
            add(captured)
        elif kind == INTERFACE:
            # the link type is the first half of the third word
            if (interface & 0xFFFF if order == "<" else interface >> 16) != LINKTYPE_ETHERNET:
                return None
            interfaces += 1
        elif kind == SIMPLE_PACKET:
            return None
        at += size
    return places


def _at_places(data: mmap.mmap, places: "array[int]") -> Iterator[Rows]:
    base = ctypes.c_char.from_buffer(data)
    try:
        address = ctypes.addressof(base)
        for first in range(0, len(places), 2 * PART):
            rows = Rows()
            rows.words = places[first : first + 2 * PART]
            for number in range(0, len(rows.words), 2):
                rows.words[number] += address
            yield rows
    finally:
        del base
