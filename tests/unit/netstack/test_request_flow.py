"""Requests over TCP: all are answered, by as many connections as was said, and what latencies come to."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InputError
from netstack.distribution import Distribution, constant
from netstack.request_flow import RequestFlow

B = 0x0A000002


def pair(**wire):
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), **wire)
    return sim, a.net, b.net


def flow(a, b, **options) -> RequestFlow:
    given = {"request": constant(100), "response": constant(500), "think": constant(0), "count": 12, **options}
    return RequestFlow(a, b, B, 80, **given)


@pytest.mark.parametrize(
    ("per_connection", "clients", "connections"), [(None, 1, 1), (1, 1, 12), (3, 1, 4), (None, 4, 4), (3, 4, 4)]
)
def test_as_many_connections_as_was_said(per_connection, clients: int, connections: int) -> None:
    sim, a, b = pair(delay="1ms")
    made = flow(a, b, per_connection=per_connection, clients=clients)
    sim.run(until="10s")
    assert (made.responses, made.received, made.failed, made.ended) == (12, 12 * 500, 0, True)
    assert (made.connections, b.snmp["TcpPassiveOpens"]) == (connections, connections)


def test_a_request_takes_a_round_trip() -> None:
    """A round trip of 2 ms each; the first one another for the handshake and ARP."""
    sim, a, b = pair(delay="1ms")
    made = flow(a, b, count=5, think=constant(1_000_000))
    sim.run(until="1s")
    assert all(2_000_000 < latency < 2_200_000 for latency in made.latencies_ns[1:])
    assert 6_000_000 < made.latencies_ns[0] < 6_500_000


def test_long_answers_and_losses() -> None:
    sim, a, b = pair(rate="100Mbit", delay="1ms", loss=0.02)
    made = flow(a, b, count=30, clients=3, response=Distribution("pareto", (20_000, 1.2)))
    sim.run(until="60s")
    assert (made.responses, made.failed) == (30, 0)
    assert made.received > 30 * 20_000


def test_an_answer_is_read_whole_though_requests_come_in_pieces() -> None:
    sim, a, b = pair(rate="10Mbit", delay="1ms")
    made = flow(a, b, count=3, request=constant(20_000), response=constant(1))
    sim.run(until="10s")
    assert (made.responses, made.received) == (3, 3)


def test_a_server_that_goes_is_told() -> None:
    sim, a, b = pair(delay="1ms")
    made = flow(a, b, per_connection=1, think=constant(50_000_000))
    sim.clock.call_at(130_000_000, made.server.close)
    sim.run(until="2s")
    assert made.responses == 3
    assert made.failed == 9


def test_what_cannot_be() -> None:
    _, a, b = pair()
    with pytest.raises(InputError, match="a response has at most"):
        flow(a, b, response=constant(1 << 31))
