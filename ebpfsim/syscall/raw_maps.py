"""The map commands of bpf(2) as bytes (kernel/bpf/syscall.c, v6.18)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ebpfsim.errnos import Errno
from ebpfsim.maps.bloom_filter import BloomFilterMap
from ebpfsim.maps.map import BatchError, Map
from ebpfsim.maps.types import MAP_TYPES
from ebpfsim.syscall.raw_call import Call, elements, refuse, text_of
from ebpfsim.uapi.bpf import BpfCmd

__all__ = ["HANDLERS"]


# fields of BPF_MAP_CREATE that go through as they are
_MAP_FIELDS = (
    *("map_flags", "inner_map_fd", "map_extra", "btf_fd", "btf_key_type_id", "btf_value_type_id"),
    *("btf_vmlinux_value_type_id", "numa_node"),
)


def _map_create(call: Call) -> int:
    if call.number("excl_prog_hash_size") and not call.number("excl_prog_hash"):
        raise call.fail(Errno.EINVAL, "the size of a hash that is not there")
    refuse(call, "map_ifindex", "excl_prog_hash")
    numbers = {name: call.number(name) for name in _MAP_FIELDS}
    sizes = (call.number(name) for name in ("map_type", "key_size", "value_size", "max_entries"))
    return call.bpf.map_create(*sizes, name=text_of(call.given["map_name"]), **numbers)


def _key(call: Call, map_: Map) -> bytes | None:
    # ___bpf_copy_key()
    if map_.key_size:
        return call.read("key", map_.key_size)
    if call.number("key"):
        raise call.fail(Errno.EINVAL, f"a {map_.type.lower} has no keys")
    return None


def _map_lookup_elem(call: Call) -> int:
    map_ = call.bpf._for_lookup(call.op, call.number("map_fd"), call.number("flags"))
    key = _key(call, map_)
    if isinstance(map_, BloomFilterMap):
        value = map_.sys_peek(call.read("value", map_.value_size))
    else:
        value = map_.sys_lookup(key, call.number("flags"))
    call.write("value", value)
    return 0


def _map_update_elem(call: Call) -> int:
    map_ = call.bpf._for_update(call.op, call.number("map_fd"), call.number("flags"))
    key = _key(call, map_)
    map_.sys_update(key, call.read("value", map_.user_value_size), call.number("flags"))
    return 0


def _map_delete_elem(call: Call) -> int:
    map_ = call.bpf._map(call.op, call.number("map_fd"), write=True)
    map_.sys_delete(_key(call, map_) or b"")
    return 0


def _map_get_next_key(call: Call) -> int:
    map_ = call.bpf._map(call.op, call.number("map_fd"), read=True)
    call.write("next_key", map_.sys_next_key(_key(call, map_) if call.number("key") else None))
    return 0


def _map_lookup_and_delete_elem(call: Call) -> int:
    map_ = call.bpf._for_take(call.op, call.number("map_fd"), call.number("flags"))
    call.write("value", map_.sys_lookup_and_delete(_key(call, map_), call.number("flags")))
    return 0


def _map_freeze(call: Call) -> int:
    call.bpf.map_freeze(call.number("map_fd"))
    return 0


def _for_batch(call: Call) -> Map:
    numbers = (call.number(name) for name in ("map_fd", "count", "elem_flags", "flags"))
    return call.bpf._for_batch(call.cmd, *numbers)


@contextmanager
def _counted(call: Call) -> Iterator[None]:
    # a batch that stops early says how far it came
    try:
        yield
    except BatchError as error:
        call.put("count", error.count)
        raise


def _map_lookup_batch(call: Call) -> int:
    map_, count = _for_batch(call), call.number("count")
    if not count:
        return 0
    # hash maps go on at a bucket, others behind a key
    by_bucket = BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH in MAP_TYPES[map_.type].batch
    call.put("count", 0)
    start = call.read("in_batch", 4 if by_bucket else map_.key_size) if call.number("in_batch") else None
    with _counted(call):
        batch = map_.sys_lookup_batch(count, start, call.cmd == BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH)
    call.write("keys", b"".join(batch.keys))
    call.write("values", b"".join(batch.values))
    call.write("out_batch", batch.out_batch)
    call.put("count", len(batch.keys))
    if batch.done:
        raise BatchError(call.op, Errno.ENOENT, len(batch.keys), "the end of the map")
    return 0


def _map_update_batch(call: Call) -> int:
    map_, count = _for_batch(call), call.number("count")
    keys, all_keys = elements(call, "keys", map_.key_size, count)
    values, all_values = elements(call, "values", map_.user_value_size, len(keys))
    with _counted(call):
        map_.sys_update_batch(keys[: len(values)], values, call.number("elem_flags"))
    return _end_of_batch(call, len(values), count, all_keys and all_values)


def _map_delete_batch(call: Call) -> int:
    map_, count = _for_batch(call), call.number("count")
    keys, complete = elements(call, "keys", map_.key_size, count)
    with _counted(call):
        map_.sys_delete_batch(keys)
    return _end_of_batch(call, len(keys), count, complete)


def _end_of_batch(call: Call, done: int, count: int, complete: bool) -> int:
    if count:
        call.put("count", done)
    if not complete:
        raise BatchError(call.op, Errno.EFAULT, done, "keys or values that cannot be read")
    return 0


HANDLERS: Mapping[BpfCmd, Callable[[Call], int]] = {
    BpfCmd.MAP_CREATE: _map_create,
    BpfCmd.MAP_LOOKUP_ELEM: _map_lookup_elem,
    BpfCmd.MAP_UPDATE_ELEM: _map_update_elem,
    BpfCmd.MAP_DELETE_ELEM: _map_delete_elem,
    BpfCmd.MAP_GET_NEXT_KEY: _map_get_next_key,
    BpfCmd.MAP_LOOKUP_AND_DELETE_ELEM: _map_lookup_and_delete_elem,
    BpfCmd.MAP_FREEZE: _map_freeze,
    BpfCmd.MAP_LOOKUP_BATCH: _map_lookup_batch,
    BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH: _map_lookup_batch,
    BpfCmd.MAP_UPDATE_BATCH: _map_update_batch,
    BpfCmd.MAP_DELETE_BATCH: _map_delete_batch,
}
