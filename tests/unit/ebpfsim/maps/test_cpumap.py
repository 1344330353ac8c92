"""CPU maps (kernel/bpf/cpumap.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


@pytest.fixture
def cpumap(bpf) -> int:
    return bpf.map_create(MapType.CPUMAP, 4, 8, 8)


@pytest.fixture
def load(bpf):
    def load(prog_type: ProgType = ProgType.XDP, **attributes) -> int:
        return bpf.prog_load(prog_type, encode(assemble("r0 = 2; exit")), **attributes).fd

    return load


def test_program_goes_in_by_descriptor_and_comes_out_by_id(bpf, cpumap, load) -> None:
    prog = load(expected_attach_type=AttachType.XDP_CPUMAP)
    bpf.map_update_elem(cpumap, u32(0), u32(192, prog))
    assert bpf.map_lookup_elem(cpumap, u32(0)) == u32(192, bpf.obj_get_info_by_fd(prog).id)
    bpf.map_update_elem(cpumap, u32(0), u32(64, 0))
    assert bpf.map_lookup_elem(cpumap, u32(0)) == u32(64, 0)


def test_limits(bpf, cpumap, nr_cpus, refused) -> None:
    assert refused(bpf.map_update_elem, cpumap, u32(nr_cpus), u32(192, 0)) == "ENODEV"
    assert refused(bpf.map_update_elem, cpumap, u32(nr_cpus), u32(0, 0)) == "ENODEV"
    assert refused(bpf.map_update_elem, cpumap, u32(8), u32(192, 0)) == "E2BIG"
    assert refused(bpf.map_update_elem, cpumap, u32(0), u32(16385, 0)) == "EOVERFLOW"
    bpf.map_update_elem(cpumap, u32(0), u32(16384, 0))
    assert refused(bpf.map_update_elem, cpumap, u32(0), u32(1, 0), flags=f.BPF_NOEXIST) == "EEXIST"


def test_size_zero_deletes(bpf, cpumap, refused) -> None:
    bpf.map_update_elem(cpumap, u32(0), u32(192, 0))
    bpf.map_update_elem(cpumap, u32(0), u32(0, 0))
    assert refused(bpf.map_lookup_elem, cpumap, u32(0)) == "ENOENT"


def test_programs_of_another_kind(bpf, cpumap, load, refused) -> None:
    for prog in (load(), load(ProgType.SOCKET_FILTER), load(expected_attach_type=AttachType.XDP_DEVMAP), cpumap, 987):
        assert refused(bpf.map_update_elem, cpumap, u32(0), u32(192, prog)) == "ENOMEM"


def test_entries_hold_references(kernel) -> None:
    bpf = kernel.bpf
    attach = {"expected_attach_type": AttachType.XDP_CPUMAP}
    prog = bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit")), **attach).fd
    fd = bpf.map_create(MapType.CPUMAP, 4, 8, 2)
    bpf.map_update_elem(fd, u32(1), u32(192, prog))
    entry = kernel.fds.lookup(fd).entry_at(1)
    assert (entry.cpu, entry.qsize, entry.prog.refs) == (1, 192, 2)
    bpf.close(fd)
    assert entry.prog.refs == 1
