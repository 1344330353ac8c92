"""Traffic of hosts in a line each."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InputError, NotModelled
from ebpfsim.host_traffic import find_end


def pair():
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="100Mbit", delay="100us")
    return sim, a, b


def test_flows_in_a_line_each() -> None:
    sim, a, b = pair()
    copy = a.bulk_flow("b:5001", size=100_000)
    call = a.udp_flow("10.0.0.2:53", every={"exponential": "1ms"}, size={"uniform": [20, 200]}, count=50)
    paced = a.udp_flow("b:54", rate="1Mbit", duration="100ms", at="1ms")
    web = a.request_flow("b:80", count=10, response={"pareto": [1000, 1.3]}, think="1ms", clients=2)
    flood = a.syn_flood("b:81", every="10us", sources="10.9.0.0/16", count=20)
    sim.run(until="5s")
    assert (copy.received, copy.ended, call.datagrams, web.responses, flood.sent) == (100_000, True, 50, 10, 20)
    # 1,000 bytes at 1 Mbit/s are 8 ms
    assert (paced.sent, paced.done_ns) == (13, 105_000_000)
    assert b.net.snmp["TcpPassiveOpens"] == 3


def test_the_same_seed_gives_the_same_traffic() -> None:
    def run() -> list[bytes]:
        sim, a, _ = pair()
        a.udp_flow("b:53", every={"exponential": "1ms"}, size={"uniform": [20, 200]}, count=50)
        sim.run()
        return [row.data for row in sim.recorder.packets]

    assert run() == run()


def test_who_is_meant() -> None:
    sim, a, b = pair()
    assert find_end(sim, "b", 80) == (b.net, 0x0A000002, 80)
    assert find_end(sim, "10.0.0.1", 80).net is a.net
    assert find_end(sim, "192.0.2.1", 80, needed=False).net is None
    sim.host("lonely")
    for name, message in (("bb", "did you mean 'b'"), ("192.0.2.1", "no host has"), ("lonely", "no address")):
        with pytest.raises(InputError, match=message):
            find_end(sim, name, 80)
    with pytest.raises(NotModelled):
        a.syn_flood("[fd00::1]:80", every="1ms", count=1)
    with pytest.raises(InputError, match="is not ADDRESS:PORT"):
        a.bulk_flow("b")
