"""Property: whatever is attached, replaced and taken off under traffic, plain lists say what runs (see storm.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from storm import Storm

SUPPORT = Path(__file__).resolve().parents[1] / "support"
DIGEST = """
import sys
sys.path.insert(0, {here!r})
from storm import Storm
storm = Storm(5)
for _ in range(30):
    storm.step()
print(storm.digest.hexdigest())
"""


def stormed(seed: int, steps: int, **more: str) -> Storm:
    """Make so many changes, clear up, and check that nothing is left."""
    storm = Storm(seed, **more)
    for _ in range(steps):
        storm.step()
    storm.end()
    return storm


@pytest.mark.parametrize(("seed", "engine"), [(1, "auto"), (2, "interp")])
def test_orders_generations_images_references_and_counts(seed: int, engine: str) -> None:
    storm = stormed(seed, 120, engine=engine)
    assert len(storm.fds) >= 40
    assert len(storm.hooks) >= 12
    assert {"attach", "link", "update", "detach", "refused"} <= set(storm.changes)


def test_the_same_seed_gives_the_same_images() -> None:
    storm = Storm(5)
    for _ in range(30):
        storm.step()
    env, code = os.environ | {"PYTHONHASHSEED": "1"}, DIGEST.format(here=str(SUPPORT))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == storm.digest.hexdigest()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 16))
def test_two_thousand_changes(seed: int) -> None:
    first, second = stormed(seed, 2000), stormed(seed, 2000)
    assert first.digest.hexdigest() == second.digest.hexdigest()
    assert first.total_runs == second.total_runs
