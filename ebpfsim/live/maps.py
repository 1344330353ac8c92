"""The map commands on the live kernel."""

import ctypes
import mmap
from collections.abc import Mapping, Sequence

from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.live.objects import LiveObjects
from ebpfsim.live.sys import Buffer, CallError, Value, bpf, buffer, mmap_at, munmap, possible_cpus
from ebpfsim.maps.map import Batch, BatchError, round_up8
from ebpfsim.syscall.results import MapInfo
from ebpfsim.uapi.bpf import BpfCmd, MapType

__all__ = ["LiveMaps"]

PERCPU_TYPES = {
    MapType.PERCPU_HASH,
    MapType.PERCPU_ARRAY,
    MapType.LRU_PERCPU_HASH,
    MapType.PERCPU_CGROUP_STORAGE,
}


class LiveMaps(LiveObjects):
    """BPF_MAP_*. ``map_bytes_limit`` bounds what a map may cost before the kernel is asked for it."""

    map_bytes_limit: int | None = 64 << 20

    def __init__(self) -> None:
        super().__init__()
        self._mappings: list[tuple[memoryview, int, int]] = []

    def map_create(
        self,
        map_type: int,
        key_size: int,
        value_size: int,
        max_entries: int,
        *,
        map_flags: int = 0,
        name: str = "",
        inner_map_fd: int = 0,
        map_extra: int = 0,
        btf_fd: int = 0,
        btf_key_type_id: int = 0,
        btf_value_type_id: int = 0,
        btf_vmlinux_value_type_id: int = 0,
        numa_node: int = 0,
    ) -> int:
        """BPF_MAP_CREATE."""
        cost = (key_size + value_size * (possible_cpus() if map_type in PERCPU_TYPES else 1)) * max_entries
        if self.map_bytes_limit is not None and cost > self.map_bytes_limit:
            raise InputError("", f"map_create: {cost} bytes, at most {self.map_bytes_limit} here")
        # fmt: off
        fd, _ = bpf(BpfCmd.MAP_CREATE, {
            "map_type": map_type, "key_size": key_size, "value_size": value_size, "max_entries": max_entries,
            "map_flags": map_flags, "map_name": name.encode(), "inner_map_fd": inner_map_fd, "map_extra": map_extra,
            "btf_fd": btf_fd, "btf_key_type_id": btf_key_type_id, "btf_value_type_id": btf_value_type_id,
            "btf_vmlinux_value_type_id": btf_vmlinux_value_type_id, "numa_node": numa_node,
        })
        # fmt: on
        return fd

    def map_lookup_elem(self, fd: int, key: bytes | None, *, flags: int = 0, value: bytes | None = None) -> bytes:
        """BPF_MAP_LOOKUP_ELEM; ``value`` is what a bloom filter is asked for."""
        return self._lookup(BpfCmd.MAP_LOOKUP_ELEM, fd, key, flags, value)

    def map_lookup_and_delete_elem(self, fd: int, key: bytes | None, *, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM."""
        return self._lookup(BpfCmd.MAP_LOOKUP_AND_DELETE_ELEM, fd, key, flags)

    def map_update_elem(self, fd: int, key: bytes | None, value: bytes, *, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM."""
        info = self._map_info(fd)
        if info is not None and len(value) != _value_size(info):
            raise InputError("", f"map '{info.name}': value of {len(value)} bytes, expected {_value_size(info)}")
        attr = {"map_fd": fd, "key": _key(info, key), "value": buffer(value), "flags": flags}
        bpf(BpfCmd.MAP_UPDATE_ELEM, attr)

    def map_delete_elem(self, fd: int, key: bytes | None) -> None:
        """BPF_MAP_DELETE_ELEM."""
        bpf(BpfCmd.MAP_DELETE_ELEM, {"map_fd": fd, "key": _key(self._map_info(fd), key)})

    def map_get_next_key(self, fd: int, key: bytes | None) -> bytes:
        """BPF_MAP_GET_NEXT_KEY."""
        info = self._map_info(fd)
        out = buffer(info.key_size if info is not None else 8)
        bpf(BpfCmd.MAP_GET_NEXT_KEY, {"map_fd": fd, "key": _key(info, key), "next_key": out})
        return out.raw[: info.key_size] if info is not None else b""

    def map_freeze(self, fd: int) -> None:
        """BPF_MAP_FREEZE."""
        bpf(BpfCmd.MAP_FREEZE, {"map_fd": fd})

    def _lookup(self, cmd: BpfCmd, fd: int, key: bytes | None, flags: int, value: bytes | None = None) -> bytes:
        info = self._map_info(fd)
        size = _value_size(info) if info is not None else 8
        out = buffer(size if value is None else value)
        bpf(cmd, {"map_fd": fd, "key": _key(info, key), "value": out, "flags": flags})
        return out.raw[:size]

    # ---- batches ------------------------------------------------------------------------------------------------

    def map_lookup_batch(
        self, fd: int, count: int, *, in_batch: bytes | None = None, elem_flags: int = 0, flags: int = 0
    ) -> Batch:
        """BPF_MAP_LOOKUP_BATCH."""
        return self._lookup_batch(BpfCmd.MAP_LOOKUP_BATCH, fd, count, in_batch, elem_flags, flags)

    def map_lookup_and_delete_batch(
        self, fd: int, count: int, *, in_batch: bytes | None = None, elem_flags: int = 0, flags: int = 0
    ) -> Batch:
        """BPF_MAP_LOOKUP_AND_DELETE_BATCH."""
        return self._lookup_batch(BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH, fd, count, in_batch, elem_flags, flags)

    def map_update_batch(
        self, fd: int, keys: Sequence[bytes], values: Sequence[bytes], *, elem_flags: int = 0, flags: int = 0
    ) -> int:
        """BPF_MAP_UPDATE_BATCH."""
        attr = {"keys": buffer(b"".join(keys)), "values": buffer(b"".join(values))}
        return _batch(BpfCmd.MAP_UPDATE_BATCH, fd, len(keys), attr, elem_flags, flags)

    def map_delete_batch(self, fd: int, keys: Sequence[bytes], *, elem_flags: int = 0, flags: int = 0) -> int:
        """BPF_MAP_DELETE_BATCH."""
        attr = {"keys": buffer(b"".join(keys))}
        return _batch(BpfCmd.MAP_DELETE_BATCH, fd, len(keys), attr, elem_flags, flags)

    def _lookup_batch(
        self, cmd: BpfCmd, fd: int, count: int, in_batch: bytes | None, elem_flags: int, flags: int
    ) -> Batch:
        info = self._map_info(fd)
        key_size, value_size = (info.key_size, _value_size(info)) if info is not None else (4, 8)
        # the batch is a key or a bucket number of 4 bytes
        keys, values, out = buffer(key_size * count), buffer(value_size * count), buffer(max(key_size, 4))
        attr = {"in_batch": buffer(in_batch) if in_batch else None, "out_batch": out, "keys": keys, "values": values}
        done = False
        try:
            got = _batch(cmd, fd, count, attr, elem_flags, flags)
        except BatchError as error:
            if error.errno != Errno.ENOENT or (in_batch and not error.count):
                raise
            got, done = error.count, True
        return Batch(
            [keys.raw[i * key_size : (i + 1) * key_size] for i in range(got)],
            [values.raw[i * value_size : (i + 1) * value_size] for i in range(got)],
            out.raw,
            done,
        )

    # ---- mappings -----------------------------------------------------------------------------------------------

    def map_mmap(self, fd: int, length: int, *, writable: bool, offset: int = 0, addr: int = 0) -> memoryview:
        """mmap(2) of a map, where ``addr`` says if it does; ``map_munmap`` ends it."""
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        address = mmap_at(addr, length, prot, fd, offset)
        view = memoryview((ctypes.c_char * length).from_address(address)).cast("B")
        if not writable:
            view = view.toreadonly()
        self._mappings.append((view, address, length))
        return view

    def map_munmap(self, view: memoryview) -> None:
        """munmap(2)."""
        for entry in self._mappings:
            if entry[0] is view:
                self._mappings.remove(entry)
                view.release()
                munmap(*entry[1:])
                return

    def _map_info(self, fd: int) -> MapInfo | None:
        # sizes of keys and values; None when the descriptor is no map, so that the kernel may say so itself
        try:
            info = self.obj_get_info_by_fd(fd)
        except KernelError:
            return None
        return info if isinstance(info, MapInfo) else None


def _batch(cmd: BpfCmd, fd: int, count: int, attr: Mapping[str, Value], elem_flags: int, flags: int) -> int:
    try:
        _, after = bpf(cmd, {"map_fd": fd, "count": count, "elem_flags": elem_flags, "flags": flags, **attr})
    except CallError as error:
        done = error.attr["count"]
        assert isinstance(done, int)
        raise BatchError(error.op, error.errno, done) from None
    done = after["count"]
    assert isinstance(done, int)
    return done


def _value_size(info: MapInfo) -> int:
    if info.type in PERCPU_TYPES:
        return round_up8(info.value_size) * possible_cpus()
    # the value of a map that holds objects is a descriptor or an id
    return info.value_size


def _key(info: MapInfo | None, key: bytes | None) -> Buffer | None:
    if key is None:
        return None
    if info is not None and info.key_size and len(key) != info.key_size:
        raise InputError("", f"map '{info.name}': key of {len(key)} bytes, expected {info.key_size}")
    return buffer(key)
