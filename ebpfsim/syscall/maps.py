"""The map commands of bpf(2) (kernel/bpf/syscall.c, v6.18): checks in the kernel's order, then the map's methods."""

from collections.abc import Sequence

from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.maps.array import ArrayMap
from ebpfsim.maps.btf import attach_btf
from ebpfsim.maps.map import Batch, BatchError, Map, MapAttr
from ebpfsim.maps.queue import QueueMap
from ebpfsim.maps.ringbuf import CONSUMER_PAGE, DATA_PAGE, RingbufMap
from ebpfsim.maps.types import create_map
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.btf import BtfUsers
from ebpfsim.syscall.common import check_name, enum_value
from ebpfsim.syscall.kernel import BpfKernel
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

__all__ = ["MapCalls"]


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
        # fmt: off
        attr = MapAttr(
            enum_value(op, MapType, map_type), key_size, value_size, max_entries, map_flags, name, inner_map_fd,
            map_extra, btf_fd, btf_key_type_id, btf_value_type_id, btf_vmlinux_value_type_id,
        )
        # fmt: on
        map_ = create_map(attr, self.kernel.mem, len(self.kernel.cpus), _Env(self))
        try:
            check_name(op, name)
            if btf_value_type_id or btf_vmlinux_value_type_id:
                btf = self._user_btf(op, btf_fd)
                attach_btf(map_, btf, btf.btf, btf_key_type_id, btf_value_type_id)
        except Exception:
            map_.put()
            raise
        self.kernel.maps.add(map_)
        map_.released = self.kernel.maps.remove
        readable, writable = not map_flags & f.BPF_F_WRONLY, not map_flags & f.BPF_F_RDONLY
        return self.kernel.fds.install(map_, readable=readable, writable=writable)

    def map_lookup_elem(self, fd: int, key: bytes | None, *, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_ELEM: return the value; per-CPU maps give that of each CPU, rounded up to 8 bytes."""
        op = "map_lookup_elem"
        _check_flags(op, flags)
        map_ = self._map(op, fd, read=True)
        _check_lock(op, map_, flags)
        return map_.sys_lookup(_key(op, map_, key), flags)

    def map_update_elem(self, fd: int, key: bytes | None, value: bytes, *, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM."""
        op = "map_update_elem"
        map_ = self._map(op, fd, write=True)
        _check_lock(op, map_, flags)
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
        _check_flags(op, flags)
        map_ = self._map(op, fd, read=True, write=True)
        if flags and isinstance(map_, QueueMap):
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x} for a {map_.type.lower}")
        _check_lock(op, map_, flags)
        return map_.sys_lookup_and_delete(_key(op, map_, key), flags)

    def map_freeze(self, fd: int) -> None:
        """BPF_MAP_FREEZE: no more changes from user space; EBUSY while it is mapped writable."""
        op = "map_freeze"
        map_ = self._map(op, fd)
        if map_.record:
            raise KernelError(op, Errno.ENOTSUPP, f"map '{map_.name}' has special fields")
        map_ = self._map(op, fd, write=True)
        if any(map_ is mapped for mapped, _ in self._mappings):
            raise KernelError(op, Errno.EBUSY, f"map '{map_.name}' is mapped writable")
        map_.frozen = True

    # ---- batches ------------------------------------------------------------------------------------------------

    def map_lookup_batch(
        self, fd: int, count: int, *, in_batch: bytes | None = None, elem_flags: int = 0, flags: int = 0
    ) -> Batch:
        """BPF_MAP_LOOKUP_BATCH: up to ``count`` elements; at the end of the map ``done`` is set instead of ENOENT."""
        return self._lookup_batch("map_lookup_batch", fd, count, in_batch, elem_flags, flags, delete=False)

    def map_lookup_and_delete_batch(
        self, fd: int, count: int, *, in_batch: bytes | None = None, elem_flags: int = 0, flags: int = 0
    ) -> Batch:
        """BPF_MAP_LOOKUP_AND_DELETE_BATCH: the same, and the elements are gone."""
        return self._lookup_batch("map_lookup_and_delete_batch", fd, count, in_batch, elem_flags, flags, delete=True)

    def map_update_batch(
        self, fd: int, keys: Sequence[bytes], values: Sequence[bytes], *, elem_flags: int = 0, flags: int = 0
    ) -> int:
        """BPF_MAP_UPDATE_BATCH: return how many were set; BatchError tells the count when one is refused."""
        op = "map_update_batch"
        if len(keys) != len(values):
            raise InputError("", f"{op}: {len(keys)} keys and {len(values)} values")
        map_ = self._map(op, fd, write=True)
        _check_batch(op, map_, elem_flags)
        for key, value in zip(keys, values, strict=True):
            _check_key_size(map_, key)
            _value(map_, value)
        map_.sys_update_batch(keys, values, elem_flags)
        return len(keys)

    def map_delete_batch(self, fd: int, keys: Sequence[bytes], *, elem_flags: int = 0, flags: int = 0) -> int:
        """BPF_MAP_DELETE_BATCH: return how many were removed; BatchError tells the count when one is missing."""
        op = "map_delete_batch"
        map_ = self._map(op, fd, write=True)
        _check_batch(op, map_, elem_flags)
        for key in keys:
            _check_key_size(map_, key)
        map_.sys_delete_batch(keys)
        return len(keys)

    def _lookup_batch(
        self, op: str, fd: int, count: int, in_batch: bytes | None, elem_flags: int, flags: int, *, delete: bool
    ) -> Batch:
        map_ = self._map(op, fd, read=True, write=delete)
        _check_batch(op, map_, elem_flags)
        if flags and not isinstance(map_, ArrayMap):
            raise BatchError(op, Errno.EINVAL, 0, f"flags {flags:#x}")
        if not count:
            return Batch([], [], in_batch or b"", False)
        return map_.sys_lookup_batch(count, in_batch, delete)

    # ---- mappings -----------------------------------------------------------------------------------------------

    def map_mmap(self, fd: int, length: int, *, writable: bool, offset: int = 0) -> memoryview:
        """Map an array or a ring buffer: the very memory that programs see. ``map_munmap`` ends it."""
        op = "map_mmap"
        map_, file = self._file(op, fd, Map)
        if length <= 0 or offset % PAGE_SIZE:
            raise KernelError(op, Errno.EINVAL, f"{length} bytes at {offset:#x}")
        if not file.readable or (writable and not file.writable):
            raise KernelError(op, Errno.EACCES, f"map '{map_.name}' does not allow it through fd {fd}")
        if not isinstance(map_, ArrayMap | RingbufMap) or map_.percpu or map_.record:
            raise KernelError(op, Errno.ENOTSUPP, f"a {map_.type.lower} map with such values cannot be mapped")
        if writable and (map_.frozen or map_.map_flags & f.BPF_F_RDONLY_PROG):
            errno = Errno.EPERM if map_.frozen else Errno.EACCES
            raise KernelError(op, errno, f"map '{map_.name}' is for reading only")
        start = _mapped_area(op, map_, length, offset, writable) ^ KERNEL_BASE
        view = self.kernel.mem.buf[start : start + length]
        if not writable:
            return view.toreadonly()
        self._mappings.append((map_, view))
        return view

    def map_munmap(self, view: memoryview) -> None:
        """End a mapping."""
        self._mappings = [(map_, mapped) for map_, mapped in self._mappings if mapped is not view]
        view.release()


