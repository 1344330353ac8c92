"""Where frames go, as the bridge of Linux 6.18.44 sent them; its counters leave the pulled header out."""

import pytest

from ebpfsim.errors import KernelError
from netstack.rtnl import add_bridge, add_veth

HOSTS = [f"02:00:00:00:00:0{n}" for n in range(1, 4)]
PORTS = [f"02:00:00:00:01:0{n}" for n in range(1, 4)]


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def frame(dst: str, src: str, protocol: int = 0x88B5) -> bytes:
    return mac(dst) + mac(src) + protocol.to_bytes(2, "big") + bytes(50)


@pytest.fixture
def net(lab):
    """Three hosts h0, h1, h2, each a namespace, on ports p0, p1, p2 of br0."""
    net = lab.net("br")
    for number in range(3):
        host = net.add_namespace(f"h{number}")
        add_veth(net, f"p{number}", host, "eth0", mac=PORTS[number], peer_mac=HOSTS[number])
    add_bridge(net, "br0", [net.devices[f"p{number}"] for number in range(3)])
    return net


def send(lab, net, host: int, data: bytes) -> list[str]:
    """Send from a host; the devices that have received it, in their order, without the port that it came in by."""
    lab.recorder.packets.clear()
    net.namespaces[f"h{host}"].devices["eth0"].inject(data)
    lab.run()
    seen = [f"{r.host}/{r.device}".removeprefix("br/") for r in lab.recorder.packets if r.direction == "in"]
    return seen[1:]


def test_address_and_mtu_are_those_of_the_ports(net) -> None:
    bridge = net.devices["br0"]
    assert (bridge.mac, bridge.mtu) == (mac(PORTS[0]), 1500)
    net.devices["p1"].set_mtu(1400)
    bridge.del_port(net.devices["p0"])
    assert (bridge.mac, bridge.mtu) == (mac(PORTS[1]), 1400)


def test_unknown_addresses_are_flooded_and_sources_learned(lab, net) -> None:
    assert send(lab, net, 0, frame(HOSTS[1], HOSTS[0])) == ["h2/eth0", "h1/eth0"]
    assert send(lab, net, 1, frame(HOSTS[0], HOSTS[1])) == ["h0/eth0"]
    assert send(lab, net, 0, frame(HOSTS[1], HOSTS[0])) == ["h1/eth0"]
    assert net.devices["br0"].fdb()[HOSTS[1]] == ("p1", False)


def test_groups_go_everywhere_and_up(lab, net) -> None:
    bridge = net.devices["br0"]
    # the backlog receives what the peers were sent after the bridge has got its own
    assert send(lab, net, 2, frame("ff:ff:ff:ff:ff:ff", HOSTS[2])) == ["h1/eth0", "h0/eth0", "br0"]
    assert send(lab, net, 2, frame("01:00:5e:00:00:05", HOSTS[2])) == ["h1/eth0", "h0/eth0", "br0"]
    assert (bridge.stats.rx_packets, bridge.stats.rx_bytes, bridge.stats.multicast) == (2, 100, 1)


def test_local_addresses_go_up_only(lab, net) -> None:
    for address in (PORTS[0], PORTS[2]):
        assert send(lab, net, 1, frame(address, HOSTS[1])) == ["br0"]


def test_link_local_groups_stay(lab, net) -> None:
    assert send(lab, net, 0, frame("01:80:c2:00:00:0e", HOSTS[0])) == []
    assert send(lab, net, 0, frame("01:80:c2:00:00:00", HOSTS[0])) == ["h2/eth0", "h1/eth0", "br0"]
    assert send(lab, net, 0, frame("01:80:c2:00:00:01", HOSTS[0])) == []
    assert net.drops["MAC_IEEE_MAC_CONTROL"] == 1


def test_wrong_sources_are_dropped(lab, net) -> None:
    send(lab, net, 0, frame(HOSTS[1], "01:00:00:00:00:01"))
    send(lab, net, 0, frame(HOSTS[1], "00:00:00:00:00:00"))
    assert net.drops["MAC_INVALID_SOURCE"] == 2


def test_addresses_move_and_age(lab, net) -> None:
    bridge = net.devices["br0"]
    send(lab, net, 0, frame(HOSTS[1], HOSTS[0]))
    send(lab, net, 1, frame(HOSTS[2], HOSTS[0]))
    assert bridge.fdb()[HOSTS[0]] == ("p1", False)
    lab.run(lab.clock.now_ns + 300 * 10**9)
    assert HOSTS[0] not in bridge.fdb()
    assert send(lab, net, 2, frame(HOSTS[0], HOSTS[2])) == ["h1/eth0", "h0/eth0"]


def test_the_host_talks_through_its_bridge(lab, net) -> None:
    bridge, host = net.devices["br0"], net.namespaces["h1"]
    net.add_address(bridge, "10.0.0.254/24")
    host.add_address(host.devices["eth0"], "10.0.0.1/24")
    received = host.udp_socket("10.0.0.1", 9)
    net.udp_socket("10.0.0.254", 1).sendto(b"hello", "10.0.0.1", 9)
    lab.run()
    assert [each.data for each in received.received] == [b"hello"]


def test_ports_that_cannot_be(lab, net) -> None:
    bridge = net.devices["br0"]
    other = add_bridge(net, "br1")
    for dev, errno in ((net.loopback, 22), (net.devices["p0"], 16), (other, 40)):
        with pytest.raises(KernelError) as refused:
            bridge.add_port(dev)
        assert refused.value.errno == errno


def test_programs_on_ports_see_frames_first(lab, net) -> None:
    link = lab.attach(net.devices["p0"], "r0 = 1; exit")
    assert send(lab, net, 0, frame(HOSTS[1], HOSTS[0])) == []
    assert (link.stats.runs, net.devices["br0"].fdb().get(HOSTS[0])) == (1, None)


def test_ports_are_free_without_their_bridge(lab, net) -> None:
    net.unregister(net.devices["br0"])
    assert all(net.devices[name].rx_handler is None for name in ("p0", "p1", "p2"))
