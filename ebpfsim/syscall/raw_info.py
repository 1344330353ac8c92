"""BPF_OBJ_GET_INFO_BY_FD as bytes: information records and the arrays that they point to (``bpf_*_get_info_by_fd`` of
kernel/bpf/syscall.c, v6.18)."""

from collections.abc import Sequence
from struct import pack

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.memory.user import UserMemory
from ebpfsim.syscall.raw_link_info import link_record
from ebpfsim.syscall.results import BtfInfo, Info, LinkInfo, MapInfo, ProgInfo
from ebpfsim.uapi.bpf_attr import (
    BPF_BTF_INFO,
    BPF_LINK_INFO,
    BPF_MAP_INFO,
    BPF_PROG_INFO,
    LINK_INFO_BYTES,
    Layout,
)

__all__ = ["write_info"]

# records end with padding to 8 bytes
SIZES = {BPF_MAP_INFO: 104, BPF_PROG_INFO: 232, BPF_BTF_INFO: 32}


def write_info(op: str, user: UserMemory, info: Info, address: int, length: int) -> int:
    """Fill in the caller's record and return how many bytes it has; E2BIG for a larger one that does not end in zeroes.

    What the caller put into it says where arrays go and how long they may be.
    """
    layout = _layout(info)
    size = SIZES.get(layout, LINK_INFO_BYTES)
    if length > PAGE_SIZE:
        raise KernelError(op, Errno.E2BIG, f"a record of {length} bytes")
    end = layout.size if layout in SIZES else size
    if length > end and any(user.read(address + end, length - end)):
        raise KernelError(op, Errno.E2BIG, f"the record is not zero behind byte {end}")
    length = min(length, size)
    given = layout.unpack(user.read(address, length))
    wanted = {name: value for name, value in given.items() if isinstance(value, int)}
    match info:
        case MapInfo():
            data = _map_record(op, user, info, wanted)
        case ProgInfo():
            data = _prog_record(op, user, info, wanted)
        case BtfInfo():
            data = _btf_record(op, user, info, wanted)
        case LinkInfo():
            data = link_record(op, user, info, user.read(address, length))
    user.write(address, bytes(data).ljust(size, b"\0")[:length])
    return length


def _layout(info: Info) -> Layout:
    match info:
        case MapInfo():
            return BPF_MAP_INFO
        case ProgInfo():
            return BPF_PROG_INFO
        case BtfInfo():
            return BPF_BTF_INFO
    return BPF_LINK_INFO


def _map_record(op: str, user: UserMemory, info: MapInfo, wanted: dict[str, int]) -> bytearray:
    if wanted["hash"] and wanted["hash_size"] != 32:  # SHA256_DIGEST_SIZE
        raise KernelError(op, Errno.EINVAL, f"a hash of {wanted['hash_size']} bytes")
    values = {name: getattr(info, name) for name in MapInfo.__dataclass_fields__}
    return BPF_MAP_INFO.pack(values | {"name": info.name.encode("utf-8", "surrogateescape")})


def _prog_record(op: str, user: UserMemory, info: ProgInfo, wanted: dict[str, int]) -> bytearray:
    for name, size in (("func_info", 8), ("line_info", 16), ("jited_line_info", 8)):
        given = wanted[f"{name}_rec_size"]
        if (given or wanted[f"nr_{name}"]) and given != size:
            raise KernelError(op, Errno.EINVAL, f"{name} records of {given} bytes, expected {size}")
    names = set(ProgInfo.__dataclass_fields__) & set(BPF_PROG_INFO.fields)
    pointers = {name for name, field in BPF_PROG_INFO.fields.items() if field.format == "<Q" and name in wanted}
    values: dict[str, int | bytes] = {name: wanted[name] for name in pointers}
    values |= {name: getattr(info, name) for name in names if isinstance(getattr(info, name), int)}
    values |= {"tag": info.tag, "name": info.name.encode("utf-8", "surrogateescape")}
    arrays: tuple[tuple[str, str, bytes, int], ...] = (
        # pointer, count, records, bytes of one
        ("xlated_prog_insns", "xlated_prog_len", info.xlated_prog_insns, 1),
        ("map_ids", "nr_map_ids", _words(info.map_ids), 4),
        ("func_info", "nr_func_info", info.func_info, 8),
        ("line_info", "nr_line_info", info.line_info, 16),
        ("jited_ksyms", "nr_jited_ksyms", _longs(info.jited_ksyms), 8),
        ("jited_func_lens", "nr_jited_func_lens", _words(info.jited_func_lens), 4),
        ("prog_tags", "nr_prog_tags", b"".join(info.prog_tags), 8),
    )
    for pointer, count, data, size in arrays:
        room = min(wanted[count], len(data) // size)
        user.write(wanted[pointer], data[: room * size])
        values[count] = len(data) // size
    values |= {"func_info_rec_size": 8, "line_info_rec_size": 16, "jited_line_info_rec_size": 8}
    return BPF_PROG_INFO.pack(values)


def _btf_record(op: str, user: UserMemory, info: BtfInfo, wanted: dict[str, int]) -> bytearray:
    # btf_get_info_by_fd(): a name that does not fit is cut, and that is ENOSPC
    user.write(wanted["btf"], info.btf[: min(wanted["btf_size"], len(info.btf))])
    room = wanted["name_len"]
    if bool(wanted["name"]) != bool(room):
        raise KernelError(op, Errno.EINVAL, "a name without pointer or length")
    name = info.name.encode() + b"\0"
    cut = name if len(name) <= room else name[: room - 1] + b"\0"
    if room:
        user.write(wanted["name"], cut)
    values = {"btf": wanted["btf"], "btf_size": info.btf_size, "id": info.id, "name": wanted["name"]}
    values |= {"name_len": len(name) - 1, "kernel_btf": info.kernel_btf}
    if room and len(name) > room:
        raise KernelError(op, Errno.ENOSPC, f"a name of {len(name)} bytes, room for {room}")
    return BPF_BTF_INFO.pack(values)


def _words(numbers: Sequence[int]) -> bytes:
    return pack(f"<{len(numbers)}I", *numbers)


def _longs(numbers: Sequence[int]) -> bytes:
    return pack(f"<{len(numbers)}Q", *numbers)
