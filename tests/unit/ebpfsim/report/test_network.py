"""The picture of a network: rows of hosts, and what cables and hosts show."""

import xml.etree.ElementTree as ET

from ebpfsim import Simulation
from ebpfsim.report.network import layers, picture
from ebpfsim.topology import plan_topology, topology

SVG = "{http://www.w3.org/2000/svg}"


def test_a_fat_tree_has_its_four_layers() -> None:
    plan = plan_topology("fat-tree", {"k": 4})
    rows = layers(plan.nodes, [(a.node, b.node) for a, b in plan.cables])
    assert [len(row) for row in rows] == [16, 8, 8, 4]
    assert [row[0].rstrip("0123456789-") for row in rows] == ["h", "edge", "agg", "core"]
    # every edge router stands above its own hosts
    assert rows[1] == [f"edge{pod}-{index}" for pod in range(4) for index in range(2)]


def test_rings_and_lonely_hosts_have_a_place() -> None:
    names = ["a", "b", "c", "lonely"]
    assert sorted(name for layer in layers(names, [("a", "b"), ("b", "c"), ("c", "a")]) for name in layer) == names
    assert layers([], []) == []


def test_what_a_cable_carried_is_on_it() -> None:
    sim = Simulation(seed=1)
    nodes = topology(sim, "star", n=2)
    nodes["h1"].udp_socket(port=9)
    nodes["h0"].udp_socket().sendto(b"x", "10.0.0.6", 9)
    sim.run()
    drawn = ET.fromstring(picture(sim))
    titles = [each.findtext(f"{SVG}title") for each in drawn.iter(f"{SVG}line")]
    assert titles == [
        "r0/eth0 > h0/eth0: 1 frames\nh0/eth0 > r0/eth0: 2 frames",
        "r0/eth1 > h1/eth0: 2 frames\nh1/eth0 > r0/eth1: 1 frames",
    ]
    kinds = {each.findtext(f"{SVG}title").split("\n")[0]: each.get("class") for each in drawn.iter(f"{SVG}rect")}
    assert kinds == {"r0": "router", "h0": "machine", "h1": "machine"}


def test_without_cables_there_is_no_picture() -> None:
    sim = Simulation(seed=1)
    sim.host("a")
    assert picture(sim) == ""
