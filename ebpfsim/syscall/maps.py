"""The map commands of bpf(2) (kernel/bpf/syscall.c, v6.18): checks in the kernel's order, then the map's methods."""

from collections.abc import Sequence
from dataclasses import replace

from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.maps.arena import ArenaMap
from ebpfsim.maps.bloom_filter import BloomFilterMap
from ebpfsim.maps.btf import attach_btf, keep_btf
from ebpfsim.maps.map import Batch, BatchError, Map, MapAttr
from ebpfsim.maps.queue import QueueMap
from ebpfsim.maps.types import MAP_TYPES, create_map
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.btf import BtfUsers
from ebpfsim.syscall.common import check_name, enum_value, op_of
from ebpfsim.syscall.kernel import BpfKernel
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import BpfCmd, MapType

__all__ = ["MapCalls"]

NUMA_NO_NODE = 0xFFFF_FFFF
LOOKUPS = (BpfCmd.MAP_LOOKUP_BATCH, BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH)


class _Env:
    # what maps that hold other objects ask of their kernel (maps.map.MapEnv)

    def __init__(self, calls: "MapCalls") -> None:
        self._calls = calls

    def prog_by_fd(self, fd: int) -> Prog:
        return self._calls._prog("map_update_elem", fd)

    def map_by_fd(self, fd: int) -> Map:
        return self._calls._map("map_update_elem", fd)

    def device_by_ifindex(self, ifindex: int) -> object | None:
        return self._calls.kernel.device_by_ifindex(ifindex)

    def object_by_fd(self, fd: int, kind: FdKind | None) -> KernelObject:
        return self._calls._object("map_update_elem", fd, kind)


