"""Hash maps (kernel/bpf/hashtab.c, v6.18), asked of both kernels."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.maps.jhash import jhash
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


@pytest.fixture(params=[0, f.BPF_F_NO_PREALLOC], ids=["preallocated", "no_prealloc"])
def table(bpf, request) -> int:
    return bpf.map_create(MapType.HASH, 4, 8, 4, map_flags=request.param)


def test_lookup_update_delete(bpf, table, refused) -> None:
    assert refused(bpf.map_lookup_elem, table, u32(1)) == "ENOENT"
    assert refused(bpf.map_delete_elem, table, u32(1)) == "ENOENT"
    bpf.map_update_elem(table, u32(1), u64(10))
    assert bpf.map_lookup_elem(table, u32(1)) == u64(10)
    bpf.map_update_elem(table, u32(1), u64(11))
    assert bpf.map_lookup_elem(table, u32(1)) == u64(11)
    bpf.map_delete_elem(table, u32(1))
    assert refused(bpf.map_lookup_elem, table, u32(1)) == "ENOENT"


def test_full_map_still_replaces(bpf, table, refused, keys_of) -> None:
    for i in range(4):
        bpf.map_update_elem(table, u32(i), u64(i))
    assert refused(bpf.map_update_elem, table, u32(4), u64(4)) == "E2BIG"
    bpf.map_update_elem(table, u32(2), u64(22))
    bpf.map_delete_elem(table, u32(0))
    bpf.map_update_elem(table, u32(4), u64(4))
    assert sorted(keys_of(table)) == [u32(1), u32(2), u32(3), u32(4)]


@pytest.mark.parametrize(
    ("flags", "absent", "present"),
    [
        (f.BPF_ANY, "", ""),
        (f.BPF_NOEXIST, "", "EEXIST"),
        (f.BPF_EXIST, "ENOENT", ""),
        (3, "EINVAL", "EINVAL"),
        (f.BPF_F_LOCK, "EINVAL", "EINVAL"),
        (1 << 40, "EINVAL", "EINVAL"),
    ],
)
def test_update_flags(bpf, table, refused, flags, absent, present) -> None:
    bpf.map_update_elem(table, u32(1), u64(0))
    for key, errno in ((u32(2), absent), (u32(1), present)):
        if errno:
            assert refused(bpf.map_update_elem, table, key, u64(5), flags=flags) == errno
        else:
            bpf.map_update_elem(table, key, u64(5), flags=flags)
            assert bpf.map_lookup_elem(table, key) == u64(5)


def test_lookup_and_delete(bpf, table, refused) -> None:
    bpf.map_update_elem(table, u32(1), u64(10))
    assert bpf.map_lookup_and_delete_elem(table, u32(1)) == u64(10)
    assert refused(bpf.map_lookup_and_delete_elem, table, u32(1)) == "ENOENT"
    assert refused(bpf.map_lookup_and_delete_elem, table, u32(1), flags=1) == "EINVAL"


def test_next_key_of_an_unknown_key_is_the_first(bpf, table, refused, keys_of) -> None:
    assert refused(bpf.map_get_next_key, table, None) == "ENOENT"
    for i in range(3):
        bpf.map_update_elem(table, u32(i), u64(i))
    order = keys_of(table)
    assert sorted(order) == [u32(0), u32(1), u32(2)]
    assert bpf.map_get_next_key(table, u32(99)) == order[0]


@pytest.mark.parametrize("key_size", [1, 3, 4, 8, 12, 13, 20, 24, 25, 40])
def test_order_of_keys_is_the_kernels_with_seed_zero(bpf, key_size, keys_of) -> None:
    fd = bpf.map_create(MapType.HASH, key_size, 4, 300, map_flags=f.BPF_F_ZERO_SEED)
    keys = [bytes((i * 7 + j * 13) & 0xFF for j in range(key_size)) for i in range(200)]
    for key in keys:
        bpf.map_update_elem(fd, key, u32(1))
    for key in keys[::9]:
        bpf.map_update_elem(fd, key, u32(2))  # an updated key moves to the head of its chain
    model = MapAttr(MapType.HASH, key_size, 4, 300)
    ours = create_map(model, Memory(1 << 26), 2)
    for key in [*keys, *keys[::9]]:
        assert ours.update_elem(key, u32(1), 0, 0) == 0
    order = keys_of(fd)
    assert order == [key for key, _, _ in ours.elements(0)]
    assert sorted(order) == sorted(set(keys))


# read off Linux 6.18
# fmt: off
ORDER_AFTER_CHANGES = [
    35, 33, 37, 90, 2, 8, 38, 3, 29, 32, 25, 7, 13, 1, 34, 16, 17, 28, 31, 4,
    10, 23, 5, 19, 26, 14, 91, 20, 11, 22,
]
# fmt: on


@pytest.mark.parametrize("read_first", [False, True])
def test_order_survives_changes(bpf, read_first, keys_of) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 4, 64, map_flags=f.BPF_F_ZERO_SEED)
    for i in range(40):
        bpf.map_update_elem(fd, u32(i), u32(i))
    if read_first:
        keys_of(fd)
    for i in range(0, 40, 3):
        bpf.map_delete_elem(fd, u32(i))
    for i in (3, 90, 7, 4, 33, 91):
        bpf.map_update_elem(fd, u32(i), u32(i))
    assert [int.from_bytes(key, "little") for key in keys_of(fd)] == ORDER_AFTER_CHANGES


def test_a_bucket_that_does_not_fit_is_enospc(bpf, refused) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 4, 2, map_flags=f.BPF_F_ZERO_SEED)
    assert jhash(u32(0), 0) & 1 == jhash(u32(5), 0) & 1
    bpf.map_update_elem(fd, u32(0), u32(0))
    bpf.map_update_elem(fd, u32(5), u32(5))
    assert refused(bpf.map_lookup_batch, fd, 1) == "ENOSPC"
    assert bpf.map_lookup_batch(fd, 2).keys == [u32(5), u32(0)]


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.fixture
def seeded(bpf) -> int:
    fd = bpf.map_create(MapType.HASH, 4, 8, 8, map_flags=f.BPF_F_ZERO_SEED)
    for i in range(5):
        bpf.map_update_elem(fd, u32(i), u64(i * 100))
    return fd


def test_lookup_batch_of_more_than_there_is(bpf, seeded, keys_of) -> None:
    batch = bpf.map_lookup_batch(seeded, 16)
    assert (batch.keys, batch.done) == (keys_of(seeded), True)
    assert batch.values == [bpf.map_lookup_elem(seeded, key) for key in batch.keys]


def test_lookup_batch_in_pieces_is_by_bucket(bpf, seeded, keys_of) -> None:
    first = bpf.map_lookup_batch(seeded, 3)
    rest = bpf.map_lookup_batch(seeded, 3, in_batch=first.out_batch)
    assert first.keys + rest.keys == keys_of(seeded)
    assert (first.done, rest.done) == (False, True)


def test_lookup_and_delete_batch_empties_the_map(bpf, seeded, keys_of) -> None:
    order = keys_of(seeded)
    batch = bpf.map_lookup_and_delete_batch(seeded, 16)
    assert (batch.keys, batch.done) == (order, True)
    assert keys_of(seeded) == []


def test_delete_batch_stops_at_a_missing_key(bpf, seeded, keys_of) -> None:
    with pytest.raises(Exception, match="ENOENT") as error:
        bpf.map_delete_batch(seeded, [u32(0), u32(1), u32(99), u32(2)])
    assert error.value.count == 2
    assert sorted(keys_of(seeded)) == [u32(2), u32(3), u32(4)]


def test_update_batch_of_too_many(bpf, seeded, keys_of) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 8, 8)
    with pytest.raises(Exception, match="E2BIG") as error:
        bpf.map_update_batch(fd, [u32(i) for i in range(12)], [u64(0)] * 12)
    assert error.value.count == 8
    assert len(keys_of(fd)) == 8


def test_batches_of_nothing(bpf, seeded) -> None:
    assert bpf.map_lookup_batch(seeded, 0).keys == []
    assert bpf.map_delete_batch(seeded, []) == 0


def test_batch_flags(bpf, seeded, refused) -> None:
    assert refused(bpf.map_lookup_batch, seeded, 4, flags=1) == "EINVAL"
    assert refused(bpf.map_lookup_batch, seeded, 4, elem_flags=1) == "EINVAL"
    assert refused(bpf.map_lookup_batch, seeded, 4, elem_flags=f.BPF_F_LOCK) == "EINVAL"
    assert refused(bpf.map_delete_batch, seeded, [u32(0)], elem_flags=2) == "EINVAL"


# ---- programs -------------------------------------------------------------------------------------------------------

KEY_1 = "*(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map_fd[{fd}] ll;"


def test_address_held_across_an_update_shows_the_old_value(bpf, run_asm) -> None:
    """The update takes the CPU's spare element; the old one keeps its value and becomes the spare."""
    fd = bpf.map_create(MapType.HASH, 4, 8, 4)
    bpf.map_update_elem(fd, u32(1), u64(5))
    code = (
        KEY_1
        + """
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r6 = r0
        *(u64 *)(r10 - 16) = 9
        r3 = r10
        r3 += -16
        r4 = 0
    """
        + KEY_1
        + """
        call bpf_map_update_elem
        r7 = *(u64 *)(r6 + 0)
    """
        + KEY_1
        + """
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r0 = *(u64 *)(r0 + 0)
        r0 *= 10
        r0 += r7
        exit
        out: r0 = 0; exit
    """
    )
    assert run_asm(code.format(fd=fd)) == 95


