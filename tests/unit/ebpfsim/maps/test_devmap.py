"""Device maps (kernel/bpf/devmap.c, v6.18), asked of both kernels; every host has a loopback device, number 1."""

import struct

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

LO = 1
NOBODY = 4242


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def val(ifindex: int, prog: int = 0) -> bytes:
    return struct.pack("<Ii", ifindex, prog)


@pytest.fixture
def devmap(bpf) -> int:
    return bpf.map_create(MapType.DEVMAP, 4, 8, 4)


@pytest.fixture
def devhash(bpf) -> int:
    return bpf.map_create(MapType.DEVMAP_HASH, 4, 8, 4)


@pytest.fixture
def load(bpf):
    def load(prog_type: ProgType = ProgType.XDP, attach_type: int = AttachType.XDP_DEVMAP, flags: int = 0) -> int:
        code = encode(assemble("r0 = 2; exit"))
        return bpf.prog_load(prog_type, code, expected_attach_type=attach_type, prog_flags=flags).fd

    return load


def test_array_of_devices(bpf, devmap, refused) -> None:
    assert refused(bpf.map_lookup_elem, devmap, u32(1)) == "ENOENT"
    bpf.map_update_elem(devmap, u32(1), val(LO))
    assert bpf.map_lookup_elem(devmap, u32(1)) == val(LO)
    bpf.map_delete_elem(devmap, u32(1))
    assert refused(bpf.map_lookup_elem, devmap, u32(1)) == "ENOENT"


def test_array_deletes_what_is_not_there(bpf, devmap, refused) -> None:
    bpf.map_delete_elem(devmap, u32(1))
    assert refused(bpf.map_delete_elem, devmap, u32(4)) == "EINVAL"


def test_interface_index_zero_deletes_from_the_array(bpf, devmap, refused) -> None:
    bpf.map_update_elem(devmap, u32(1), val(LO))
    bpf.map_update_elem(devmap, u32(1), val(0))
    assert refused(bpf.map_lookup_elem, devmap, u32(1)) == "ENOENT"


def test_array_refuses(bpf, devmap, load, refused) -> None:
    assert refused(bpf.map_update_elem, devmap, u32(0), val(NOBODY)) == "EINVAL"
    assert refused(bpf.map_update_elem, devmap, u32(4), val(LO)) == "E2BIG"
    assert refused(bpf.map_update_elem, devmap, u32(0), val(LO), flags=f.BPF_NOEXIST) == "EEXIST"
    assert refused(bpf.map_update_elem, devmap, u32(0), val(LO), flags=3) == "EINVAL"
    assert refused(bpf.map_update_elem, devmap, u32(9), val(NOBODY), flags=3) == "EINVAL"
    assert refused(bpf.map_update_elem, devmap, u32(0), val(0, load())) == "EINVAL"


def test_array_keys(bpf, devmap, keys_of) -> None:
    assert keys_of(devmap) == [u32(i) for i in range(4)]


def test_programs(bpf, devmap, devhash, load) -> None:
    prog = load()
    prog_id = bpf.obj_get_info_by_fd(prog).id
    for fd in (devmap, devhash):
        bpf.map_update_elem(fd, u32(2), val(LO, prog))
        assert bpf.map_lookup_elem(fd, u32(2)) == val(LO, prog_id)
        bpf.map_update_elem(fd, u32(2), val(LO, -1))
        assert bpf.map_lookup_elem(fd, u32(2)) == val(LO, 0)


def test_programs_refused(bpf, devmap, devhash, load, refused) -> None:
    wrong = [load(attach_type=0), load(ProgType.SCHED_CLS, 0), devmap, 999]
    for fd in (devmap, devhash):
        for prog in wrong:
            assert refused(bpf.map_update_elem, fd, u32(0), val(LO, prog)) == "EINVAL"


def test_programs_of_one_map_are_of_one_kind(bpf, devmap, devhash, load, refused) -> None:
    plain, frags = load(), load(flags=f.BPF_F_XDP_HAS_FRAGS)
    for fd in (devmap, devhash):
        bpf.map_update_elem(fd, u32(0), val(LO, plain))
        assert refused(bpf.map_update_elem, fd, u32(1), val(LO, frags)) == "EINVAL"


def test_hash_of_devices(bpf, devhash, refused) -> None:
    bpf.map_update_elem(devhash, u32(1000), val(LO))
    assert bpf.map_lookup_elem(devhash, u32(1000)) == val(LO)
    bpf.map_delete_elem(devhash, u32(1000))
    assert refused(bpf.map_delete_elem, devhash, u32(1000)) == "ENOENT"
    assert refused(bpf.map_lookup_elem, devhash, u32(1000)) == "ENOENT"


