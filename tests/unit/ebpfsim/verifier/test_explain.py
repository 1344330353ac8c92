"""Explanations of common mistakes (tests/data/verifier/mistakes.bpf.c, clang 19), and what Linux 6.18 logged."""

import json
from pathlib import Path

import pytest

from ebpfsim.errors import VerifierError
from ebpfsim.verifier.explain import explain

DATA = Path(__file__).resolve().parents[3] / "data" / "verifier"
MISTAKES = json.loads((DATA / "mistakes.json").read_text())


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_mistakes_are_explained(name: str) -> None:
    case = MISTAKES[name]
    found = explain(case["log"])
    text = "\n".join(found.lines())
    for words in case["says"]:
        assert words in text
    assert found.step is None or found.step.place.file == "mistakes.bpf.c"
    assert json.loads(json.dumps(found.to_json()))["hint"] == found.hint


def test_without_line_info_it_says_so() -> None:
    found = explain("0: R1=ctx() R10=fp0\n0: (95) exit\nR0 !read_ok\n")
    assert found.lines()[0] == "where   (no line info: compile with -g)"
    assert "return value" in found.hint
    assert found.to_json()["source"] is None


def test_of_an_error(kernel) -> None:
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.insn import encode

    with pytest.raises(VerifierError) as refused:
        kernel.bpf.prog_load(6, encode(assemble("exit")))
    assert explain(refused.value.log).reason == "R0 !read_ok"