def _mapped_area(op: str, map_: ArrayMap | RingbufMap, length: int, offset: int, writable: bool) -> int:
    if isinstance(map_, ArrayMap):
        size = -(-map_.max_entries * map_.elem_size // PAGE_SIZE) * PAGE_SIZE
        if not map_.map_flags & f.BPF_F_MMAPABLE or offset + length > size:
            raise KernelError(op, Errno.EINVAL, f"map '{map_.name}': {length} bytes at {offset:#x} of {size}")
        return map_.values + offset
    if writable and (offset or length > PAGE_SIZE):
        raise KernelError(op, Errno.EPERM, f"map '{map_.name}': only the consumer's page is writable")
    size = (DATA_PAGE - CONSUMER_PAGE) * PAGE_SIZE + 2 * map_.ring_size
    if offset + length > size:
        raise KernelError(op, Errno.EINVAL, f"map '{map_.name}': {length} bytes at {offset:#x} of {size}")
    return map_.base + CONSUMER_PAGE * PAGE_SIZE + offset


def _check_flags(op: str, flags: int) -> None:
    if flags & ~f.BPF_F_LOCK:
        raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")


def _check_lock(op: str, map_: Map, flags: int) -> None:
    if flags & f.BPF_F_LOCK and not map_.has_field("bpf_spin_lock"):
        raise KernelError(op, Errno.EINVAL, f"map '{map_.name}' has no bpf_spin_lock")


def _check_batch(op: str, map_: Map, elem_flags: int) -> None:
    if elem_flags & ~f.BPF_F_LOCK or (elem_flags & f.BPF_F_LOCK and not map_.has_field("bpf_spin_lock")):
        raise BatchError(op, Errno.EINVAL, 0, f"elem_flags {elem_flags:#x}")


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
