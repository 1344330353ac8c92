"""The pytest plugin, in runs of pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

FIXTURES = """
def test_fixtures(sim, host, bpf):
    assert sim.hosts == {"host": host} and host.bpf is bpf and len(host.kernel.cpus) == 2
    fd = bpf.map_create(2, 4, 8, 1)
    assert bpf.map_lookup_elem(fd, bytes(4)) == bytes(8)
"""
PACKETS = """
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

def test_packets():
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    one = ether / IP(src="10.0.0.1", dst="10.0.0.2", ttl=64) / UDP(dport=1)
    assert one == ether / IP(src="10.0.0.1", dst="10.0.0.2", ttl=63) / UDP(dport=2)
"""
SCENARIO = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0]}]
sockets: {s: {host: b, udp: 0.0.0.0:53}}
events: [{at: 0, host: a, device: eth0, send: "Ether()/IP(dst='10.0.0.2')/UDP(dport=53)", count: 3}]
expect:
  - {socket: s, received: 3}
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # named here, whether or not the installed package has the entry point
    command = [sys.executable, "-m", "pytest", "-p", "ebpfsim.pytest_plugin", "-p", "no:cacheprovider", *arguments]
    env = {**os.environ, "PYTEST_ADDOPTS": "", "COLUMNS": "120", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


@pytest.mark.slow
def test_fixtures_scenarios_and_packets(folder: Path) -> None:
    (folder / "test_fixtures.py").write_text(FIXTURES)
    (folder / "test_packets.py").write_text(PACKETS)
    (folder / "right.sim.yaml").write_text(SCENARIO)
    (folder / "unmet.sim.yaml").write_text(SCENARIO.replace("received: 3", "received: 4"))
    (folder / "wrong.sim.yaml").write_text(SCENARIO.replace("links:", "lnks:"))
    (folder / "not-collected.yaml").write_text("x")
    done = run_pytest(folder, "-v")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    verdicts = {line.split()[0]: line.split()[1] for line in lines if "::" in line and line.endswith("%]")}
    assert verdicts == {
        "right.sim.yaml::right": "PASSED",
        "unmet.sim.yaml::unmet": "FAILED",
        "wrong.sim.yaml::wrong": "FAILED",
        "test_fixtures.py::test_fixtures": "PASSED",
        "test_packets.py::test_packets": "FAILED",
    }
    unmet = f"{folder / 'unmet.sim.yaml'}:8:5: not met: socket 's': datagrams received: want 4, have 3"
    assert unmet in lines
    assert f"{folder / 'wrong.sim.yaml'}:4:1: error: unknown key 'lnks'; did you mean 'links'?" in lines
    assert "E IP.ttl: 64 != 63" in lines
    assert "E UDP.dport: 1 != 2" in lines
    assert any(line.startswith("E bytes 16: ") for line in lines)


@pytest.mark.slow
def test_importing_the_plugin_imports_nothing_of_the_simulator() -> None:
    code = "import ebpfsim.pytest_plugin, sys; print(*(n for n in sys.modules if n[:5] in ('ebpfs', 'simpy', 'scapy')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) <= {"ebpfsim", "ebpfsim.errnos", "ebpfsim.errors", "ebpfsim.pytest_plugin"}
