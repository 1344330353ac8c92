"""Static routes of networks that were built by hand: over bridges, VLANs and pairs, past hosts that do not forward."""

from ebpfsim import Simulation
from ebpfsim.auto_routes import auto_routes, links, shown_pairs

FORWARD = {"net.ipv4.ip_forward": 1}


def cable(sim, a, name_a, address_a, b, name_b, address_b):
    return sim.link(a.nic(name_a, address_a), b.nic(name_b, address_b))


def test_a_path_over_a_bridge_a_vlan_and_a_namespace() -> None:
    """a - switch - r (VLAN 7 of its cable) - s - namespace of s: the packet comes, and so does the answer."""
    sim = Simulation(seed=1)
    a, switch, s = sim.host("a"), sim.host("switch"), sim.host("s", sysctl=FORWARD)
    r = sim.host("r", sysctl=FORWARD)
    cable(sim, a, "eth0", "10.0.0.1/24", switch, "eth0", ())
    cable(sim, switch, "eth1", (), r, "eth0", "10.0.0.2/24")
    switch.bridge("br0", ["eth0", "eth1"])
    cable(sim, r, "eth1", (), s, "eth0", ())
    r.vlan("eth1.7", "eth1", 7, address="10.0.7.1/24")
    s.vlan("eth0.7", "eth0", 7, address="10.0.7.2/24")
    s.vlan("eth0.8", "eth0", 8, address="10.0.8.2/24")
    blue = s.netns("blue")
    s.veth("veth0", "blue/veth1", address="10.1.0.1/24", peer_address="10.1.0.2/24")
    lost = auto_routes(sim)
    assert lost == []
    assert str(a.net.fib.lookup(0x0A010002)) == "default via 10.0.0.2 dev eth0"
    assert str(r.net.fib.lookup(0x0A010002)) == "10.1.0.0/24 via 10.0.7.2 dev eth1.7"
    assert str(r.net.fib.lookup(0x0A000802)) == "10.0.8.0/24 via 10.0.7.2 dev eth1.7"
    ping = a.net.ping_socket()
    ping.send_echo("10.1.0.2")
    sim.run(until="1s")
    assert len(ping.received) == 1
    number = links(sim)
    assert number[a.device("eth0")] == number[r.device("eth0")] == number[switch.device("br0")]
    assert number[r.device("eth1.7")] == number[s.device("eth0.7")] != number[r.device("eth1")]
    assert number[s.device("eth0.8")] != number[s.device("eth0.7")]
    assert number[blue.device("veth1")] == number[s.device("veth0")]


def test_all_shortest_paths_become_next_hops() -> None:
    """a - r0 - {r1, r2} - b: r0 and r3 have two ways, and flows take both."""
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    r = [sim.host(f"r{n}", sysctl={**FORWARD, "net.ipv4.fib_multipath_hash_policy": 1}) for n in range(4)]
    cable(sim, a, "eth0", "10.0.0.1/24", r[0], "eth0", "10.0.0.2/24")
    cable(sim, r[0], "eth1", "10.0.1.1/24", r[1], "eth0", "10.0.1.2/24")
    cable(sim, r[0], "eth2", "10.0.2.1/24", r[2], "eth0", "10.0.2.2/24")
    cable(sim, r[1], "eth1", "10.0.3.1/24", r[3], "eth0", "10.0.3.2/24")
    cable(sim, r[2], "eth1", "10.0.4.1/24", r[3], "eth1", "10.0.4.2/24")
    cable(sim, r[3], "eth2", "10.0.5.1/24", b, "eth0", "10.0.5.2/24")
    assert auto_routes(sim, multipath=True) == []
    route = r[0].net.fib.lookup(0x0A000502)
    assert str(route) == (
        "10.0.5.0/24 via 10.0.1.2 nexthop via 10.0.1.2 dev eth1 weight 1 nexthop via 10.0.2.2 dev eth2 weight 1"
    )
    received = b.udp_socket(port=9)
    for port in range(40):
        a.udp_socket(port=20000 + port).sendto(b"x", "10.0.5.2", 9)
    sim.run()
    assert len(received.received) == 40
    by_path = [device.stats.rx_packets for device in (r[1].device("eth0"), r[2].device("eth0"))]
    assert min(by_path) > 8


def test_who_does_not_forward_is_no_way() -> None:
    sim = Simulation(seed=1)
    a, m, b = sim.host("a"), sim.host("m"), sim.host("b")
    cable(sim, a, "eth0", "10.0.0.1/24", m, "eth0", "10.0.0.2/24")
    cable(sim, m, "eth1", "10.0.1.2/24", b, "eth0", "10.0.1.1/24")
    lost = auto_routes(sim)
    assert lost == [("b", "10.0.0.0/24"), ("a", "10.0.1.0/24")]
    assert shown_pairs(lost) == [
        ("b", "no path from 'b' to 10.0.0.0/24"),
        ("a", "no path from 'a' to 10.0.1.0/24"),
    ]
    assert shown_pairs([("a", f"10.0.{n}.0/24") for n in range(5)])[0][1].endswith("10.0.2.0/24 and 2 more")


def test_routes_of_somebodys_own_stay() -> None:
    sim = Simulation(seed=1)
    a, r, b = sim.host("a"), sim.host("r", sysctl=FORWARD), sim.host("b")
    cable(sim, a, "eth0", ["10.0.0.1/24"], r, "eth0", ["10.0.0.2/24", "10.0.0.3/24"])
    cable(sim, r, "eth1", "10.0.1.2/24", b, "eth0", "10.0.1.1/24")
    a.net.add_route("default", via="10.0.0.3")
    auto_routes(sim)
    assert str(a.net.fib.lookup(0x0A000101)) == "default via 10.0.0.3 dev eth0"
