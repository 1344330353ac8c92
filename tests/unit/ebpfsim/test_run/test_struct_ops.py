"""Test runs of bpf_dummy_ops (facts observed on Linux 6.12: "struct_ops", row bpf_dummy_ops)."""

import struct

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

TEST_1, TEST_2 = 0, 1  # members of struct bpf_dummy_ops
# tools/testing/selftests/bpf/progs/dummy_st_ops_success.c
RETURNS_STATE = """
    r2 = *(u64 *)(r1 + 0); if r2 == 0 goto null; r0 = *(u32 *)(r2 + 0); w3 = 0x5a; *(u32 *)(r2 + 0) = r3; exit
    null: w0 = 0xf2f3f4f5; exit
"""
SUM = """
    r6 = *(u64 *)(r1 + 0); r0 = *(u64 *)(r1 + 8); r2 = *(u64 *)(r1 + 16); r3 = *(u64 *)(r1 + 24)
    r4 = *(u64 *)(r1 + 32); *(u32 *)(r6 + 0) = r4; r0 += r2; r0 += r3; exit
"""


@pytest.fixture(params=["jit", "interp"])
def host(make_kernel, request):
    return make_kernel(engine=request.param)


@pytest.fixture
def load(host):
    def load(code: str, member: int, ops: str = "bpf_dummy_ops") -> int:
        btf_id = vmlinux().find(ops, Kind.STRUCT)
        return host.bpf.prog_load(
            ProgType.STRUCT_OPS, encode(assemble(code)), attach_btf_id=btf_id, expected_attach_type=member
        ).fd

    return load


@pytest.fixture
def run(host):
    def run(fd: int, *args: int, **attributes) -> int:
        return host.bpf.prog_test_run(fd, ctx_in=struct.pack(f"<{len(args)}Q", *args), **attributes).retval

    return run


def test_null_is_for_test_1(host, load, run) -> None:
    assert run(load(RETURNS_STATE, TEST_1), 0) == 0xF2F3F4F5


def test_the_state_goes_in_and_comes_back(host, load, run) -> None:
    state = host.bpf.user.alloc(4)
    host.bpf.user.write(state, struct.pack("<I", 0x11))
    assert run(load(RETURNS_STATE, TEST_1), state, repeat=3, data_in=b"x") == 0x11
    assert host.bpf.user.read(state, 4) == struct.pack("<I", 0x5A)


def test_arguments_of_test_2(host, load, run) -> None:
    state = host.bpf.user.alloc(4)
    assert run(load(SUM, TEST_2), state, 1, 2, 3, 4) == 6
    assert host.bpf.user.read(state, 4) == struct.pack("<I", 4)


def test_refusals(host, load, run, refused) -> None:
    fd = load(SUM, TEST_2)
    assert refused(run, fd, 0, 1, 2, 3, 4) == "EINVAL"
    assert refused(run, fd, 1, 2, 3) == "EINVAL"
    tcp = load("r0 = 2; exit", 0, "tcp_congestion_ops")
    assert refused(run, tcp, 0) == "EOPNOTSUPP"
