"""Values of sockets (net/core/bpf_sk_storage.c, v6.18), in test runs of tc programs on both kernels."""

import pytest

from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Int
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_NO_PREALLOC

PROGRAM = """
    r6 = *(u64 *)(r1 + 168)
    if r6 == 0 goto out
    r1 = r6
    call bpf_sk_fullsock
    if r0 == 0 goto out
    r6 = r0
    r7 = 0
    {body}
    r0 = r7
    exit
    out: r0 = 77
    exit
"""
GET = "r1 = map_fd[{fd}] ll; r2 = r6; r3 = 0; r4 = {flags}; call bpf_sk_storage_get; if r0 == 0 goto {next}; "
DELETE = "r1 = map_fd[{fd}] ll; r2 = r6; call bpf_sk_storage_delete; r7 <<= 8; r0 = -r0; r7 += r0"
ENOENT = 2


@pytest.fixture
def storage(bpf) -> int:
    builder = BtfBuilder()
    number = builder.add(Int("int", 4, 32, encoding=1))
    btf = bpf.btf_load(builder.build())
    return bpf.map_create(
        MapType.SK_STORAGE, 4, 4, 0, map_flags=BPF_F_NO_PREALLOC, btf_fd=btf, btf_key_type_id=number,
        btf_value_type_id=number,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (GET.format(fd="{fd}", flags=0, next="n") + "r7 = 1; n: r7 += 4", 4),
        (GET.format(fd="{fd}", flags=1, next="n") + "r7 = *(u32 *)(r0 + 0); r7 += 1; n: r7 += 4", 5),
        (DELETE, ENOENT),
        (GET.format(fd="{fd}", flags=1, next="n") + "r7 = 1; n: " + DELETE, 1 << 8),
    ],
)
def test_values_live_as_long_as_the_socket(bpf, storage, body, result) -> None:
    insns = encode(assemble(PROGRAM.format(body=body.format(fd=storage))))
    fd = bpf.prog_load(ProgType.SCHED_CLS, insns, license="GPL").fd
    # each test run has a socket of its own: nothing is left from the first one
    assert [bpf.prog_test_run(fd, bytes(64)).retval for _ in range(2)] == [result] * 2
