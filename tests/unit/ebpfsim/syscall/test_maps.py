"""The map commands: descriptors, access, names (kernel/bpf/syscall.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType, ProgType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


@pytest.fixture
def table(bpf) -> int:
    return bpf.map_create(MapType.HASH, 4, 4, 8, name="table")


@pytest.fixture
def prog(bpf) -> int:
    # r0 = 2; exit
    return bpf.prog_load(ProgType.XDP, bytes.fromhex("b7000000020000009500000000000000")).fd


NO_FD = 987


@pytest.mark.parametrize("name", ["a", "a_b.c", "A1234567890.xyz", ""])
def test_names(bpf, name) -> None:
    assert bpf.obj_get_info_by_fd(bpf.map_create(MapType.ARRAY, 4, 4, 1, name=name)).name == name


@pytest.mark.parametrize("name", ["a b", "a-b", "a/b", "x" * 16, "a:b", "é"])
def test_names_refused(bpf, refused, name) -> None:
    assert refused(bpf.map_create, MapType.ARRAY, 4, 4, 1, name=name) == "EINVAL"


def test_descriptors_that_are_not_open(bpf, refused) -> None:
    assert refused(bpf.map_lookup_elem, NO_FD, u32(0)) == "EBADF"
    assert refused(bpf.map_update_elem, NO_FD, u32(0), u32(0)) == "EBADF"
    assert refused(bpf.map_delete_elem, NO_FD, u32(0)) == "EBADF"
    assert refused(bpf.map_get_next_key, NO_FD, u32(0)) == "EBADF"
    assert refused(bpf.map_lookup_and_delete_elem, NO_FD, u32(0)) == "EBADF"
    assert refused(bpf.map_freeze, NO_FD) == "EBADF"
    assert refused(bpf.map_lookup_batch, NO_FD, 1) == "EBADF"


def test_descriptors_of_something_else(bpf, prog, refused) -> None:
    assert refused(bpf.map_lookup_elem, prog, u32(0)) == "EINVAL"
    assert refused(bpf.map_update_elem, prog, u32(0), u32(0)) == "EINVAL"
    assert refused(bpf.map_delete_elem, prog, u32(0)) == "EINVAL"
    assert refused(bpf.map_get_next_key, prog, u32(0)) == "EINVAL"
    assert refused(bpf.map_freeze, prog) == "EINVAL"


def test_flags_come_before_the_descriptor(bpf, refused) -> None:
    assert refused(bpf.map_lookup_elem, NO_FD, u32(0), flags=1) == "EINVAL"
    assert refused(bpf.map_lookup_and_delete_elem, NO_FD, u32(0), flags=1) == "EINVAL"


def test_numa_nodes_count_with_their_flag_only(bpf, refused) -> None:
    # bpf_map_attr_numa_node(), include/linux/bpf.h; node 1000 is none of any machine of ours, -1 means no node
    sizes = (MapType.HASH, 4, 8, 1)
    bpf.map_create(*sizes, numa_node=1000)
    bpf.map_create(*sizes, map_flags=f.BPF_F_NUMA_NODE)
    bpf.map_create(*sizes, map_flags=f.BPF_F_NUMA_NODE, numa_node=0xFFFF_FFFF)
    assert refused(bpf.map_create, *sizes, map_flags=f.BPF_F_NUMA_NODE, numa_node=1000) == "EINVAL"


def test_read_only_descriptor(bpf, refused) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 4, 8, map_flags=f.BPF_F_RDONLY)
    assert refused(bpf.map_update_elem, fd, u32(0), u32(0)) == "EPERM"
    assert refused(bpf.map_delete_elem, fd, u32(0)) == "EPERM"
    assert refused(bpf.map_lookup_and_delete_elem, fd, u32(0)) == "EPERM"
    assert refused(bpf.map_freeze, fd) == "EPERM"
    assert refused(bpf.map_update_batch, fd, [u32(0)], [u32(0)]) == "EPERM"
    assert refused(bpf.map_lookup_and_delete_batch, fd, 1) == "EPERM"
    assert refused(bpf.map_lookup_elem, fd, u32(0)) == "ENOENT"
    assert bpf.obj_get_info_by_fd(fd).map_flags == 0


def test_write_only_descriptor(bpf, refused) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 4, 8, map_flags=f.BPF_F_WRONLY)
    bpf.map_update_elem(fd, u32(0), u32(0))
    assert refused(bpf.map_lookup_elem, fd, u32(0)) == "EPERM"
    assert refused(bpf.map_get_next_key, fd, None) == "EPERM"
    assert refused(bpf.map_lookup_batch, fd, 1) == "EPERM"
    again = bpf.map_get_fd_by_id(bpf.obj_get_info_by_fd(fd).id)
    assert bpf.map_lookup_elem(again, u32(0)) == u32(0)


def test_frozen_map(bpf, table, refused) -> None:
    bpf.map_update_elem(table, u32(1), u32(2))
    bpf.map_freeze(table)
    assert bpf.map_lookup_elem(table, u32(1)) == u32(2)
    assert refused(bpf.map_update_elem, table, u32(1), u32(3)) == "EPERM"
    assert refused(bpf.map_delete_elem, table, u32(1)) == "EPERM"
    assert refused(bpf.map_delete_batch, table, [u32(1)]) == "EPERM"
    assert refused(bpf.map_freeze, table) == "EPERM"


def test_programs_still_write_a_frozen_map(bpf, run_asm) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 4, 1)
    bpf.map_freeze(fd)
    run_asm(f"r1 = map_value[{fd}]+0 ll; r2 = 6; *(u32 *)(r1 + 0) = r2; r0 = 2; exit")
    assert bpf.map_lookup_elem(fd, u32(0)) == u32(6)


@pytest.mark.parametrize(
    ("flags", "helper", "after", "errno"),
    [
        (f.BPF_F_RDONLY_PROG, "map_update_elem", "", "EACCES"),
        (f.BPF_F_RDONLY_PROG, "map_lookup_elem", "if r0 == 0 goto +1; r1 = *(u32 *)(r0 + 0)", ""),
        (f.BPF_F_WRONLY_PROG, "map_update_elem", "", ""),
        (f.BPF_F_WRONLY_PROG, "map_lookup_elem", "if r0 == 0 goto +1; r1 = *(u32 *)(r0 + 0)", "EACCES"),
    ],
)
def test_access_of_programs(bpf, refused, run_asm, flags, helper, after, errno) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 4, 1, map_flags=flags)
    code = f"""
        *(u64 *)(r10 - 8) = 0
        r2 = r10
        r2 += -8
        r3 = r10
        r3 += -8
        r4 = 0
        r1 = map_fd[{fd}] ll
        call bpf_{helper}
        {after}
        r0 = 2
        exit
    """
    if errno:
        assert refused(run_asm, code) == errno
    else:
        assert run_asm(code) == 2


def test_btf_ids_that_do_not_go_together(bpf, refused) -> None:
    create = bpf.map_create
    assert refused(create, MapType.ARRAY, 4, 4, 1, btf_key_type_id=1) == "EINVAL"
    assert refused(create, MapType.ARRAY, 4, 4, 1, btf_vmlinux_value_type_id=1) == "EINVAL"
    assert refused(create, MapType.ARRAY, 4, 4, 1, map_extra=1) == "EINVAL"


def test_ids_count_up_and_are_found(bpf) -> None:
    first, second = (bpf.map_create(MapType.ARRAY, 4, 4, 1) for _ in range(2))
    ids = [bpf.obj_get_info_by_fd(fd).id for fd in (first, second)]
    assert ids[0] < ids[1]
    assert bpf.map_get_next_id(ids[0]) == ids[1]
    assert bpf.map_get_next_id(ids[0] - 1) == ids[0]


def test_info(bpf) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 12, 33, map_flags=f.BPF_F_NO_PREALLOC, name="info")
    info = bpf.obj_get_info_by_fd(fd)
    fields = (info.type, info.key_size, info.value_size, info.max_entries, info.map_flags, info.name, info.btf_id)
    assert fields == (MapType.HASH, 4, 12, 33, f.BPF_F_NO_PREALLOC, "info", 0)
