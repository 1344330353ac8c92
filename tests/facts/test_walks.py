"""Random sequences of attaching, updating and detaching, answered as Linux answered them.

Answers of recordings are those of Linux 6.18 for hooks of a network namespace and of Linux 6.12 for the others. Live
tests walk on: other steps, asked of the kernel of this machine, and of the one behind EBPFSIM_VM.
"""

import json
import lzma
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tracing_facts
import walks
from trace_steps import Simulated

DATA = Path(__file__).resolve().parents[1] / "data" / "hook_walks.json.xz"
SCRIPT = Path(walks.__file__).with_name("linux_answers.py")
FIRST_LIVE_SEED, LIVE_WALKS, VM_WALKS = 5000, 10, 15
# how many recorded walks are taken by default
SHORT = {"replace": 6, "trace": 40}
VM = os.environ.get("EBPFSIM_VM", "")


@pytest.fixture(scope="module")
def recorded() -> Any:
    return json.loads(lzma.decompress(DATA.read_bytes()))


def ask(*wanted: str, before: str = "") -> Any:
    """Let a script ask the kernel, here or behind a command."""
    throwaway = {"EBPFSIM_THROWAWAY": "1"} if before else {}
    command = [*shlex.split(before), sys.executable, str(SCRIPT), *wanted]
    done = subprocess.run(command, env=os.environ | throwaway, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def answers(make_kernel: Any) -> Any:
    """Return what the simulated kernel answers to the steps of a family."""

    def answers(family: str, steps: walks.Steps) -> list[Any]:
        return walks.simulated(family, steps, make_kernel)

    return answers


def replay(recorded: Any, answers: Any, family: str, wanted: slice) -> None:
    pairs = zip(recorded[family]["walks"][wanted], recorded[family]["answers"][wanted], strict=True)
    for steps, linux in pairs:
        difference = walks.first_difference(steps, answers(family, steps), linux)
        assert not difference, difference


@pytest.mark.parametrize("family", walks.GENERATORS)
def test_answers_are_the_recorded_ones(recorded: Any, answers: Any, family: str) -> None:
    replay(recorded, answers, family, slice(SHORT.get(family)))


@pytest.mark.long
@pytest.mark.parametrize("family", SHORT)
def test_answers_are_the_other_recorded_ones(recorded: Any, answers: Any, family: str) -> None:
    replay(recorded, answers, family, slice(SHORT[family], None))


@pytest.fixture(scope="module")
def linux_said() -> Any:
    """All that is asked of this kernel."""
    return ask(*(f"{family}:{FIRST_LIVE_SEED}:{LIVE_WALKS}" for family in walks.LIVE))


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("family", walks.LIVE)
def test_answers_are_those_of_this_kernel(linux_said: Any, answers: Any, family: str) -> None:
    compare(answers, family, linux_said[f"{family}:{FIRST_LIVE_SEED}:{LIVE_WALKS}"])


@pytest.fixture(scope="module")
def vm_said() -> Any:
    """All that is asked of the throw-away kernel, at once: it takes long to come up."""
    return ask("facts", *(f"{family}:{FIRST_LIVE_SEED}:{VM_WALKS}" for family in walks.VM), before=VM)


@pytest.mark.vm
@pytest.mark.parametrize("family", walks.VM)
def test_answers_are_those_of_a_kernel_to_be_thrown_away(vm_said: Any, answers: Any, family: str) -> None:
    compare(answers, family, vm_said[f"{family}:{FIRST_LIVE_SEED}:{VM_WALKS}"])


def compare(answers: Any, family: str, found: list[Any]) -> None:
    """Compare answers to walks."""
    for number, linux in enumerate(found):
        steps = walks.walk(family, FIRST_LIVE_SEED + number)
        difference = walks.first_difference(steps, answers(family, steps), linux)
        assert not difference, difference


# Linux 6.17 says why; before, the log was empty
SINCE = {"denylist migrate_disable": "Attaching tracing programs to function 'migrate_disable' is rejected."}


def test_facts_about_programs_that_trace(make_kernel: Any) -> None:
    found = tracing_facts.answers(Simulated(make_kernel()))
    assert not tracing_facts.differences(found)
    for name, words in SINCE.items():
        assert words in found[name][1]


@pytest.mark.vm
def test_facts_about_programs_that_trace_of_a_kernel_to_be_thrown_away(vm_said: Any) -> None:
    assert not tracing_facts.differences(vm_said["facts"])
