"""Map contents as a scenario writes them: typed by BTF, C field names for structs, addresses as text.

What is compared is what is named: fields that an expectation leaves out may have any value. A per-CPU map takes a list
with one value a CPU; a single value is compared with the sum over the CPUs.
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Kind
from ebpfsim.btf.values import from_bytes, integer_bytes, to_bytes
from ebpfsim.errors import InputError
from ebpfsim.loader import ObjectMap
from ebpfsim.scenario.document import Key
from ebpfsim.uapi.bpf import MapType

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running

__all__ = [
    "PERCPU",
    "SOCKET_MAPS",
    "check_wanted",
    "lookup",
    "normal_key",
    "record_type",
    "same_record",
    "same_value",
    "update_map",
]

SOCKET_MAPS = (MapType.SOCKMAP, MapType.SOCKHASH, MapType.REUSEPORT_SOCKARRAY)
PERCPU = (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH, MapType.PERCPU_CGROUP_STORAGE)


def update_map(running: "Running", path: tuple[Key, ...], text: str, values: dict[Key, Any]) -> None:
    """Set entries of a map; a value of null removes the entry. Programs are ``OBJECT/PROGRAM``, sockets their names."""
    found = running.map_of(text)
    for key, value in values.items():
        with running.at(*path, key):
            if value is None:
                found.pop(key, None)
            elif found.type in SOCKET_MAPS and isinstance(value, str):
                _put_socket(running, text, found, key, value)
            elif found.type == MapType.PROG_ARRAY and isinstance(value, str):
                if value.partition("/")[0] not in running.checked.objects:
                    raise InputError("", f"unknown program '{value}'", "OBJECT/PROGRAM")
                found[key] = running.program_fd(value).to_bytes(4, "little")
            else:
                found[key] = value


def _put_socket(running: "Running", text: str, found: ObjectMap, key: Key, name: str) -> None:
    host = running.sim.hosts[running.checked.objects[text.partition("/")[0]].block.host]
    fd = host.socket_fd(running.sockets[name])
    found[key] = fd.to_bytes(found.value_size, "little")
    host.bpf.close(fd)


def lookup(found: ObjectMap, key: Any) -> Any:
    """Return the value of a key, or None when there is no such entry."""
    try:
        return found[key]
    except KeyError:
        return None


def normal_key(found: ObjectMap, key: Any) -> Any:
    """Return a key as the map itself gives it back."""
    return found.decode_key(found.encode_key(key))


def same_value(found: ObjectMap, btf: Btf | None, want: Any, have: Any) -> bool:
    """Say whether a map's value is the expected one, in all that the expectation names; InputError for a wrong type.

    ``btf`` is that of the map's object.
    """
    if want is None or have is None:
        return want is have
    if found.type not in PERCPU:
        return _same(want, _normal(found, btf, want), have)
    if isinstance(want, list):
        parts = [_normal(found, btf, part) for part in want]
        return len(want) == len(have) and all(_same(*row) for row in zip(want, parts, have, strict=True))
    return _same(want, _normal(found, btf, want), _sum(have))


def record_type(found: ObjectMap, btf: Btf | None, name: str | None) -> int | None:
    """Return the BTF id of a ring buffer's records: the struct of that name, or the map's value type; None for none."""
    if btf is None:
        return None
    if name is None:
        return found.value_type_id or None
    return btf.find(name.removeprefix("struct ").strip(), Kind.STRUCT)


def same_record(btf: Btf, type_id: int, want: Any, record: bytes) -> bool:
    """Say whether a record is the expected one, in all that the expectation names. Bytes past its type do not count."""
    size = sizeof(btf, type_id)
    if len(record) < size:
        return False
    have = from_bytes(btf, type_id, record[:size])
    return _same(want, from_bytes(btf, type_id, to_bytes(btf, type_id, want, "record")), have)


def check_wanted(found: ObjectMap, btf: Btf | None, want: Any) -> None:
    """Raise InputError when an expected value cannot be one of the map's."""
    for part in want if found.type in PERCPU and isinstance(want, list) else (want,):
        _normal(found, btf, part)


def _normal(found: ObjectMap, btf: Btf | None, value: Any) -> Any:
    # there and back through the C type: "10.0.0.9" becomes the number that a __be32 reads as
    where = f"map '{found.name}': value"
    if btf is not None and found.value_type_id:
        return from_bytes(btf, found.value_type_id, to_bytes(btf, found.value_type_id, value, where))
    return int.from_bytes(integer_bytes(value, found.value_size, where), "little")


def _same(named: Any, want: Any, have: Any) -> bool:
    match named:
        case dict() if isinstance(want, dict) and isinstance(have, dict):
            return all(field in have and _same(named[field], want[field], have[field]) for field in named)
        case list() if isinstance(want, list) and isinstance(have, list):
            return all(_same(*parts) for parts in zip(named, want, have, strict=False))
    return bool(want == have)


def _sum(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {field: _sum([value[field] for value in values]) for field in first}
    if isinstance(first, int):
        return sum(values)
    return first if all(value == first for value in values) else values
