"""How fast TCP is on this machine: segments with data a second of one bulk flow, both ends and the wire.

A frame alone costs most; where the card finds several at a poll they go up as one packet, so faster wires take less.
"""

import time

import pytest

import ebpfsim
from netstack.headers import parse_ip
from netstack.tcp_flow import BulkFlow

pytestmark = pytest.mark.bench

SIZE, MSS = 10_000_000, 1448


@pytest.mark.parametrize("rate", ["10Gbit", "1Gbit"])
@pytest.mark.parametrize("congestion", ["reno", "cubic", "dctcp"])
def test_bulk(congestion: str, rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    best = 0.0
    for _ in range(2):
        sim = ebpfsim.Simulation(seed=1, record=False)
        a, b = sim.host("a"), sim.host("b")
        sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate=rate, delay="100us")
        flow = BulkFlow(a.net, b.net, parse_ip("10.0.0.2"), 5001, SIZE, congestion=congestion)
        started = time.process_time()
        sim.run("2s")
        best = max(best, SIZE / MSS / (time.process_time() - started))
        assert flow.ended
        assert flow.good
    with capsys.disabled():
        print(f"\n  bulk flow of {rate + ',':8} {congestion:24} {best:12,.1f} segments/s")
