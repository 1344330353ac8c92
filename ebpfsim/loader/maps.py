"""A map of an object: settable before load, then a typed mapping over bpf(2)."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.values import from_bytes, integer_bytes, to_bytes
from ebpfsim.elf.spec import MapSpec
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.loader.calls import BpfCalls
from ebpfsim.loader.program import Program
from ebpfsim.uapi.bpf import MapType

__all__ = ["ObjectMap"]

PERCPU = (
    MapType.PERCPU_HASH,
    MapType.PERCPU_ARRAY,
    MapType.LRU_PERCPU_HASH,
    MapType.PERCPU_CGROUP_STORAGE,
)
# maps whose values are descriptors when written and ids when read
HOLDERS = (MapType.PROG_ARRAY, MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)


class _Key(dict[str, Any]):
    """A struct as key: equal to a dict, and hashable, so that ``dict(map)`` works."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))


class _Items(ItemsView[Any, Any]):
    def __repr__(self) -> str:
        return repr(list(self))


class _Keys(KeysView[Any]):
    def __repr__(self) -> str:
        return repr(list(self))


class _Values(ValuesView[Any]):
    def __repr__(self) -> str:
        return repr(list(self))


class ObjectMap(MutableMapping[Any, Any]):
    """A map. Keys and values are Python values of their C types (ebpfsim.btf.values); bytes are taken as they are.

    Settable before load: ``type``, ``key_size``, ``value_size``, ``max_entries``, ``flags``, ``map_extra``, ``pin``
    (a path), ``autocreate``. Per-CPU maps give and take lists, one value a CPU. A missing key is a KeyError.
    """

    def __init__(self, name: str, spec: MapSpec, btf: Btf | None, where: str) -> None:
        self.name = name
        self.spec = spec
        self.type: int = MapType(spec.type) if spec.type in MapType.__members__.values() else spec.type
        self.key_size = spec.key_size
        self.on_resize: Callable[[ObjectMap, int], None] | None = None
        self._value_size = spec.value_size
        self.max_entries = spec.max_entries
        self.flags = spec.flags
        self.map_extra = spec.map_extra
        self.pin = f"/sys/fs/bpf/{spec.name}" if spec.pin_by_name else ""
        self.autocreate = spec.autocreate
        self.numa_node = spec.numa_node
        self.btf_vmlinux_value_type_id = 0
        self.key_type_id = spec.key_type_id
        self.value_type_id = spec.value_type_id
        self._btf = btf
        # the maps of the same object, by name
        self.siblings: Mapping[str, ObjectMap] = {}
        self._where = where
        self._bpf: BpfCalls | None = None
        self._fd = -1

    @property
    def btf(self) -> Btf | None:
        """The types of its object."""
        return self._btf

    def __repr__(self) -> str:
        kind = self.type.lower if isinstance(self.type, MapType) else f"type {self.type}"
        return f"<ObjectMap '{self.name}' {kind}>"

    # -- identity ----------------------------------------------------------------------------------------------------

    def set_created(self, bpf: BpfCalls | None, fd: int) -> None:
        """Take over the descriptor of the created map; the object calls this."""
        self._bpf, self._fd = bpf, fd

    @property
    def created(self) -> bool:
        """Whether the kernel has it."""
        return self._fd >= 0

    @property
    def fd(self) -> int:
        """The map's descriptor."""
        self._calls()
        return self._fd

    @property
    def id(self) -> int:
        """The map's id."""
        return int(self._calls().obj_get_info_by_fd(self._fd).id)

    def bound(self) -> tuple[BpfCalls, int]:
        """Return the bpf(2) the map was created by, and its descriptor there."""
        return self._calls(), self._fd

    def _calls(self) -> BpfCalls:
        if self._bpf is None:
            raise InputError(self._where, f"map '{self.name}' is not created", "call load() on the object")
        return self._bpf

    # -- values ------------------------------------------------------------------------------------------------------

    @property
    def value_size(self) -> int:
        """Bytes of a value; for a section of variables its size, which the array at its end follows."""
        return self._value_size

    @value_size.setter
    def value_size(self, size: int) -> None:
        self._value_size = size
        if self.on_resize is not None:
            self.on_resize(self, size)

    def set_types(self, btf: Btf) -> None:
        """Take over types that were changed; the object calls this."""
        self._btf = btf

    def _where_of(self, what: str) -> str:
        return f"{self._where}: map '{self.name}': {what}"

    def encode_key(self, key: object) -> bytes:
        """Return the bytes of a key; InputError when it does not fit the key's type."""
        return self._encode(key, self.key_type_id, self.key_size, "key")

    def decode_key(self, data: bytes) -> Any:
        """Return a key's Python value, always hashable."""
        value = self._decode(data, self.key_type_id, self.key_size)
        if isinstance(value, dict):
            return _Key(value)
        return tuple(value) if isinstance(value, list) else value

    def encode_value(self, value: object) -> bytes:
        """Return the bytes of a value as bpf(2) takes them; InputError when it does not fit the value's type."""
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        if self.type in HOLDERS and isinstance(value, Program | ObjectMap):
            return value.fd.to_bytes(4, "little")
        if self.type not in PERCPU:
            return self._encode(value, self.value_type_id, self.value_size, "value")
        if not isinstance(value, list | tuple):
            raise InputError(self._where_of("value"), "expected a list with one value for each CPU")
        stride = self._stride()
        values = (self._encode(v, self.value_type_id, self.value_size, f"value[{i}]") for i, v in enumerate(value))
        return b"".join(data.ljust(stride, b"\0") for data in values)

    def decode_value(self, data: bytes) -> Any:
        """Return the Python value of what bpf(2) gave."""
        if self.type not in PERCPU:
            return self._decode(data, self.value_type_id, self.value_size)
        stride, size = self._stride(), self.value_size
        return [self._decode(data[at : at + size], self.value_type_id, size) for at in range(0, len(data), stride)]

    def _stride(self) -> int:
        # bpf(2) gives each CPU's value rounded up to 8 bytes
        return (self.value_size + 7) & ~7

    def _encode(self, value: object, type_id: int, size: int, what: str) -> bytes:
        where = self._where_of(what)
        if isinstance(value, bytes | bytearray | memoryview):
            if len(value) != size:
                raise InputError(where, f"{len(value)} bytes, expected {size}")
            return bytes(value)
        if self._btf is not None and type_id:
            return to_bytes(self._btf, type_id, value, where)
        if size > 8 and not isinstance(value, str):
            raise InputError(where, f"its C type is not known, expected {size} bytes", "build the object with -g")
        return integer_bytes(value, size, where)

    def _decode(self, data: bytes, type_id: int, size: int) -> Any:
        if self._btf is not None and type_id:
            return from_bytes(self._btf, type_id, data)
        return int.from_bytes(data, "little") if size in (1, 2, 4, 8) else data

    # -- mapping -----------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        bpf, data = self._calls(), self.encode_key(key)
        try:
            return self.decode_value(bpf.map_lookup_elem(self._fd, data))
        except KernelError as error:
            raise self._missing(error, key) from None

    def __setitem__(self, key: Any, value: Any) -> None:
        self._calls().map_update_elem(self._fd, self.encode_key(key), self.encode_value(value))

    def __delitem__(self, key: Any) -> None:
        bpf, data = self._calls(), self.encode_key(key)
        try:
            bpf.map_delete_elem(self._fd, data)
        except KernelError as error:
            raise self._missing(error, key) from None

    def _missing(self, error: KernelError, key: Any) -> Exception:
        return KeyError(key) if error.errno == Errno.ENOENT else error

    def keys_bytes(self) -> Iterator[bytes]:
        """Yield the keys as bytes, in the kernel's order."""
        bpf, key = self._calls(), None
        while True:
            try:
                key = bpf.map_get_next_key(self._fd, key)
            except KernelError as error:
                if error.errno == Errno.ENOENT:
                    return
                raise
            yield key

    def __iter__(self) -> Iterator[Any]:
        return (self.decode_key(key) for key in self.keys_bytes())

    def __len__(self) -> int:
        return sum(1 for _ in self.keys_bytes())

    def __contains__(self, key: object) -> bool:
        bpf, data = self._calls(), self.encode_key(key)
        try:
            bpf.map_lookup_elem(self._fd, data)
        except KernelError as error:
            if error.errno == Errno.ENOENT:
                return False
            raise
        return True

    def items(self) -> ItemsView[Any, Any]:
        """Return the pairs of keys and values; prints as a list."""
        return _Items(self)

    def keys(self) -> KeysView[Any]:
        """Return the keys; prints as a list."""
        return _Keys(self)

    def values(self) -> ValuesView[Any]:
        """Return the values; prints as a list."""
        return _Values(self)
