"""Records of ring buffers by machine code and by Python: the same results and the same RAM."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import KernelOops
from ebpfsim.helpers.native_text import text_of
from ebpfsim.helpers.ringbuf import ringbuf_discard, ringbuf_submit
from ebpfsim.jit.routine import ASK_PYTHON, routine
from ebpfsim.jit.routines.ringbuf import output, reserve
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.ringbuf import RingbufMap
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType

M64 = (1 << 64) - 1
FIRST = 1 << 24  # where the allocator begins
SIZES = st.sampled_from((0, 1, 7, 8, 9, 24, 100, 500, 1000, 2040, 4080, 4088, 4089, 5000, 1 << 30, (1 << 30) + 1))
FLAGS = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 4, 1 << 63))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), SIZES, st.sampled_from((0, 0, 0, 1))),
        st.tuples(st.just("output"), st.sampled_from((0, 1, 7, 8, 9, 24, 100, 500, 1000, 4000)), FLAGS),
        st.tuples(st.sampled_from(("submit", "discard")), st.integers(0, 5), FLAGS),
        st.tuples(st.just("consume"), st.integers(1, 4), st.just(0)),
        # user space may write anything there
        st.tuples(st.just("move"), st.sampled_from((0, 8, 16, 4096, M64)), st.just(0)),
    ),
    max_size=60,
)


class Side:
    """A ring of a page; ``asked`` counts the calls that machine code left to Python."""

    def __init__(self, *, native: bool) -> None:
        self.mem = Memory()
        self.ring: Any = create_map(MapAttr(MapType.RINGBUF, 0, 0, 4096), self.mem, 1)
        self.at = self.mem.alloc(4096)
        self.mem.write(self.at, bytes(number * 7 & 0xFF for number in range(4096)))
        self.samples: list[int] = []
        self.asked = 0
        texts = {
            "reserve": reserve(self.ring),
            "output": output(self.ring),
            "submit": text_of(ringbuf_submit),
            "discard": text_of(ringbuf_discard),
        }
        self.calls = {name: routine(str(text)).bind(self.mem) for name, text in texts.items()} if native else {}

    def do(self, what: str, number: int, flags: int) -> object:
        if what == "consume":
            try:
                return self.ring.consume(number)
            except KernelOops:  # there was no record where user space went
                return None
        if what == "move":
            self.ring.consumer_pos = (self.ring.producer_pos - number) & M64
            return None
        if what in ("submit", "discard"):
            if not self.samples:
                return None
            sample = self.samples.pop(number % len(self.samples))
            if self.native(what, sample, flags) is None:
                self.ring.commit(sample, flags, what == "discard")
            return None
        if what == "reserve":
            found = self.native(what, self.ring.address, number, flags)
            if found is None:
                found = 0 if flags else self.ring.reserve(number)
            self.samples += [found] if found else []
            return found
        found = self.native(what, self.ring.address, self.at, number, flags)
        return found if found is not None else self.ring.output(self.mem.read(self.at, number), flags) & M64

    def native(self, what: str, *args: int) -> int | None:
        if not self.calls:
            return None
        result: int = self.calls[what](*args)
        self.asked += result == ASK_PYTHON
        return result if result != ASK_PYTHON else None

    def ram(self) -> bytes:
        return bytes(self.mem.buf[FIRST : self.mem._next_page])


@given(OPERATIONS)
def test_same_results_and_same_ram(operations: list[tuple[str, int, int]]) -> None:
    python, native = (Side(native=native) for native in (False, True))
    for operation in operations:
        assert python.do(*operation) == native.do(*operation), operation
        assert python.ring.wakeups == native.ring.wakeups
    assert python.ram() == native.ram()


def test_what_nobody_waits_for_needs_no_python() -> None:
    side = Side(native=True)
    first = side.do("reserve", 24, 0)
    for number in range(8):
        assert side.do("output", 100 + number, 0) == 0
        assert side.do("reserve", 8, 0) == side.samples[-1]
        side.do("submit" if number % 2 else "discard", len(side.samples) - 1, 0)
    assert side.asked == 0
    # the consumer waits for the first one
    side.do("submit", 0, 0)
    assert (side.asked, side.ring.wakeups) == (1, 1)
    assert first == side.ring.data + 8
    assert [len(record) for record in side.ring.consume()][:3] == [24, 100, 101]


def test_a_record_that_goes_on_behind_the_end_is_pythons() -> None:
    side = Side(native=True)
    assert side.do("output", 4000, 1) == 0
    side.ring.consume()
    assert side.asked == 0
    assert side.do("output", 200, 1) == 0
    assert side.asked == 1
    assert side.ring.consume() == [side.mem.read(side.at, 200)]


@pytest.mark.parametrize("text", [reserve, output])
def test_more_bytes_than_31_bits_are_pythons(text: Any) -> None:
    ring = create_map(MapAttr(MapType.RINGBUF, 0, 0, 4096), Memory(), 1)
    assert isinstance(ring, RingbufMap)
    ring.ring_size = 1 << 31
    assert text(ring) is None
