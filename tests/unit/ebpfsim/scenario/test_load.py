"""Reading files, names of scenarios that ship, and ``--set``."""

from pathlib import Path

import pytest

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.load import Scenario, load_scenario, parse_scenario

TEXT = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {cpus: 2, interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0], delay: 20us}]
maps: {fw/blocked: {10.0.0.66: 1, 7: 2}}
events: [{at: 1ms, detach: x}, {at: 2ms, detach: y}]
"""


def parse(*overrides: str) -> Scenario:
    return parse_scenario(TEXT.encode(), "dir/x.sim.yaml", Path(), overrides)


def test_name_is_that_of_the_file() -> None:
    assert parse().name == "x"
    assert parse("name=other").name == "other"


@pytest.mark.parametrize(
    ("override", "look"),
    [
        ("links.0.delay=1us", lambda model: model.links[0].delay == 1000),
        ("hosts.b.cpus=7", lambda model: model.hosts["b"].cpus == 7),
        ("hosts.a.cpus=3", lambda model: model.hosts["a"].cpus == 3),
        ("kernel.mitigations=off", lambda model: model.kernel.mitigations == "off"),
        ("kernel={cpus: 5}", lambda model: model.kernel.cpus == 5),
        ("kernel.sysctl.'net.ipv4.ip_forward'=1", lambda model: model.kernel.sysctl == {"net.ipv4.ip_forward": 1}),
        ("maps.fw/blocked.10.0.0.66=5", lambda model: model.maps["fw/blocked"]["10.0.0.66"] == 5),
        ("maps.fw/blocked.7=5", lambda model: model.maps["fw/blocked"][7] == 5),
        ("maps.fw/blocked={}", lambda model: model.maps["fw/blocked"] == {}),
        ("events.1.at=9ms", lambda model: [event.at for event in model.events] == [1_000_000, 9_000_000]),
        ("events=[]", lambda model: model.events == []),
        ("seed=0x10", lambda model: model.seed == 16),
        ("name='12'", lambda model: model.name == "12"),
    ],
)  # fmt: skip
def test_set_changes_one_value(override: str, look: object) -> None:
    assert callable(look)
    assert look(parse(override).model)


def test_set_does_not_touch_aliases() -> None:
    text = "x-a: &h {cpus: 1}\nhosts: {a: *h, b: *h}\n"
    model = parse_scenario(text.encode(), "x.yaml", Path(), ["hosts.a.cpus=4"]).model
    assert (model.hosts["a"].cpus, model.hosts["b"].cpus) == (4, 1)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("links.0.delay", "--set:1:1: error: expected PATH=VALUE, have 'links.0.delay'"),
        ("name=a\udcff", "--set:1:1: error: option is not UTF-8 text"),
        ("links.5.delay=1us", "--set:1:7: error: no item '5' in a list of 1"),
        ("links.-1.delay=1us", "--set:1:7: error: no item '-1' in a list of 1"),
        ("hosts.b.cpus.x=1", "--set:1:14: error: 'x' is below a single value"),
        ("hosts.b.cpu=1", "--set:1:9: error: unknown key 'cpu'; did you mean 'cpus'?"),
        ("links.0.delay=1parsec", "--set:1:15: error: duration '1parsec' is not understood"),
        ("hosts.b.cpus=[1", "--set value:2:1: error: expected ',' or ']' in the list"),
        ("=1", "--set:1:1: error: path is empty"),
        ("a..b=1", "--set:1:3: error: path 'a..b' is not understood"),
        ("nothing.at.all=1", "--set:1:1: error: unknown key 'nothing'"),
    ],
)
def test_set_says_what_is_wrong_with_it(override: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(override)
    assert str(caught.value).startswith(problem)


def test_scenario_that_ships_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first-steps/xdp-firewall", "xdp-firewall", "xdp-firewall.yaml"):
        assert load_scenario(name).shown_path == "scenarios/first-steps/xdp-firewall.yaml"


def test_file_goes_before_the_name_of_one_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "xdp-firewall").write_text("hosts: {mine: {}}\n")
    assert list(load_scenario("xdp-firewall").model.hosts) == ["mine"]


def test_missing_file_proposes_a_near_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fire.yaml").write_text("")
    with pytest.raises(ScenarioError, match=r"^fier\.yaml: error: no such file; did you mean 'fire\.yaml'\?"):
        load_scenario("fier.yaml")


def test_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="is not a regular file"):
        load_scenario("/dev/zero")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"# \n" * 100_000)
    with pytest.raises(ScenarioError, match="scenario is larger than 256 KiB"):
        load_scenario(large)


def test_seed_of_the_command_line_goes_before(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"seed: 5\n{TEXT}")
    assert load_scenario(tmp_path / "x.yaml").model.seed == 5
    assert load_scenario(tmp_path / "x.yaml", (), 9).model.seed == 9
