"""What bpftool prints of maps, programs and BTF, with its words, keys and shapes (tools/bpf/bpftool, v7.1).

The values are those of the simulated kernel. ``bytes_jited`` is missing: machine code is no part of the model.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import (
    INT_BOOL,
    INT_CHAR,
    Array,
    Composite,
    Datasec,
    DeclTag,
    Enum,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Modifier,
    Ptr,
    Type,
    Var,
)
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map, round_up8
from ebpfsim.maps.prog_array import ProgHolder
from ebpfsim.maps.usage import mem_usage
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.btf import BtfObject
from ebpfsim.syscall.results import ProgInfo
from ebpfsim.uapi.bpf import AttachType, LinkType

if TYPE_CHECKING:
    from ebpfsim.kernel import Kernel

__all__ = [
    "btf_list",
    "btf_text",
    "btf_types",
    "dump_text",
    "link_list",
    "link_text",
    "map_dump",
    "map_list",
    "map_text",
    "prog_list",
    "prog_text",
]

STRUCT_BPF_PROG_BYTES = 72  # before the instructions, of 8 bytes each; memory is counted in pages
VAR_LINKAGE = ("static", "global", "extern")  # enum btf_var_linkage
FUNC_LINKAGE = ("static", "global", "extern")  # enum btf_func_linkage
INT_SIGNED = 1


# ---- programs -------------------------------------------------------------------------------------------------------


def prog_list(kernel: "Kernel") -> list[dict[str, Any]]:
    """Return what ``bpftool -j prog show`` prints."""
    return [_prog(kernel, prog) for prog in kernel.progs]


def _prog(kernel: "Kernel", prog: Prog) -> dict[str, Any]:
    prog.get()
    fd = kernel.fds.install(prog)
    try:
        info = kernel.bpf.obj_get_info_by_fd(fd)
    finally:
        kernel.bpf.close(fd)
    assert isinstance(info, ProgInfo)
    row: dict[str, Any] = {"id": info.id, "type": prog.type.lower}
    if info.name:
        row["name"] = info.name
    row |= {"tag": info.tag.hex(), "gpl_compatible": bool(info.gpl_compatible)}
    if info.run_time_ns:
        row |= {"run_time_ns": info.run_time_ns, "run_cnt": info.run_cnt}
    if info.recursion_misses:
        row["recursion_misses"] = info.recursion_misses
    row |= {"loaded_at": info.load_time // 1_000_000_000, "uid": info.created_by_uid}
    row |= {"bytes_xlated": info.xlated_prog_len, "jited": bool(info.jited_prog_len)}
    if info.jited_prog_len:
        row["bytes_jited"] = info.jited_prog_len
    size = STRUCT_BPF_PROG_BYTES + info.xlated_prog_len
    row["bytes_memlock"] = -(-size // PAGE_SIZE) * PAGE_SIZE
    if info.map_ids:
        row["map_ids"] = list(info.map_ids)
    if info.btf_id:
        row["btf_id"] = info.btf_id
    return row | _pins(kernel, prog)


# ---- maps -----------------------------------------------------------------------------------------------------------


def map_list(kernel: "Kernel") -> list[dict[str, Any]]:
    """Return what ``bpftool -j map show`` prints."""
    return [_map(kernel, map_) for map_ in kernel.maps]


def _map(kernel: "Kernel", map_: Map) -> dict[str, Any]:
    row: dict[str, Any] = {"id": map_.id, "type": map_.type.lower}
    if map_.name:
        row["name"] = map_.name
    row |= {"flags": map_.map_flags, "bytes_key": map_.key_size, "bytes_value": map_.value_size}
    row |= {"max_entries": map_.max_entries, "bytes_memlock": mem_usage(map_)}
    if isinstance(map_, ProgHolder) and map_.owner is not None:
        row |= {"owner_prog_type": map_.owner.type.lower, "owner_jited": True}
    row["frozen"] = int(map_.frozen)
    if map_.btf is not None:
        row["btf_id"] = map_.btf.obj.id
    return row | _pins(kernel, map_)


def _pins(kernel: "Kernel", obj: object) -> dict[str, Any]:
    paths = [path for path, pinned in kernel.bpf.bpffs.pins().items() if pinned is obj]
    return {"pinned": paths} if paths else {}


def map_dump(kernel: "Kernel", map_: Map) -> list[dict[str, Any]]:
    """Return what ``bpftool -j map dump`` prints: bytes as text, and values by their types where there is BTF."""
    rows = []
    for key, value in _elements(map_):
        row: dict[str, Any] = {"key": _hex(key)}
        formatted: dict[str, Any] = {}
        btf = map_.btf.obj.btf if map_.btf is not None and isinstance(map_.btf.obj, BtfObject) else None
        if btf is not None and map_.btf is not None and map_.btf.key_type_id:
            formatted["key"] = typed(btf, map_.btf.key_type_id, key)
        if isinstance(value, str):
            row["value"] = {"error": value}
        elif map_.percpu:
            size = round_up8(map_.value_size)
            values = [value[start : start + map_.value_size] for start in range(0, len(value), size)]
            row["values"] = [{"cpu": cpu, "value": _hex(part)} for cpu, part in enumerate(values)]
            if btf is not None and map_.btf is not None:
                type_id = map_.btf.value_type_id
                parts = [typed(btf, type_id, part) for part in values]
                formatted["values"] = [{"cpu": cpu, "value": part} for cpu, part in enumerate(parts)]
        else:
            row["value"] = _hex(value)
            if btf is not None and map_.btf is not None:
                formatted["value"] = typed(btf, map_.btf.value_type_id, value)
        if formatted:
            row["formatted"] = formatted
        rows.append(row)
    return rows


def _elements(map_: Map) -> Iterator[tuple[bytes, bytes | str]]:
    # an absent value is passed over where descriptors are held, as bpftool does
    key: bytes | None = None
    while True:
        try:
            key = map_.sys_next_key(key)
        except KernelError:
            return
        try:
            yield key, map_.sys_lookup(key)
        except KernelError as error:
            if not _holds_objects(map_):
                yield key, error.strerror


def _holds_objects(map_: Map) -> bool:
    return map_.type.name in ("PROG_ARRAY", "PERF_EVENT_ARRAY", "CGROUP_ARRAY", "ARRAY_OF_MAPS", "HASH_OF_MAPS")


def _hex(data: bytes) -> list[str]:
    return [f"0x{byte:02x}" for byte in data]


def typed(btf: Btf, type_id: int, data: bytes) -> Any:
    """Return a value as bpftool's BTF dumper writes it (btf_dumper.c)."""
    type_ = btf.resolved(type_id)
    match type_:
        case Int():
            return _integer(type_, data)
        case Enum():
            number = int.from_bytes(data[: type_.size], "little", signed=type_.signed)
            return next((value.name for value in type_.values if value.value == number), number)
        case Ptr():
            return int.from_bytes(data[:8], "little")
        case Array():
            return _array(btf, type_, data)
        case Composite():
            return {member.name: _member(btf, member, data) for member in type_.members}
        case Datasec():
            rows = []
            for var in type_.vars:
                variable = btf.type(var.type_id)
                assert isinstance(variable, Var)
                part = data[var.off : var.off + var.size]
                rows.append({variable.name: typed(btf, variable.type_id, part)})
            return {type_.name: rows}
    return None


