"""What Linux 6.18 sent and counted when certain frames came in (tests/support/ip_cases), and what is sent here."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.ip_cases import CASES
from tests.support.ip_world import available, recorded, run_live, run_simulated

TESTS = Path(__file__).parents[1]
ANSWERS = recorded()


def module(*path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ip_cases_{path[-1]}", TESTS.joinpath(*path).with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


LABORATORY = module("unit", "netstack", "conftest")


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_that_of_linux(name: str) -> None:
    assert json.loads(json.dumps(run_simulated(CASES[name], LABORATORY.Lab()))) == ANSWERS[name]


def test_every_case_was_asked() -> None:
    assert list(ANSWERS) == list(CASES)


@pytest.mark.live
@pytest.mark.long
@pytest.mark.skipif(not available(), reason="namespaces cannot be made here")
@pytest.mark.parametrize("name", list(CASES)[::9])
def test_linux_still_says_so(name: str) -> None:
    world = module("parity", "live_world").LiveWorld()
    try:
        assert json.loads(json.dumps(run_live(CASES[name], world))) == ANSWERS[name]
    finally:
        world.close()
