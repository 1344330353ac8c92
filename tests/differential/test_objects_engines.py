"""Objects from clang end alike in interpreter and JIT: return values, packets and maps as recorded on Linux."""

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ebpfsim
from ebpfsim.config import KernelConfig

CASES = Path(__file__).resolve().parent.parent / "objects" / "test_objects.py"
spec = importlib.util.spec_from_file_location("objects_cases", CASES)
assert spec is not None
assert spec.loader is not None
objects: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(objects)

NAMES = sorted({name for name, _ in objects.ACCEPTED})


@pytest.mark.parametrize("engine", ["interp", "jit"])
@pytest.mark.parametrize("name", NAMES)
def test_object_ends_alike(name: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebpfsim.simulation.KernelConfig", partial(KernelConfig, engine=engine))
    cpu = max(cpu for other, cpu in objects.ACCEPTED if other == name)
    host = ebpfsim.Simulation(seed=1).host("h", cpus=2)
    assert host.kernel.config.engine == engine
    assert objects.replay(name, cpu, host.bpf) == objects.expected(name, cpu)