def _member(btf: Btf, member: Any, data: bytes) -> Any:
    at, bits = member.bit_off, member.bitfield_bits
    if not bits:
        return typed(btf, member.type_id, data[at // 8 :])
    number = int.from_bytes(data, "little") >> at & ((1 << bits) - 1)
    return f"0x{number:x}"


def _integer(type_: Int, data: bytes) -> Any:
    size = type_.size
    if type_.bits > 64:
        return f"0x{int.from_bytes(data[:size], 'little'):x}"
    number = int.from_bytes(data[:size], "little", signed=bool(type_.encoding & INT_SIGNED))
    if type_.encoding & INT_BOOL:
        return bool(number)
    if type_.encoding & INT_CHAR:
        return chr(number) if 32 <= number < 127 else f"0x{number & 0xFF:02x}"
    return number


def _array(btf: Btf, type_: Array, data: bytes) -> Any:
    element = btf.resolved(type_.type_id)
    if isinstance(element, Int) and element.encoding & INT_CHAR and element.size == 1:
        text, nul, _ = data[: type_.nelems].partition(b"\0")
        if nul and all(32 <= byte < 127 for byte in text):
            return text.decode("ascii")
    size = sizeof(btf, type_.type_id)
    return [typed(btf, type_.type_id, data[number * size :]) for number in range(type_.nelems)]


# ---- BTF ------------------------------------------------------------------------------------------------------------


def btf_list(kernel: "Kernel") -> list[dict[str, Any]]:
    """Return what ``bpftool -j btf show`` prints."""
    rows = []
    for obj in kernel.btfs:
        assert isinstance(obj, BtfObject)
        row: dict[str, Any] = {"id": obj.id}
        if obj.name:
            row["name"] = obj.name
        row["size"] = len(obj.btf.raw)
        row["prog_ids"] = [prog.id for prog in kernel.progs if prog.btf_fd_obj is obj]
        row["map_ids"] = [map_.id for map_ in kernel.maps if map_.btf is not None and map_.btf.obj is obj]
        rows.append(row | {"kernel": obj.kernel_btf})
    return rows


def btf_types(btf: Btf) -> list[dict[str, Any]]:
    """Return the types of ``bpftool -j btf dump``."""
    return [{"id": type_id, "kind": type_.kind.name, "name": type_.name or "(anon)"} | _type(type_)
            for type_id, type_ in btf.types() if type_id]  # fmt: skip


def btf_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines that ``bpftool btf dump`` prints for what ``btf_types`` gave."""
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        rest = {key: value for key, value in row.items() if key not in ("id", "kind", "name")}
        items = [item for value in rest.values() if isinstance(value, list) for item in value]
        words = _words({key: value for key, value in rest.items() if not isinstance(value, list)})
        if row["kind"] == "VAR":
            words = words.replace(" linkage", ", linkage")
        yield f"[{row['id']}] {row['kind']} '{row['name']}'" + (f" {words}" if words else "")
        for item in items:
            yield "\t" + _item_text(row, item, by_id)


def _item_text(row: dict[str, Any], item: dict[str, Any], by_id: dict[int, dict[str, Any]]) -> str:
    if row["kind"] == "ENUM64":
        item = item | {"val": f"{item['val']}{'LL' if row['encoding'] == 'SIGNED' else 'ULL'}"}
    if row["kind"] == "DATASEC":
        var = by_id.get(item["type_id"], {"kind": "UNKN", "name": "?"})
        return f"{_words(item)} ({var['kind']} '{var['name']}')"
    return f"'{item['name']}' " + _words({key: value for key, value in item.items() if key != "name"})


def _words(fields: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in fields.items())


def _type(type_: Type) -> dict[str, Any]:
    match type_:
        case Int():
            words = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}
            encoding = words.get(type_.encoding, "UNKN")
            return {"size": type_.size, "bits_offset": type_.bit_off, "nr_bits": type_.bits, "encoding": encoding}
        case Array():
            return {"type_id": type_.type_id, "index_type_id": type_.index_type_id, "nr_elems": type_.nelems}
        case Composite():
            return {"size": type_.size, "vlen": len(type_.members), "members": [_row(m) for m in type_.members]}
        case Enum():
            values = [{"name": value.name, "val": value.value} for value in type_.values]
            encoding = "SIGNED" if type_.signed else "UNSIGNED"
            return {"encoding": encoding, "size": type_.size, "vlen": len(values), "values": values}
        case Fwd():
            return {"fwd_kind": "union" if type_.is_union else "struct"}
        case FuncProto():
            params = [{"name": param.name or "(anon)", "type_id": param.type_id} for param in type_.params]
            return {"ret_type_id": type_.type_id, "vlen": len(params), "params": params}
        case Func():
            return {"type_id": type_.type_id, "linkage": FUNC_LINKAGE[type_.linkage]}
        case Var():
            return {"type_id": type_.type_id, "linkage": VAR_LINKAGE[type_.linkage]}
        case Datasec():
            found = [{"type_id": var.type_id, "offset": var.off, "size": var.size} for var in type_.vars]
            return {"size": type_.size, "vlen": len(found), "vars": found}
        case DeclTag():
            return {"type_id": type_.type_id, "component_idx": type_.component_idx}
        case Float():
            return {"size": type_.size}
        case Ptr() | Modifier():
            return {"type_id": type_.type_id}
    return {}


def _row(member: Any) -> dict[str, Any]:
    row = {"name": member.name or "(anon)", "type_id": member.type_id, "bits_offset": member.bit_off}
    return row | ({"bitfield_size": member.bitfield_bits} if member.bitfield_bits else {})


# ---- links ----------------------------------------------------------------------------------------------------------


def link_list(kernel: "Kernel") -> list[dict[str, Any]]:
    """Return what ``bpftool -j link show`` prints."""
    rows = []
    for link in kernel.links:
        info = dict(link.info())  # type: ignore[attr-defined]
        kind = LinkType(info["type"])
        row: dict[str, Any] = {"id": info["id"], "type": kind.lower, "prog_id": info["prog_id"]}
        if kind in (LinkType.TCX, LinkType.NETKIT, LinkType.XDP):
            device = kernel.device_by_ifindex(info["ifindex"])
            row |= {"devname": device.name if device is not None else "(detached)", "ifindex": info["ifindex"]}
        row |= {key: info[key] for key in ("cgroup_id", "netns_ino") if key in info}
        if kind is LinkType.STRUCT_OPS:
            row["map_id"] = info["map_id"]
        if "attach_type" in info:
            row["attach_type"] = AttachType(info["attach_type"]).lower
        rows.append(row | _pins(kernel, link))
    return rows


# ---- words ----------------------------------------------------------------------------------------------------------


def prog_text(row: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that ``bpftool prog show`` prints; times are those of the simulation."""
    name = f"  name {row['name']}" if "name" in row else ""
    yield f"{row['id']}: {row['type']}{name}  tag {row['tag']}" + ("  gpl" if row["gpl_compatible"] else "")
    runs = f"  run_time_ns {row['run_time_ns']} run_cnt {row['run_cnt']}" if "run_time_ns" in row else ""
    yield f"\tloaded_at {row['loaded_at']}s  uid {row['uid']}{runs}"
    jited = f"jited {row['bytes_jited']}B" if "bytes_jited" in row else "not jited"
    maps = f"  map_ids {','.join(map(str, row['map_ids']))}" if "map_ids" in row else ""
    yield f"\txlated {row['bytes_xlated']}B  {jited}  memlock {row['bytes_memlock']}B{maps}"
    yield from _more(row)


def map_text(row: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that ``bpftool map show`` prints."""
    name = f"  name {row['name']}" if "name" in row else ""
    yield f"{row['id']}: {row['type']}{name}  flags {row['flags']:#x}"
    sizes = f"key {row['bytes_key']}B  value {row['bytes_value']}B  max_entries {row['max_entries']}"
    yield f"\t{sizes}  memlock {row['bytes_memlock']}B"
    if "owner_prog_type" in row:
        yield f"\towner_prog_type {row['owner_prog_type']}  owner jited"
    yield from _more(row)


def link_text(row: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that ``bpftool link show`` prints."""
    what = f"map {row['map_id']}" if row["type"] == "struct_ops" else f"prog {row['prog_id']}"
    yield f"{row['id']}: {row['type']}  {what}"
    more = "  ".join(
        f"{key} {row[key]}" for key in ("devname", "ifindex", "cgroup_id", "netns_ino", "attach_type") if key in row
    )
    if more:
        yield f"\t{more}"
    yield from _more(row)


def dump_text(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines that ``bpftool map dump`` prints."""
    if any("formatted" in row for row in rows):
        yield json.dumps([row.get("formatted", row) for row in rows], indent=4)
        return
    for row in rows:
        key = " ".join(byte[2:] for byte in row["key"])
        if "values" in row:
            yield f"key:  {key}"
            for value in row["values"]:
                yield f"value (CPU {value['cpu']:02d}): " + " ".join(byte[2:] for byte in value["value"])
        elif isinstance(row["value"], dict):
            yield f"key: {key}  value: <{row['value']['error']}>"
        else:
            yield f"key: {key}  value: " + " ".join(byte[2:] for byte in row["value"])
    yield f"Found {len(rows)} element" + ("" if len(rows) == 1 else "s")


def _more(row: dict[str, Any]) -> Iterator[str]:
    words = [f"btf_id {row['btf_id']}"] if "btf_id" in row else []
    words += ["frozen"] if row.get("frozen") else []
    if words:
        yield "\t" + "  ".join(words)
    for path in row.get("pinned", ()):
        yield f"\tpinned {path}"
