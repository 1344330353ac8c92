"""Targets of bpf_redirect_map() in RAM: what tables lead to, as models of arrays and of hashes say."""

import random
from dataclasses import dataclass

import pytest

from ebpfsim.maps.targets import KEPT, KEY, MAP, NEXT, TargetTable
from ebpfsim.memory import Memory


@dataclass(frozen=True)
class Spot:
    address: int


def chain(mem: Memory, table: TargetTable[Spot], key: int) -> list[int]:
    assert table.mask is not None
    found, address = [], mem.load(table.address + 8 * (key & table.mask), 8)
    while address:
        found.append(mem.load(address + KEY, 4))
        address = mem.load(address + NEXT, 8)
    return found


def test_an_array() -> None:
    mem = Memory(1 << 26)
    table = TargetTable[Spot](mem, 0x1234, mem.alloc(64))
    spot = Spot(table.block(5, b"value678"))
    assert mem.read(spot.address, 8) == b"value678"
    assert (mem.load(spot.address + MAP, 8), mem.load(spot.address + KEY, 4)) == (0x1234, 5)
    assert table.at(spot.address) is None
    table.put(5, spot)
    assert [mem.load(table.address + 8 * index, 8) for index in range(8)] == [0] * 5 + [spot.address, 0, 0]
    assert table.at(spot.address) is spot
    table.take(5, spot)
    assert mem.read(table.address, 64) == bytes(64)
    # who asked for it before still finds it
    assert table.at(spot.address) is spot


@pytest.mark.parametrize("seed", range(4))
def test_buckets_have_the_newest_first(seed: int) -> None:
    mem, rng = Memory(1 << 26), random.Random(seed)
    table = TargetTable[Spot](mem, 1, mem.alloc(32), mask=3)
    model: dict[int, Spot] = {}
    for _ in range(200):
        key = rng.choice((0, 1, 4, 5, 8, 1 << 31))
        old = model.pop(key, None)
        if old is not None:
            table.take(key, old)
        if old is None or rng.random() < 0.5:
            model[key] = Spot(table.block(key, bytes(8)))
            table.put(key, model[key])
        for bucket in range(4):
            assert chain(mem, table, bucket) == [known for known in [*model][::-1] if known & 3 == bucket]
        assert all(table.at(spot.address) is spot for spot in model.values())


def test_what_is_gone_is_forgotten_in_the_end() -> None:
    mem = Memory(1 << 26)
    table = TargetTable[Spot](mem, 1, mem.alloc(8))
    spots = [Spot(table.block(0, bytes(8))) for _ in range(KEPT + 1)]
    for spot in spots:
        table.put(0, spot)
        table.take(0, spot)
    assert [table.at(spot.address) for spot in spots] == [None, *spots[1:]]
