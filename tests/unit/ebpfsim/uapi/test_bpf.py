"""The enums of bpf(2) are those of the bundled BTF of Linux 6.18."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.uapi.bpf import AttachType, BpfCmd, KernelEnum, LinkType, MapType, ProgType

ENUMS: dict[type[KernelEnum], str] = {
    BpfCmd: "bpf_cmd",
    MapType: "bpf_map_type",
    ProgType: "bpf_prog_type",
    AttachType: "bpf_attach_type",
    LinkType: "bpf_link_type",
}


def values(enum: str) -> dict[str, int]:
    btf = vmlinux()
    found = btf.type(btf.by_name(enum, Kind.ENUM))
    return {row.name: row.value for row in found.values}  # type: ignore[attr-defined]


@pytest.mark.parametrize("cls", ENUMS, ids=lambda cls: cls.__name__)
def test_members_are_the_kernel_s(cls: type[KernelEnum]) -> None:
    kernel = {name: number for name, number in values(ENUMS[cls]).items() if not name.startswith("__MAX")}
    ours = {cls[name].kernel_name: int(cls[name]) for name in cls.__members__}
    # an alias has the kernel_name of the member it stands for, so compare by what the kernel has
    missing = {name for name, number in kernel.items() if number not in ours.values()}
    wrong = {name: number for name, number in ours.items() if kernel.get(name) != number}
    assert not missing
    assert not wrong


def test_names() -> None:
    assert MapType.LRU_HASH.kernel_name == "BPF_MAP_TYPE_LRU_HASH"
    assert MapType.LRU_HASH.lower == "lru_hash"
    assert BpfCmd.PROG_LOAD.kernel_name == "BPF_PROG_LOAD"
