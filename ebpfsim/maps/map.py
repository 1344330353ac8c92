"""What every map is: attributes, a ``struct bpf_map`` in RAM, and the operations of programs and of user space.

The rules that hold for all types follow kernel/bpf/syscall.c, v6.18 (``bpf_map_copy_value``, ``bpf_map_update_value``,
``generic_map_*_batch``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, KernelOops
from ebpfsim.maps.fields import Deferred, free_fields
from ebpfsim.maps.record import SpecialField
from ebpfsim.memory import Memory
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi import flags as uapi
from ebpfsim.uapi.bpf import MapType

__all__ = ["Batch", "BatchError", "Map", "MapAttr", "MapEnv", "SpecialField", "generic_map_update_batch", "round_up8"]

# struct bpf_map in the BTF of Linux 6.18: its size, and the fields that programs may read through a map pointer:
# map_type, key_size, value_size, max_entries, map_extra, map_flags at 64; id at 92; name at 136
STRUCT_BPF_MAP_BYTES = 296
_STRUCT_BPF_MAP = Struct("<IIIIQI")
_FIELDS_OFF, _ID_OFF, _NAME_OFF = 64, 92, 136

# user space has no CPU of its own here: its system calls run on the first one
SYSCALL_CPU = 0


@dataclass(frozen=True, slots=True)
class MapAttr:
    """The attributes of BPF_MAP_CREATE, by their names in ``union bpf_attr``; sizes in bytes."""

    map_type: MapType
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int = 0
    map_name: str = ""
    inner_map_fd: int = 0
    map_extra: int = 0
    btf_fd: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0
    btf_vmlinux_value_type_id: int = 0


class MapEnv(Protocol):
    """What maps that hold other objects ask of their kernel: descriptors and interface numbers turned into objects."""

    def prog_by_fd(self, fd: int) -> KernelObject:
        """Return the program behind a descriptor; KernelError EBADF or EINVAL when there is none."""
        ...

    def map_by_fd(self, fd: int) -> "Map":
        """Return the map behind a descriptor; KernelError EBADF or EINVAL when there is none."""
        ...

    def device_by_ifindex(self, ifindex: int) -> object | None:
        """Return the network device of that index, or None."""
        ...

    def object_by_fd(self, fd: int, kind: FdKind | None) -> KernelObject:
        """Return what is behind a descriptor if it is of a kind (None takes any).

        KernelError EBADF when it is not open; for something else ENOTSOCK where a socket is wanted, else EBADF.
        """
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch lookup gave: ``done`` when the end of the map was reached (ENOENT of the system call).

    ``out_batch`` is opaque and goes into the next call as ``in_batch``.
    """

    keys: list[bytes]
    values: list[bytes]
    out_batch: bytes
    done: bool


class BatchError(KernelError):
    """A batch that stopped early; ``count`` elements were done before."""

    def __init__(self, op: str, errno: int, count: int, detail: str = "") -> None:
        self.count = count
        super().__init__(op, errno, detail or f"after {count} elements")


@dataclass(slots=True)
class MapBtf:
    """The BTF that describes keys and values (``btf``, ``btf_key_type_id`` and so on of struct bpf_map)."""

    obj: KernelObject
    key_type_id: int
    value_type_id: int
    record: tuple[SpecialField, ...] = field(default=())


def round_up8(size: int) -> int:
    """Return ``size`` rounded up to a multiple of 8."""
    return (size + 7) & ~7


