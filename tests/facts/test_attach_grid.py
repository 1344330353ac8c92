"""What Linux said to every kind of program at every place: 6.18 of network and sockets, 6.12 of programs that trace."""

import json
import lzma
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import attach_grid
import pytest

from ebpfsim import Simulation

DATA = Path(__file__).resolve().parents[1] / "data" / "attach_grid.json.xz"
# of so many rows one is asked by default
SPARSE = {"others": 16, "tracing": 6}
VM = os.environ.get("EBPFSIM_VM", "")


@pytest.fixture(scope="module")
def recorded() -> Any:
    return json.loads(lzma.decompress(DATA.read_bytes()))


def compare(part: str, linux: dict[str, Any], every: int = 1) -> None:
    """Compare the answers of rows."""
    kernel = attach_grid.Kernel(Simulation(seed=1).host("h").bpf)
    ours = attach_grid.answers(kernel, part, lambda number: number % every == 0)
    assert len(ours) > len(linux) // every // 2
    assert {row: said for row, said in ours.items() if said != linux[row]} == {}


@pytest.mark.parametrize("part", SPARSE)
def test_some_answers_are_the_recorded_ones(recorded: Any, part: str) -> None:
    compare(part, recorded[part], SPARSE[part])


@pytest.mark.long
@pytest.mark.parametrize("part", SPARSE)
def test_all_answers_are_the_recorded_ones(recorded: Any, part: str) -> None:
    compare(part, recorded[part])


def ask(part: str, *before: str) -> Any:
    """Let a script ask the kernel, here or behind a command."""
    command = [*before, sys.executable, attach_grid.__file__, part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.live
@pytest.mark.slow
def test_answers_are_those_of_this_kernel(recorded: Any) -> None:
    assert ask("others") == recorded["others"]


@pytest.mark.vm
def test_answers_are_those_of_a_kernel_to_be_thrown_away(recorded: Any) -> None:
    assert ask("tracing", *shlex.split(VM)) == recorded["tracing"]
