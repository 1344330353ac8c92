"""The scenarios that ship do what they say, quickly; and what a newcomer changes in them has the effect it should."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
NAMES = sorted(str(path.relative_to(SCENARIOS)) for path in SCENARIOS.rglob("*.yaml"))
FIREWALL = "first-steps/xdp-firewall.yaml"


def ebpfsim(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ebpfsim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def changed(name: str, tmp_path: Path, *edits: tuple[str, str]) -> str:
    """A copy of a scenario somewhere else, with some text replaced."""
    text = (SCENARIOS / name).read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    copy = tmp_path / Path(name).name
    copy.write_text(text)
    return str(copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_scenario_that_ships_meets_its_expectations(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = ebpfsim("run", str(SCENARIOS / name))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    # the promise is one second on an idle machine; tests run beside each other
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


@pytest.mark.parametrize("name", NAMES)
def test_scenario_that_ships_is_found_by_its_name(name: str, tmp_path: Path) -> None:
    done = ebpfsim("check", name.removesuffix(".yaml"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_unblocked_source_passes(tmp_path: Path) -> None:
    path = changed(FIREWALL, tmp_path, ("fw/blocked: {10.0.0.66: 1}", "fw/blocked: {10.0.0.77: 1}"))
    done = ebpfsim("run", path)
    assert done.returncode == 1
    assert "XDP_DROP" in done.stdout


@pytest.mark.slow
def test_other_numbers_give_other_counts(tmp_path: Path) -> None:
    edits = [("count: 100", "count: 37"), ("runs: 126", "runs: 63"), ("XDP_DROP: 100", "XDP_DROP: 37")]
    edits.append(("packets: 100, bytes: 5100", "packets: 37, bytes: 1887"))
    done = ebpfsim("run", changed(FIREWALL, tmp_path, *edits))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("attach:", "atach:", "{path}:24:1: error: unknown key 'atach'; did you mean 'attach'?"),
        ("every: 10us", "every: 10uss", "{path}:34:12: error: duration '10uss' is not understood"),
        ("host: client", "host: clint", "{path}:30:11: error: unknown host 'clint'; did you mean 'client'?"),
        (
            "fw/firewall",
            "fw/firewal",
            "{path}:25:26: error: unknown program of 'fw': 'firewal'; did you mean 'firewall'?",
        ),
        (
            "firewall.bpf.o",
            "firewal.bpf.o",
            "{path}:18:28: error: object 'fw': file 'bpf/firewal.bpf.o' does not exist; did you mean 'firewall.bpf.o'?",
        ),
        ("Ether()/IP(", "__import__('os')/IP(", "{path}:32:12: error: unknown layer '__import__'"),
    ],
)
def test_mistake_is_shown_at_its_place(tmp_path: Path, old: str, new: str, error: str) -> None:
    path = changed(FIREWALL, tmp_path, (old, new))
    done = ebpfsim("run", path)
    assert done.returncode == 2
    assert done.stderr.startswith(error.format(path=path)), done.stderr
    assert "Traceback" not in done.stderr
