"""Special fields are let go of with the value that holds them (bpf_obj_free_fields(), v6.18)."""

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.maps.fields import ObjectType, drop_object, free_fields, init_object
from ebpfsim.maps.map import MapAttr, MapBtf, SpecialField
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import MapType

KEY, OTHER = bytes(4), b"\1\0\0\0"
REFCOUNT = ObjectType(16, (SpecialField("bpf_refcount", 8, 4),))


class Later:
    """Something that would happen later."""

    cancelled = 0

    def cancel_and_free(self) -> None:
        self.cancelled += 1


@pytest.fixture
def mem() -> Memory:
    return Memory(1 << 26)


def test_object_lives_until_the_last_reference_is_dropped(mem) -> None:
    address = mem.alloc(16)
    before = mem.allocated_bytes
    init_object(mem, address, REFCOUNT.record)
    assert mem.load(address + 8, 4) == 1
    mem.store(address + 8, 4, 2)
    drop_object(mem, address, REFCOUNT)
    assert mem.load(address + 8, 4) == 1
    drop_object(mem, address, REFCOUNT)
    # readers may still look at it, and 256 others that go make room
    assert mem.allocated_bytes == before
    for _ in range(256):
        mem.free_rcu(mem.alloc(16))
    assert mem.allocated_bytes == before - 16 + 256 * 16


def test_nodes_of_lists_and_trees_begin_empty(mem) -> None:
    address = mem.alloc(64)
    init_object(mem, address, (SpecialField("bpf_list_node", 0, 24), SpecialField("bpf_rb_node", 24, 32)))
    # INIT_LIST_HEAD(), RB_CLEAR_NODE()
    assert [mem.load(address + off, 8) for off in (0, 8, 24)] == [address, address, address + 24]


def test_timers_are_cancelled(mem) -> None:
    later = Later()
    free_fields(mem, 0x1000, (SpecialField("bpf_timer", 8, 16),), deferred := {0x1008: later})
    assert later.cancelled == 1
    assert not deferred


@pytest.mark.parametrize(
    ("kind", "flags"), [(MapType.ARRAY, 0), (MapType.HASH, 0), (MapType.HASH, 1), (MapType.LRU_HASH, 0)]
)
def test_values_that_go_cancel_their_timers(mem, kind, flags) -> None:
    map_ = create_map(MapAttr(kind, 4, 32, 2, flags), mem, 2)
    map_.btf = MapBtf(KernelObject(), 1, 2, (SpecialField("bpf_timer", 16, 16),))
    later = [Later() for _ in range(4)]
    for key, each in ((KEY, later[0]), (OTHER, later[1])):
        map_.sys_update(key, bytes(32))
        map_.deferred[map_.lookup_elem(key, 0) + 16] = each
    # a new value: of hash maps the element with the old one goes, of arrays the timer goes
    map_.sys_update(KEY, bytes(32))
    assert [each.cancelled for each in later[:2]] == [1, 0]
    map_.deferred[map_.lookup_elem(KEY, 0) + 16] = later[2]
    if kind != MapType.ARRAY:
        map_.sys_delete(OTHER)
        assert later[1].cancelled == 1
    map_.on_user_release()
    assert later[2].cancelled == 1
    assert not map_.deferred


def test_evicted_elements_cancel_their_timers(mem) -> None:
    map_ = create_map(MapAttr(MapType.LRU_HASH, 4, 32, 1), mem, 1)
    map_.btf = MapBtf(KernelObject(), 1, 2, (SpecialField("bpf_timer", 16, 16),))
    map_.sys_update(KEY, bytes(32))
    map_.deferred[map_.lookup_elem(KEY, 0) + 16] = later = Later()
    map_.sys_update(OTHER, bytes(32))
    assert later.cancelled == 1


def test_lists_and_trees_drop_what_they_hold(mem) -> None:
    btf = Btf.__new__(Btf)
    node = ObjectType(64, (SpecialField("bpf_refcount", 56, 4),))
    kept: list[int] = []
    for root_kind, owner in (("bpf_list_head", 16), ("bpf_rb_root", 24)):
        root, obj = mem.alloc(16), mem.alloc(64)
        init_object(mem, obj, node.record)
        mem.store(obj + 56, 4, 2)
        mem.store(root, 8, obj)
        mem.store(obj, 8, root)
        mem.store(obj + owner, 8, root)
        kept.append(obj)
        field = SpecialField(root_kind, 0, 16, btf, 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ebpfsim.maps.fields.object_type", lambda _btf, _id: node)
            free_fields(mem, root, (field,), {})
        assert mem.load(root, 8) == 0
        assert mem.load(obj + owner, 8) == 0
    assert [mem.load(obj + 56, 4) for obj in kept] == [1, 1]