class MapCalls(BtfUsers):
    """BPF_MAP_*."""

    def __init__(self, kernel: BpfKernel) -> None:
        super().__init__(kernel)
        self._mappings: list[tuple[Map, memoryview]] = []  # writable ones

    # ---- commands -----------------------------------------------------------------------------------------------

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
        """BPF_MAP_CREATE: return a descriptor of a new map."""
        op = "map_create"
        if btf_vmlinux_value_type_id:
            wrong = map_type != MapType.STRUCT_OPS or btf_key_type_id or btf_value_type_id
        else:
            wrong = btf_key_type_id and not btf_value_type_id
        if wrong:
            raise KernelError(op, Errno.EINVAL, "BTF type ids that do not go together")
        if map_extra and map_type not in (MapType.BLOOM_FILTER, MapType.ARENA):
            raise KernelError(op, Errno.EINVAL, f"map_extra {map_extra:#x} for a map type that has none")
        if map_flags & f.BPF_F_RDONLY and map_flags & f.BPF_F_WRONLY:
            raise KernelError(op, Errno.EINVAL, "both BPF_F_RDONLY and BPF_F_WRONLY")
        if map_flags & f.BPF_F_NUMA_NODE and numa_node & 0xFFFF_FFFF not in (0, NUMA_NO_NODE):
            raise KernelError(op, Errno.EINVAL, f"NUMA node {numa_node}, the machine has node 0 only")
        # fmt: off
        attr = MapAttr(
            enum_value(op, MapType, map_type), key_size, value_size, max_entries, map_flags & ~f.BPF_F_TOKEN_FD, name,
            inner_map_fd,
            map_extra, btf_fd, btf_key_type_id, btf_value_type_id, btf_vmlinux_value_type_id,
        )
        # fmt: on
        map_ = create_map(attr, self.kernel.mem, len(self.kernel.cpus), _Env(self))
        try:
            if map_flags & f.BPF_F_TOKEN_FD:
                # there are none, so none is behind any descriptor
                raise KernelError(op, Errno.EINVAL, "the descriptor of a token that is none")
            check_name(op, name)
            if btf_value_type_id or btf_vmlinux_value_type_id:
                # a value of the kernel's own type comes with the program's BTF as well
                btf = self._user_btf(op, btf_fd)
                if btf_vmlinux_value_type_id:
                    keep_btf(map_, btf, 0, 0)
                else:
                    attach_btf(map_, btf, btf.btf, btf_key_type_id, btf_value_type_id)
        except Exception:
            map_.put()
            raise
        self.kernel.maps.add(map_)
        map_.got_id()
        map_.released = self.kernel.maps.remove
        readable, writable = not map_flags & f.BPF_F_WRONLY, not map_flags & f.BPF_F_RDONLY
        return self.kernel.fds.install(map_, readable=readable, writable=writable)

    def map_lookup_elem(self, fd: int, key: bytes | None, *, flags: int = 0, value: bytes | None = None) -> bytes:
        """BPF_MAP_LOOKUP_ELEM: return the value; per-CPU maps give that of each CPU, rounded up to 8 bytes.

        ``value`` is what the buffer for the value holds before: bloom filters are asked for it.
        """
        op = "map_lookup_elem"
        map_ = self._for_lookup(op, fd, flags)
        key = _key(op, map_, key)
        if isinstance(map_, BloomFilterMap) and value is not None:
            return map_.sys_peek(_value(map_, value))
        return map_.sys_lookup(key, flags)

    def map_update_elem(self, fd: int, key: bytes | None, value: bytes, *, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM."""
        op = "map_update_elem"
        map_ = self._for_update(op, fd, flags)
        map_.sys_update(_key(op, map_, key), _value(map_, value), flags)

    def map_delete_elem(self, fd: int, key: bytes | None) -> None:
        """BPF_MAP_DELETE_ELEM."""
        op = "map_delete_elem"
        map_ = self._map(op, fd, write=True)
        map_.sys_delete(_key(op, map_, key) or b"")

    def map_get_next_key(self, fd: int, key: bytes | None) -> bytes:
        """BPF_MAP_GET_NEXT_KEY: the key after ``key``, the first one for None; ENOENT after the last."""
        op = "map_get_next_key"
        map_ = self._map(op, fd, read=True)
        return map_.sys_next_key(_key(op, map_, key) if key is not None else None)

    def map_lookup_and_delete_elem(self, fd: int, key: bytes | None, *, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM: take an element out of a hash, queue or stack."""
        op = "map_lookup_and_delete_elem"
        map_ = self._for_take(op, fd, flags)
        return map_.sys_lookup_and_delete(_key(op, map_, key), flags)

    def map_freeze(self, fd: int) -> None:
        """BPF_MAP_FREEZE: no more changes from user space; EBUSY while it is mapped writable."""
        op = "map_freeze"
        map_ = self._map(op, fd)
        if map_.record or map_.type == MapType.STRUCT_OPS:
            raise KernelError(op, Errno.ENOTSUPP, f"map '{map_.name}' holds more than data")
        map_ = self._map(op, fd, write=True)
        if any(map_ is mapped for mapped, _ in self._mappings):
            raise KernelError(op, Errno.EBUSY, f"map '{map_.name}' is mapped writable")
        map_.frozen = True

    # ---- what is checked before keys and values are looked at -------------------------------------------------------

    def _for_lookup(self, op: str, fd: int, flags: int) -> Map:
        _check_flags(op, flags)
        map_ = self._map(op, fd, read=True)
        _check_lock(op, map_, flags)
        return map_

    def _for_update(self, op: str, fd: int, flags: int) -> Map:
        map_ = self._map(op, fd, write=True)
        _check_lock(op, map_, flags)
        return map_

    def _for_take(self, op: str, fd: int, flags: int) -> Map:
        _check_flags(op, flags)
        map_ = self._map(op, fd, read=True, write=True)
        if flags and isinstance(map_, QueueMap):
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x} for a {map_.type.lower}")
        _check_lock(op, map_, flags)
        return map_

    def _for_batch(self, cmd: BpfCmd, fd: int, count: int, elem_flags: int, flags: int) -> Map:
        # bpf_map_do_batch() and the first lines of what it calls; a refusal leaves the caller's count alone
        op, writes = op_of(cmd), cmd != BpfCmd.MAP_LOOKUP_BATCH
        try:
            map_ = self._map(op, fd, read=cmd in LOOKUPS, write=writes)
        except KernelError as error:
            raise BatchError(op, error.errno, count, error.detail) from None
        if cmd not in MAP_TYPES[map_.type].batch:
            raise BatchError(op, Errno.ENOTSUPP, count, f"map '{map_.name}' is a {map_.type.lower}")
        if elem_flags & ~f.BPF_F_LOCK or (elem_flags & f.BPF_F_LOCK and not map_.has_field("bpf_spin_lock")):
            raise BatchError(op, Errno.EINVAL, count, f"elem_flags {elem_flags:#x}")
        if flags and cmd in LOOKUPS and BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH in MAP_TYPES[map_.type].batch:
            raise BatchError(op, Errno.EINVAL, count, f"flags {flags:#x}")
        return map_

    # ---- batches ------------------------------------------------------------------------------------------------

    def map_lookup_batch(
        self, fd: int, count: int, *, in_batch: bytes | None = None, elem_flags: int = 0, flags: int = 0
    ) -> Batch:
        """BPF_MAP_LOOKUP_BATCH: up to ``count`` elements; at the end of the map ``done`` is set instead of ENOENT."""
        return self._lookup_batch(BpfCmd.MAP_LOOKUP_BATCH, fd, count, in_batch, elem_flags, flags)

    def map_lookup_and_delete_batch(
        self, fd: int, count: int, *, in_batch: bytes | None = None, elem_flags: int = 0, flags: int = 0
    ) -> Batch:
        """BPF_MAP_LOOKUP_AND_DELETE_BATCH: the same, and the elements are gone."""
        return self._lookup_batch(BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH, fd, count, in_batch, elem_flags, flags)

    def map_update_batch(
        self, fd: int, keys: Sequence[bytes], values: Sequence[bytes], *, elem_flags: int = 0, flags: int = 0
    ) -> int:
        """BPF_MAP_UPDATE_BATCH: return how many were set; BatchError tells the count when one is refused."""
        op = "map_update_batch"
        if len(keys) != len(values):
            raise InputError("", f"{op}: {len(keys)} keys and {len(values)} values")
        map_ = self._for_batch(BpfCmd.MAP_UPDATE_BATCH, fd, len(keys), elem_flags, flags)
        for key, value in zip(keys, values, strict=True):
            _check_key_size(map_, key)
            _value(map_, value)
        map_.sys_update_batch(keys, values, elem_flags)
        return len(keys)

    def map_delete_batch(self, fd: int, keys: Sequence[bytes], *, elem_flags: int = 0, flags: int = 0) -> int:
        """BPF_MAP_DELETE_BATCH: return how many were removed; BatchError tells the count when one is missing."""
        map_ = self._for_batch(BpfCmd.MAP_DELETE_BATCH, fd, len(keys), elem_flags, flags)
        for key in keys:
            _check_key_size(map_, key)
        map_.sys_delete_batch(keys)
        return len(keys)

    def _lookup_batch(
        self, cmd: BpfCmd, fd: int, count: int, in_batch: bytes | None, elem_flags: int, flags: int
    ) -> Batch:
        map_ = self._for_batch(cmd, fd, count, elem_flags, flags)
        # where to go on is a key or the number of a bucket; where nothing was found the caller's memory stays zero
        nowhere = bytes(max(map_.key_size, 4))
        if not count:
            return Batch([], [], nowhere, False)
        batch = map_.sys_lookup_batch(count, in_batch, cmd == BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH)
        if batch.done and in_batch and not batch.keys:
            raise BatchError(op_of(cmd), Errno.ENOENT, 0, f"nothing is left of {map_.title}")
        return batch if batch.out_batch else replace(batch, out_batch=nowhere)

    # ---- mappings -----------------------------------------------------------------------------------------------

    def map_mmap(self, fd: int, length: int, *, writable: bool, offset: int = 0, addr: int = 0) -> memoryview:
        """Map an array, ring buffer or arena: the very memory that programs see. ``map_munmap`` ends it.

        ``addr`` is where it shall be in user space, which arenas care about.
        """
        op = "map_mmap"
        map_, file = self._file(op, fd, Map)
        if length <= 0 or offset % PAGE_SIZE:
            raise KernelError(op, Errno.EINVAL, f"{length} bytes at {offset:#x}")
        if not file.readable or (writable and not file.writable):
            raise KernelError(op, Errno.EACCES, f"map '{map_.name}' does not allow it through fd {fd}")
        if isinstance(map_, ArenaMap):
            # get_unmapped_area() comes before everything else
            map_.check_place(length, offset, addr)
        if not _can_map(map_):
            raise KernelError(op, Errno.ENOTSUPP, f"a {map_.type.lower} map with such values cannot be mapped")
        if writable and (map_.frozen or map_.map_flags & f.BPF_F_RDONLY_PROG):
            errno = Errno.EPERM if map_.frozen else Errno.EACCES
            raise KernelError(op, errno, f"map '{map_.name}' is for reading only")
        if isinstance(map_, ArenaMap):
            map_.settle(length, addr)
        start = map_.mmap_area(length, offset, writable=writable) ^ KERNEL_BASE
        view = self.kernel.mem.buf[start : start + length]
        if not writable:
            return view.toreadonly()
        self._mappings.append((map_, view))
        return view

    def map_munmap(self, view: memoryview) -> None:
        """End a mapping."""
        self._mappings = [(map_, mapped) for map_, mapped in self._mappings if mapped is not view]
        view.release()


