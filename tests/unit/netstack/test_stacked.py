"""VLANs, macvlan, bonds, dummies and ifb: what the drivers of v6.18 do with a packet."""

import pytest

from ebpfsim.errors import KernelError
from netstack.rtnl import add_bond, add_dummy, add_ifb, add_macvlan, add_veth, add_vlan

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


@pytest.fixture
def pair(lab):
    """veth0 here, eth0 in namespace b."""
    net = lab.net("h")
    return add_veth(net, "veth0", net.add_namespace("b"), "eth0", mac=A, peer_mac=B)


def hello(lab, sender, receiver, address: str) -> list[bytes]:
    got = receiver.udp_socket(port=9)
    sender.udp_socket().sendto(b"hello", address, 9)
    lab.run()
    return [each.data for each in got.received]


def test_a_vlan_tags_what_it_sends(lab, pair) -> None:
    a, b = pair
    for dev, address in ((a, "10.0.0.1/24"), (b, "10.0.0.2/24")):
        vlan = add_vlan(dev, f"{dev.name}.5", 5)
        dev.net.add_address(vlan, address)
        assert (vlan.mac, vlan.mtu) == (dev.mac, 1500)
    assert hello(lab, a.net, b.net, "10.0.0.2") == [b"hello"]
    tags = {r.data[12:16].hex() for r in lab.recorder.packets if r.device == "eth0" and r.direction == "in"}
    assert tags == {"81000005"}
    above = [r.data[12:14].hex() for r in lab.recorder.packets if r.device == "eth0.5" and r.direction == "in"]
    assert above == ["0806", "0800"]
    # the datagram's 33 bytes with its IP header, and an ARP packet's 28
    assert (b.net.devices["eth0.5"].stats.rx_packets, b.net.devices["eth0.5"].stats.rx_bytes) == (2, 61)


def test_a_vlan_without_a_device_is_for_others(lab, pair) -> None:
    a, b = pair
    a.net.add_address(add_vlan(a, "v", 7), "10.0.0.1/24")
    b.net.add_address(b, "10.0.0.2/24")
    assert hello(lab, a.net, b.net, "10.0.0.2") == []


@pytest.mark.parametrize(("vid", "errno"), [(5, 17), (4096, 34)])
def test_vlans_that_cannot_be(pair, vid, errno) -> None:
    add_vlan(pair[0], "v5", 5)
    with pytest.raises(KernelError) as refused:
        add_vlan(pair[0], "v", vid)
    assert refused.value.errno == errno


def test_vlans_go_with_their_device(pair) -> None:
    net = pair[0].net
    add_vlan(pair[0], "v5", 5)
    net.unregister(pair[0])
    assert list(net.devices) == ["lo"]


def test_a_dummy_swallows(lab) -> None:
    net = lab.net("h")
    dummy = add_dummy(net, "d0")
    net.add_address(dummy, "10.0.0.1/24")
    net.udp_socket().sendto(b"hello", "10.0.0.9", 9)
    lab.run()
    assert (dummy.stats.tx_packets, dummy.stats.tx_bytes) == (1, 47)


def test_macvlans_of_a_device_see_each_other_and_the_wire(lab, pair) -> None:
    a, b = pair
    one, two = a.net.add_namespace("one"), a.net.add_namespace("two")
    one.add_address(add_macvlan(a, one, "m"), "10.0.0.1/24")
    two.add_address(add_macvlan(a, two, "m"), "10.0.0.2/24")
    b.net.add_address(b, "10.0.0.3/24")
    assert hello(lab, one, two, "10.0.0.2") == [b"hello"]
    assert hello(lab, two, b.net, "10.0.0.3") == [b"hello"]
    assert hello(lab, b.net, one, "10.0.0.1") == [b"hello"]
    with pytest.raises(KernelError):
        add_macvlan(a, a.net, "m", mode="private")


@pytest.mark.parametrize("mode", ["balance-rr", "active-backup"])
def test_bonds_send_by_their_devices(lab, mode) -> None:
    net = lab.net("h")
    ends = [add_veth(net, f"s{n}", net.add_namespace(f"n{n}"), "eth0") for n in range(2)]
    bond = add_bond(net, "bond0", [near for near, _ in ends], mode=mode)
    assert {near.mac for near, _ in ends} == {bond.mac}
    for _ in range(4):
        bond.inject(b"\xff" * 6 + bond.mac + b"\x88\xb5" + bytes(50))
    lab.run()
    assert [near.stats.tx_packets for near, _ in ends] == ([2, 2] if mode == "balance-rr" else [4, 0])
    for _, far in ends:
        far.inject(bond.mac + far.mac + b"\x88\xb5" + bytes(50))
    lab.run()
    # what comes in by the one that is not active stays there
    assert bond.stats.rx_packets == (2 if mode == "balance-rr" else 1)


def test_ifb_drops_what_nobody_has_redirected(lab) -> None:
    ifb = add_ifb(lab.net("h"), "ifb0")
    ifb.inject(b"\xff" * 6 + bytes(6) + b"\x88\xb5" + bytes(50))
    assert (ifb.stats.rx_packets, ifb.stats.rx_dropped, ifb.stats.tx_packets) == (1, 1, 0)
