"""``struct bpf_link_info`` as bytes: the union of each type of link, with its names and arrays (v6.18).

What the caller has put into the union stays where a link does not write.
"""

from collections.abc import Mapping
from struct import pack

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory.user import UserMemory
from ebpfsim.syscall.results import LinkInfo
from ebpfsim.uapi.bpf import LinkType
from ebpfsim.uapi.bpf_attr import (
    BPF_LINK_INFO,
    LINK_INFO_BYTES,
    LINK_UNION_OFF,
    LINK_UNIONS,
    PERF_EVENT_UNION_OFF,
    PERF_EVENT_UNIONS,
    Layout,
)

__all__ = ["link_record"]

# (pointer, length, key of the text in details): the length told is that with the NUL
NAMES: Mapping[LinkType, tuple[str, str, str]] = {
    LinkType.RAW_TRACEPOINT: ("tp_name", "tp_name_len", "tp_name"),
    LinkType.ITER: ("target_name", "target_name_len", "target_name"),
}
PERF_NAMES = {"uprobe": "file_name", "kprobe": "func_name", "tracepoint": "tp_name"}
# enum bpf_perf_event_type
PERF_KINDS = {1: "uprobe", 2: "uprobe", 3: "kprobe", 4: "kprobe", 5: "tracepoint", 6: "event"}
NO_POINTER = "a pointer without a length, or a length without a pointer"


def link_record(op: str, user: UserMemory, info: LinkInfo, given: bytes) -> bytearray:
    """Return the record, and write what its pointers lead to; ``given`` is what the caller had in it."""
    data = bytearray(given.ljust(LINK_INFO_BYTES, b"\0"))
    head = BPF_LINK_INFO.pack({"type": info.type, "id": info.id, "prog_id": info.prog_id})
    data[: len(head)] = head
    kind = LinkType(info.type)
    if kind == LinkType.PERF_EVENT:
        _perf_event(op, user, info, data)
        return data
    layout = LINK_UNIONS.get(kind)
    if layout is None:
        return data
    wanted = _numbers(layout, data, LINK_UNION_OFF)
    fields = dict(info.details)
    if kind in NAMES:
        pointer, length, text = NAMES[kind]
        fields[length] = _put_name(op, user, wanted[pointer], wanted[length], str(fields[text]))
        del fields[pointer]
    if kind in (LinkType.KPROBE_MULTI, LinkType.UPROBE_MULTI):
        _arrays(op, user, kind, fields, wanted)
    _pack(layout, fields, data, LINK_UNION_OFF)
    return data


def _perf_event(op: str, user: UserMemory, info: LinkInfo, data: bytearray) -> None:
    number = info.details["perf_event_type"]
    assert isinstance(number, int)
    word = PERF_KINDS[number]
    layout, fields = PERF_EVENT_UNIONS[word], dict(info.details)
    data[LINK_UNION_OFF : LINK_UNION_OFF + 4] = pack("<I", number)
    if word in PERF_NAMES:
        wanted = _numbers(layout, data, PERF_EVENT_UNION_OFF)
        pointer = PERF_NAMES[word]
        fields["name_len"] = _put_name(op, user, wanted[pointer], wanted["name_len"], str(fields.pop(pointer)))
    else:
        fields |= {"config": fields["event_config"], "type": fields["event_type"]}
    _pack(layout, fields, data, PERF_EVENT_UNION_OFF)


def _arrays(op: str, user: UserMemory, kind: LinkType, fields: dict[str, object], wanted: dict[str, int]) -> None:
    # bpf_kprobe_multi_link_fill_link_info(), bpf_uprobe_multi_link_fill_link_info()
    main = "addrs" if kind == LinkType.KPROBE_MULTI else "offsets"
    room, count = wanted["count"], fields["count"]
    assert isinstance(count, int)
    names = [name for name in ("addrs", "offsets", "ref_ctr_offsets", "cookies") if name in wanted]
    arrays = {name: fields.pop(name) for name in names}
    if bool(wanted[main]) != bool(room) or (not room and any(wanted[name] for name in names)):
        raise KernelError(op, Errno.EINVAL, NO_POINTER)
    if kind == LinkType.UPROBE_MULTI:
        path, size = str(fields.pop("path")), wanted["path_size"]
        if bool(wanted["path"]) != bool(size):
            raise KernelError(op, Errno.EINVAL, NO_POINTER)
        if size:
            text = path.encode() + b"\0"
            user.write(wanted["path"], text[:size])
    for name in names if wanted[main] else ():
        numbers = arrays[name]
        assert isinstance(numbers, list)
        if wanted[name]:
            user.write(wanted[name], pack(f"<{min(room, count)}Q", *numbers[:room]))
    if wanted[main] and room < count:
        raise KernelError(op, Errno.ENOSPC, f"room for {room} of {count}")


def _put_name(op: str, user: UserMemory, address: int, room: int, text: str) -> int:
    # bpf_copy_to_user(): a name that does not fit is cut, and that is ENOSPC
    if bool(address) != bool(room):
        raise KernelError(op, Errno.EINVAL, NO_POINTER)
    name = text.encode() + b"\0"
    if room:
        user.write(address, name if len(name) <= room else name[: room - 1] + b"\0")
    if room and len(name) > room:
        raise KernelError(op, Errno.ENOSPC, f"a name of {len(name)} bytes, room for {room}")
    return len(name)


def _numbers(layout: Layout, data: bytearray, off: int) -> dict[str, int]:
    found = layout.unpack(data[off : off + layout.size])
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _pack(layout: Layout, fields: Mapping[str, object], data: bytearray, off: int) -> None:
    for name, field in layout.fields.items():
        value = fields.get(name)
        if isinstance(value, int):
            packed = pack(field.format, value)
            data[off + field.off : off + field.off + len(packed)] = packed
