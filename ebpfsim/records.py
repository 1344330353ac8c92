"""Records that programs write to ring buffers and perf buffers, as values of C types and as tables.

::

    events = host.records(obj.maps["events"])
    sim.run()
    for record in events.read():
        print(record.cpu, record.value["comm"])
    print(events.table())

Which structure a record is: the one that ``type`` names, or has as C (``struct { __u32 pid; char comm[16]; }``); else
the value type of the map; else the only structure of the object that is none of the kernel's, no key of a map, and as
long as the records are; of several, and where none is as long, the one with ``event`` in its name. Compilers leave out
structures that only local variables have.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Kind
from ebpfsim.btf.values import from_bytes
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.c_layout import layout
from ebpfsim.errors import InputError
from ebpfsim.loader import ObjectMap
from ebpfsim.maps.perf_event_array import PerfEventArrayMap
from ebpfsim.maps.ringbuf import RingbufMap
from ebpfsim.perf_buffer import PerfBuffer
from ebpfsim.report.values import readable, words
from ebpfsim.suggest import did_you_mean

if TYPE_CHECKING:
    from ebpfsim.kernel import Kernel

__all__ = ["Record", "RecordReader", "RecordType", "find_type", "own_structs", "table"]

PAGES = 64
EVENT = "event"


class Record(NamedTuple):
    """What a program wrote: on which CPU (None: a ring buffer does not say), the bytes, and the value of its type."""

    cpu: int | None
    data: bytes
    value: Any


def _padded(size: int) -> int:
    # what perf hands out of a record: with the 4 bytes of its length it is a multiple of 8
    return -(-(size + 4) // 8) * 8 - 4


def own_structs(found: ObjectMap) -> dict[str, int]:
    """Return the structures of a map's object that may be records, by their names."""
    btf, kernel = found.btf, vmlinux()
    used: set[int] = set()
    if btf is None:
        return {}
    for each in found.siblings.values():
        used.add(each.key_type_id)
    names = {btf.name_of(id_): id_ for id_ in btf.ids_of_kind(Kind.STRUCT) if id_ not in used}
    return {
        name: id_
        for name, id_ in names.items()
        if name and "___" not in name and kernel.find(name, Kind.STRUCT) is None
    }


class RecordType(NamedTuple):
    """A structure: the types that it is among, and its id."""

    btf: Btf
    id: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.btf.name_of(self.id)

    def value(self, data: bytes) -> Any:
        """Return a record as a value; what the program did not write is zero."""
        size = sizeof(self.btf, self.id)
        return readable(self.btf, self.id, from_bytes(self.btf, self.id, data[:size].ljust(size, b"\0")))


def find_type(found: ObjectMap, name: str | None, lengths: Sequence[int]) -> RecordType:
    """Return the type of a map's records; InputError when nothing says it."""
    btf = found.btf
    written = layout(name) if name is not None else None
    if written is not None:
        return RecordType(*written)
    if btf is None:
        raise InputError("", f"records of map '{found.name}' have no type: the object has no BTF")
    if name is not None:
        chosen = btf.find(name.removeprefix("struct ").strip(), Kind.STRUCT)
        if chosen is None:
            known = [btf.name_of(id_) for id_ in btf.ids_of_kind(Kind.STRUCT) if btf.name_of(id_)]
            raise InputError("", f"unknown struct '{name}'{did_you_mean(name, known)}")
        return RecordType(btf, chosen)
    if found.value_type_id and btf.type(found.value_type_id).kind == Kind.STRUCT:
        return RecordType(btf, found.value_type_id)
    structs = own_structs(found)
    fitting = {
        each: id_ for each, id_ in structs.items()
        if lengths and all(length in (sizeof(btf, id_), _padded(sizeof(btf, id_))) for length in lengths)
    }  # fmt: skip
    named = {each: id_ for each, id_ in (fitting or structs).items() if EVENT in each}
    for group in (fitting, named):
        if len(group) == 1:
            return RecordType(btf, next(iter(group.values())))
    shown = ", ".join([*sorted(fitting or structs), "struct { __u32 pid; ... }"])
    raise InputError("", f"nothing says of which type the records of map '{found.name}' are", shown)


class RecordReader:
    """What user space reads of a map, from now on. ``type_name`` is the structure, once that is known."""

    def __init__(self, kernel: "Kernel", found: ObjectMap, type_: str | None = None) -> None:
        self._map, self._wanted = found, type_
        self._type: RecordType | None = None
        self._waiting: list[tuple[int | None, bytes]] = []
        self._seen: list[Record] = []
        self._perf: PerfBuffer | None = None
        self._ring: RingbufMap | None = None
        map_ = kernel.fds.lookup(found.fd)
        if isinstance(map_, PerfEventArrayMap):
            self._perf = PerfBuffer(kernel, found, PAGES)
        elif isinstance(map_, RingbufMap):
            self._ring = map_
            map_.on_wakeup.append(self._woken)
        else:
            raise InputError("", f"map '{found.name}' holds no records", "a ring buffer or a perf event array")
        self._clock = kernel.clock

    def _woken(self) -> None:
        # as by epoll: the reader comes when the CPU's work is done
        self._clock.call_in(0, self._take)

    def _take(self) -> None:
        if self._ring is not None:
            self._waiting += [(None, data) for data in self._ring.consume()]
        elif self._perf is not None:
            self._waiting += [(sample.cpu, sample.data) for sample in self._perf.consume()]

    @property
    def type_name(self) -> str:
        """The name of the structure that records are."""
        return self._type.name if self._type is not None else ""

    @property
    def lost(self) -> int:
        """How many records found no room."""
        return sum(self._perf.lost.values()) if self._perf is not None else 0

    def read(self) -> list[Record]:
        """Return the records that came since the last time."""
        self._take()
        taken, self._waiting = self._waiting, []
        if not taken:
            return []
        if self._type is None:
            self._type = find_type(self._map, self._wanted, [len(data) for _, data in taken])
        records = [Record(cpu, data, self._type.value(data)) for cpu, data in taken]
        self._seen += records
        return records

    def table(self) -> str:
        """Return all records that were read, a line each, under the names of their members."""
        self.read()
        return table([record.value for record in self._seen])


def _columns(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix or "value": value if isinstance(value, str) else words(value)}
    found: dict[str, str] = {}
    for name, part in value.items():
        found |= _columns(part, f"{prefix}.{name}" if prefix else name)
    return found


def table(values: Sequence[Any]) -> str:
    """Return values of one type as lines of text, numbers to the right, with the names of members above."""
    rows = [_columns(value) for value in values]
    if not rows:
        return "no records\n"
    names = list(rows[0])
    widths = [max(len(name), *(len(row.get(name, "")) for row in rows)) for name in names]
    right = [all(_is_number(row.get(name, "")) for row in rows) for name in names]
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    return "".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdigit()
