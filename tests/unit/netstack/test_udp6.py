"""Sockets of IPv6: addresses and ports."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError


@pytest.fixture
def net(lab):
    net = lab.net("a")
    net.add_nic("eth0", "2001:db8::1/64")
    return net


def test_addresses_and_ports(net) -> None:
    with pytest.raises(KernelError) as caught:
        net.udp_socket6("2001:db8::77", 9)
    assert caught.value.errno_name == "EADDRNOTAVAIL"
    first = net.udp_socket6("2001:db8::1", 9)
    for address in ("2001:db8::1", "::"):
        with pytest.raises(KernelError) as caught:
            net.udp_socket6(address, 9)
        assert caught.value.errno_name == "EADDRINUSE"
    net.udp_socket6("::1", 9)
    first.close()
    net.udp_socket6("2001:db8::1", 9)
    assert net.udp_socket6().port != net.udp_socket6().port


def test_the_best_match_gets_a_datagram(lab, net) -> None:
    exact, other = net.udp_socket6("2001:db8::1", 9), net.udp_socket6("::1", 9)
    sender = net.udp_socket6()
    sender.sendto(b"1", "2001:db8::1", 9)
    sender.sendto(b"2", "::1", 9)
    lab.run()
    assert ([one.data for one in exact.received], [one.data for one in other.received]) == ([b"1"], [b"2"])
    assert exact.recvfrom().data == b"1"
    with pytest.raises(KernelError):
        exact.recvfrom()


def test_what_cannot_be_sent(net) -> None:
    sock = net.udp_socket6()
    for data, port, errno in ((bytes(65528), 9, "EMSGSIZE"), (b"", 0, "EINVAL")):
        with pytest.raises(KernelError) as caught:
            sock.sendto(data, "2001:db8::2", port)
        assert caught.value.errno_name == errno


def test_hosts_of_a_simulation_speak_ipv6_through_a_discipline() -> None:
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "2001:db8::1/64"), b.nic("eth0", "2001:db8::2/64"))
    netem = a.qdisc("eth0", "netem", delay="10ms")
    received = b.udp_socket6(port=9)
    a.udp_socket6().sendto(b"hello", "2001:db8::2", 9)
    sim.run()
    assert [datagram.data for datagram in received.received] == [b"hello"]
    # the solicitation and the datagram each wait
    assert (received.received[0].time_ns > 20_000_000, netem.stats.packets) == (True, 2)