def _can_map(map_: Map) -> bool:
    # ops->map_mmap, and no special fields
    return type(map_).mmap_area is not Map.mmap_area and not map_.record


def _check_flags(op: str, flags: int) -> None:
    if flags & ~f.BPF_F_LOCK:
        raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")


def _check_lock(op: str, map_: Map, flags: int) -> None:
    if flags & f.BPF_F_LOCK and not map_.has_field("bpf_spin_lock"):
        raise KernelError(op, Errno.EINVAL, f"map '{map_.name}' has no bpf_spin_lock")


def _key(op: str, map_: Map, key: bytes | None) -> bytes | None:
    # __bpf_copy_key(): a map without keys takes a NULL pointer only
    if not map_.key_size:
        if key is not None:
            raise KernelError(op, Errno.EINVAL, f"a {map_.type.lower} has no keys")
        return None
    if key is None:
        raise KernelError(op, Errno.EFAULT, f"map '{map_.name}': no key")
    _check_key_size(map_, key)
    return key


def _check_key_size(map_: Map, key: bytes) -> None:
    if len(key) != map_.key_size:
        raise InputError("", f"map '{map_.name}': key of {len(key)} bytes, expected {map_.key_size}")


def _value(map_: Map, value: bytes) -> bytes:
    if len(value) != map_.user_value_size:
        raise InputError("", f"map '{map_.name}': value of {len(value)} bytes, expected {map_.user_value_size}")
    return value
