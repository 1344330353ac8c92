"""Objects from clang end alike in interpreter and JIT, and in debug mode, which has nothing to report.

Return values, packets and maps are those recorded on Linux.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import ebpfsim

CASES = Path(__file__).resolve().parent.parent / "objects" / "test_objects.py"
spec = importlib.util.spec_from_file_location("objects_cases", CASES)
assert spec is not None
assert spec.loader is not None
objects: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(objects)

NAMES = sorted({name for name, _ in objects.ACCEPTED})


@pytest.mark.parametrize(("engine", "debug"), [("interp", False), ("jit", False), ("interp", True), ("jit", True)])
@pytest.mark.parametrize("name", NAMES)
def test_object_ends_alike(name: str, engine: str, debug: bool) -> None:
    cpu = max(cpu for other, cpu in objects.ACCEPTED if other == name)
    host = ebpfsim.Simulation(seed=1).host("h", cpus=2, engine=engine, debug=debug)
    assert objects.replay(name, cpu, host.bpf) == objects.expected(name, cpu)
