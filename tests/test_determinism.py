"""The same scenario gives the same bytes (text, JSON, pcapng) in another process and under another hash seed."""

import os
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
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_scenario_gives_the_same_bytes_under_two_hash_seeds(
    scenario: Path, options: tuple[str, ...], tmp_path: Path
) -> None:
    first = run(scenario, 1, tmp_path, *options)
    second = run(scenario, 2, tmp_path, *options)
    assert first.status == 0, first.stderr.decode()
    assert first.stdout
    assert first == second


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 5
