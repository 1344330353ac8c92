"""pydantic's errors in our words, whatever block they are in."""

from pathlib import Path

import pytest

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.load import parse_scenario
from ebpfsim.scenario.problems import raise_together
from ebpfsim.scenario.schema import ScenarioModel
from ebpfsim.scenario.source import Mark, Source

# one wrong key in every kind of block, and a key that is near
MISSPELT = [
    ("{hots: {a: {}}}", "hots", "hosts"),
    ("{kernel: {cups: 1}, hosts: {a: {}}}", "cups", "cpus"),
    ("{hosts: {a: {interface: {}}}}", "interface", "interfaces"),
    ("{hosts: {a: {interfaces: {e: {adress: x}}}}}", "adress", "address"),
    ("{hosts: {a: {routes: [{vai: 10.0.0.1}]}}}", "vai", "via"),
    ("{hosts: {a: {}}, links: [{end: []}]}", "end", "ends"),
    ("{hosts: {a: {}}, objects: {o: {flie: x}}}", "flie", "file"),
    ("{hosts: {a: {}}, sockets: {s: {upd: 53}}}", "upd", "udp"),
    ("{hosts: {a: {}}, attach: [{progam: x}]}", "progam", "program"),
    ("{hosts: {a: {}}, events: [{at: 0, sned: x}]}", "sned", "send"),
    ("{hosts: {a: {}}, events: [{at: 0, attach: {devise: x}}]}", "devise", "device"),
    ("{hosts: {a: {}}, expect: [{lnk: x}]}", "lnk", "link"),
    ("{hosts: {a: {}}, expect: [{packets: {hosts: x}}]}", "hosts", "host"),
    ("{hosts: {a: {}}, sweep: {vari: {}}}", "vari", "vary"),
]


def errors(text: str) -> list[ScenarioError]:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text.encode(), "x.yaml", Path())
    return [caught.value, *caught.value.others]  # type: ignore[list-item]


@pytest.mark.parametrize(("text", "key", "near"), MISSPELT, ids=[row[1] for row in MISSPELT])
def test_misspelt_key_in_every_block(text: str, key: str, near: str) -> None:
    found = next(error for error in errors(text) if "unknown key" in error.problem)
    assert found.problem == f"unknown key '{key}'; did you mean '{near}'?"
    assert found.where == f"x.yaml:1:{text.rindex(f'{key}:') + 1}"
    assert near in found.hint


def test_no_message_is_pydantics_own() -> None:
    """Everything that can be wrong with a value of every key, in our words."""
    wrong: list[object] = [None, True, -1, 1.5, "x y", [], [1], {}, {"a": 1}, "9" * 300]
    for key in ScenarioModel.model_fields:
        for value in wrong:
            text = {"hosts": {"a": {}}, key: value}
            try:
                parse_scenario(str(text).replace("None", "~").replace("True", "true").encode(), "x.yaml", Path())
            except ScenarioError as error:
                for one in (error, *error.others):
                    assert "Input should" not in one.problem, one.problem
                    assert "valid" not in one.problem, one.problem
                    assert one.where.startswith("x.yaml:1:")


def test_errors_are_put_into_the_order_of_the_file() -> None:
    source = Source("x.yaml", "a\n" * 20)
    rows = [source.error(Mark(line, col), f"{line}:{col}") for line, col in ((10, 2), (9, 5), (9, 0), (0, 3))]
    with pytest.raises(ScenarioError) as caught:
        raise_together(rows)
    assert [error.problem for error in (caught.value, *caught.value.others)] == ["0:3", "9:0", "9:5", "10:2"]
    raise_together([])