def test_program_deletes(bpf, table, run_asm) -> None:
    bpf.map_update_elem(table, u32(1), u64(5))
    code = (KEY_1 + "call bpf_map_delete_elem; exit").format(fd=table)
    assert run_asm(code) == 0
    assert run_asm(code) == -2 & 0xFFFF_FFFF


# ---- the simulated kernel alone -------------------------------------------------------------------------------------


def test_elements_without_prealloc_take_ram_as_they_come(kernel) -> None:
    before = kernel.mem.allocated_bytes
    fd = kernel.bpf.map_create(MapType.HASH, 4, 8, 1000, map_flags=f.BPF_F_NO_PREALLOC)
    created = kernel.mem.allocated_bytes
    kernel.bpf.map_update_elem(fd, u32(1), u64(1))
    one = kernel.mem.allocated_bytes
    assert created < one <= created + 4096
    for i in range(50):
        kernel.bpf.map_update_elem(fd, u32(i % 5), u64(i))
        kernel.bpf.map_delete_elem(fd, u32(i % 5))
    assert kernel.mem.allocated_bytes == one
    for i in range(1000):
        kernel.bpf.map_update_elem(fd, u32(i), u64(i))
    kernel.bpf.map_update_elem(fd, u32(0), u64(0))
    assert kernel.mem.allocated_bytes <= created + 2 * 1001 * 24
    kernel.bpf.close(fd)
    assert kernel.mem.allocated_bytes == before


