"""The iterator over numbers, as Linux 6.18 answers in test runs."""

import pytest
from kfuncs import assemble_kfuncs

from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

M32 = 0xFFFF_FFFF

# the sum of the numbers, or what bpf_iter_num_new() returned
LOOP = """
    r6 = 0
    r1 = r10; r1 += -8; r2 = {start}; r3 = {end}
    kfunc bpf_iter_num_new
    r7 = r0
    again: r1 = r10; r1 += -8
    kfunc bpf_iter_num_next
    if r0 == 0 goto done
    r1 = *(u32 *)(r0 + 0)
    r6 += r1
    goto again
    done: r1 = r10; r1 += -8
    kfunc bpf_iter_num_destroy
    r0 = {out}
    exit
"""


@pytest.fixture(params=["interp", "jit"])
def run(request, make_kernel):
    """Run a program on a frame of the bytes 0 to 63 and return its result."""
    kernel = make_kernel(engine=request.param)

    def run(text: str) -> int:
        arr, ring = kernel.bpf.map_create(MapType.ARRAY, 4, 16, 1), kernel.bpf.map_create(MapType.RINGBUF, 0, 0, 4096)
        code = encode(assemble_kfuncs(text.format(arr=arr, ring=ring), vmlinux()))
        prog = kernel.bpf.prog_load(ProgType.XDP, code)
        return kernel.bpf.prog_test_run(prog.fd, bytes(range(64))).retval

    return run


@pytest.mark.parametrize(
    ("start", "end", "out", "result"),
    [
        ("0", "10", "r6", 45),
        ("-5", "3", "r6", -12 & M32),
        ("3", "3", "r7", 0),
        ("4", "3", "r7", -22 & M32),
        ("0", "8388609", "r7", -7 & M32),
        ("-8388608", "-8388607", "r6", -8388608 & M32),
        ("-0x80000000", "-0x7ffffffe", "r6", 1),
    ],
)
def test_numbers(run, start: str, end: str, out: str, result: int) -> None:
    assert run(LOOP.format(start=start, end=end, out=out)) == result
