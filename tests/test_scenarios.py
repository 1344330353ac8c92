"""What a newcomer does with the scenarios that ship has the effect it should; test_determinism.py runs them all."""

import subprocess
import sys
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
NAMES = sorted(str(path.relative_to(SCENARIOS).with_suffix("")) for path in SCENARIOS.rglob("*.yaml"))
FIREWALL = "first-steps/xdp-firewall.yaml"

# what is typed wrong -> what is said about it
MISTAKES = [
    ("attach:", "atach:", "24:1: error: unknown key 'atach'; did you mean 'attach'?"),
    ("every: 10us", "every: 10uss", "34:12: error: duration '10uss' is not understood"),
    ("host: client", "host: clint", "30:11: error: unknown host 'clint'; did you mean 'client'?"),
    ("fw/firewall", "fw/firewal", "25:26: error: unknown program of 'fw': 'firewal'; did you mean 'firewall'?"),
    ("firewall.bpf.o", "firewal.bpf.o", "18:28: error: object 'fw': file 'bpf/firewal.bpf.o' does not exist"),
    ("Ether()/IP(", "__import__('os')/IP(", "32:12: error: unknown layer '__import__'"),
]


def ebpfsim(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ebpfsim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def changed(folder: Path, *edits: tuple[str, str]) -> str:
    """A copy of the firewall somewhere else, with some text replaced."""
    text = (SCENARIOS / FIREWALL).read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(exist_ok=True)
    copy = folder / Path(FIREWALL).name
    copy.write_text(text)
    return str(copy)


def test_scenarios_that_ship_are_found_by_their_names(tmp_path: Path) -> None:
    done = ebpfsim("check", *NAMES, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(NAMES)


@pytest.mark.slow
def test_unblocked_source_passes(tmp_path: Path) -> None:
    done = ebpfsim("run", changed(tmp_path, ("fw/blocked: {10.0.0.66: 1}", "fw/blocked: {10.0.0.77: 1}")))
    assert done.returncode == 1
    assert "XDP_DROP" in done.stdout


@pytest.mark.slow
def test_other_numbers_give_other_counts(tmp_path: Path) -> None:
    edits = [("count: 100", "count: 37"), ("runs: 126", "runs: 63"), ("XDP_DROP: 100", "XDP_DROP: 37")]
    edits.append(("packets: 100, bytes: 5100", "packets: 37, bytes: 1887"))
    done = ebpfsim("run", changed(tmp_path, *edits))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_mistakes_are_shown_at_their_places(tmp_path: Path) -> None:
    paths = [changed(tmp_path / str(i), (old, new)) for i, (old, new, _) in enumerate(MISTAKES)]
    done = ebpfsim("check", *paths)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for path, (_, _, error) in zip(paths, MISTAKES, strict=True):
        assert f"{path}:{error}" in done.stderr
    # `run` says the same of the first one it meets
    done = ebpfsim("run", paths[0])
    assert done.returncode == 2
    assert done.stderr.startswith(f"{paths[0]}:{MISTAKES[0][2]}\n")
