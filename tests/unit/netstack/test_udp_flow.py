"""Flows of UDP and floods: how many, how far apart, how long on the way."""

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from ebpfsim import Simulation
from ebpfsim.errors import InputError, KernelError
from netstack.distribution import Distribution, constant
from netstack.udp_flow import Flood, UdpFlow, syn_template

B = 0x0A000002


def pair(**wire):
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), **wire)
    return sim, a, b


def test_a_rate_is_kept_to_the_bit() -> None:
    """10 Mbit/s of payload for a second are 1,250,000 bytes, whatever the sizes are."""
    sim, a, b = pair()
    flow = UdpFlow(
        a.net, b.net, B, 53, size=Distribution("uniform", (10, 1400)), rate_bps=10_000_000, for_ns=1_000_000_000
    )
    sim.run()
    assert flow.sent_bytes == pytest.approx(1_250_000, abs=1400)
    assert (flow.received, flow.lost, flow.ended, flow.reordered) == (flow.sent_bytes, 0, True, 0)


def test_what_is_lost_and_how_long_the_rest_took() -> None:
    sim, a, b = pair(delay="1ms", loss=0.1)
    b.net.neigh.add(b.device("eth0"), 0x0A000001, a.device("eth0").mac)
    a.net.neigh.add(a.device("eth0"), B, b.device("eth0").mac)
    flow = UdpFlow(a.net, b.net, B, 53, size=constant(100), every=constant(1_000_000), count=500)
    sim.run()
    assert (flow.sent, flow.datagrams + flow.lost) == (500, 500)
    assert 25 < flow.lost < 80
    assert 1_000_000 <= flow.delay_min_ns <= flow.delay_mean_ns <= flow.delay_max_ns < 1_100_000


def test_poisson_arrivals_have_their_mean_distance() -> None:
    sim, a, b = pair()
    flow = UdpFlow(a.net, b.net, B, 53, size=constant(4), every=Distribution("poisson", (1e6,)), count=1000)
    sim.run()
    assert flow.done_ns == pytest.approx(1e9, rel=0.1)
    # too short for a number and a time
    assert (flow.datagrams, flow.delay_min_ns) == (1000, None)


def test_nobody_to_send_to() -> None:
    sim, a, _ = pair()
    flow = UdpFlow(a.net, None, 0xC0000201, 53, size=constant(10), every=constant(1000), count=5)
    sim.run()
    assert (flow.refused, flow.sent, flow.datagrams) == (5, 5, 0)


def test_a_port_is_one_flow_s() -> None:
    _, a, b = pair()
    UdpFlow(a.net, b.net, B, 53, size=constant(10), every=constant(1000), count=5)
    with pytest.raises(KernelError, match="EADDRINUSE"):
        UdpFlow(a.net, b.net, B, 53, size=constant(10), every=constant(1000), count=5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "a rate or a distance"), ({"every": constant(0)}, "without any time"),
     ({"rate_bps": 1, "size": constant(70000)}, "at most 65507")],
)  # fmt: skip
def test_what_cannot_be(options, message: str) -> None:
    _, a, b = pair()
    with pytest.raises(InputError, match=message):
        UdpFlow(a.net, b.net, B, 53, **{"size": constant(10), **options})


def test_a_flood_of_syns() -> None:
    from ipaddress import IPv4Network

    sim, a, b = pair()
    template = syn_template(a.device("eth0"), B, 80, b.device("eth0").mac)
    flood = Flood(a.device("eth0"), template, every=constant(10_000), sources=IPv4Network("10.9.0.0/24"), count=200)
    sim.run(until="10ms")
    assert (flood.sent, flood.ended) == (200, True)
    frames = [Ether(row.data) for row in sim.recorder.packets if row.host == "b" and row.direction == "in"]
    syns = [frame for frame in frames if TCP in frame]
    assert len(syns) == 200
    assert {(frame[IP].dst, frame[TCP].dport, str(frame[TCP].flags)) for frame in syns} == {("10.0.0.2", 80, "S")}
    assert all(frame[IP].src.startswith("10.9.0.") for frame in syns)
    assert len({frame[TCP].seq for frame in syns}) == 200
    assert dict(syns[0][TCP].options) == {"MSS": 1460, "NOP": None, "SAckOK": b"", "WScale": 7}
    # right sums: the server answers with a reset each, nothing is dropped for its checksum
    assert b.net.snmp["TcpInCsumErrors"] == b.net.snmp["TcpInErrs"] == 0
    with pytest.raises(InputError, match="a count or a time"):
        Flood(a.device("eth0"), template, every=constant(1))
