"""Test runs of programs that make system calls, on both kernels: expected values are Linux 6.18's."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType as P

PASS = "r0 = 1; exit"
READS_16 = "r0 = *(u64 *)(r1 + 8); exit"


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        (PASS, {"repeat": 0}, 1),
        (PASS, {"repeat": 1}, "EINVAL"),
        (PASS, {"repeat": 0, "flags": 1}, "EINVAL"),
        (READS_16, {"repeat": 0, "ctx_in": bytes(15)}, "EINVAL"),
        (READS_16, {"repeat": 0, "ctx_in": bytes(8) + b"\5" + bytes(7)}, 5),
        ("*(u32 *)(r1 + 4) = 7; r0 = 2; exit", {"repeat": 0, "ctx_in": bytes(8)}, 2),
    ],
)
def test_syscall_programs(bpf, text, settings, expected) -> None:
    fd = bpf.prog_load(P.SYSCALL, encode(assemble(text)), license="GPL", prog_flags=1 << 4).fd
    settings = {"repeat": 0, **settings}
    try:
        found = bpf.prog_test_run(fd, **settings).retval
    except KernelError as error:
        found = error.errno_name
    assert found == expected


def test_syscall_programs_write_to_the_callers_context(bpf) -> None:
    fd = bpf.prog_load(P.SYSCALL, encode(assemble("*(u32 *)(r1 + 4) = 7; r0 = 0; exit")), prog_flags=1 << 4).fd
    run = bpf.prog_test_run(fd, ctx_in=bytes(8), repeat=0)
    assert run.ctx_out == bytes(4) + b"\7\0\0\0"
