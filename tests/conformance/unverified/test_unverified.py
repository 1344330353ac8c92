"""Conformance to RFC 9669 of programs that no verifier has seen, and refusal of what is no program, on each engine."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.conformance import ENGINES, Conformance
from ebpfsim.errors import DecodeError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import decode
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
