"""Records carry the fields of the C structures (include/uapi/linux/bpf.h, v6.18)."""

import copy
import pickle
from dataclasses import fields

import pytest

from ebpfsim.btf.types import Composite
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.syscall.results import LinkInfo, MapInfo, ProgInfo

# arrays are one field here, and lengths of arrays are properties or len()
FOLDED = {
    "jited_prog_insns",
    "nr_map_ids",
    "nr_jited_ksyms",
    "nr_jited_func_lens",
    "nr_func_info",
    "nr_line_info",
    "jited_line_info",
    "nr_jited_line_info",
    "jited_line_info_rec_size",
    "nr_prog_tags",
    "hash",
    "hash_size",
    "",
}


@pytest.mark.parametrize(("record", "struct"), [(MapInfo, "bpf_map_info"), (ProgInfo, "bpf_prog_info")])
def test_fields_are_those_of_the_kernel(record, struct) -> None:
    btf = vmlinux()
    type_ = btf.type(btf.by_name(struct))
    assert isinstance(type_, Composite)
    wanted = {member.name for member in type_.members} - FOLDED
    assert {field.name for field in fields(record)} == wanted


def test_link_info_reads_like_the_structure() -> None:
    info = LinkInfo(6, 1, 2, {"ifindex": 7})
    assert info.ifindex == 7
    with pytest.raises(AttributeError, match="a link of type 6 has no 'cgroup_id'"):
        _ = info.cgroup_id
    assert copy.deepcopy(info) == pickle.loads(pickle.dumps(info)) == info


def test_number_of_maps() -> None:
    assert ProgInfo(6, 1, b"", "p", map_ids=(4, 5)).nr_map_ids == 2
