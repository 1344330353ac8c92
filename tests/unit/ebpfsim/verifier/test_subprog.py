"""What BTF says of a program's functions and lines (``check_btf_func``, ``check_btf_line``), asked of both kernels."""

import struct

import pytest

from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Func, FuncProto, Int, Param
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

CODE = encode(assemble("r1 = 1; call pc+1; exit; r0 = r1; exit"))
BLOB = encode_types(
    [
        Int("int", 4, 32, encoding=1),
        FuncProto("", 1, (Param("x", 1),)),
        Func("main", 2, 1),
        Func("sub", 2, 0),
    ]
)
FUNCS = [(0, 3), (3, 4)]
# insn_off, file_name_off, line_off, line_col
LINES = [(0, 1, 1, 1 << 10), (3, 1, 1, 2 << 10)]


def load(bpf, funcs=FUNCS, lines=LINES) -> str:
    """Load the program with these records; return the reason of a refusal."""
    btf = bpf.btf_load(BLOB)
    records = {
        "func_info": b"".join(struct.pack("<II", *record) for record in funcs),
        "line_info": b"".join(struct.pack("<IIII", *record) for record in lines),
    }
    try:
        bpf.close(bpf.prog_load(ProgType.XDP, CODE, prog_btf_fd=btf, **records).fd)
    except VerifierError as error:
        return error.reason.partition("processed ")[0]
    finally:
        bpf.close(btf)
    return ""


def test_records_that_fit(bpf) -> None:
    assert load(bpf) == ""
    assert load(bpf, lines=[]) == ""


@pytest.mark.parametrize(
    ("funcs", "reason"),
    [
        ([(0, 3)], "number of funcs in func_info doesn't match number of subprogs"),
        ([(1, 3), (3, 4)], "nonzero insn_off 1 for the first func info record"),
        ([(0, 3), (0, 4)], "same or smaller insn offset (0) than previous func info record (0)"),
        ([(0, 3), (2, 4)], "func_info BTF section doesn't match subprog layout in BPF program"),
        ([(0, 3), (3, 1)], "invalid type id 1 in func info"),
        ([(0, 3), (3, 0xFFFF_FFFF)], "invalid type id -1 in func info"),
    ],
)
def test_func_info(bpf, funcs, reason) -> None:
    assert load(bpf, funcs=funcs) == reason


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([(0, 1, 1, 0), (0, 1, 1, 0)], "Invalid line_info[1].insn_off:0 (prev_offset:0 prog->len:5)"),
        ([(0, 1, 1, 0), (5, 1, 1, 0)], "Invalid line_info[1].insn_off:5 (prev_offset:0 prog->len:5)"),
        ([(0, 9999, 1, 0), (3, 1, 1, 0)], "Invalid line_info[0].line_off or .file_name_off"),
        ([(0, 1, 1, 0), (3, 1, 9999, 0)], "Invalid line_info[1].line_off or .file_name_off"),
        ([(1, 1, 1, 0)], "missing bpf_line_info for func#0"),
        ([(0, 1, 1, 0)], "missing bpf_line_info for 1 funcs starting from func#1"),
    ],
)
def test_line_info(bpf, lines, reason) -> None:
    assert load(bpf, lines=lines) == reason
