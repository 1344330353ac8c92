"""Networks by name: their sizes (of fat trees after Al-Fares et al., 2008), and that everybody reaches everybody."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InputError
from ebpfsim.topology import auto_routes, topology


def reach(sim, nodes, a: str, b: str) -> bool:
    target = nodes[b].device("eth0").addresses[0].address
    socket = nodes[b].udp_socket(port=9)
    dotted = ".".join(str(target >> shift & 255) for shift in (24, 16, 8, 0))
    nodes[a].udp_socket().sendto(b"x", dotted, 9)
    sim.run()
    found = len(socket.received) == 1
    socket.close()
    return found


@pytest.mark.parametrize(
    ("name", "options", "nodes", "wires"),
    [
        ("line", {"n": 5}, 5, 4),
        ("star", {"n": 6}, 7, 6),
        ("fat-tree", {"k": 2}, 7, 6),
        ("fat-tree", {"k": 4}, 36, 48),
        ("clos", {"spines": 2, "leaves": 3, "hosts": 2}, 11, 12),
    ],
)
def test_sizes_and_reachability(name, options, nodes, wires) -> None:
    sim = Simulation(seed=1)
    made = topology(sim, name, **options, rate="1Gbit", delay="1us")
    assert (len(made), len(sim.wires)) == (nodes, wires)
    hosts = sorted((each for each in made if each.startswith("h")), key=lambda each: int(each[1:]))
    assert reach(sim, made, hosts[0], hosts[-1])
    assert reach(sim, made, hosts[-1], hosts[0])


def test_a_fat_tree_is_crossed_in_six_hops() -> None:
    """Hosts of different pods are four routers and a core apart: the TTL shows five routers."""
    sim = Simulation(seed=1)
    nodes = topology(sim, "fat-tree", k=4)
    assert reach(sim, nodes, "h0", "h15")
    last = [r for r in sim.recorder.packets if r.host == "h15" and r.direction == "in" and r.data[12:14] == b"\x08\0"]
    assert last[-1].data[22] == 64 - 5


def test_networks_that_no_path_joins_are_told() -> None:
    sim = Simulation(seed=1)
    for n in range(4):
        sim.host(f"x{n}")
    for n in (0, 2):
        a, b = (sim.hosts[f"x{n + k}"].nic("eth0", f"10.{n}.0.{k + 1}/24") for k in range(2))
        sim.link(a, b)
    assert auto_routes(sim) == [(f"x{n}", "10.0.0.0/24") for n in (2, 3)] + [(f"x{n}", "10.2.0.0/24") for n in (0, 1)]


@pytest.mark.parametrize(("name", "options"), [("fat-tree", {"k": 3}), ("ring", {})])
def test_what_cannot_be(name, options) -> None:
    with pytest.raises(InputError):
        topology(Simulation(), name, **options)
