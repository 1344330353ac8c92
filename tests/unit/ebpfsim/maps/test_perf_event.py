"""Records in the ring of a perf event: layouts of include/uapi/linux/perf_event.h, room as kernel/events gives it."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.maps.perf_event import PERF_RECORD_LOST, PERF_RECORD_SAMPLE, PerfEvent
from ebpfsim.memory import Memory

ENOSPC = -28


@pytest.fixture
def event() -> PerfEvent:
    made = PerfEvent(Memory(1 << 26), 0, 1, 10)
    made.map_ring(1)
    return made


def test_sample_has_a_header_the_size_and_padding_to_8_bytes(event) -> None:
    assert event.output(b"12345678") == 0
    # PERF_SAMPLE_RAW: u32 size, and the data, together a multiple of 8
    assert event.mem.read(event.base + 4096, 24).hex() == "09000000010018000c000000" + b"12345678".hex() + "0" * 8
    assert event.consume() == [(PERF_RECORD_SAMPLE, b"\x0c" + bytes(3) + b"12345678" + bytes(4))]
    assert event.consume() == []


def test_full_ring_refuses_and_tells_how_many_were_lost(event) -> None:
    results = [event.output(bytes(1012)) for _ in range(6)]
    # 1024 bytes each, and one byte always stays free
    assert results == [0, 0, 0, ENOSPC, ENOSPC, ENOSPC]
    assert len(event.consume()) == 3
    assert event.output(b"x") == 0
    lost, sample = event.consume()
    assert (lost[0], int.from_bytes(lost[1][8:16], "little")) == (PERF_RECORD_LOST, 3)
    assert sample[0] == PERF_RECORD_SAMPLE
    # records go round the end of the ring
    assert [event.output(bytes(1012)) for _ in range(3)] == [0, 0, 0]
    assert [len(data) for _, data in event.consume()] == [1016] * 3


def test_event_without_a_ring_loses_everything() -> None:
    event = PerfEvent(Memory(1 << 26), 0, 1, 10)
    assert event.output(b"x") == ENOSPC
    assert event.consume() == []


@pytest.mark.parametrize("pages", [0, 3])
def test_rings_have_a_power_of_two_of_pages(pages) -> None:
    with pytest.raises(KernelError, match="EINVAL"):
        PerfEvent(Memory(1 << 26), 0, 1, 10).map_ring(pages)