@given(st.lists(st.tuples(st.sampled_from("udln"), st.integers(0, 11)), max_size=60), st.booleans(), st.booleans())
def test_hash_behaves_as_a_dictionary(operations, no_prealloc, look_at_order) -> None:
    map_ = create_map(MapAttr(MapType.HASH, 4, 8, 8, int(no_prealloc)), Memory(1 << 25), 2)
    model: dict[bytes, bytes] = {}
    for number, (operation, key_number) in enumerate(operations):
        key, value = u32(key_number), u64(number)
        if operation == "u":
            expected = 0 if key in model or len(model) < 8 else -7
            assert map_.update_elem(key, value, 0, number % 2) == expected
            if expected == 0:
                model[key] = value
        elif operation == "d":
            assert map_.delete_elem(key) == (0 if model.pop(key, None) else -2)
        elif operation == "l":
            address = map_.lookup_elem(key, 0)
            assert (map_.mem.read(address, 8) if address else None) == model.get(key)
        elif look_at_order:
            assert {key for key, _, _ in map_.elements(0)} == set(model)
    assert sorted(map_.sys_lookup_batch(100, None).keys) == sorted(model)


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        *((kind, 0) for kind in (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)),
        *((kind, f.BPF_F_NO_PREALLOC) for kind in (MapType.HASH, MapType.PERCPU_HASH)),
    ],
)
def test_a_million_entries_take_less_than_100_bytes_each_besides_key_and_value(kind, flags) -> None:
    mem, entries, nr_cpus = Memory(), 1_000_000, 2
    map_ = create_map(MapAttr(kind, 4, 8, entries, flags), mem, nr_cpus)
    if flags:
        while map_._chunks.nr_elements < entries + 1:
            assert map_._chunks.grow()
    values = 8 * nr_cpus if map_.percpu else 8
    assert mem.allocated_bytes / entries < 4 + values + 40
    # nothing else is kept of elements: all of a map is in RAM
    before = {name: repr(value) for name, value in vars(map_.table).items()}
    for number in range(300):
        map_.update_elem(u32(number), u64(0), 0, 0)
    assert {name: repr(value) for name, value in vars(map_.table).items()} == before
