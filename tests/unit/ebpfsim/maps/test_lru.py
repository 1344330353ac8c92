"""Which keys an LRU map gives up: the same operations on the model and on Linux 6.18, whose answers are written down.

The answers hold for two possible CPUs: the number of CPUs decides how many nodes a CPU draws at a time.
"""

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.maps.lru import L_PREV, L_REF, CommonLru, PercpuLru
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_NO_COMMON_LRU, BPF_NOEXIST

NR_CPUS = 2


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


class Target(Protocol):
    """A map, and whoever works on it: user space on some CPU, or a program that looks a key up."""

    def update(self, key: bytes, flags: int, cpu: int) -> None: ...

    def use(self, key: bytes, cpu: int) -> None: ...

    def delete(self, key: bytes) -> None: ...

    def keys(self) -> list[bytes]: ...


class Model:
    def __init__(self, map_type: MapType, entries: int, flags: int) -> None:
        self.map = create_map(MapAttr(map_type, 4, 4, entries, flags), Memory(1 << 26), NR_CPUS)

    def update(self, key: bytes, flags: int, cpu: int) -> None:
        self.map.update_elem(key, u32(1), flags, cpu)

    def use(self, key: bytes, cpu: int) -> None:
        self.map.lookup_elem(key, cpu)

    def delete(self, key: bytes) -> None:
        self.map.delete_elem(key)

    def keys(self) -> list[bytes]:
        return sorted(self.map.sys_lookup_batch(1000, None).keys)


# looks up the key that the array holds
USE = """
    r1 = map_value[{array}]+0 ll
    r1 = *(u32 *)(r1 + 0)
    *(u32 *)(r10 - 4) = r1
    r2 = r10
    r2 += -4
    r1 = map_fd[{lru}] ll
    call bpf_map_lookup_elem
    r0 = 2
    exit
"""


