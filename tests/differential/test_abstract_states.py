"""In runs of random programs every register is inside the verifier's abstract state at every instruction.

A slice of what ``make soundness`` runs.
"""

import pytest
from abstract_states import Violation, Watched

from ebpfsim.verifier import alu

PROGRAMS = 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_register_leaves_its_abstract_state(seed: int) -> None:
    watched = Watched(seed)
    watched.steps(PROGRAMS)
    assert watched.counts["instructions"] > 50 * PROGRAMS
    assert watched.counts["with too many paths"] < PROGRAMS / 10


def test_a_wrong_bound_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = alu.alu_range

    def wrong(op: int, is32: bool, d: alu.Range, s: alu.Range) -> alu.Range | None:
        result = right(op, is32, d, s)
        if op != alu.BPF_AND or result is None or not result.mask:
            return result
        return result._replace(umax=(result.umin + result.umax) // 2)

    monkeypatch.setattr(alu, "alu_range", wrong)
    watched = Watched(3)
    with pytest.raises(Violation):
        watched.steps(300)
