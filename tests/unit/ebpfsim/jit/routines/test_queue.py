"""Queues and stacks by machine code and by Python: the same results and the same RAM."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.jit.routine import routine
from ebpfsim.jit.routines.queue import peek, pop, push
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.queue import QueueMap
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType

M64 = (1 << 64) - 1
FIRST = 1 << 24  # where the allocator begins
OPERATIONS = st.lists(st.tuples(st.sampled_from(("push", "push", "pop", "peek")), st.sampled_from((0, 0, 1, 2, 3))))


class Side:
    def __init__(self, kind: MapType, value_size: int, entries: int, *, native: bool) -> None:
        self.mem = Memory()
        self.map: Any = create_map(MapAttr(kind, 0, value_size, entries), self.mem, 1)
        self.at = self.mem.alloc(value_size + 16)
        texts = {"push": push(self.map), "pop": pop(self.map), "peek": peek(self.map)} if native else {}
        self.calls = {name: routine(str(text)).bind(self.mem) for name, text in texts.items()}

    def do(self, operation: str, value: bytes, flags: int) -> int:
        self.mem.write(self.at, value)
        if self.calls:
            args = (flags,) if operation == "push" else ()
            return self.calls[operation](self.map.address, self.at, *args)
        if operation == "push":
            return self.map.push_elem(value, flags) & M64
        found = self.map.peek_elem(remove=operation == "pop")
        self.mem.write(self.at, found if found is not None else bytes(len(value)))
        return 0 if found is not None else -2 & M64

    def ram(self) -> bytes:
        return bytes(self.mem.buf[FIRST : self.mem._next_page])


@pytest.mark.parametrize("kind", [MapType.QUEUE, MapType.STACK])
@given(st.sampled_from((1, 3, 8, 12, 71, 200)), st.integers(1, 4), OPERATIONS)
def test_same_results_and_same_ram(kind, value_size, entries, operations) -> None:
    python, native = (Side(kind, value_size, entries, native=native) for native in (False, True))
    for number, (operation, flags) in enumerate(operations):
        value = bytes((number + i) & 0xFF for i in range(value_size))
        assert python.do(operation, value, flags) == native.do(operation, value, flags)
    assert python.ram() == native.ram()


def test_more_places_than_31_bits_are_pythons() -> None:
    queue = create_map(MapAttr(MapType.QUEUE, 0, 1, 4), Memory(), 1)
    assert isinstance(queue, QueueMap)
    queue.max_entries = (1 << 31) - 1
    assert push(queue) is pop(queue) is peek(queue) is None
