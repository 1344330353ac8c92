"""``ebpfsim scenarios``."""

import json

import pytest

from ebpfsim.cli.main import run
from ebpfsim.scenario.shipped import find_shipped, shipped_names


def test_list_names_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scenarios"]) == 0
    words = capsys.readouterr().out
    assert [line.split()[0] for line in words.splitlines()] == list(shipped_names())
    assert max(map(len, words.splitlines())) <= 100
    assert run(["scenarios", "list"]) == 0
    assert capsys.readouterr().out == words
    assert run(["scenarios", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(shipped_names())


def test_show_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scenarios", "show", "xdp-firewall"]) == 0
    found = find_shipped("xdp-firewall")
    assert found is not None
    assert capsys.readouterr().out == found[0].read_text()


def test_show_of_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scenarios", "show", "xdp-firewal"]) == 2
    assert "no scenario 'xdp-firewal' ships; did you mean 'xdp-firewall'?" in capsys.readouterr().err
