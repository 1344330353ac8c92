"""Conformance to RFC 9669 of programs that no verifier has seen, and refusal of what is no program, on each engine."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.conformance import ENGINES, Conformance
from ebpfsim.errors import DecodeError, KernelError, KernelOops, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import decode, encode
from ebpfsim.isa.table import TABLE, Form, find
from ebpfsim.jit.engine import unavailable

HERE = Path(__file__).parent


def _cases(name: str) -> list[Any]:
    lines = [line for line in (HERE / name).read_text().splitlines() if line.strip() and not line.startswith("#")]
    parts = [[part.strip() for part in line.split(" | ")] for line in lines]
    return [pytest.param(*rest, id=title) for title, *rest in parts]


PROGRAMS, REJECTED = _cases("programs.data"), _cases("rejected.data")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text) if text != "-" else b""


@cache
def _machine(engine: str) -> Conformance:
    return Conformance(engine)


@pytest.fixture(params=list(ENGINES))
def conformance(request: pytest.FixtureRequest) -> Conformance:
    if request.param == "jit" and unavailable():
        pytest.skip(unavailable())
    return _machine(request.param)


@pytest.mark.parametrize(("memory", "code", "expected"), PROGRAMS)
def test_programs(conformance: Conformance, memory: str, code: str, expected: str) -> None:
    assert conformance.run(assemble(code), _bytes(memory)) == int(expected, 0)


@pytest.mark.parametrize(("slots", "problem"), REJECTED)
def test_what_is_no_program(conformance: Conformance, slots: str, problem: str) -> None:
    with pytest.raises(DecodeError) as caught:
        conformance.run(decode(_bytes(slots)))
    assert problem in str(caught.value)


def test_packet_loads_all_have_a_case() -> None:
    rows = {row.name for case in PROGRAMS for insn in assemble(case.values[1]) if (row := find(insn)) is not None}
    assert {row.name for row in TABLE if row.form in (Form.LD_ABS, Form.LD_IND)} <= rows


def test_a_kernel_function_that_there_is_not_gives_zero(conformance: Conformance) -> None:
    # tests/call_runtime.data of the public suite: BTF id 42 is no function
    assert (
        conformance.run(decode(_bytes("b7 00 00 00 05 00 00 00 85 20 00 00 2a 00 00 00 95 00 00 00 00 00 00 00"))) == 0
    )


# numbers that are no helper's are not cut to 32 bits; a tail call needs the place of a call of its own
UNKNOWN = [("9999", "helper number 9999"), ("0x100000008 ll", "helper number 4294967304"), ("12", "tail call through")]


@pytest.mark.parametrize(("number", "problem"), UNKNOWN)
def test_a_call_through_a_register_of_what_is_no_helper(conformance: Conformance, number: str, problem: str) -> None:
    with pytest.raises(NotModelled, match=problem):
        conformance.run(assemble(f"r6 = {number}; callx r6; r0 = 0; exit"))
    # where it is not reached, it does no harm
    assert conformance.run(assemble(f"r6 = {number}; r0 = 3; goto +1; callx r6; exit")) == 3


def test_a_fault_of_a_call_through_a_register_has_its_place(conformance: Conformance) -> None:
    with pytest.raises(KernelOops, match="a map that does not exist") as caught:
        conformance.run(assemble("r1 = 7; r6 = 1; callx r6; exit"))
    assert (caught.value.prog, caught.value.insn_idx) == ("program", 2)


def test_a_call_through_a_register_is_refused_by_the_verifier(conformance: Conformance) -> None:
    # bpf_opcode_in_insntable(), linux 6.18
    with pytest.raises(KernelError, match="unknown opcode 8d"):
        conformance.run_xdp(encode(assemble("r2 = 8; callx r2; r0 = 2; exit")))
