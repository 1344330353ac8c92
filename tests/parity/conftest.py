"""The same network in namespaces of this kernel and in the simulated one."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _module(name: str) -> Any:
    # tests are no package
    found = sys.modules.get(f"parity_{name}")
    if found is None:
        spec = importlib.util.spec_from_file_location(f"parity_{name}", HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        found = sys.modules[f"parity_{name}"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    return found


@pytest.fixture
def packets() -> Callable[..., list[bytes]]:
    """Return frames by a seed."""
    made: Callable[..., list[bytes]] = _module("packets").packets
    return made


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many packets: all of them with ``-m parity``, a few in other runs."""
    return 10_000 if "parity" in str(request.config.option.markexpr) else 400


@pytest.fixture
def both() -> Iterator[Callable[[Callable[[Any], Any]], tuple[Any, Any]]]:
    """Return what runs a story in both worlds: first as this kernel tells it, then as the simulated one does."""
    live = _module("live_world")
    if not live.available():
        pytest.skip("network namespaces need root and iproute2")

    def run(story: Callable[[Any], Any]) -> tuple[Any, Any]:
        told = []
        for world in (live.LiveWorld(), _module("sim_world").SimWorld()):
            try:
                told.append(story(world))
            finally:
                world.close()
        return told[0], told[1]

    return run
