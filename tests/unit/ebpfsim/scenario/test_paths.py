"""A scenario reads files of its own folder and the programs that ship, and nothing else."""

import os
from pathlib import Path

import pytest

from ebpfsim.scenario.paths import PathProblem, locate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scenario"
    (folder / "sub").mkdir(parents=True)
    for path in (folder / "a.o", folder / "sub" / "b.o", tmp_path / "secret"):
        path.write_bytes(b"x")
    (folder / "inside.o").symlink_to(folder / "sub" / "b.o")
    (folder / "outside.o").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "broken").symlink_to(folder / "gone")
    os.mkfifo(folder / "pipe")
    return folder


def test_files_inside(folder: Path) -> None:
    assert locate(folder, "a.o") == (folder / "a.o").resolve()
    assert locate(folder, "sub/b.o") == (folder / "sub" / "b.o").resolve()
    assert locate(folder, "./sub//b.o") == (folder / "sub" / "b.o").resolve()
    assert locate(folder, "inside.o") == (folder / "sub" / "b.o").resolve()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("~/x.o", "is an absolute path"),
        ("../secret", "leads out of the scenario's folder"),
        ("sub/../a.o", "leads out of the scenario's folder"),
        ("outside.o", "is a link out of the scenario's folder"),
        ("up/secret", "is a link out of the scenario's folder"),
        ("circle", "cannot be opened: links lead in a circle"),
        ("broken", "is a link to nothing"),
        ("sub", "is a folder, expected a file"),
        ("pipe", "is not a regular file"),
        ("", "is not a path"),
        ("a\0b", "is not a path"),
        ("..\\secret", "is not a path"),
        ("aa.o", "does not exist; did you mean 'a.o'?"),
        ("a.o/b", "does not exist"),
        ("x" * 300, "cannot be opened: file name too long"),
        ("x/" * 600, f"'{'x/' * 28}x...' is not a path: it has 1200 characters"),
        ("bpf/no-such-thing", "does not exist"),
        ("bpf/../a.o", "leads out of the scenario's folder"),
    ],
)
def test_everything_else_is_refused(folder: Path, text: str, problem: str) -> None:
    with pytest.raises(PathProblem) as caught:
        locate(folder, text)
    assert problem in caught.value.problem


def test_programs_that_ship_are_there_for_every_scenario(folder: Path) -> None:
    assert locate(folder, "bpf/firewall.bpf.o").name == "firewall.bpf.o"


def test_own_file_goes_before_one_that_ships(folder: Path) -> None:
    (folder / "bpf").mkdir()
    (folder / "bpf" / "firewall.bpf.o").write_bytes(b"mine")
    assert locate(folder, "bpf/firewall.bpf.o").read_bytes() == b"mine"
