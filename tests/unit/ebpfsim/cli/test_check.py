"""``ebpfsim check``."""

import json
from pathlib import Path

import pytest

from ebpfsim.cli.main import run

WRONG = "hosts: {a: {cpuss: 1}}\nlinks: [{ends: [a/x, b/y], delay: 5}]\n"
LATER = "kernel: {sysctl: {net.mpls.platform_labels: 1}}\nhosts: {a: {}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("right", "hosts: {a: {}}\n"), ("wrong", WRONG), ("later", LATER)):
        (tmp_path / f"{name}.yaml").write_text(text)


def test_all_files_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "wrong.yaml", "right.yaml", "elsewhere"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "right.yaml: ok: 1 host, 0 events, 0 expectations\n"
    keys = "try: keys here: 'cpus', 'mitigations', "
    lines = [keys + "...\n" if line.startswith(keys) else line for line in captured.err.splitlines(keepends=True)]
    assert "".join(lines) == (
        "wrong.yaml:1:13: error: unknown key 'cpuss'; did you mean 'cpus'?\n"
        "    hosts: {a: {cpuss: 1}}\n"
        "                ^^^^^\n"
        "try: keys here: 'cpus', 'mitigations', ...\n"
        "wrong.yaml:2:35: error: duration 5 has no unit\n"
        "    links: [{ends: [a/x, b/y], delay: 5}]\n"
        "                                      ^\n"
        "try: '5ns', '5us' or '5ms'\n"
        "elsewhere: error: no such file\n"
        "try: 'ebpfsim scenarios' lists those that ship\n"
    )


def test_what_is_not_modelled_exits_with_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "later.yaml"]) == 4
    assert capsys.readouterr().err == (
        "later.yaml:1:19: error: not modelled: sysctl net.mpls.platform_labels\n"
        "    kernel: {sysctl: {net.mpls.platform_labels: 1}}\n"
        "                      ^^^^^^^^^^^^^^^^^^^^^^^^\n"
    )


def test_machine_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--json", "right.yaml", "wrong.yaml", "later.yaml"]) == 2
    right, wrong, later = json.loads(capsys.readouterr().out)
    assert right == {"scenario": "right.yaml", "ok": True, "errors": [], "warnings": []}
    assert [row["where"] for row in wrong["errors"]] == ["wrong.yaml:1:13", "wrong.yaml:2:35"]
    assert [row["not_modelled"] for row in (*wrong["errors"], *later["errors"])] == [False, False, True]
