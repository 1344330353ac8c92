"""Debug mode has nothing to say of the scenarios that ship, and changes nothing: reports and digests are the same."""

import json
from pathlib import Path
from typing import Any

import pytest

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
NAMES = sorted(str(path.relative_to(SCENARIOS).with_suffix("")) for path in SCENARIOS.rglob("*.yaml"))


def summary(name: str, *overrides: str, debug: bool = False, engine: str = "") -> Any:
    from ebpfsim.report.summary import summarize
    from ebpfsim.scenario.check import check_scenario
    from ebpfsim.scenario.expect import judge
    from ebpfsim.scenario.load import load_scenario
    from ebpfsim.scenario.run import build, finish
    from ebpfsim.scenario.steps import schedule

    checked = check_scenario(load_scenario(name, list(overrides), None))
    running = build(checked, debug=debug, engine=engine)
    for host in running.sim.hosts.values():
        assert host.kernel.config.debug == (debug or bool(overrides))
        assert host.kernel.config.engine == (engine or "auto")
    schedule(running)
    finish(running, checked.scenario.model.until)
    return json.loads(json.dumps(summarize(running, judge(running))))


@pytest.mark.parametrize("engine", ["interp", "jit"])
@pytest.mark.parametrize("name", NAMES)
def test_shipped_scenarios_are_clean(name: str, engine: str) -> None:
    plain = summary(name, engine=engine)
    assert plain["met"]
    assert summary(name, engine=engine, debug=True) == plain


def test_a_scenario_says_so_itself() -> None:
    name = "first-steps/xdp-firewall"
    assert summary(name, "kernel.debug=true") == summary(name)
