"""Rings of AF_XDP: XDP_MMAP_OFFSETS of Linux 6.18 are 0, 128, 320 and 196 for all four."""

from ebpfsim.memory import Memory
from netstack.xsk_queue import RING_CONSUMER, RING_DESC, RING_FLAGS, RING_PRODUCER, XskQueue
from netstack.xsk_user import UserRing


def test_layout() -> None:
    assert (RING_PRODUCER, RING_CONSUMER, RING_DESC, RING_FLAGS) == (0, 128, 320, 196)
    assert XskQueue(Memory(), 64, umem=False).size == 320 + 64 * 16
    assert XskQueue(Memory(), 64, umem=True).size == 320 + 64 * 8


def test_entries_are_there_when_they_are_told() -> None:
    queue = XskQueue(Memory(), 4, umem=True)
    ring = UserRing(queue)
    for number in range(4):
        queue.put_addr(number)
    assert (queue.room, ring.take()) == (0, None)
    queue.publish_producer()
    assert [ring.take() for _ in range(5)] == [*(bytes([number]) + bytes(7) for number in range(4)), None]
    assert queue.room == 4


def test_counters_wrap_around() -> None:
    queue = XskQueue(Memory(), 2, umem=True)
    ring = UserRing(queue)
    for at in (RING_PRODUCER, RING_CONSUMER):
        queue.mem.store(queue.address + at, 4, 0xFFFF_FFFF)
    queue.cached = 0xFFFF_FFFF
    assert [ring.put(bytes([number]) * 8) for number in range(3)] == [True, True, False]
    taken = []
    while (address := queue.peek_addr()) is not None:
        taken.append(address & 0xFF)
        queue.take()
    queue.publish_consumer()
    assert (taken, queue.consumer, ring.filled) == ([0, 1], 1, 0)
