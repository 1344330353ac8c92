"""Bulk flows: all data once and in order whatever is lost, at the rate of the wire, shared fairly (RFC 5681, 9438)."""

import random
from typing import Any

import pytest

import ebpfsim
from netstack.headers import parse_ip
from netstack.tcp_flow import BulkFlow

TARGET = parse_ip("10.0.0.2")
HEADERS = 14 + 20 + 32 + 24  # Ethernet, IP, TCP with timestamps, and what the wire adds


def hosts(seed: int = 1, sysctl: dict[str, int | str] | None = None, **shape: Any) -> tuple[Any, Any, Any]:
    sim = ebpfsim.Simulation(seed=seed)
    a, b = sim.host("a", sysctl=sysctl), sim.host("b", sysctl=sysctl)
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), **shape)
    return sim, a, b


def test_all_bytes_once_and_in_order() -> None:
    sim, a, b = hosts(rate="100Mbit", delay="1ms")
    flow = BulkFlow(a.net, b.net, TARGET, 5001, 1_000_000)
    sim.run("5s")
    assert (flow.received, flow.good, flow.error) == (1_000_000, True, 0)
    assert not [each for each in b.net.tcp.established.values() if each.state.name != "TIME_WAIT"]
    assert a.net.snmp["TcpRetransSegs"] == 0


@pytest.mark.parametrize("seed", range(40))
def test_no_connection_gets_stuck(seed: int) -> None:
    stuck(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40, 2000))
def test_no_connection_gets_stuck_long(seed: int) -> None:
    stuck(seed)


def stuck(seed: int) -> None:
    """Let a flow meet a random wire, with losses in both directions, and options that random hosts have."""
    draw = random.Random(seed)
    options: dict[str, int | str] = {
        "net.ipv4.tcp_sack": int(draw.random() < 0.8), "net.ipv4.tcp_timestamps": int(draw.random() < 0.8),
        "net.ipv4.tcp_window_scaling": int(draw.random() < 0.8),
    }  # fmt: skip
    loss = draw.choice((0.005, 0.02, 0.05, 0.1, 0.2))
    rate, delay = draw.choice(("1Mbit", "10Mbit", "1Gbit")), draw.choice(("10us", "1ms", "30ms"))
    queue = draw.choice((5, 20, 1000))
    sim, a, b = hosts(seed, options, rate=rate, delay=delay, loss=loss, queue=queue)
    size = draw.randrange(1, 60_000)
    flow = BulkFlow(a.net, b.net, TARGET, 5001, size, congestion=draw.choice(("reno", "cubic")))
    sim.run("3000s")
    # a connection may be given up (ETIMEDOUT; EHOSTUNREACH where three ARP requests are lost), also after the program
    # closed it, which is told nothing then (tcp_orphan_retries), but never lies about its data
    assert flow.good
    assert flow.sender is not None
    assert flow.received == size or flow.error or flow.sender.sk_err, (flow.sender, flow.receiver)
    assert not flow.error or loss >= 0.05


# how much a wire of that rate carries, and how long slow start takes from it
@pytest.mark.parametrize(
    ("rate", "delay", "ms"), [("10Mbit", "1ms", 1000), ("10Mbit", "50ms", 8000), ("100Mbit", "5ms", 600)]
)
@pytest.mark.parametrize("congestion", ["reno", "cubic"])
def test_throughput_is_the_rate_of_the_wire(rate: str, delay: str, ms: int, congestion: str) -> None:
    sim, a, b = hosts(rate=rate, delay=delay)
    flow = BulkFlow(a.net, b.net, TARGET, 5001, congestion=congestion)
    # the second half of the time
    sim.run(f"{ms // 2}ms")
    first = flow.received
    sim.run(f"{ms}ms")
    bits = {"10Mbit": 10**7, "100Mbit": 10**8}[rate]
    best = bits / 8 * ms / 2000 * 1448 / (1448 + HEADERS)
    assert 0.9 * best <= flow.received - first <= 1.01 * best


def test_two_reno_flows_share_a_wire() -> None:
    # Jain's index of what both get through one queue
    sim, a, b = hosts(rate="4Mbit", delay="10ms", queue=20)
    flows = [
        BulkFlow(a.net, b.net, TARGET, 5001 + number, congestion="reno", start_ns=number * 10**8) for number in range(2)
    ]
    sim.run("5s")
    before = [flow.received for flow in flows]
    sim.run("35s")
    got = [flow.received - first for flow, first in zip(flows, before, strict=True)]
    assert sum(got) ** 2 / (2 * sum(each * each for each in got)) > 0.95
    assert sum(got) * 8 / 30 > 0.9 * 4e6 * 1448 / (1448 + HEADERS)


@pytest.mark.long
@pytest.mark.parametrize(("delay", "rtt_s", "loss", "seconds"), [("10ms", 0.02, 0.01, 60), ("50ms", 0.1, 0.005, 120)])
def test_losses_limit_reno_as_mathis_says(delay: str, rtt_s: float, loss: float, seconds: int) -> None:
    # Mathis et al. 1997: MSS / RTT * sqrt(3 / 2p), with an ACK that counts every segment
    sim, a, b = hosts(rate="1Gbit", delay=delay, loss=loss)
    flow = BulkFlow(a.net, b.net, TARGET, 5001, congestion="reno")
    sim.run(f"{seconds // 4}s")
    first = flow.received
    sim.run(f"{seconds}s")
    rate = (flow.received - first) / (seconds - seconds // 4)
    assert rate == pytest.approx(1448 / rtt_s * (1.5 / loss) ** 0.5, rel=0.1)
