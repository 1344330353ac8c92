"""Hash and LRU maps against plain models, whoever works on them: Python, programs' routines, or those of user space.

The model of LRU maps is written down from kernel/bpf/bpf_lru_list.c, v6.18, once more, with lists of keys.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ebpfsim.errors import KernelError
from ebpfsim.jit.routine import ASK_PYTHON, routine
from ebpfsim.jit.routines import hash as hash_routines
from ebpfsim.jit.routines.user import hash_calls
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC, BPF_NOEXIST

NR_CPUS = 2
M64 = (1 << 64) - 1
ENOENT, EEXIST, E2BIG = -2, -17, -7
MEMORY = Memory()  # one for all examples: making one costs more than a step


# ---- the maps -------------------------------------------------------------------------------------------------------


class Callers:
    """A map, and three ways to work on it. Results are errnos, or values."""

    def __init__(self, kind: MapType, entries: int, flags: int) -> None:
        self.map: Any = create_map(MapAttr(kind, 6, 8, entries, flags), MEMORY, NR_CPUS)
        self.key, self.value = MEMORY.alloc(8), MEMORY.alloc(8)
        texts = (hash_routines.lookup, hash_routines.update, hash_routines.delete)
        self.lookup_call, self.update_call, self.delete_call = (routine(each(self.map)).bind(MEMORY) for each in texts)
        self.native = hash_calls(self.map)

    def close(self) -> None:
        self.map.put()
        MEMORY.free(self.key)
        MEMORY.free(self.value)

    def as_user(self, native: bool, work: Any, *args: Any) -> Any:
        self.map._native = self.native if native else None
        try:
            return work(*args) or 0
        except KernelError as error:
            return -error.errno

    def update(self, who: str, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        if who == "python":
            return int(self.map.update_elem(key, value, flags, cpu))
        if who.startswith("user"):
            return int(self.as_user(who == "user native", self.map.sys_update, key, value, flags))
        MEMORY.write(self.key, key)
        MEMORY.write(self.value, value)
        result = self.update_call(self.map.address, self.key, self.value, flags, cpu=cpu)
        if result == ASK_PYTHON:
            return int(self.map.update_elem(key, value, flags, cpu))
        return result - (1 << 64) if result else 0

    def delete(self, who: str, key: bytes) -> int:
        if who == "python":
            return int(self.map.delete_elem(key))
        if who.startswith("user"):
            return int(self.as_user(who == "user native", self.map.sys_delete, key))
        MEMORY.write(self.key, key)
        result = self.delete_call(self.map.address, self.key)
        return result - (1 << 64) if result else 0

    def lookup(self, who: str, key: bytes, cpu: int) -> bytes | None:
        if who.startswith("user"):
            found = self.as_user(who == "user native", self.map.sys_lookup, key)
            return None if found == ENOENT else bytes(found)
        if who == "python":
            address = self.map.lookup_elem(key, cpu)
        else:
            MEMORY.write(self.key, key)
            address = self.lookup_call(self.map.address, self.key, cpu=cpu)
        return MEMORY.read(address, 8) if address else None


# ---- the models -----------------------------------------------------------------------------------------------------


class HashModel:
    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.values: dict[bytes, bytes] = {}

    def update(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        if key in self.values:
            if flags == BPF_NOEXIST:
                return EEXIST
        elif flags == BPF_EXIST:
            return ENOENT
        elif len(self.values) == self.entries:
            return E2BIG
        self.values[key] = value
        return 0

    def delete(self, key: bytes) -> int:
        return 0 if self.values.pop(key, None) is not None else ENOENT

    def use(self, key: bytes) -> None:
        """Note that a program looked the key up."""


@dataclass(eq=False)
class Node:
    key: bytes = b""
    ref: bool = False
    cpu: int = 0
    where: list["Node"] = field(default_factory=list)  # the list that it is on, front first


class LruLists:
    """``struct bpf_lru_list``."""

    def __init__(self, model: "LruModel", nr_scans: int) -> None:
        self.model, self.nr_scans = model, nr_scans
        self.active: list[Node] = []
        self.inactive: list[Node] = []
        self.free: list[Node] = []
        self.next_rotation: Node | None = None  # None: the head of the inactive list

    def move(self, node: Node, to: list[Node]) -> None:
        if node is self.next_rotation:
            at = node.where.index(node)
            self.next_rotation = node.where[at - 1] if at else None
        move(node, to)

    def rotate(self) -> None:
        if len(self.inactive) < len(self.active):
            for node in self.active[::-1][: self.nr_scans]:
                self.move(node, self.active if node.ref else self.inactive)
        self.rotate_inactive()

    def rotate_inactive(self) -> None:
        if not self.inactive:
            return
        # backward from where the last rotation ended, once around; the head of the list counts for nothing
        nodes = self.inactive[::-1]
        start = len(nodes) - 1 - self.inactive.index(self.next_rotation) if self.next_rotation is not None else 0
        around = nodes[start:] + nodes[:start]
        scanned = around[: self.nr_scans]
        behind: Node | None = None
        for node in scanned:
            at = self.inactive.index(node)
            behind = self.inactive[at - 1] if at else None
            if node.ref:
                self.move(node, self.active)
        self.next_rotation = behind

    def shrink(self, wanted: int, to: list[Node]) -> None:
        freed = 0
        for node in self.inactive[::-1][: self.nr_scans]:
            if node.ref:
                self.move(node, self.active)
            else:
                self.model.evict(node)
                self.move(node, to)
                freed += 1
                if freed == wanted:
                    return
        if not freed:
            for node in (self.inactive or self.active)[-1:]:
                self.model.evict(node)
                self.move(node, to)


def move(node: Node, to: list[Node]) -> None:
    node.where.remove(node)
    to.insert(0, node)
    node.where, node.ref = to, False


class LruModel:
    """Keys and values, and the lists that say which key goes; subclasses hand out nodes."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.nodes: dict[bytes, Node] = {}

    def evict(self, node: Node) -> None:
        assert self.nodes.pop(node.key) is node
        del self.values[node.key]

    def update(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        node = self.pop(cpu)
        refused = 0
        if key in self.values:
            refused = EEXIST if flags == BPF_NOEXIST else 0
        elif flags == BPF_EXIST:
            refused = ENOENT
        if refused:
            self.push(node)
            return refused
        old = self.nodes.get(key)
        node.key = key
        self.nodes[key], self.values[key] = node, value
        if old is not None:
            node.ref = True
            self.push(old)
        return 0

    def delete(self, key: bytes) -> int:
        node = self.nodes.pop(key, None)
        if node is None:
            return ENOENT
        del self.values[key]
        self.push(node)
        return 0

    def use(self, key: bytes) -> None:
        """Note that a program looked the key up."""
        if key in self.nodes:
            self.nodes[key].ref = True

    def pop(self, cpu: int) -> Node:
        raise NotImplementedError

    def push(self, node: Node) -> None:
        raise NotImplementedError


class CommonModel(LruModel):
    def __init__(self, entries: int) -> None:
        super().__init__()
        self.lists = LruLists(self, 128)
        self.target = min(max(entries // NR_CPUS // 2, 1), 128)
        self.local_free: list[list[Node]] = [[] for _ in range(NR_CPUS)]
        self.pending: list[list[Node]] = [[] for _ in range(NR_CPUS)]
        self.next_steal = list(range(NR_CPUS))
        for _ in range(entries):
            put(Node(), self.lists.free)

    def pop(self, cpu: int) -> Node:
        if not self.local_free[cpu]:
            self.refill(cpu)
        node = self.local_free[cpu].pop(0) if self.local_free[cpu] else self.steal(cpu)
        node.cpu, node.ref = cpu, False
        return put(node, self.pending[cpu])

    def refill(self, cpu: int) -> None:
        lists = self.lists
        for node in self.pending[cpu][::-1]:
            move(node, lists.active if node.ref else lists.inactive)
        lists.rotate()
        taken = lists.free[: self.target]
        for node in taken:
            lists.move(node, self.local_free[cpu])
        if len(taken) < self.target:
            lists.shrink(self.target - len(taken), self.local_free[cpu])

    def steal(self, cpu: int) -> Node:
        victim = self.next_steal[cpu]
        for _ in range(NR_CPUS):
            node = self.rob(victim)
            victim = (victim + 1) % NR_CPUS
            if node is not None:
                break
        self.next_steal[cpu] = victim
        assert node is not None
        return node

    def rob(self, cpu: int) -> Node | None:
        if self.local_free[cpu]:
            return self.local_free[cpu].pop(0)
        pending = self.pending[cpu]
        candidates = [node for node in pending if not node.ref] or pending
        if not candidates:
            return None
        self.evict(candidates[-1])
        pending.remove(candidates[-1])
        return candidates[-1]

    def push(self, node: Node) -> None:
        if node.where is self.pending[node.cpu]:
            move(node, self.local_free[node.cpu])
        else:
            self.lists.move(node, self.lists.free)


class PercpuModel(LruModel):
    def __init__(self, entries: int) -> None:
        super().__init__()
        self.lists = [LruLists(self, 4) for _ in range(NR_CPUS)]
        for cpu, lists in enumerate(self.lists):
            for _ in range(-(-entries // NR_CPUS)):
                put(Node(cpu=cpu), lists.free)

    def pop(self, cpu: int) -> Node:
        lists = self.lists[cpu]
        lists.rotate()
        if not lists.free:
            lists.shrink(4, lists.free)
        node = lists.free[0]
        lists.move(node, lists.inactive)
        return node

    def push(self, node: Node) -> None:
        lists = self.lists[node.cpu]
        lists.move(node, lists.free)


def put(node: Node, to: list[Node]) -> Node:
    to.insert(0, node)
    node.where = to
    return node


# ---- the machines ---------------------------------------------------------------------------------------------------

KEYS = st.integers(0, 15).map(lambda number: b"key%03d" % (number * 37))
VALUES = st.binary(min_size=8, max_size=8)
FLAGS = st.sampled_from((0, 0, 0, BPF_NOEXIST, BPF_EXIST))
CPUS = st.integers(0, NR_CPUS - 1)
WHO = st.sampled_from(("python", "program", "user", "user native"))


class HashMachine(RuleBasedStateMachine):
    kind, flags, model_of = MapType.HASH, 0, HashModel

    @initialize(entries=st.integers(1, 12))
    def create(self, entries: int) -> None:
        self.callers = Callers(self.kind, entries, self.flags)
        self.model: Any = self.model_of(entries)
        self.read = 0

    @rule(who=WHO, key=KEYS, value=VALUES, flags=FLAGS, cpu=CPUS)
    def update(self, who: str, key: bytes, value: bytes, flags: int, cpu: int) -> None:
        cpu = 0 if who.startswith("user") else cpu
        assert self.callers.update(who, key, value, flags, cpu) == self.model.update(key, value, flags, cpu)

    @rule(who=WHO, key=KEYS)
    def delete(self, who: str, key: bytes) -> None:
        assert self.callers.delete(who, key) == self.model.delete(key)

    @rule(who=WHO, key=KEYS, cpu=CPUS)
    def lookup(self, who: str, key: bytes, cpu: int) -> None:
        assert self.callers.lookup(who, key, cpu) == self.model.values.get(key)
        if not who.startswith("user"):
            self.model.use(key)

    @rule()
    def read_all(self) -> None:
        batch = self.callers.map.sys_lookup_batch(100, None)
        assert dict(zip(batch.keys, batch.values, strict=True)) == self.model.values
        assert [key for key, _, _ in self.callers.map.elements(0)] == batch.keys

    @invariant()
    def same_number(self) -> None:
        if hasattr(self, "model"):
            assert len(self.callers.map) == len(self.model.values)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.read_all()
            self.callers.close()


class ChunkedMachine(HashMachine):
    flags = BPF_F_NO_PREALLOC


class CommonLruMachine(HashMachine):
    kind, model_of = MapType.LRU_HASH, CommonModel


class PercpuLruMachine(HashMachine):
    kind, flags, model_of = MapType.LRU_HASH, BPF_F_NO_COMMON_LRU, PercpuModel


MACHINES = (HashMachine, ChunkedMachine, CommonLruMachine, PercpuLruMachine)


@pytest.mark.parametrize("machine", MACHINES)
def test_map_behaves_as_its_model(machine) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=40))


@pytest.mark.long
@pytest.mark.parametrize("machine", MACHINES)
def test_map_behaves_as_its_model_for_10000_steps(machine) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=100, stateful_step_count=100))