class Live:
    def __init__(self, map_type: MapType, entries: int, flags: int) -> None:
        from ebpfsim.live import Bpf

        self.bpf = Bpf()
        self.lru = self.bpf.map_create(map_type, 4, 4, entries, map_flags=flags)
        self.array = self.bpf.map_create(MapType.ARRAY, 4, 4, 1)
        code = encode(assemble(USE.format(array=self.array, lru=self.lru)))
        self.prog = self.bpf.prog_load(ProgType.XDP, code).fd
        self.value = u32(1) * 2 * NR_CPUS if map_type == MapType.LRU_PERCPU_HASH else u32(1)

    def update(self, key: bytes, flags: int, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        self._try(self.bpf.map_update_elem, self.lru, key, self.value, flags=flags)

    def use(self, key: bytes, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        self.bpf.map_update_elem(self.array, u32(0), key)
        self.bpf.prog_test_run(self.prog, bytes(64))

    def delete(self, key: bytes) -> None:
        self._try(self.bpf.map_delete_elem, self.lru, key)

    def keys(self) -> list[bytes]:
        return sorted(self.bpf.map_lookup_batch(self.lru, 1000).keys)

    def _try(self, call: Callable[..., object], *args: object, **kwargs: object) -> None:
        from ebpfsim.errors import KernelError

        with contextlib.suppress(KernelError):
            call(*args, **kwargs)


def draws(seed: int) -> Iterator[int]:
    """Yield numbers below 2**16, the same for ever."""
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield seed >> 48


def evolve(target: Target, keys: int, steps: int, cpus: int, seed: int) -> str:
    """Do ``steps`` things and return a digest of the keys that are there after every tenth of them."""
    numbers = draws(seed)
    digest = hashlib.sha256()
    for step in range(steps):
        what, key, cpu = next(numbers) % 16, u32(next(numbers) % keys), next(numbers) % cpus
        if what < 8:
            target.update(key, 0, cpu)
        elif what < 10:
            target.update(key, BPF_NOEXIST, cpu)
        elif what < 11:
            target.update(key, BPF_EXIST, cpu)
        elif what < 15:
            target.use(key, cpu)
        else:
            target.delete(key)
        if step % 10 == 9:
            digest.update(b"".join(target.keys()) + b"|")
    return digest.hexdigest()[:16]


# fmt: off
# type, entries, flags, keys in play, steps, CPUs in play, seed -> digest, read off Linux 6.18 with two CPUs
ANSWERS = {
    (MapType.LRU_HASH, 4, 0, 8, 200, 1, 1): "4c0b9f536be97eaf",
    (MapType.LRU_HASH, 4, 0, 8, 200, 2, 2): "2374aa517bd2bbbb",
    (MapType.LRU_HASH, 10, 0, 16, 400, 1, 3): "c739230c9206d652",
    (MapType.LRU_HASH, 10, 0, 16, 400, 2, 4): "01c085014f7f50c0",
    (MapType.LRU_HASH, 64, 0, 100, 1500, 2, 5): "ac6048cdc4bb5cb6",
    (MapType.LRU_HASH, 600, 0, 900, 2500, 1, 6): "e845e3c122d661ef",
    (MapType.LRU_HASH, 600, 0, 900, 2500, 2, 7): "20b075e54eedbfab",
    (MapType.LRU_HASH, 1, 0, 3, 60, 2, 8): "6c078047362e9d15",
    (MapType.LRU_HASH, 8, 2, 12, 300, 2, 9): "ae426b42a1a4d76e",
    (MapType.LRU_HASH, 100, 2, 150, 2000, 2, 10): "60dff7309214637f",
    (MapType.LRU_PERCPU_HASH, 8, 0, 12, 300, 2, 11): "499405e51084c22a",
    (MapType.LRU_PERCPU_HASH, 50, 0, 80, 1500, 2, 12): "c0d381ed903d937d",
    (MapType.LRU_PERCPU_HASH, 16, 2, 24, 400, 2, 13): "8c6dbdfe62bb495a",
}
# fmt: on

IDS = [f"{case[0].lower}-{case[1]}-{case[2]}-{case[5]}" for case in ANSWERS]


@pytest.mark.parametrize("case", ANSWERS, ids=IDS)
def test_model_keeps_the_keys_that_linux_keeps(case) -> None:
    map_type, entries, flags, keys, steps, cpus, seed = case
    assert evolve(Model(map_type, entries, flags), keys, steps, cpus, seed) == ANSWERS[case]


@pytest.mark.live
@pytest.mark.parametrize("case", ANSWERS, ids=IDS)
def test_linux_keeps_the_keys_that_are_written_down(live_bpf, case) -> None:
    from ebpfsim.live.sys import possible_cpus

    map_type, entries, flags, keys, steps, cpus, seed = case
    if possible_cpus() != NR_CPUS:
        pytest.skip("the answers are those of a kernel with two CPUs")
    assert evolve(Live(map_type, entries, flags), keys, steps, cpus, seed) == ANSWERS[case]


def test_lru_of_four_loses_the_oldest(bpf, keys_of) -> None:
    fd = bpf.map_create(MapType.LRU_HASH, 4, 8, 4)
    for i in range(5):
        bpf.map_update_elem(fd, u32(i), bytes(8))
    assert u32(0) not in keys_of(fd)
    assert u32(4) in keys_of(fd)


def test_lru_never_fills_up(bpf, keys_of) -> None:
    fd = bpf.map_create(MapType.LRU_HASH, 4, 8, 8)
    for i in range(100):
        bpf.map_update_elem(fd, u32(i), bytes(8))
    assert u32(99) in keys_of(fd)
    assert 1 <= len(keys_of(fd)) <= 8


@pytest.mark.parametrize("variant", [CommonLru, PercpuLru])
def test_nodes_are_handed_out_once(variant) -> None:
    mem = Memory(1 << 26)
    at, nodes, size = mem.alloc(4096) ^ KERNEL_BASE, mem.alloc(8 * 32) ^ KERNEL_BASE, 32
    lru = variant(mem, at, 2, lambda node: False, nodes, 8, size)
    handed_out = [lru.pop_free(cpu) for cpu in (0, 1) * 4]
    assert sorted(handed_out) == list(range(nodes, nodes + 8 * size, size))
    assert lru.pop_free(0) == 0
    lru.push_free(handed_out[3])
    assert lru.pop_free(1) == handed_out[3]


def test_lists_that_a_stray_store_made_endless_are_an_oops() -> None:
    """Where Linux would go on for ever."""
    map_ = create_map(MapAttr(MapType.LRU_HASH, 4, 4, 8), Memory(1 << 26), NR_CPUS)
    for number in range(8):
        map_.update_elem(u32(number), u32(0), 0, 0)
    for elem in map_.table.elements():
        map_.table.words[elem + L_PREV >> 2] = elem
        map_.mem.buf[elem + L_REF] = 1

    def fill() -> None:
        for number in range(100):
            map_.update_elem(u32(number), u32(0), 0, 0)

    with pytest.raises(KernelOops, match="has no end"):
        fill()


def test_flag_of_per_cpu_lists_is_for_lru_maps(bpf, refused) -> None:
    assert refused(bpf.map_create, MapType.HASH, 4, 8, 4, map_flags=BPF_F_NO_COMMON_LRU) == "EINVAL"


def test_entries_of_per_cpu_lists_are_a_multiple_of_the_cpus(bpf, nr_cpus) -> None:
    fd = bpf.map_create(MapType.LRU_HASH, 4, 8, nr_cpus * 3 + 1, map_flags=BPF_F_NO_COMMON_LRU)
    assert bpf.obj_get_info_by_fd(fd).max_entries == nr_cpus * 4
