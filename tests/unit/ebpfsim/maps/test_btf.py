"""BTF of maps (map_check_btf, btf_parse_fields, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Array, Const, Datasec, DatasecVar, Int, Member, Ptr, Struct, Typedef, TypeTag, Var
from ebpfsim.errors import NotModelled
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

T = MapType


def blob() -> tuple[bytes, dict[str, int]]:
    """Return a blob and its types' ids by name."""
    builder = BtfBuilder()
    ids: dict[str, int] = {}

    def add(name: str, type_) -> int:
        ids[name] = builder.add(type_)
        return ids[name]

    u32 = add("u32", Int("unsigned int", 4, 32))
    add("s32", Int("int", 4, 32, encoding=1))
    u64 = add("u64", Int("unsigned long", 8, 64))
    add("u16", Int("unsigned short", 2, 16))
    add("key", Typedef("my_key", add("const u32", Const("", u32))))
    add("pair", Struct("pair", 4, (Member("a", ids["u16"], 0), Member("b", ids["u16"], 16))))
    lock = add("lock", Struct("bpf_spin_lock", 4, (Member("val", u32, 0),)))
    timer = add("timer", Struct("bpf_timer", 16, (Member("opaque", add("u64x2", Array("", u64, u32, 2)), 0),)))
    add("locked", Struct("locked", 16, (Member("n", u32, 0), Member("lock", lock, 32), Member("v", u64, 64))))
    add("timed", Struct("timed", 24, (Member("v", u64, 0), Member("t", timer, 64))))
    tag = add("tag", TypeTag("kptr", ids["pair"]))
    add("kept", Struct("kept", 8, (Member("p", add("ptr", Ptr("", tag)), 0),)))
    var = add("var", Var("counter", u64, 1))
    add("bss", Datasec(".bss", 8, (DatasecVar(var, 0, 8),)))
    return builder.build(), ids


BLOB, IDS = blob()


@pytest.fixture
def btf_fd(bpf) -> int:
    return bpf.btf_load(BLOB)


