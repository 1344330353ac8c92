"""How fast TCP is on this machine: segments with data a second of one bulk flow, both ends and the wire."""

import time

import pytest

import ebpfsim
from netstack.headers import parse_ip
from netstack.tcp_flow import BulkFlow

pytestmark = pytest.mark.bench

SIZE, MSS = 10_000_000, 1448


@pytest.mark.parametrize("congestion", ["reno", "cubic", "dctcp"])
def test_bulk(congestion: str, capsys: pytest.CaptureFixture[str]) -> None:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="1Gbit", delay="100us")
    flow = BulkFlow(a.net, b.net, parse_ip("10.0.0.2"), 5001, SIZE, congestion=congestion)
    started = time.process_time()
    sim.run("2s")
    seconds = time.process_time() - started
    assert flow.ended
    with capsys.disabled():
        print(f"\n  bulk flow, {congestion:28} {SIZE / MSS / seconds:12,.1f} segments/s")
