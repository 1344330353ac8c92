"""``ebpfsim prog|map|link show`` and ``map dump``."""

import json

import pytest

from ebpfsim.cli.main import run

DEMO = "first-steps/xdp-firewall"


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]):
    def shown(*arguments: str) -> str:
        assert run([*arguments]) == 0
        return capsys.readouterr().out

    return shown


def test_programs(shown) -> None:
    (row,) = json.loads(shown("prog", "show", DEMO, "--host", "server", "--json"))
    assert {key: row[key] for key in ("id", "type", "name", "gpl_compatible", "map_ids")} == {
        "id": 1, "type": "xdp", "name": "firewall", "gpl_compatible": True, "map_ids": [2, 1],
    }  # fmt: skip
    lines = shown("prog", "show", DEMO, "--host", "server").splitlines()
    assert lines[0] == f"1: xdp  name firewall  tag {row['tag']}  gpl"
    assert lines[2].endswith("map_ids 2,1")


def test_maps(shown) -> None:
    rows = json.loads(shown("map", "show", DEMO, "--host", "server", "--json"))
    assert [(row["name"], row["type"], row["max_entries"]) for row in rows] == [
        ("blocked", "hash", 1024),
        ("stats", "array", 5),
    ]
    lines = shown("map", "show", DEMO, "--host", "server").splitlines()
    assert lines[0] == "1: hash  name blocked  flags 0x0"
    assert lines[1].startswith("\tkey 4B  value 4B  max_entries 1024  memlock ")


def test_several_hosts_are_told_apart(shown) -> None:
    found = json.loads(shown("map", "show", DEMO, "--json"))
    assert found["client"] == []
    assert len(found["server"]) == 2
    assert shown("map", "show", DEMO).startswith("server:\n1: hash  name blocked")


def test_links(shown) -> None:
    (row,) = json.loads(shown("link", "show", DEMO, "--host", "server", "--json"))
    assert row == {"id": 1, "type": "xdp", "prog_id": 1, "devname": "eth0", "ifindex": 2}
    assert shown("link", "show", DEMO, "--host", "server") == "1: xdp  prog 1\n\tdevname eth0  ifindex 2\n"


def test_dump_at_an_instant(shown) -> None:
    before = json.loads(shown("map", "dump", DEMO, "server/stats", "--at", "0ns", "--json"))
    after = json.loads(shown("map", "dump", DEMO, "server/stats", "--json"))
    packets = [[row["formatted"]["value"]["packets"] for row in rows] for rows in (before, after)]
    assert sum(packets[0]) == 0
    assert sum(packets[1]) > 0
    assert json.loads(shown("map", "dump", DEMO, "1", "--host", "server", "--json")) == json.loads(
        shown("map", "dump", DEMO, "server/blocked", "--json")
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["map", "dump", DEMO, "server/blockt"], "no map 'blockt'; did you mean 'blocked'?"),
        (["map", "show", DEMO, "--host", "servr"], "no host 'servr'; did you mean 'server'?"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str) -> None:
    assert run(arguments) == 2
    assert problem in capsys.readouterr().err
