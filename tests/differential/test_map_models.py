"""Maps against plain Python models: thousands of random operations, by bpf(2), as state machines of hypothesis."""

import struct
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.errors import KernelError
from ebpfsim.kernel import Kernel
from ebpfsim.memory import Memory
from ebpfsim.recorder import Recorder
from ebpfsim.rng import Rng
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

T = MapType
MEM = Memory(1 << 28)


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def answer(call: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except KernelError as error:
        return error.errno_name


class Machine(RuleBasedStateMachine):
    """A kernel of its own; what is left at the end is as much as at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.before = MEM.allocated_bytes
        self.kernel = Kernel("host", KernelConfig(cpus=2), MEM, Clock(), Rng(1), Recorder(), 0)
        self.bpf = self.kernel.bpf
        self.own = MEM.allocated_bytes

    def teardown(self) -> None:
        self.kernel.fds.close_all()
        assert MEM.allocated_bytes == self.own
        assert len(self.kernel.maps) == 0


class ArrayMachine(Machine):
    ENTRIES = 5

    def __init__(self) -> None:
        super().__init__()
        self.fd = self.bpf.map_create(T.ARRAY, 4, 4, self.ENTRIES, map_flags=f.BPF_F_MMAPABLE)
        self.view = self.bpf.map_mmap(self.fd, 4096, writable=True)
        self.model = [0] * self.ENTRIES

    @rule(index=st.integers(0, 6), value=st.integers(0, 1 << 31), flags=st.sampled_from([0, 0, 1, 2, 3]))
    def update(self, index: int, value: int, flags: int) -> None:
        got = answer(self.bpf.map_update_elem, self.fd, u32(index), u32(value), flags=flags)
        if flags == 3:
            assert got == "EINVAL"
        elif index >= self.ENTRIES:
            assert got == "E2BIG"
        elif flags == f.BPF_NOEXIST:
            assert got == "EEXIST"
        else:
            self.model[index] = value

    @rule(index=st.integers(0, 4), value=st.integers(0, 1 << 31))
    def write_through_the_mapping(self, index: int, value: int) -> None:
        struct.pack_into("<I", self.view, 8 * index, value)
        self.model[index] = value

    @rule(index=st.integers(0, 6))
    def lookup(self, index: int) -> None:
        expected = u32(self.model[index]) if index < self.ENTRIES else "ENOENT"
        assert answer(self.bpf.map_lookup_elem, self.fd, u32(index)) == expected

    @rule(count=st.integers(1, 7), start=st.none() | st.integers(0, 4))
    def batch(self, count: int, start: int | None) -> None:
        first = 0 if start is None else start + 1
        if first == self.ENTRIES:
            # behind the last one there is nothing to begin with
            assert answer(self.bpf.map_lookup_batch, self.fd, count, in_batch=u32(start or 0)) == "ENOENT"
            return
        batch = self.bpf.map_lookup_batch(self.fd, count, in_batch=None if start is None else u32(start))
        assert batch.keys == [u32(index) for index in range(first, min(first + count, self.ENTRIES))]
        assert batch.values == [u32(value) for value in self.model[first : first + count]]
        assert batch.done == (first + count > self.ENTRIES)

    def teardown(self) -> None:
        self.bpf.map_munmap(self.view)
        super().teardown()


class QueueMachine(Machine):
    PLACES = 4

    def __init__(self) -> None:
        super().__init__()
        self.fds = {kind: self.bpf.map_create(kind, 0, 4, self.PLACES) for kind in (T.QUEUE, T.STACK)}
        self.models: dict[MapType, list[int]] = {T.QUEUE: [], T.STACK: []}

    @rule(kind=st.sampled_from([T.QUEUE, T.STACK]), value=st.integers(0, 1 << 31), force=st.booleans())
    def push(self, kind: MapType, value: int, force: bool) -> None:
        model = self.models[kind]
        flags = f.BPF_EXIST if force else f.BPF_ANY
        got = answer(self.bpf.map_update_elem, self.fds[kind], None, u32(value), flags=flags)
        if len(model) == self.PLACES and not force:
            assert got == "E2BIG"
            return
        if len(model) == self.PLACES:
            model.pop(0)
        model.append(value)

    @rule(kind=st.sampled_from([T.QUEUE, T.STACK]), take=st.booleans())
    def take(self, kind: MapType, take: bool) -> None:
        model = self.models[kind]
        call = self.bpf.map_lookup_and_delete_elem if take else self.bpf.map_lookup_elem
        place = 0 if kind == T.QUEUE else -1
        assert answer(call, self.fds[kind], None) == (u32(model[place]) if model else "ENOENT")
        if model and take:
            model.pop(place)


class MapInMapMachine(Machine):
    SLOTS = 3

    def __init__(self) -> None:
        super().__init__()
        template = self.bpf.map_create(T.ARRAY, 4, 4, 2)
        kinds = (T.ARRAY_OF_MAPS, T.HASH_OF_MAPS)
        self.outer = {kind: self.bpf.map_create(kind, 4, 4, self.SLOTS, inner_map_fd=template) for kind in kinds}
        self.slots: dict[MapType, dict[int, int]] = {kind: {} for kind in kinds}
        self.bpf.close(template)
        self.inner: dict[int, int] = {}  # descriptor: id

    @precondition(lambda self: len(self.inner) < 6)
    @rule()
    def make(self) -> None:
        fd = self.bpf.map_create(T.ARRAY, 4, 4, 2)
        self.inner[fd] = self.bpf.obj_get_info_by_fd(fd).id

    @precondition(lambda self: self.inner)
    @rule(data=st.data(), kind=st.sampled_from([T.ARRAY_OF_MAPS, T.HASH_OF_MAPS]), key=st.integers(0, 4))
    def put(self, data: Any, kind: MapType, key: int) -> None:
        fd = data.draw(st.sampled_from(sorted(self.inner)))
        got = answer(self.bpf.map_update_elem, self.outer[kind], u32(key), u32(fd))
        full = key not in self.slots[kind] and len(self.slots[kind]) == self.SLOTS
        if (kind == T.ARRAY_OF_MAPS and key >= self.SLOTS) or (kind == T.HASH_OF_MAPS and full):
            assert got == "E2BIG"
        else:
            assert got is None
            self.slots[kind][key] = self.inner[fd]

    @rule(kind=st.sampled_from([T.ARRAY_OF_MAPS, T.HASH_OF_MAPS]), key=st.integers(0, 4))
    def remove(self, kind: MapType, key: int) -> None:
        got = answer(self.bpf.map_delete_elem, self.outer[kind], u32(key))
        if kind == T.ARRAY_OF_MAPS and key >= self.SLOTS:
            assert got == "E2BIG"
        else:
            assert got == (None if key in self.slots[kind] else "ENOENT")
            self.slots[kind].pop(key, None)

    @precondition(lambda self: self.inner)
    @rule(data=st.data())
    def close(self, data: Any) -> None:
        fd = data.draw(st.sampled_from(sorted(self.inner)))
        self.bpf.close(fd)
        del self.inner[fd]

    @invariant()
    def ids_are_those_that_were_put(self) -> None:
        for kind, slots in self.slots.items():
            for key in range(5):
                expected = u32(slots[key]) if key in slots else "ENOENT"
                assert answer(self.bpf.map_lookup_elem, self.outer[kind], u32(key)) == expected

    @invariant()
    def maps_live_while_somebody_holds_them(self) -> None:
        held = set(self.inner.values()) | {number for slots in self.slots.values() for number in slots.values()}
        assert {map_.id for map_ in self.kernel.maps if map_.type == T.ARRAY} == held


class RingbufMachine(Machine):
    SIZE = 4096

    def __init__(self) -> None:
        super().__init__()
        self.fd = self.bpf.map_create(T.RINGBUF, 0, 0, self.SIZE)
        found = self.kernel.fds.lookup(self.fd)
        self.ring: Any = found
        self.open: list[list[Any]] = []  # reserved: address, bytes, what became of it
        self.positions = [0, 0]  # producer, consumer

    @rule(size=st.integers(0, 1200), fill=st.integers(0, 255))
    def reserve(self, size: int, fill: int) -> None:
        total = (size + 15) // 8 * 8
        sample = self.ring.reserve(size)
        # the kernel keeps a byte free, and what is not committed holds up everything behind it
        fits = self.positions[0] + total - self.positions[1] <= self.SIZE - 1
        assert bool(sample) == fits
        if sample:
            MEM.write(sample, bytes([fill]) * size)
            self.open.append([sample, bytes([fill]) * size, ""])
            self.positions[0] += total

    @precondition(lambda self: any(not record[2] for record in self.open))
    @rule(data=st.data(), discard=st.booleans())
    def finish(self, data: Any, discard: bool) -> None:
        record = data.draw(st.sampled_from([record for record in self.open if not record[2]]))
        self.ring.commit(record[0], 0, discard)
        record[2] = "discarded" if discard else "submitted"

    @rule()
    def consume(self) -> None:
        expected = []
        while self.open and self.open[0][2]:
            _, data, fate = self.open.pop(0)
            self.positions[1] += (len(data) + 15) // 8 * 8
            expected += [data] if fate == "submitted" else []
        assert self.ring.consume() == expected

    @invariant()
    def positions_agree(self) -> None:
        assert [self.ring.producer_pos, self.ring.consumer_pos] == self.positions


MACHINES = [ArrayMachine, QueueMachine, MapInMapMachine, RingbufMachine]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_model(machine) -> None:
    run(machine, examples=6, steps=50)


@pytest.mark.long
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_model_for_ten_thousand_steps(machine) -> None:
    run(machine, examples=100, steps=100)


def run(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    case = machine.TestCase
    case.settings = settings(max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True)
    case("runTest").runTest()
