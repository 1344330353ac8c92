"""Running a scenario from its text."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ebpfsim.scenario.expect import Result
    from ebpfsim.scenario.run import Running

Play = Callable[..., "tuple[Running, list[Result]]"]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a scenario's text to its end; return the run and what became of the expectations."""
    from ebpfsim.scenario.check import check_scenario
    from ebpfsim.scenario.expect import judge
    from ebpfsim.scenario.load import parse_scenario
    from ebpfsim.scenario.run import build, finish
    from ebpfsim.scenario.steps import schedule

    def run(text: str, folder: Path = tmp_path, *overrides: str) -> "tuple[Running, list[Result]]":
        checked = check_scenario(parse_scenario(text.encode(), "x.yaml", folder, overrides))
        running = build(checked)
        schedule(running)
        finish(running, checked.scenario.model.until)
        return running, judge(running)

    return run
