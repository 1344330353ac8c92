"""pytest: fixtures ``sim``, ``host`` and ``bpf``; scenarios named ``*.sim.yaml`` as tests; packets compared in words.

Loaded by pytest wherever ebpfsim is installed, so nothing of the simulator is imported before a test needs it.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ebpfsim.scenario.expect import Result
    from ebpfsim.simulation import Host, Simulation
    from ebpfsim.syscall import Bpf

__all__ = ["ScenarioFile", "ScenarioItem", "bpf", "host", "sim"]

SUFFIX = ".sim.yaml"
SEED = 1


@pytest.fixture
def sim() -> "Simulation":
    """A simulation without hosts."""
    from ebpfsim.simulation import Simulation

    return Simulation(seed=SEED)


@pytest.fixture
def host(sim: "Simulation") -> "Host":
    """A simulated machine of two CPUs, without network cards."""
    return sim.host("host", cpus=2)


@pytest.fixture
def bpf(host: "Host") -> "Bpf":
    """bpf(2) of that machine."""
    return host.bpf


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ScenarioFile | None":
    """Take scenario files for tests."""
    return ScenarioFile.from_parent(parent, path=file_path) if file_path.name.endswith(SUFFIX) else None


class ScenarioFile(pytest.File):
    """A scenario file."""

    def collect(self) -> Iterable["ScenarioItem"]:
        """Return the one test that it is."""
        yield ScenarioItem.from_parent(self, name=self.path.name.removesuffix(SUFFIX))


class ScenarioItem(pytest.Item):
    """The run of a scenario: passes when its expectations are met."""

    def runtest(self) -> None:
        """Run it from beginning to end."""
        from ebpfsim.scenario.check import check_scenario
        from ebpfsim.scenario.expect import judge
        from ebpfsim.scenario.load import load_scenario
        from ebpfsim.scenario.run import build, finish
        from ebpfsim.scenario.steps import schedule

        checked = check_scenario(load_scenario(self.path))
        running = build(checked)
        schedule(running)
        finish(running, checked.scenario.model.until)
        unmet = [result for result in judge(running) if not result.met]
        if unmet:
            raise UnmetError(unmet)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what went wrong with its place in the file."""
        from ebpfsim.cli.errors import describe
        from ebpfsim.errors import EbpfSimError

        error = excinfo.value
        if isinstance(error, UnmetError):
            return str(error)
        return describe(error) if isinstance(error, EbpfSimError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the test stands and what it is called."""
        return self.path, 0, f"scenario {self.name}"


class UnmetError(Exception):
    """Expectations of a scenario that were not met."""

    def __init__(self, results: "list[Result]") -> None:
        self.results = results
        super().__init__(results)

    def __str__(self) -> str:
        return "\n".join(f"{row.at}: not met: {row.what}: want {row.want}, have {row.have}" for row in self.results)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain why two scapy packets are not equal: header fields, then bytes."""
    packet = sys.modules.get("scapy.packet")
    if op != "==" or packet is None or not (isinstance(left, packet.Packet) and isinstance(right, packet.Packet)):
        return None
    return ["packets differ", *_different_fields(left, right), *_different_bytes(bytes(left), bytes(right))]


def _different_fields(left: Any, right: Any) -> Iterator[str]:
    for index in range(max(len(left.layers()), len(right.layers()))):
        ours, theirs = left.getlayer(index), right.getlayer(index)
        if ours is None or theirs is None or type(ours) is not type(theirs):
            yield f"  layer {index}: {_name(ours)} != {_name(theirs)}"
            return
        for field in ours.fields_desc:
            have, want = ours.getfieldval(field.name), theirs.getfieldval(field.name)
            if have != want:
                yield f"  {_name(ours)}.{field.name}: {have!r} != {want!r}"


def _name(layer: Any) -> str:
    return type(layer).__name__ if layer is not None else "nothing"


def _different_bytes(left: bytes, right: bytes) -> Iterator[str]:
    if len(left) != len(right):
        yield f"  length: {len(left)} != {len(right)} bytes"
    for at in range(0, max(len(left), len(right)), 16):
        have, want = left[at : at + 16], right[at : at + 16]
        if have != want:
            yield f"  bytes {at}: {have.hex(' ')} != {want.hex(' ')}"
