"""Ids, information records, pins and descriptors on the live kernel."""

import ctypes
import os
from collections.abc import Mapping
from typing import Any

from ebpfsim.errors import KernelError
from ebpfsim.live.sys import Buffer, Value, bpf, buffer, close
from ebpfsim.syscall.results import BtfInfo, Info, LinkInfo, MapInfo, ProgInfo
from ebpfsim.uapi.bpf import BpfCmd, LinkType
from ebpfsim.uapi.bpf_attr import (
    BPF_BTF_INFO,
    BPF_LINK_INFO,
    BPF_MAP_INFO,
    BPF_PROG_INFO,
    LINK_INFO_BYTES,
    LINK_UNION_OFF,
    LINK_UNIONS,
    Layout,
)

__all__ = ["LiveObjects"]

KINDS = ("bpf-map", "bpf-prog", "btf", "bpf_link")  # what /proc/self/fd says after "anon_inode:"


class LiveObjects:
    """BPF_*_GET_NEXT_ID, BPF_*_GET_FD_BY_ID, BPF_OBJ_*; close(2) and read(2)."""

    def prog_get_next_id(self, start_id: int) -> int:
        """Return the lowest program id above ``start_id``."""
        return _next_id(BpfCmd.PROG_GET_NEXT_ID, start_id)

    def map_get_next_id(self, start_id: int) -> int:
        """Return the lowest map id above ``start_id``."""
        return _next_id(BpfCmd.MAP_GET_NEXT_ID, start_id)

    def link_get_next_id(self, start_id: int) -> int:
        """Return the lowest link id above ``start_id``."""
        return _next_id(BpfCmd.LINK_GET_NEXT_ID, start_id)

    def btf_get_next_id(self, start_id: int) -> int:
        """Return the lowest BTF id above ``start_id``."""
        return _next_id(BpfCmd.BTF_GET_NEXT_ID, start_id)

    def prog_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of a program."""
        return bpf(BpfCmd.PROG_GET_FD_BY_ID, {"id": object_id})[0]

    def map_get_fd_by_id(self, object_id: int, *, open_flags: int = 0) -> int:
        """Return a new descriptor of a map."""
        return bpf(BpfCmd.MAP_GET_FD_BY_ID, {"id": object_id, "open_flags": open_flags})[0]

    def link_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of a link."""
        return bpf(BpfCmd.LINK_GET_FD_BY_ID, {"id": object_id})[0]

    def btf_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of BTF."""
        return bpf(BpfCmd.BTF_GET_FD_BY_ID, {"id": object_id})[0]

    def obj_get_info_by_fd(self, fd: int) -> Info:
        """Return what the kernel tells of an object."""
        try:
            kind = os.readlink(f"/proc/self/fd/{fd}").removeprefix("anon_inode:").strip("[]")
        except OSError:
            kind = ""
        if kind == "bpf-prog":
            return _prog_info(fd)
        if kind == "btf":
            return _btf_info(fd)
        if kind == "bpf_link":
            return _link_info(fd)
        fields = _info(fd, BPF_MAP_INFO, {})
        return MapInfo(**_members(fields, MapInfo.__dataclass_fields__))

    def obj_pin(self, fd: int, path: str) -> None:
        """Keep an object alive under a path."""
        bpf(BpfCmd.OBJ_PIN, {"bpf_fd": fd, "pathname": buffer(path.encode() + b"\0")}, detail=path)

    def obj_get(self, path: str, *, file_flags: int = 0) -> int:
        """Return a new descriptor of what is pinned at a path."""
        attr: dict[str, Value] = {"pathname": buffer(path.encode() + b"\0"), "file_flags": file_flags}
        return bpf(BpfCmd.OBJ_GET, attr, detail=path)[0]

    def close(self, fd: int) -> None:
        """close(2)."""
        close(fd)

    def read(self, fd: int, size: int) -> bytes:
        """read(2)."""
        try:
            return os.read(fd, size)
        except OSError as error:
            raise KernelError("read", error.errno or 0, f"fd {fd}") from None


def _next_id(cmd: BpfCmd, start_id: int) -> int:
    return _int(bpf(cmd, {"id": start_id})[1], "next_id")


def _info(fd: int, layout: Layout, values: Mapping[str, int | Buffer]) -> dict[str, int | bytes]:
    numbers = {k: ctypes.addressof(v) if isinstance(v, ctypes.Array) else v for k, v in values.items()}
    size = -(-layout.size // 8) * 8
    record = buffer(bytes(layout.pack(numbers)).ljust(size, b"\0"))
    bpf(BpfCmd.OBJ_GET_INFO_BY_FD, {"bpf_fd": fd, "info_len": size, "info": record}, detail=f"fd {fd}")
    return layout.unpack(record.raw)


def _prog_info(fd: int) -> ProgInfo:
    # the first call gives the lengths, the second the arrays
    lengths = _info(fd, BPF_PROG_INFO, {})
    xlated = buffer(_int(lengths, "xlated_prog_len"))
    maps = buffer(4 * _int(lengths, "nr_map_ids"))
    funcs = buffer(_int(lengths, "nr_func_info") * _int(lengths, "func_info_rec_size"))
    lines = buffer(_int(lengths, "nr_line_info") * _int(lengths, "line_info_rec_size"))
    tags = buffer(8 * _int(lengths, "nr_prog_tags"))
    # fmt: off
    fields = _info(fd, BPF_PROG_INFO, {
        "xlated_prog_len": _int(lengths, "xlated_prog_len"), "xlated_prog_insns": xlated,
        "nr_map_ids": _int(lengths, "nr_map_ids"), "map_ids": maps,
        "nr_func_info": _int(lengths, "nr_func_info"), "func_info_rec_size": _int(lengths, "func_info_rec_size"),
        "func_info": funcs,
        "nr_line_info": _int(lengths, "nr_line_info"), "line_info_rec_size": _int(lengths, "line_info_rec_size"),
        "line_info": lines,
        "nr_prog_tags": _int(lengths, "nr_prog_tags"), "prog_tags": tags,
    })
    # fmt: on
    members = _members(fields, ProgInfo.__dataclass_fields__)
    members |= {
        "xlated_prog_insns": xlated.raw[: _int(fields, "xlated_prog_len")],
        "map_ids": tuple(memoryview(maps.raw).cast("I")[: _int(fields, "nr_map_ids")]) if len(maps) >= 4 else (),
        "func_info": funcs.raw[: _int(fields, "nr_func_info") * _int(fields, "func_info_rec_size")],
        "line_info": lines.raw[: _int(fields, "nr_line_info") * _int(fields, "line_info_rec_size")],
        "prog_tags": tuple(tags.raw[8 * i : 8 * i + 8] for i in range(_int(fields, "nr_prog_tags"))),
        "jited_ksyms": (),
        "jited_func_lens": (),
        "gpl_compatible": _int(fields, "gpl_compatible") & 1,
    }
    return ProgInfo(**members)


def _link_info(fd: int) -> LinkInfo:
    record = buffer(LINK_INFO_BYTES)
    bpf(BpfCmd.OBJ_GET_INFO_BY_FD, {"bpf_fd": fd, "info_len": LINK_INFO_BYTES, "info": record}, detail=f"fd {fd}")
    fields = BPF_LINK_INFO.unpack(record.raw)
    kind = _int(fields, "type")
    layout = LINK_UNIONS.get(LinkType(kind)) if kind in set(LinkType) else None
    details = fields | (layout.unpack(record.raw[LINK_UNION_OFF:]) if layout is not None else {})
    return LinkInfo(kind, _int(fields, "id"), _int(fields, "prog_id"), details)


def _btf_info(fd: int) -> BtfInfo:
    size = _int(_info(fd, BPF_BTF_INFO, {}), "btf_size")
    data, name = buffer(size), buffer(64)
    fields = _info(fd, BPF_BTF_INFO, {"btf": data, "btf_size": size, "name": name, "name_len": 64})
    return BtfInfo(data.raw[:size], size, _int(fields, "id"), name.value.decode(), _int(fields, "kernel_btf"))


def _members(fields: Mapping[str, int | bytes], wanted: Mapping[str, object]) -> dict[str, Any]:
    members: dict[str, Any] = {name: value for name, value in fields.items() if name in wanted}
    name = fields["name"]
    assert isinstance(name, bytes)
    members["name"] = name.split(b"\0")[0].decode()
    return members


def _int(fields: Mapping[str, int | bytes], name: str) -> int:
    value = fields[name]
    assert isinstance(value, int)
    return value