def test_hash_refuses(bpf, devhash, refused) -> None:
    for i in range(4):
        bpf.map_update_elem(devhash, u32(i), val(LO))
    assert refused(bpf.map_update_elem, devhash, u32(4), val(LO)) == "E2BIG"
    bpf.map_update_elem(devhash, u32(3), val(LO), flags=f.BPF_EXIST)
    assert refused(bpf.map_update_elem, devhash, u32(3), val(LO), flags=f.BPF_NOEXIST) == "EEXIST"
    assert refused(bpf.map_update_elem, devhash, u32(3), val(0)) == "EINVAL"
    assert refused(bpf.map_update_elem, devhash, u32(3), val(NOBODY)) == "EINVAL"
    assert refused(bpf.map_update_elem, devhash, u32(3), val(LO), flags=3) == "EINVAL"
    # with BPF_EXIST a key need not exist
    bpf.map_delete_elem(devhash, u32(0))
    bpf.map_update_elem(devhash, u32(9), val(LO), flags=f.BPF_EXIST)


def test_hash_keys_go_by_bucket_newest_first(bpf, devhash, keys_of) -> None:
    for i in (9, 4, 1, 8):
        bpf.map_update_elem(devhash, u32(i), val(LO))
    assert keys_of(devhash) == [u32(8), u32(4), u32(1), u32(9)]
    bpf.map_update_elem(devhash, u32(4), val(LO))
    assert keys_of(devhash) == [u32(4), u32(8), u32(1), u32(9)]
    assert bpf.map_get_next_key(devhash, u32(77)) == u32(4)


def test_no_batches(bpf, devmap, devhash, refused) -> None:
    for fd in (devmap, devhash):
        assert refused(bpf.map_lookup_batch, fd, 4) == "ENOTSUPP"
        assert refused(bpf.map_update_batch, fd, [u32(0)], [val(LO)]) == "ENOTSUPP"
        assert refused(bpf.map_delete_batch, fd, [u32(0)]) == "ENOTSUPP"
        assert refused(bpf.map_lookup_and_delete_elem, fd, u32(0)) == "ENOTSUPP"


def test_values_of_4_bytes(bpf) -> None:
    fd = bpf.map_create(MapType.DEVMAP, 4, 4, 2)
    bpf.map_update_elem(fd, u32(0), u32(LO))
    assert bpf.map_lookup_elem(fd, u32(0)) == u32(LO)


def test_programs_read_but_cannot_write(bpf, devmap) -> None:
    assert bpf.obj_get_info_by_fd(devmap).map_flags == f.BPF_F_RDONLY_PROG


def test_program_reads_the_interface_index(bpf, devmap, devhash, run_asm) -> None:
    for fd in (devmap, devhash):
        bpf.map_update_elem(fd, u32(3), val(LO))
        code = f"""
            *(u32 *)(r10 - 4) = 3
            r2 = r10
            r2 += -4
            r1 = map_fd[{fd}] ll
            call bpf_map_lookup_elem
            if r0 == 0 goto out
            r0 = *(u32 *)(r0 + 0)
            out: exit
        """
        assert run_asm(code) == LO


# ---- the simulated kernel alone -------------------------------------------------------------------------------------


def test_targets_of_a_broadcast(kernel) -> None:
    bpf = kernel.bpf
    for map_type, order in ((MapType.DEVMAP, [1, 2, 3]), (MapType.DEVMAP_HASH, [2, 1, 3])):
        fd = bpf.map_create(map_type, 4, 4, 4 if map_type == MapType.DEVMAP else 2)
        for index in order if map_type == MapType.DEVMAP else order[:2]:
            bpf.map_update_elem(fd, u32(index), u32(LO))
        map_ = kernel.fds.lookup(fd)
        assert [entry.index for entry in map_.targets()] == (order if map_type == MapType.DEVMAP else order[:2])
        assert map_.device_at(order[0]) is kernel.device_by_ifindex(LO)
        assert map_.device_at(99) is None


def test_device_that_goes_away_leaves_its_maps(kernel, refused) -> None:
    bpf = kernel.bpf
    fd = bpf.map_create(MapType.DEVMAP, 4, 4, 4)
    bpf.map_update_elem(fd, u32(0), u32(LO))
    kernel.fds.lookup(fd).device_removed(kernel.device_by_ifindex(LO))
    assert refused(bpf.map_lookup_elem, fd, u32(0)) == "ENOENT"


def test_references_and_memory_come_back(kernel) -> None:
    bpf = kernel.bpf
    code = encode(assemble("r0 = 2; exit"))
    prog = bpf.prog_load(ProgType.XDP, code, expected_attach_type=AttachType.XDP_DEVMAP).fd
    before = kernel.mem.allocated_bytes
    fd = bpf.map_create(MapType.DEVMAP_HASH, 4, 8, 2)
    for index in (7, 8, 7):
        bpf.map_update_elem(fd, u32(index), val(LO, prog))
    assert kernel.fds.lookup(prog).refs == 3
    bpf.close(fd)
    assert (kernel.fds.lookup(prog).refs, kernel.mem.allocated_bytes) == (1, before)
