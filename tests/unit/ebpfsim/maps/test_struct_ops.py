"""Structures of functions (kernel/bpf/bpf_struct_ops.c, v6.18). Type ids differ from kernel to kernel."""

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Int, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.maps.usage import mem_usage
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

LIVE_BTF = "/sys/kernel/btf/vmlinux"


@pytest.fixture
def kernel_btf(request) -> Btf:
    if "live" not in request.node.callspec.id:
        return vmlinux()
    with open(LIVE_BTF, "rb") as file:
        return Btf(file.read())


@pytest.fixture
def make(bpf, kernel_btf):
    def make(name: str = "tcp_congestion_ops", flags: int = 0, size: int = 256, key: int = 4, entries: int = 1) -> int:
        builder = BtfBuilder()
        builder.add(Int("int", 4, 32))
        btf_fd = bpf.btf_load(builder.build())
        number = kernel_btf.find(f"bpf_struct_ops_{name}", Kind.STRUCT)
        attributes = {"btf_fd": btf_fd, "btf_vmlinux_value_type_id": number, "map_flags": flags}
        return bpf.map_create(MapType.STRUCT_OPS, key, size, entries, **attributes)

    return make


def test_creation(bpf, make, refused) -> None:
    assert bpf.obj_get_info_by_fd(make()).value_size == 256
    assert bpf.obj_get_info_by_fd(make(flags=f.BPF_F_LINK)).map_flags == f.BPF_F_LINK
    assert make("bpf_dummy_ops", size=128) > 0
    assert refused(make, flags=f.BPF_F_NO_PREALLOC) == "EINVAL"
    assert refused(make, size=264) == "EINVAL"
    assert refused(make, key=8) == "EINVAL"
    assert refused(make, entries=2) == "EINVAL"
    # a structure of that kind of name that nobody registered
    assert refused(make, "common_value", size=8) == "ENOTSUPP"


def test_information_names_the_kernels_btf(bpf, make, kernel_btf) -> None:
    info = bpf.obj_get_info_by_fd(make())
    assert info.btf_vmlinux_value_type_id == kernel_btf.find("bpf_struct_ops_tcp_congestion_ops", Kind.STRUCT)
    assert (info.btf_vmlinux_id, info.btf_value_type_id, info.btf_id > 1) == (1, 0, True)


def test_the_only_element(bpf, make, refused) -> None:
    fd = make()
    assert bpf.map_lookup_elem(fd, bytes(4)) == bytes(256)
    assert refused(bpf.map_lookup_elem, fd, b"\1\0\0\0") == "ENOENT"
    assert bpf.map_get_next_key(fd, None) == bytes(4)
    assert bpf.map_get_next_key(fd, b"\1\0\0\0") == bytes(4)
    assert refused(bpf.map_get_next_key, fd, bytes(4)) == "ENOENT"
    assert refused(bpf.map_delete_elem, fd, bytes(4)) == "ENOENT"
    assert refused(bpf.map_delete_elem, make(flags=f.BPF_F_LINK), bytes(4)) == "EOPNOTSUPP"
    assert refused(bpf.map_update_elem, fd, b"\1\0\0\0", bytes(256)) == "E2BIG"
    assert refused(bpf.map_update_elem, fd, bytes(4), bytes(256), flags=1) == "EINVAL"
    assert refused(bpf.map_update_elem, fd, bytes(4), b"\1" + bytes(255)) == "EINVAL"
    assert refused(bpf.map_freeze, fd) == "ENOTSUPP"
    assert refused(bpf.map_create, MapType.ARRAY_OF_MAPS, 4, 4, 1, inner_map_fd=fd) == "ENOTSUPP"


def test_memory_that_is_counted(kernel) -> None:
    # memlock of fdinfo, Linux 6.18
    builder = BtfBuilder()
    builder.add(Int("int", 4, 32))
    btf_fd = kernel.bpf.btf_load(builder.build())
    found = {}
    for name, size in (("tcp_congestion_ops", 256), ("bpf_dummy_ops", 128)):
        number = vmlinux().find(f"bpf_struct_ops_{name}", Kind.STRUCT)
        attributes = {"btf_fd": btf_fd, "btf_vmlinux_value_type_id": number}
        found[name] = mem_usage(kernel.map_by_fd(kernel.bpf.map_create(MapType.STRUCT_OPS, 4, size, 1, **attributes)))
    assert found == {"tcp_congestion_ops": 5264, "bpf_dummy_ops": 4848}
