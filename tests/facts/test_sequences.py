"""Random sequences of calls on elements, the same on the simulated and on the live kernel: every answer is the same.

What is compared this way: order of iteration, which elements an LRU map gives up, where batches stop and go on, counts
and errnos of refusals. The seed of hash tables is 0 on both (BPF_F_ZERO_SEED).
"""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.live.sys import possible_cpus
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType as T

STEPS = 250
ZERO, NO_PREALLOC, NO_COMMON_LRU = f.BPF_F_ZERO_SEED, f.BPF_F_NO_PREALLOC, f.BPF_F_NO_COMMON_LRU
# type, bytes of key and value, entries, flags
SHAPES = [
    (T.HASH, 4, 4, 8, ZERO),
    (T.HASH, 4, 12, 8, NO_PREALLOC | ZERO),
    (T.HASH, 3, 5, 300, ZERO),
    (T.PERCPU_HASH, 4, 4, 8, ZERO),
    (T.PERCPU_HASH, 8, 12, 8, NO_PREALLOC | ZERO),
    (T.LRU_HASH, 4, 4, 1, ZERO),
    (T.LRU_HASH, 4, 4, 40, ZERO),
    (T.LRU_HASH, 4, 4, 10, NO_COMMON_LRU | ZERO),
    (T.LRU_PERCPU_HASH, 4, 4, 8, ZERO),
    (T.ARRAY, 4, 7, 5, 0),
    (T.PERCPU_ARRAY, 4, 13, 3, 0),
    (T.LPM_TRIE, 6, 4, 10, NO_PREALLOC),
    (T.LPM_TRIE, 5, 1, 3, NO_PREALLOC),
    (T.QUEUE, 0, 4, 4, 0),
    (T.STACK, 0, 6, 4, 0),
    (T.BLOOM_FILTER, 0, 4, 8, ZERO),
    (T.DEVMAP, 4, 8, 4, 0),
    (T.DEVMAP_HASH, 4, 4, 4, 0),
    (T.CPUMAP, 4, 8, 2, 0),
    (T.PROG_ARRAY, 4, 4, 4, 0),
    (T.XSKMAP, 4, 4, 4, 0),
    (T.SOCKHASH, 4, 8, 4, 0),
    (T.STACK_TRACE, 4, 16, 4, 0),
    (T.ARRAY_OF_MAPS, 4, 4, 4, 0),
    (T.HASH_OF_MAPS, 4, 4, 4, ZERO),
    (T.HASH_OF_MAPS, 4, 4, 4, NO_PREALLOC | ZERO),
]
PERCPU = {T.PERCPU_HASH, T.PERCPU_ARRAY, T.LRU_PERCPU_HASH}
NESTED = {T.ARRAY_OF_MAPS, T.HASH_OF_MAPS}
DEVICES = {T.DEVMAP, T.DEVMAP_HASH, T.CPUMAP}
FLAGS = (0, 0, 0, f.BPF_NOEXIST, f.BPF_EXIST, 3, f.BPF_F_LOCK, 5, 8)


class Side:
    """A kernel with the map, and where its last batch ended."""

    def __init__(self, bpf: Any, shape: tuple[T, int, int, int, int]) -> None:
        kind, *sizes, flags = shape
        self.bpf, self.kind = bpf, kind
        self.inner = bpf.map_create(T.ARRAY, 4, 4, 2)
        extra = {"inner_map_fd": self.inner} if kind in NESTED else {}
        self.fd = bpf.map_create(kind, *sizes, map_flags=flags, **extra)
        self.out_batch: bytes | None = None

    def value(self, value: bytes) -> bytes:
        """Return what to store: maps hold the descriptor of the inner map."""
        return self.inner.to_bytes(4, "little") if self.kind in NESTED else value

    def answer(self, step: dict[str, Any]) -> Any:
        """Make a call; return what came of it, where ids of maps are not told apart."""
        try:
            return self._call(**step)
        except KernelError as error:
            return error.errno_name, getattr(error, "count", None)

    def _call(self, op: str, key: bytes | None, values: list[bytes], keys: list[bytes], flags: int, count: int) -> Any:
        bpf, fd = self.bpf, self.fd
        if op == "update":
            return bpf.map_update_elem(fd, key, self.value(values[0]), flags=flags)
        if op == "update_batch":
            new = [self.value(value) for value in values[1 : len(keys) + 1]]
            return bpf.map_update_batch(fd, keys, new, elem_flags=flags if flags < 5 else 0)
        if op == "delete_batch":
            return bpf.map_delete_batch(fd, keys)
        if op in ("lookup_batch", "lookup_and_delete_batch"):
            batch = getattr(bpf, f"map_{op}")(fd, count, in_batch=self.out_batch if flags else None)
            self.out_batch = batch.out_batch
            return batch.keys, None if self.kind in NESTED else batch.values, batch.done
        found = {
            "lookup": bpf.map_lookup_elem, "delete": bpf.map_delete_elem, "next": bpf.map_get_next_key,
            "take": bpf.map_lookup_and_delete_elem,
        }[op](fd, key)  # fmt: skip
        return "id" if self.kind in NESTED and op in ("lookup", "take") else found


def _steps(shape: tuple[T, int, int, int, int], seed: int) -> Iterator[dict[str, Any]]:
    kind, key_size, value_size, entries, _ = shape
    rng = random.Random(seed)
    size = (value_size + 7) // 8 * 8 * possible_cpus() if kind in PERCPU else value_size

    def key() -> bytes:
        if kind == T.LPM_TRIE:
            bits = 8 * (key_size - 4)
            prefix = rng.choice([0, 1, 4, bits - 1, bits, bits, bits + 1])
            return prefix.to_bytes(4, "little") + bytes(rng.choice([0, 1, 128, 255]) for _ in range(key_size - 4))
        return rng.randrange(entries + 3 if entries < 60 else 2 * entries).to_bytes(key_size, "little")

    def value() -> bytes:
        if kind in DEVICES:
            return (rng.choice([0, 1, 1, 9999]).to_bytes(4, "little") + bytes(size))[:size]
        return rng.randbytes(size)

    with_keys = ["update", "update", "update", "lookup", "lookup", "delete", "next", "take"]
    with_keys += ["update_batch", "delete_batch", "lookup_batch", "lookup_and_delete_batch"]
    without = ["update", "update", "lookup", "take", "lookup_batch"]
    for _ in range(STEPS):
        op = rng.choice(with_keys if key_size else without)
        no_key = not key_size or (op == "next" and rng.random() < 0.3)
        yield {
            "op": op, "key": None if no_key else key(), "values": [value() for _ in range(6)],
            "keys": [key() for _ in range(rng.choice([0, 1, 2, 5]))] if key_size else [],
            "flags": rng.choice(FLAGS), "count": rng.choice([0, 1, 2, 3, 5, 50]),
        }  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join([shape[0].lower, *map(str, shape[1:])]))
def test_sequence(live_bpf, shape) -> None:
    simulated = Side(Simulation(seed=1).host("h", cpus=possible_cpus()).bpf, shape)
    live = Side(live_bpf, shape)
    for number, step in enumerate(_steps(shape, seed=7)):
        assert (number, step["op"], simulated.answer(step)) == (number, step["op"], live.answer(step))
