"""A hash map on two sides, Python's and machine code's, each in a RAM of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ebpfsim.jit.routine import ASK_PYTHON, OTHER_COST, routine
from ebpfsim.jit.routines import hash as hash_routines
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory

M64 = (1 << 64) - 1
FIRST = 1 << 24  # where the allocator begins


def draws(seed: int) -> Iterator[int]:
    """Yield numbers below 2**32, the same for ever."""
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield seed >> 32


class Side:
    """A map in a RAM of its own; ``native`` says who works on it."""

    def __init__(self, attr: MapAttr, nr_cpus: int, *, native: bool, mem: Memory | None = None) -> None:
        self.mem = mem or Memory()
        self.map = create_map(attr, self.mem, nr_cpus)
        assert isinstance(self.map, HashMap)
        self.key, self.value = self.mem.alloc(max(attr.key_size, 8)), self.mem.alloc(max(attr.value_size, 8))
        self.calls: dict[str, Any] = {}
        self.asked = 0
        if native:
            texts = {
                name: getattr(hash_routines, name)(self.map, OTHER_COST) for name in ("lookup", "update", "delete")
            }
            if self.map.percpu:
                texts["lookup_percpu"] = hash_routines.lookup_percpu(self.map)
            self.calls = {name: routine(text).bind(self.mem) for name, text in texts.items()}

    def ask(self, operation: str, args: tuple[int, int], python: Any, cpu: int) -> int:
        """Return the result as 64 bits and, for updates, whether there are as many elements as before."""
        before = len(self.map)
        result = ASK_PYTHON
        if self.calls:
            result = self.calls[operation](self.map.address, self.key, *args, cpu=cpu)
            self.asked += result == ASK_PYTHON
        if result == ASK_PYTHON:
            result = python()
            if operation == "update" and result == 0 and len(self.map) == before:
                result = OTHER_COST
        return result & M64

    def do(self, operation: str, key: bytes, value: bytes, number: int, cpu: int) -> int:
        self.mem.write(self.key, key)
        self.mem.write(self.value, value)
        map_ = self.map
        if operation == "update":
            return self.ask(operation, (self.value, number), lambda: map_.update_elem(key, value, number, cpu), cpu)
        if operation == "lookup_percpu":
            return self.ask(operation, (number, 0), lambda: map_.lookup_percpu_elem(key, number), cpu)
        python = {"lookup": lambda: map_.lookup_elem(key, cpu), "delete": lambda: map_.delete_elem(key)}[operation]
        return self.ask(operation, (0, 0), python, cpu)

    def ram(self) -> bytes:
        return bytes(self.mem.buf[FIRST : self.mem._next_page])


def _compare(attr: MapAttr, nr_cpus: int, steps: int, nr_keys: int, seed: int) -> tuple[Side, Side]:
    """Do the same on both sides; the RAM is compared now and then, and at the end."""
    numbers = draws(seed)
    python, native = Side(attr, nr_cpus, native=False), Side(attr, nr_cpus, native=True)
    keys = [b"".join(next(numbers).to_bytes(4, "little") for _ in range(64))[: attr.key_size] for _ in range(nr_keys)]
    keys = [key if i % 3 else key[:-1] + b"\0" for i, key in enumerate(keys)]
    operations = ["update"] * 4 + ["lookup"] * 3 + ["delete"] + ["lookup_percpu"] * python.map.percpu
    for step in range(steps):
        operation = operations[next(numbers) % len(operations)]
        key = keys[next(numbers) % nr_keys]
        value = (next(numbers).to_bytes(4, "big") * (attr.value_size // 4 + 1))[: attr.value_size]
        number = (
            next(numbers) % (nr_cpus + 1) if operation == "lookup_percpu" else (0, 0, 0, 1, 2, 3)[next(numbers) % 6]
        )
        cpu = next(numbers) % nr_cpus
        assert python.do(operation, key, value, number, cpu) == native.do(operation, key, value, number, cpu), step
        if step % 101 == 100:
            assert python.ram() == native.ram(), step
    assert python.ram() == native.ram()
    return python, native


@pytest.fixture
def make_side() -> type[Side]:
    """Return what makes one side: attributes, number of CPUs, ``native``."""
    return Side


@pytest.fixture
def compare() -> Callable[..., tuple[Side, Side]]:
    """Return what does the same on both sides and compares: attributes, CPUs, steps, number of keys, seed."""
    return _compare
