"""The fields of contexts lie where the bundled BTF of Linux 6.18 has them."""

import pytest

from ebpfsim.btf.layout import member_offset, sizeof
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import BtfError
from ebpfsim.progs.ctx import CTX_FIELDS, CtxField, ctx_fields
from ebpfsim.progs.types import CTX_TYPES
from ebpfsim.uapi.bpf import AttachType, ProgType


def test_fields_are_where_the_kernel_has_them() -> None:
    btf, found = vmlinux(), 0
    for (prog_type, _), rows in CTX_FIELDS.items():
        struct = CTX_TYPES.get(prog_type, ("",))[0]
        names = [row.name for row in rows]
        for row in rows:
            # elements of an array have a row each
            if not row.name or row.name == "args" or names.count(row.name) > 1:
                continue
            try:
                off = member_offset(btf, struct, row.name)
            except BtfError:  # a name of ours, for a part of a member
                continue
            assert row.off == off, (struct, row.name)
            assert row.off + row.size <= sizeof(btf, btf.by_name(struct, Kind.STRUCT)), (struct, row.name)
            found += 1
    assert found > 200


def test_xdp_fields() -> None:
    # struct xdp_md, include/uapi/linux/bpf.h; egress_ifindex is for programs in a devmap only
    names = [row.name for row in ctx_fields(ProgType.XDP, AttachType.XDP) or ()]
    assert names == ["data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index"]
    names = [row.name for row in ctx_fields(ProgType.XDP, AttachType.XDP_DEVMAP) or ()]
    assert names[-1] == "egress_ifindex"


@pytest.mark.parametrize(
    ("off", "size", "write", "allowed"),
    [(8, 4, False, True), (8, 2, False, True), (10, 2, False, True), (12, 4, False, False), (8, 8, False, False),
     (8, 4, True, True), (8, 2, True, False), (6, 4, False, False)],
)  # fmt: skip
def test_allowed_accesses(off: int, size: int, write: bool, allowed: bool) -> None:
    assert CtxField("mark", 8, 4, read="124", write="4").allows(off, size, write) is allowed


def test_head_allows_the_start_only() -> None:
    row = CtxField("cb", 48, 8, read="48", head=True)
    assert row.allows(48, 4, False)
    assert not row.allows(52, 4, False)
