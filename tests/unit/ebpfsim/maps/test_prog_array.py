"""Program arrays (kernel/bpf/arraymap.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


@pytest.fixture
def load(bpf):
    def load(code: str = "r0 = 2; exit", prog_type: ProgType = ProgType.XDP, **attributes) -> int:
        return bpf.prog_load(prog_type, encode(assemble(code)), **attributes).fd

    return load


@pytest.fixture
def array(bpf) -> int:
    return bpf.map_create(MapType.PROG_ARRAY, 4, 4, 3)


CALLER = "r2 = map_fd[{array}] ll; r3 = {index}; call bpf_tail_call; r0 = 7; exit"


def test_user_space_stores_a_descriptor_and_reads_an_id(bpf, array, load) -> None:
    prog = load()
    bpf.map_update_elem(array, u32(1), u32(prog))
    assert bpf.map_lookup_elem(array, u32(1)) == u32(bpf.obj_get_info_by_fd(prog).id)


def test_empty_slots(bpf, array, refused) -> None:
    assert refused(bpf.map_lookup_elem, array, u32(0)) == "ENOENT"
    assert refused(bpf.map_delete_elem, array, u32(0)) == "ENOENT"
    assert refused(bpf.map_lookup_elem, array, u32(3)) == "ENOENT"
    assert refused(bpf.map_delete_elem, array, u32(3)) == "E2BIG"


def test_keys(bpf, array, keys_of) -> None:
    assert keys_of(array) == [u32(0), u32(1), u32(2)]


def test_update_refused(bpf, array, load, refused) -> None:
    prog = load()
    assert refused(bpf.map_update_elem, array, u32(3), u32(prog)) == "E2BIG"
    assert refused(bpf.map_update_elem, array, u32(0), u32(prog), flags=f.BPF_NOEXIST) == "EINVAL"
    assert refused(bpf.map_update_elem, array, u32(0), u32(prog), flags=f.BPF_EXIST) == "EINVAL"
    assert refused(bpf.map_update_elem, array, u32(3), u32(prog), flags=f.BPF_EXIST) == "EINVAL"
    assert refused(bpf.map_update_elem, array, u32(0), u32(999)) == "EBADF"
    assert refused(bpf.map_update_elem, array, u32(0), u32(array)) == "EINVAL"


def test_tail_call(bpf, array, load) -> None:
    bpf.map_update_elem(array, u32(1), u32(load("r0 = 42; exit")))
    hit, miss = load(CALLER.format(array=array, index=1)), load(CALLER.format(array=array, index=2))
    assert bpf.prog_test_run(hit, bytes(64)).retval == 42
    assert bpf.prog_test_run(miss, bytes(64)).retval == 7
    bpf.map_delete_elem(array, u32(1))
    assert bpf.prog_test_run(hit, bytes(64)).retval == 7


def test_programs_of_another_kind_are_refused(bpf, array, load, refused) -> None:
    bpf.map_update_elem(array, u32(0), u32(load()))
    others = [
        load(prog_type=ProgType.SCHED_CLS),
        load(prog_flags=f.BPF_F_XDP_HAS_FRAGS),
        load(expected_attach_type=AttachType.XDP_DEVMAP),
    ]
    for other in others:
        assert refused(bpf.map_update_elem, array, u32(1), u32(other)) == "EINVAL"
    bpf.map_update_elem(array, u32(1), u32(load()))


def test_a_program_that_uses_a_foreign_array_is_refused_without_a_log(bpf, array, load) -> None:
    bpf.map_update_elem(array, u32(0), u32(load(prog_flags=f.BPF_F_XDP_HAS_FRAGS)))
    with pytest.raises(Exception, match="EINVAL") as error:
        load(CALLER.format(array=array, index=0))
    assert not getattr(error.value, "log", "")


def test_the_first_user_settles_the_kind(bpf, array, load, refused) -> None:
    load(CALLER.format(array=array, index=0), prog_flags=f.BPF_F_XDP_HAS_FRAGS)
    assert refused(bpf.map_update_elem, array, u32(0), u32(load())) == "EINVAL"


def test_array_is_emptied_when_user_space_lets_go_though_a_program_holds_it(bpf, array, load) -> None:
    target = load("r0 = 42; exit")
    bpf.map_update_elem(array, u32(0), u32(target))
    caller = load(CALLER.format(array=array, index=0))
    assert bpf.prog_test_run(caller, bytes(64)).retval == 42
    bpf.close(array)
    for _ in range(1000):
        # Linux empties it from a work queue
        if bpf.prog_test_run(caller, bytes(64)).retval == 7:
            break
    else:
        pytest.fail("the array still holds its program")


def test_a_program_holds_its_array(bpf, array, load) -> None:
    caller = load(CALLER.format(array=array, index=0))
    map_id = bpf.obj_get_info_by_fd(array).id
    bpf.close(array)
    assert bpf.obj_get_info_by_fd(caller).map_ids == (map_id,)
    again = bpf.map_get_fd_by_id(map_id)
    bpf.map_update_elem(again, u32(0), u32(load("r0 = 9; exit")))
    assert bpf.prog_test_run(caller, bytes(64)).retval == 9


def test_an_array_holds_its_programs(bpf, array, load) -> None:
    target = load("r0 = 42; exit")
    prog_id = bpf.obj_get_info_by_fd(target).id
    bpf.map_update_elem(array, u32(0), u32(target))
    bpf.close(target)
    assert bpf.obj_get_info_by_fd(bpf.prog_get_fd_by_id(prog_id)).id == prog_id


def test_references_come_back(kernel) -> None:
    bpf = kernel.bpf
    array = bpf.map_create(MapType.PROG_ARRAY, 4, 4, 3)
    prog = bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit"))).fd
    for index in (0, 1, 0, 2):
        bpf.map_update_elem(array, u32(index), u32(prog))
    assert kernel.fds.lookup(prog).refs == 4
    bpf.map_delete_elem(array, u32(0))
    assert kernel.fds.lookup(prog).refs == 3
    bpf.close(array)
    assert kernel.fds.lookup(prog).refs == 1
    bpf.close(prog)
    assert len(kernel.progs) == 0


def test_observers_hear_of_every_change(kernel) -> None:
    bpf = kernel.bpf
    array = bpf.map_create(MapType.PROG_ARRAY, 4, 4, 3)
    map_ = kernel.fds.lookup(array)
    seen = []
    map_.observers.append(lambda index: seen.append((index, map_.prog_at(index) and map_.prog_at(index).id)))
    first, second = (bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit"))) for _ in range(2))
    ids = [bpf.obj_get_info_by_fd(prog.fd).id for prog in (first, second)]
    bpf.map_update_elem(array, u32(2), u32(first.fd))
    bpf.map_update_elem(array, u32(2), u32(second.fd))
    bpf.map_delete_elem(array, u32(2))
    bpf.map_update_elem(array, u32(1), u32(first.fd))
    bpf.close(array)
    assert seen == [(2, ids[0]), (2, ids[1]), (2, None), (1, ids[0]), (1, None)]
