"""Captures as rows of a batch (``ebpfsim.jit.batch``): where each packet lies in memory, a part of the file at a time.

Classic captures are mapped into memory and walked, which takes a fraction of a microsecond a packet and memory for one
part only; a pcapng capture is read whole. What is refused, and with which words, is what ``netstack.pcap`` refuses.
"""

import ctypes
import mmap
from array import array
from collections.abc import Iterator
from pathlib import Path
from struct import Struct

from ebpfsim.errors import InputError
from ebpfsim.jit.batch import Rows
from netstack.pcap import PCAP_HEADER_BYTES, PCAP_MAGICS, PCAP_RECORD_BYTES, check_packet, read_capture

__all__ = ["capture_rows"]

PART = 1 << 16  # packets
LITTLE = {b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"}
LINKTYPE_AT = 20


def capture_rows(path: str) -> Iterator[Rows]:
    """Yield the packets of a capture; rows are good until the next ones are asked for."""
    if _is_classic(path):
        with Path(path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as data:
            yield from _walk(data, path)
        return
    frames = [frame.data for frame in read_capture(Path(path), where=path)]
    for first in range(0, len(frames), PART):
        yield Rows.of(frames[first : first + PART])


def _is_classic(path: str) -> bool:
    # what cannot be mapped (a pipe) is read whole; what cannot be read at all is refused there
    try:
        with Path(path).open("rb") as stream:
            return Path(path).is_file() and stream.read(4) in PCAP_MAGICS
    except OSError:
        return False


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
                if size != original or size > end - at or link_type & 0xFFFF != 1:
                    check_packet(where, number, link_type & 0xFFFF, min(size, end - at), size, original)
                add(address + at)
                add(size)
                at += size
            done += len(rows)
            yield rows
    finally:
        # the mapping cannot be closed while something points into it
        del base
