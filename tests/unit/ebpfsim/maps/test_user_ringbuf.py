"""Ring buffers that user space fills (kernel/bpf/ringbuf.c, v6.18); for mappings see tests/differential."""

import struct

import pytest

from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

SIZE = 4096


@pytest.fixture
def ring(kernel):
    """Return the map, and the producer's page and the data as user space maps them."""
    fd = kernel.bpf.map_create(MapType.USER_RINGBUF, 0, 0, SIZE)
    view = kernel.bpf.map_mmap(fd, 4096 + 2 * SIZE, writable=True, offset=4096)
    yield kernel.fds.lookup(fd), view
    kernel.bpf.map_munmap(view)


def put(view, position: int, data: bytes, bits: int = 0) -> int:
    offset = 4096 + position % SIZE
    view[offset : offset + 8 + len(data)] = struct.pack("<II", len(data) | bits, 0) + data
    after = position + (len(data) + 15) // 8 * 8
    view[:8] = struct.pack("<Q", after)
    return after


def test_samples_in_order(kernel, ring) -> None:
    map_, view = ring
    assert map_.peek() == (-61, 0)  # ENODATA
    position = put(view, 0, b"hello")
    put(view, position, b"world!!!!")
    address, size = map_.peek()
    assert kernel.mem.read(address, size) == b"hello"
    map_.release(size)
    address, size = map_.peek()
    assert kernel.mem.read(address, size) == b"world!!!!"
    map_.release(size)
    assert map_.peek() == (-61, 0)
    assert map_.consumer_pos == 16 + 24


def test_busy_and_discarded_samples(kernel, ring) -> None:
    map_, view = ring
    put(view, 0, b"x", f.BPF_RINGBUF_BUSY_BIT)
    assert map_.peek() == (-61, 0)
    put(view, 0, b"x", f.BPF_RINGBUF_DISCARD_BIT)
    assert map_.peek() == (-11, 0)  # EAGAIN
    assert map_.consumer_pos == 16


def test_nonsense(ring) -> None:
    map_, view = ring
    view[:8] = struct.pack("<Q", 7)
    assert map_.peek() == (-22, 0)
    view[:8] = struct.pack("<Q", 16)
    view[4096:4100] = struct.pack("<I", SIZE)
    assert map_.peek() == (-7, 0)  # E2BIG
    view[4096:4100] = struct.pack("<I", 100)
    assert map_.peek() == (-22, 0)