OK = ""
# fmt: off
CASES = [
    # type, key size, value size, entries, flags, BTF of key and value, errno
    (T.ARRAY, 4, 8, 2, 0, "u32", "u64", OK),
    (T.ARRAY, 4, 8, 2, 0, "s32", "u64", OK),
    (T.ARRAY, 4, 8, 2, 0, "key", "u64", OK),
    (T.ARRAY, 4, 8, 2, 0, "u64", "u64", "EINVAL"),
    (T.ARRAY, 4, 8, 2, 0, "pair", "u64", "EINVAL"),
    (T.ARRAY, 4, 4, 2, 0, "u32", "u64", "EINVAL"),
    (T.ARRAY, 4, 8, 2, 0, "u32", "", "EINVAL"),
    (T.ARRAY, 4, 8, 2, 0, "", "u64", "EINVAL"),
    (T.ARRAY, 4, 8, 1, 0, "", "u64", "EINVAL"),
    (T.ARRAY, 4, 8, 1, 0, "", "bss", OK),
    (T.ARRAY, 4, 8, 2, 0, "", "bss", "EINVAL"),
    (T.ARRAY, 4, 8, 1, 0, "u32", "bss", OK),
    (T.PERCPU_ARRAY, 4, 8, 2, 0, "u32", "u64", OK),
    (T.PERCPU_ARRAY, 4, 8, 1, 0, "", "bss", "EINVAL"),
    (T.PERCPU_ARRAY, 4, 8, 2, 0, "pair", "u64", "EINVAL"),
    (T.HASH, 4, 8, 2, 0, "pair", "u64", OK),
    (T.HASH, 4, 8, 2, 0, "u32", "ptr", OK),
    (T.HASH, 4, 8, 2, 0, "u64", "u64", "EINVAL"),
    (T.HASH, 4, 8, 1, 0, "", "u64", "EINVAL"),
    (T.HASH, 4, 8, 1, 0, "", "bss", "EINVAL"),
    (T.LRU_HASH, 4, 8, 2, 0, "u32", "u64", OK),
    (T.PROG_ARRAY, 4, 4, 2, 0, "u32", "u32", OK),
    (T.PROG_ARRAY, 4, 4, 2, 0, "pair", "u32", OK),
    (T.PROG_ARRAY, 4, 4, 1, 0, "", "u32", "EINVAL"),
    (T.DEVMAP, 4, 4, 2, 0, "u32", "u32", "ENOTSUPP"),
    (T.DEVMAP_HASH, 4, 4, 2, 0, "u32", "u32", "ENOTSUPP"),
    (T.DEVMAP, 4, 4, 2, 0, "u64", "u32", "EINVAL"),
    (T.RINGBUF, 0, 0, 4096, 0, "", "u32", "EINVAL"),
    (T.QUEUE, 0, 4, 2, 0, "", "u32", "EINVAL"),
    (T.STACK, 0, 4, 2, 0, "u32", "u32", "EINVAL"),
    (T.HASH, 4, 16, 2, 0, "u32", "locked", OK),
    (T.ARRAY, 4, 16, 2, 0, "u32", "locked", OK),
    (T.ARRAY, 4, 16, 2, f.BPF_F_RDONLY_PROG, "u32", "locked", "EACCES"),
    (T.PERCPU_ARRAY, 4, 16, 2, 0, "u32", "locked", "EOPNOTSUPP"),
    (T.PERCPU_HASH, 4, 16, 2, 0, "u32", "locked", "EOPNOTSUPP"),
    (T.LRU_HASH, 4, 16, 2, 0, "u32", "locked", "EOPNOTSUPP"),
    (T.HASH, 4, 24, 2, 0, "u32", "timed", OK),
    (T.LRU_HASH, 4, 24, 2, 0, "u32", "timed", OK),
    (T.PERCPU_HASH, 4, 24, 2, 0, "u32", "timed", "EOPNOTSUPP"),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=[f"{c[0].lower}-{c[5] or 'none'}-{c[6] or 'none'}-{c[3]}" for c in CASES])
def test_map_create_answers(bpf, btf_fd, refused, case) -> None:
    map_type, key_size, value_size, entries, flags, key, value, errno = case
    btf = {"btf_fd": btf_fd, "btf_key_type_id": IDS.get(key, 0), "btf_value_type_id": IDS.get(value, 0)}
    if errno:
        assert refused(bpf.map_create, map_type, key_size, value_size, entries, map_flags=flags, **btf) == errno
        return
    info = bpf.obj_get_info_by_fd(bpf.map_create(map_type, key_size, value_size, entries, map_flags=flags, **btf))
    assert (info.btf_key_type_id, info.btf_value_type_id) == (IDS.get(key, 0), IDS.get(value, 0))
    assert info.btf_id == bpf.obj_get_info_by_fd(btf_fd).id


def test_descriptor_that_is_no_btf(bpf, refused) -> None:
    other = bpf.map_create(T.ARRAY, 4, 8, 1)
    ids = {"btf_key_type_id": 1, "btf_value_type_id": 1}
    assert refused(bpf.map_create, T.ARRAY, 4, 4, 1, btf_fd=other, **ids) == "EINVAL"
    assert refused(bpf.map_create, T.ARRAY, 4, 4, 1, btf_fd=999, **ids) == "EBADF"


def test_type_id_that_does_not_exist(bpf, btf_fd, refused) -> None:
    ids = {"btf_key_type_id": IDS["u32"], "btf_value_type_id": 9999}
    assert refused(bpf.map_create, T.ARRAY, 4, 4, 1, btf_fd=btf_fd, **ids) == "EINVAL"


@pytest.fixture(params=[T.ARRAY, T.HASH], ids=lambda t: t.lower)
def locked(bpf, btf_fd, request) -> int:
    ids = {"btf_key_type_id": IDS["u32"], "btf_value_type_id": IDS["locked"]}
    return bpf.map_create(request.param, 4, 16, 2, btf_fd=btf_fd, **ids)


