"""The same scenario gives the same bytes (text, JSON, pcapng) in another process and under another hash seed."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = sorted(path.relative_to(ROOT / "scenarios") for path in (ROOT / "scenarios").rglob("*.yaml"))


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind."""

    status: int
    stdout: bytes
    stderr: bytes
    pcapng: bytes


def run(scenario: Path, hash_seed: int, folder: Path, *options: str) -> Outcome:
    pcap = folder / "out.pcapng"
    command = [
        sys.executable,
        "-m",
        "ebpfsim",
        "run",
        str(ROOT / "scenarios" / scenario),
        "--pcap",
        str(pcap),
        *options,
    ]
    env = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, env=env, cwd=folder, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr, pcap.read_bytes() if pcap.exists() else b"")


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_scenario_gives_the_same_bytes_under_two_hash_seeds(scenario: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    first = run(scenario, 1, tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert first.status == 0, (first.stdout + first.stderr).decode()
    assert first.stdout
    assert first.stderr == b""
    assert first == run(scenario, 2, tmp_path)
    # the promise is one second of CPU on an idle machine; tests run beside each other
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.5


@pytest.mark.slow
def test_json_is_the_same_too(tmp_path: Path) -> None:
    first, second = (run(SCENARIOS[-1], seed, tmp_path, "--json") for seed in (1, 2))
    assert json.loads(first.stdout)["met"] is True
    assert first == second


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 5
