"""Dynptrs of map values, records and frames: what Linux 6.18 returned in test runs of the same programs."""

import pytest
from kfuncs import assemble_kfuncs

from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

M32 = 0xFFFF_FFFF

# in the bodies: R6 is the value or the context, R7 what the call that made the dynptr returned, and the result
PTR = "r1 = r10; r1 += -24"
VALUE = """
    *(u32 *)(r10 - 4) = 0
    r2 = r10; r2 += -4; r1 = map_fd[{{arr}}] ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r6 = r0
    r1 = r6; r2 = 16; r3 = {flags}; r4 = r10; r4 += -24
    call bpf_dynptr_from_mem
    r7 = r0
    {body}
    r0 = r7
    exit
    out: r0 = 77
    exit
"""
RECORD = """
    r1 = map_fd[{{ring}}] ll; r2 = {size}; r3 = {flags}; r4 = r10; r4 += -24
    call bpf_ringbuf_reserve_dynptr
    r7 = r0
    {body}
    r1 = r10; r1 += -24; r2 = 0
    call bpf_ringbuf_{end}_dynptr
    r0 = r7
    exit
"""
FRAME = """
    r6 = r1
    r2 = {flags}; r3 = r10; r3 += -24
    kfunc bpf_dynptr_from_xdp
    r7 = r0
    {body}
    r0 = r7
    exit
"""
VALUES = [
    (0, "", 0),
    (0, "{ptr}; kfunc bpf_dynptr_size; r7 = r0", 16),
    (1, "{ptr}; kfunc bpf_dynptr_size; r7 = r0", -22 & M32),
    (1, "{ptr}; kfunc bpf_dynptr_size; r7 = r0; r7 >>= 32", 0),
    (0, "{ptr}; kfunc bpf_dynptr_is_rdonly; r7 = r0", 0),
    (
        0,
        (
            "{ptr}; r2 = 3; r3 = 9; kfunc bpf_dynptr_adjust; r8 = r0; {ptr}; kfunc bpf_dynptr_size; r7 = r0; "
            "r7 <<= 8; r7 |= r8"
        ),
        1536,
    ),
    (0, "{ptr}; r2 = 9; r3 = 3; kfunc bpf_dynptr_adjust; r7 = r0", -22 & M32),
    (0, "{ptr}; r2 = 9; r3 = 17; kfunc bpf_dynptr_adjust; r7 = r0", -34 & M32),
    (1, "{ptr}; r2 = 0; r3 = 0; kfunc bpf_dynptr_adjust; r7 = r0", -22 & M32),
    (
        0,
        (
            "*(u64 *)(r10 - 32) = 0x1234; {ptr}; r2 = 2; r3 = r10; r3 += -32; r4 = 8; r5 = 0; "
            "call bpf_dynptr_write; r7 = r0; r8 = *(u64 *)(r6 + 0); r7 += r8"
        ),
        305397760,
    ),
    (
        0,
        (
            "*(u64 *)(r10 - 32) = 0x1234; {ptr}; r2 = 9; r3 = r10; r3 += -32; r4 = 8; r5 = 0; "
            "call bpf_dynptr_write; r7 = r0"
        ),
        -7 & M32,
    ),
    (
        0,
        (
            "*(u64 *)(r10 - 32) = 0x1234; {ptr}; r2 = 0; r3 = r10; r3 += -32; r4 = 8; r5 = 1; "
            "call bpf_dynptr_write; r7 = r0"
        ),
        -22 & M32,
    ),
    (
        0,
        (
            "*(u64 *)(r6 + 0) = 0x112233; r1 = r10; r1 += -32; r2 = 4; r3 = r10; r3 += -24; r4 = 1; r5 = 0; "
            "call bpf_dynptr_read; r7 = *(u32 *)(r10 - 32)"
        ),
        4386,
    ),
    (0, ("r1 = r10; r1 += -32; r2 = 4; r3 = r10; r3 += -24; r4 = 13; r5 = 0; call bpf_dynptr_read; r7 = r0"), -7 & M32),
    (0, ("r1 = r10; r1 += -32; r2 = 4; r3 = r10; r3 += -24; r4 = -1; r5 = 0; call bpf_dynptr_read; r7 = r0"), -7 & M32),
    (0, ("r1 = r10; r1 += -32; r2 = 4; r3 = r10; r3 += -24; r4 = 0; r5 = 1; call bpf_dynptr_read; r7 = r0"), -22 & M32),
    (1, ("r1 = r10; r1 += -32; r2 = 4; r3 = r10; r3 += -24; r4 = 0; r5 = 0; call bpf_dynptr_read; r7 = r0"), -22 & M32),
    (
        0,
        (
            "*(u64 *)(r6 + 0) = 0x445566; {ptr}; r2 = 1; r3 = 4; call bpf_dynptr_data; if r0 == 0 goto out; "
            "r7 = *(u32 *)(r0 + 0)"
        ),
        17493,
    ),
    (0, "{ptr}; r2 = 14; r3 = 4; call bpf_dynptr_data; if r0 == 0 goto out; r7 = *(u32 *)(r0 + 0)", 77),
    (
        0,
        (
            "{ptr}; r2 = 3; r3 = 9; kfunc bpf_dynptr_adjust; {ptr}; r2 = r10; r2 += -48; "
            "kfunc bpf_dynptr_clone; r8 = r0; r1 = r10; r1 += -48; kfunc bpf_dynptr_size; r7 = r0; r7 += r8"
        ),
        6,
    ),
    (1, "{ptr}; r2 = r10; r2 += -48; kfunc bpf_dynptr_clone; r7 = r0", -22 & M32),
    (
        0,
        (
            "*(u64 *)(r6 + 0) = 0x778899; {ptr}; r2 = 1; r3 = 0; r4 = 4; kfunc bpf_dynptr_slice; "
            "if r0 == 0 goto out; r7 = *(u32 *)(r0 + 0)"
        ),
        30600,
    ),
    (0, ("{ptr}; r2 = 15; r3 = 0; r4 = 4; kfunc bpf_dynptr_slice; if r0 == 0 goto out; r7 = *(u32 *)(r0 + 0)"), 77),
    (
        0,
        ("*(u64 *)(r6 + 0) = 0; {ptr}; r2 = 1; r3 = 2; r4 = 0x1ab; kfunc bpf_dynptr_memset; r7 = *(u32 *)(r6 + 0)"),
        11250432,
    ),
    (0, "{ptr}; r2 = 15; r3 = 2; r4 = 1; kfunc bpf_dynptr_memset; r7 = r0", -7 & M32),
    (1, "{ptr}; r2 = 0; r3 = 2; r4 = 1; kfunc bpf_dynptr_memset; r7 = r0", -7 & M32),
    (
        0,
        (
            "*(u64 *)(r6 + 0) = 0x0102; *(u64 *)(r6 + 8) = 0; {ptr}; r2 = r10; r2 += -48; "
            "kfunc bpf_dynptr_clone; {ptr}; r2 = 8; r3 = r10; r3 += -48; r4 = 1; r5 = 2; "
            "kfunc bpf_dynptr_copy; r7 = *(u32 *)(r6 + 8)"
        ),
        1,
    ),
    (
        0,
        (
            "{ptr}; r2 = r10; r2 += -48; kfunc bpf_dynptr_clone; {ptr}; r2 = 8; r3 = r10; r3 += -48; r4 = 1; "
            "r5 = 9; kfunc bpf_dynptr_copy; r7 = r0"
        ),
        -7 & M32,
    ),
    (
        1,
        (
            "{ptr}; r2 = r10; r2 += -48; kfunc bpf_dynptr_clone; {ptr}; r2 = 8; r3 = r10; r3 += -48; r4 = 1; "
            "r5 = 1; kfunc bpf_dynptr_copy; r7 = r0"
        ),
        -7 & M32,
    ),
]
RECORDS = [
    (
        "8",
        0,
        "submit",
        ("{ptr}; r2 = 0; r3 = 8; call bpf_dynptr_data; if r0 == 0 goto skip; *(u64 *)(r0 + 0) = 5; r7 = 3; skip:"),
        3,
    ),
    ("8", 0, "discard", "", 0),
    ("8", 1, "discard", "", -22 & M32),
    ("16777217", 0, "discard", "", -7 & M32),
    ("9000", 0, "submit", "", -22 & M32),
    ("0", 0, "submit", "{ptr}; kfunc bpf_dynptr_is_null; r7 = r0", 0),
]
FRAMES = [
    (0, "{ptr}; kfunc bpf_dynptr_size; r7 = r0", 64),
    (1, "", -22 & M32),
    (
        0,
        (
            "r1 = r10; r1 += -32; r2 = 4; r3 = r10; r3 += -24; r4 = 3; r5 = 0; call bpf_dynptr_read; "
            "r7 = *(u32 *)(r10 - 32)"
        ),
        100992003,
    ),
    (
        0,
        (
            "*(u64 *)(r10 - 32) = 0x1234; {ptr}; r2 = 2; r3 = r10; r3 += -32; r4 = 8; r5 = 0; "
            "call bpf_dynptr_write; r7 = r0; {ptr}; r2 = 2; r3 = 0; r4 = 2; kfunc bpf_dynptr_slice; "
            "if r0 == 0 goto x; r7 = *(u16 *)(r0 + 0); x:"
        ),
        4660,
    ),
    (0, "{ptr}; r2 = 2; r3 = 4; call bpf_dynptr_data; r7 = 0; if r0 == 0 goto x; r7 = 1; x:", 0),
    (
        0,
        (
            "{ptr}; r2 = 2; r3 = 0; r4 = 4; kfunc bpf_dynptr_slice_rdwr; if r0 == 0 goto x; "
            "*(u32 *)(r0 + 0) = 9; r7 = 8; x:"
        ),
        8,
    ),
    (
        0,
        (
            "*(u32 *)(r10 - 32) = 0; {ptr}; r2 = 62; r3 = r10; r3 += -32; r4 = 4; kfunc bpf_dynptr_slice; "
            "r7 = 5; if r0 == 0 goto x; r7 = 8; x:"
        ),
        5,
    ),
    (
        0,
        (
            "{ptr}; r2 = 14; r3 = 34; kfunc bpf_dynptr_adjust; {ptr}; r2 = 1; r3 = 0; r4 = 4; "
            "kfunc bpf_dynptr_slice; r7 = 5; if r0 == 0 goto x; r7 = *(u32 *)(r0 + 0); x:"
        ),
        303108111,
    ),
]


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


@pytest.mark.parametrize(("flags", "body", "result"), VALUES)
def test_values(run, flags: int, body: str, result: int) -> None:
    assert run(VALUE.format(flags=flags, body=body.format(ptr=PTR))) == result


@pytest.mark.parametrize(("size", "flags", "end", "body", "result"), RECORDS)
def test_records(run, size: str, flags: int, end: str, body: str, result: int) -> None:
    assert run(RECORD.format(size=size, flags=flags, end=end, body=body.format(ptr=PTR))) == result


@pytest.mark.parametrize(("flags", "body", "result"), FRAMES)
def test_frames(run, flags: int, body: str, result: int) -> None:
    assert run(FRAME.format(flags=flags, body=body.format(ptr=PTR))) == result
