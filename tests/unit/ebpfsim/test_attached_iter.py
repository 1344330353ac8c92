"""Iterators by the methods of a host and by obj.attach()."""

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InputError, KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

# the first byte of each key, as a letter
KEYS = """
    r6 = r1; r7 = *(u64 *)(r6 + 0); r8 = *(u64 *)(r6 + 16); if r8 == 0 goto out
    r3 = *(u8 *)(r8 + 0); r3 += 97; *(u64 *)(r10 - 8) = r3
    r1 = *(u64 *)(r7 + 0); r2 = r10; r2 += -8; r3 = 1; call bpf_seq_write; out: r0 = 0; exit
"""


@pytest.fixture
def host():
    return Simulation(seed=1).host("h")


@pytest.fixture
def program(host) -> int:
    btf_id = vmlinux().by_name("bpf_iter_bpf_map_elem", Kind.FUNC)
    attributes = {"expected_attach_type": AttachType.TRACE_ITER, "attach_btf_id": btf_id, "license": "GPL"}
    return host.bpf.prog_load(ProgType.TRACING, encode(assemble(KEYS)), **attributes).fd


def test_elements_of_a_map(host, program) -> None:
    map_fd = host.bpf.map_create(MapType.ARRAY, 4, 8, 3)
    with host.attach_iter(program, map_fd) as link:
        assert link.read() == b"abc"
        assert link.text == "abc"
        assert host.bpf.obj_get_info_by_fd(link.fd).details["map_id"] == host.kernel.fds.lookup(map_fd).id
    assert not list(host.kernel.links)


def test_refusals(host, program) -> None:
    with pytest.raises(KernelError, match="EBADF"):
        host.attach_iter(program)
    xdp = host.bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit"))).fd
    with pytest.raises(InputError, match="is no iterator"):
        host.attach_iter(xdp)
