"""The hash table in RAM: chains as those of kernel/bpf/hashtab.c, elements handed out and taken back."""

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.maps.hash_table import PER_CPU, Chunks, HashTable
from ebpfsim.maps.jhash import jhash
from ebpfsim.memory import KERNEL_BASE, Memory

NR_ELEMENTS = 40


def key(number: int) -> bytes:
    return number.to_bytes(4, "little")


@pytest.fixture
def table() -> HashTable:
    mem = Memory(1 << 26)
    made = HashTable(mem, mem.alloc(PER_CPU), (4, 8, 16))
    made.place_buckets(mem.alloc(4 * made.nr_buckets))
    made.add_elements(mem.alloc(NR_ELEMENTS * made.elem_size) ^ KERNEL_BASE, NR_ELEMENTS)
    return made


def put(table: HashTable, number: int) -> int:
    elem = table.take()
    table.write_key(elem, key(number))
    table.add(elem)
    return elem


def test_an_element_is_header_key_and_value_in_multiples_of_8(table) -> None:
    assert (table.key_at, table.value_at, table.elem_size, table.nr_buckets) == (8, 16, 24, 16)


def test_keys_are_found_until_they_are_taken_out(table) -> None:
    elems = {number: put(table, number) for number in range(30)}
    assert len(table) == 30
    assert {number: table.find(key(number)) for number in range(30)} == elems
    assert {number: table.find_in(jhash(key(number), 0) & 15, key(number)) for number in range(30)} == elems
    assert table.find(key(30)) == table.find_in(jhash(key(30), 0) & 15, key(30)) == 0
    for number in range(0, 30, 2):
        assert table.remove(elems[number])
        assert not table.remove(elems[number])
    assert len(table) == 15
    assert [number for number in range(30) if table.find(key(number))] == list(range(1, 30, 2))


def test_the_order_is_by_bucket_and_the_newest_comes_first(table) -> None:
    for number in range(30):
        put(table, number)
    expected: list[list[bytes]] = [[] for _ in range(16)]
    for number in range(30):
        expected[jhash(key(number), 0) & 15].insert(0, key(number))
    assert [[table.key(elem) for elem in table.chain(bucket)] for bucket in range(16)] == expected
    assert [table.key(elem) for elem in table.elements()] == [each for chain in expected for each in chain]


def test_a_replaced_element_gives_its_place_up(table) -> None:
    same_bucket = [number for number in range(1000) if jhash(key(number), 0) & 15 == 3][:3]
    old, *_ = [put(table, number) for number in same_bucket]
    new = table.take()
    table.write_key(new, key(same_bucket[0]))
    table.replace(old, new)
    assert [table.key(elem) for elem in table.chain(3)] == [key(same_bucket[at]) for at in (0, 2, 1)]
    assert table.chain(3)[0] == new
    assert len(table) == 3


def test_the_element_given_back_last_is_used_first(table) -> None:
    first, second = table.take(), table.take()
    assert second == first + table.elem_size
    table.give_back(first)
    table.give_back(second)
    assert [table.take() for _ in range(3)] == [second, first, second + table.elem_size]
    assert [table.take() > 0 for _ in range(NR_ELEMENTS - 2)] == [True] * (NR_ELEMENTS - 3) + [False]


def test_buckets_in_use_are_found_however_far_apart_they_are() -> None:
    mem = Memory(1 << 26)
    table = HashTable(mem, mem.alloc(PER_CPU), (4, 8, 1 << 20))
    table.place_buckets(mem.alloc(4 * table.nr_buckets))
    table.add_elements(mem.alloc(NR_ELEMENTS * table.elem_size) ^ KERNEL_BASE, NR_ELEMENTS)
    assert table.used_bucket(0) == 1 << 20
    assert table.following(0) == 0
    buckets = sorted(jhash(key(number), 0) & table.mask for number in range(5))
    for number in range(5):
        put(table, number)
    assert [table.used_bucket(bucket) for bucket in (0, *(bucket + 1 for bucket in buckets))] == [*buckets, 1 << 20]
    assert len(list(table.elements())) == 5


def test_chunks_grow_up_to_the_number_of_elements_that_may_be() -> None:
    mem = Memory(1 << 26)
    before = mem.allocated_bytes
    table = HashTable(mem, mem.alloc(PER_CPU), (4, 8, 1000))
    chunks = Chunks(table, 1001)
    grown = 0
    for _ in range(1001):
        if not (elem := table.take()):
            assert chunks.grow()
            grown += 1
            elem = table.take()
        assert elem
    assert chunks.nr_elements == 1001
    assert grown == 4  # a page of 170, as many again, twice as many, the rest
    chunks.release()
    mem.free(table.base ^ KERNEL_BASE)
    assert mem.allocated_bytes == before


def test_without_ram_there_is_no_chunk() -> None:
    mem = Memory(1 << 25)
    table = HashTable(mem, mem.alloc(PER_CPU), (4, 1 << 24, 1000))
    assert not Chunks(table, 1001).grow()


def test_chains_that_a_stray_store_made_endless_are_an_oops(table) -> None:
    """Where Linux would go on for ever."""
    alike = [number for number in range(1000) if jhash(key(number), 0) & 15 == 3]
    last, *_, first = [put(table, number) for number in alike[:3]]
    table.words[last >> 2] = first
    absent = table.take()
    table.write_key(absent, key(alike[3]))
    for work in (
        lambda: table.find(key(alike[3])),
        lambda: table.find_in(3, key(alike[3])),
        lambda: table.chain(3),
        lambda: table.remove(absent),
        lambda: table.replace(absent, last),
    ):
        with pytest.raises(KernelOops, match="has no end"):
            work()
