"""Contexts and sizes of test runs of packets against what Linux 6.18 answered."""

from typing import Any

import pytest
from skb_runs import read_runs, repeat

import ebpfsim

RUNS = read_runs("skb_contexts.jsonl.xz")


@pytest.mark.parametrize("engine", ["auto", "interp"])
def test_runs_end_as_on_linux(engine: str) -> None:
    bpf = ebpfsim.Simulation(seed=1).host("h", engine=engine).bpf
    different = [(run, got) for run in RUNS if (got := repeat(bpf, run)) != run]
    assert not different


@pytest.mark.live
def test_linux_still_answers_so() -> None:
    from ebpfsim.live import Bpf

    bpf = Bpf()
    different: list[tuple[Any, Any]] = [(run, got) for run in RUNS[::10] if (got := repeat(bpf, run)) != run]
    assert not different