KEY = struct.pack("<I", 0)


def value(number: int, lock: int, other: int) -> bytes:
    return struct.pack("<IIQ", number, lock, other)


def test_lock_is_not_copied(bpf, locked, refused) -> None:
    bpf.map_update_elem(locked, KEY, value(1, 0xFFFF, 2))
    assert bpf.map_lookup_elem(locked, KEY) == value(1, 0, 2)
    bpf.map_update_elem(locked, KEY, value(3, 0xFFFF, 4), flags=f.BPF_F_LOCK)
    assert bpf.map_lookup_elem(locked, KEY, flags=f.BPF_F_LOCK) == value(3, 0, 4)


def test_a_new_element_under_lock(bpf, btf_fd, refused) -> None:
    ids = {"btf_key_type_id": IDS["u32"], "btf_value_type_id": IDS["locked"]}
    fd = bpf.map_create(T.HASH, 4, 16, 2, btf_fd=btf_fd, **ids)
    assert refused(bpf.map_update_elem, fd, KEY, value(1, 0, 1), flags=f.BPF_F_LOCK | f.BPF_EXIST) == "ENOENT"
    bpf.map_update_elem(fd, KEY, value(1, 0, 1), flags=f.BPF_F_LOCK)
    assert refused(bpf.map_update_elem, fd, KEY, value(1, 0, 1), flags=f.BPF_F_LOCK | f.BPF_NOEXIST) == "EEXIST"
    assert bpf.map_lookup_and_delete_elem(fd, KEY, flags=f.BPF_F_LOCK) == value(1, 0, 1)


def test_batches_under_lock(bpf, locked) -> None:
    bpf.map_update_batch(locked, [KEY], [value(5, 0, 6)], elem_flags=f.BPF_F_LOCK)
    assert bpf.map_lookup_batch(locked, 4, elem_flags=f.BPF_F_LOCK).values[0] == value(5, 0, 6)


def test_a_map_with_a_lock_is_neither_frozen_nor_mapped(bpf, btf_fd, refused) -> None:
    ids = {"btf_key_type_id": IDS["u32"], "btf_value_type_id": IDS["locked"]}
    fd = bpf.map_create(T.ARRAY, 4, 16, 2, map_flags=f.BPF_F_MMAPABLE, btf_fd=btf_fd, **ids)
    assert refused(bpf.map_freeze, fd) == "ENOTSUPP"
    assert refused(bpf.map_mmap, fd, 4096, writable=False) == "ENOTSUPP"


def test_spin_lock_in_a_program(bpf, locked, run_asm) -> None:
    bpf.map_update_elem(locked, KEY, value(1, 0, 41))
    code = f"""
        *(u32 *)(r10 - 4) = 0
        r2 = r10
        r2 += -4
        r1 = map_fd[{locked}] ll
        call bpf_map_lookup_elem
        if r0 == 0 goto out
        r6 = r0
        r1 = r0
        r1 += 4
        call bpf_spin_lock
        r7 = *(u64 *)(r6 + 8)
        r7 += 1
        *(u64 *)(r6 + 8) = r7
        r1 = r6
        r1 += 4
        call bpf_spin_unlock
        out: r0 = 2
        exit
    """
    try:
        run_asm(code, repeat=2)
    except NotModelled as error:
        pytest.skip(str(error))
    assert bpf.map_lookup_elem(locked, KEY) == value(1, 0, 43)


def test_map_keeps_its_btf_alive(bpf, btf_fd) -> None:
    fd = bpf.map_create(T.ARRAY, 4, 8, 1, btf_fd=btf_fd, btf_key_type_id=IDS["u32"], btf_value_type_id=IDS["u64"])
    btf_id = bpf.obj_get_info_by_fd(btf_fd).id
    bpf.close(btf_fd)
    assert bpf.obj_get_info_by_fd(bpf.btf_get_fd_by_id(btf_id)).btf == BLOB
    assert bpf.obj_get_info_by_fd(fd).btf_id == btf_id