class Map(KernelObject):
    """A map. Subclasses keep their state in simulated RAM, so that programs, helpers and user space see the same bytes.

    The program side returns what helpers return: an address or 0, an errno as a negative number. The user side
    (``sys_*``) takes and returns bytes and raises KernelError.
    """

    percpu = False  # values differ by CPU
    direct_value = False  # programs may hold the address of a value as a constant (map_direct_value_addr)
    holds_progs = False  # map_type_contains_progs() of kernel/bpf/core.c
    struct_bytes = STRUCT_BPF_MAP_BYTES  # at the map's address

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__()
        self.attr = attr
        self.mem = mem
        self.nr_cpus = nr_cpus
        self.key_size = attr.key_size
        self.value_size = attr.value_size
        self.max_entries = attr.max_entries
        # access flags belong to the descriptor, not to the map (bpf_map_flags_retain_permanent)
        self.map_flags = attr.map_flags & ~(uapi.BPF_F_RDONLY | uapi.BPF_F_WRONLY)
        self.frozen = False
        # made by a task with CAP_PERFMON, or on a machine without mitigations (bypass_spec_v1)
        self.bypass_spec = True
        self.writers = 0  # writable mappings of user space
        self.btf: MapBtf | None = None
        # timers and work queues of values, by the address of the field
        self.deferred: dict[int, Deferred] = {}
        self.released: Callable[[Map], None] | None = None
        self._env = env
        self._areas: list[int] = []
        self.address = self._alloc_area(self.struct_bytes)
        sizes = (attr.map_type, attr.key_size, attr.value_size, attr.max_entries, attr.map_extra, self.map_flags)
        mem.write(self.address + _FIELDS_OFF, _STRUCT_BPF_MAP.pack(*sizes))
        mem.write(self.address + _NAME_OFF, attr.map_name.encode("utf-8", "surrogateescape")[:15])

    def got_id(self) -> None:
        """Write the id that the kernel gave to where programs may read it."""
        self.mem.store(self.address + _ID_OFF, 4, self.id)

    @property
    def type(self) -> MapType:
        """The map's type."""
        return self.attr.map_type

    @property
    def name(self) -> str:
        """The name given at creation, at most 15 characters."""
        return self.attr.map_name

    @property
    def user_value_size(self) -> int:
        """Bytes of a value as user space passes it: for per-CPU maps one value of each CPU, rounded up to 8 bytes."""
        return round_up8(self.value_size) * self.nr_cpus if self.percpu else self.value_size

    @property
    def record(self) -> tuple[SpecialField, ...]:
        """The special fields of values."""
        return self.btf.record if self.btf is not None else ()

    def has_field(self, kind: str) -> bool:
        """Tell whether values hold a special field of that C type."""
        return any(special.kind == kind for special in self.record)

    # ---- programs -----------------------------------------------------------------------------------------------

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of the value for a key as seen on a CPU, or 0."""
        raise NotImplementedError

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value; 0 or a negative errno."""
        raise NotImplementedError

    def delete_elem(self, key: bytes) -> int:
        """Remove a key; 0 or a negative errno."""
        raise NotImplementedError

    def lookup_percpu_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a CPU's value (bpf_map_lookup_percpu_elem), or 0."""
        return 0

    def elements(self, cpu: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield key, key address (0 when the key is not in RAM) and value address, as bpf_for_each_map_elem() does."""
        raise NotImplementedError

    def direct_value_addr(self, off: int) -> int:
        """Return the address of the value plus ``off``, or a negative errno."""
        return -Errno.ENOTSUPP

    # ---- user space ---------------------------------------------------------------------------------------------

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after ``key`` (the first one for None or an unknown key), or None at the end."""
        raise NotImplementedError

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_ELEM: the value's bytes; per-CPU maps give each CPU's, rounded up to 8 bytes."""
        raise KernelError("map_lookup_elem", Errno.EOPNOTSUPP)

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM."""
        raise KernelError("map_update_elem", Errno.EOPNOTSUPP)

    def sys_delete(self, key: bytes) -> None:
        """BPF_MAP_DELETE_ELEM."""
        self._raise("map_delete_elem", self.delete_elem(key), key)

    def sys_next_key(self, key: bytes | None) -> bytes:
        """BPF_MAP_GET_NEXT_KEY; ENOENT at the end."""
        found = self.get_next_key(key)
        if found is None:
            raise KernelError("map_get_next_key", Errno.ENOENT, self._who())
        return found

    def sys_lookup_and_delete(self, key: bytes | None, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_AND_DELETE_ELEM."""
        raise KernelError("map_lookup_and_delete_elem", Errno.ENOTSUPP, self._who())

    def sys_lookup_batch(self, count: int, in_batch: bytes | None, delete: bool = False) -> Batch:
        """BPF_MAP_LOOKUP_BATCH and BPF_MAP_LOOKUP_AND_DELETE_BATCH."""
        op = "map_lookup_and_delete_batch" if delete else "map_lookup_batch"
        raise BatchError(op, Errno.ENOTSUPP, 0, self._who())

    def sys_update_batch(self, keys: Sequence[bytes], values: Sequence[bytes], elem_flags: int) -> None:
        """BPF_MAP_UPDATE_BATCH."""
        raise BatchError("map_update_batch", Errno.ENOTSUPP, 0, self._who())

    def sys_delete_batch(self, keys: Sequence[bytes]) -> None:
        """BPF_MAP_DELETE_BATCH."""
        raise BatchError("map_delete_batch", Errno.ENOTSUPP, 0, self._who())

    def mmap_area(self, length: int, offset: int, *, writable: bool) -> int:
        """Return the address of what a mapping of ``length`` bytes shows; KernelError when it cannot be mapped so."""
        raise KernelError("map_mmap", Errno.ENOTSUPP, f"a {self.type.lower} map cannot be mapped")

    # ---- life ---------------------------------------------------------------------------------------------------

    def free_fields(self, value_address: int) -> None:
        """Let go of what the special fields of a value hold (``bpf_obj_free_fields``)."""
        if self.btf is not None and self.btf.record:
            free_fields(self.mem, value_address, self.btf.record, self.deferred)

    def on_user_release(self) -> None:
        """Cancel timers and work: nothing of the map happens by itself any more (``map_release_uref``)."""
        for address in list(self.deferred):
            self.deferred.pop(address).cancel_and_free()

    def on_release(self) -> None:
        """Give back the RAM and tell the kernel."""
        if self.released is not None:
            self.released(self)
        for address in self._areas:
            self.mem.free(address)
        self._areas.clear()
        if self.btf is not None:
            self.btf.obj.put()

    def _alloc_area(self, size: int) -> int:
        # zeroed RAM that lives as long as the map; ENOMEM when the simulated RAM does not hold it
        try:
            address = self.mem.alloc(size, what=f"the memory of {self.title}")
        except KernelOops:
            for earlier in self._areas:
                self.mem.free(earlier)
            raise KernelError("map_create", Errno.ENOMEM, f"{self._who()}: {size} bytes wanted") from None
        self._areas.append(address)
        return address

    @property
    def title(self) -> str:
        """The map in words, for messages."""
        return f"map '{self.name}'" if self.name else f"{self.type.lower} map"

    def _who(self) -> str:
        return self.title

    def _raise(self, op: str, result: int, key: bytes | None = None) -> None:
        # turn what the program side returned into what the system call raises
        if result < 0:
            detail = self._who() if key is None else f"{self._who()}, key {key.hex()}"
            raise KernelError(op, -result, detail)


def generic_map_update_batch(map_: Map, keys: Sequence[bytes], values: Sequence[bytes], elem_flags: int) -> None:
    """BPF_MAP_UPDATE_BATCH one by one; BatchError at the first that is refused."""
    for count, (key, value) in enumerate(zip(keys, values, strict=True)):
        try:
            map_.sys_update(key, value, elem_flags)
        except KernelError as error:
            raise BatchError("map_update_batch", error.errno, count, error.detail) from None
