"""Layouts of ``union bpf_attr`` and of the information records, against the BTF of Linux 6.18."""

import pytest

from ebpfsim.btf.layout import find_member, sizeof
from ebpfsim.btf.types import Composite
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf_attr import (
    ATTRS,
    BPF_BTF_INFO,
    BPF_MAP_INFO,
    BPF_PROG_INFO,
    LINK_INFO_BYTES,
    LINK_UNION_OFF,
    LINK_UNIONS,
    Layout,
)

# the structures of union bpf_attr that have names; the others are anonymous, one after the other
NAMED = {
    BpfCmd.PROG_TEST_RUN: "test",
    BpfCmd.OBJ_GET_INFO_BY_FD: "info",
    BpfCmd.PROG_QUERY: "query",
    BpfCmd.RAW_TRACEPOINT_OPEN: "raw_tracepoint",
    BpfCmd.MAP_LOOKUP_BATCH: "batch",
    BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH: "batch",
    BpfCmd.MAP_UPDATE_BATCH: "batch",
    BpfCmd.MAP_DELETE_BATCH: "batch",
    BpfCmd.LINK_CREATE: "link_create",
    BpfCmd.LINK_UPDATE: "link_update",
    BpfCmd.LINK_DETACH: "link_detach",
    BpfCmd.ENABLE_STATS: "enable_stats",
    BpfCmd.ITER_CREATE: "iter_create",
    BpfCmd.PROG_BIND_MAP: "prog_bind_map",
    BpfCmd.TOKEN_CREATE: "token_create",
    BpfCmd.TASK_FD_QUERY: "task_fd_query",
    BpfCmd.PROG_STREAM_READ_BY_FD: "prog_stream_read",
}
# fields that have another name in the header: one for several ids
RENAMED = {"id": "start_id"}


def struct_of(cmd: BpfCmd) -> int:
    """Return the type id of a command's structure: by name, or the anonymous one that has all its fields."""
    btf = vmlinux()
    union = btf.type(btf.by_name("bpf_attr"))
    assert isinstance(union, Composite)
    wanted = [RENAMED.get(name, name) for name in ATTRS[cmd].fields]
    for member in union.members:
        fits = all(find_member(btf, member.type_id, name) for name in wanted)
        if member.name == NAMED.get(cmd, "") and fits:
            return member.type_id
    raise AssertionError(f"no structure for {cmd.kernel_name}")


@pytest.mark.parametrize("cmd", sorted(ATTRS), ids=lambda cmd: cmd.lower)
def test_fields_lie_where_the_kernel_has_them(cmd) -> None:
    btf, type_id = vmlinux(), struct_of(cmd)
    for name, field in ATTRS[cmd].fields.items():
        place = find_member(btf, type_id, RENAMED.get(name, name))
        assert place is not None
        assert (name, field.off) == (name, place.bit_off // 8)
        assert Layout((name, field.format[1:])).size == sizeof(btf, place.type_id)


@pytest.mark.parametrize(
    ("layout", "struct", "size"),
    [(BPF_MAP_INFO, "bpf_map_info", 104), (BPF_PROG_INFO, "bpf_prog_info", 232), (BPF_BTF_INFO, "bpf_btf_info", 32)],
)
def test_records(layout, struct, size) -> None:
    btf = vmlinux()
    type_id = btf.by_name(struct)
    assert sizeof(btf, type_id) == size == -(-layout.size // 8) * 8
    for name, field in layout.fields.items():
        place = find_member(btf, type_id, name)
        assert place is not None
        assert (name, 8 * field.off) == (name, place.bit_off)


def test_unions_of_link_info() -> None:
    btf = vmlinux()
    link_info = btf.by_name("bpf_link_info")
    assert sizeof(btf, link_info) == LINK_INFO_BYTES
    for link_type, layout in LINK_UNIONS.items():
        place = find_member(btf, link_info, link_type.lower)
        assert place is not None
        assert place.bit_off == 8 * LINK_UNION_OFF
        for name, field in layout.fields.items():
            # what an iterator's target adds is in a struct of the target's name
            target = find_member(btf, place.type_id, "map") if name == "map_id" else None
            member = find_member(btf, target.type_id if target is not None else place.type_id, name)
            assert member is not None
            bit_off = member.bit_off + (target.bit_off if target is not None else 0)
            assert (link_type, name, 8 * field.off) == (link_type, name, bit_off)


def test_pack_and_unpack() -> None:
    layout = Layout(("a", "I"), ("b", "Q"), ("name", "4s"), ("c", "H"))
    assert {name: field.off for name, field in layout.fields.items()} == {"a": 0, "b": 8, "name": 16, "c": 20}
    data = layout.pack({"b": 7, "name": b"xy"})
    assert data == bytes(8) + b"\7" + bytes(7) + b"xy" + bytes(4)
    assert layout.unpack(data[:17]) == {"a": 0, "b": 7, "name": b"x\0\0\0", "c": 0}
