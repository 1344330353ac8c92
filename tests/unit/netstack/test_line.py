"""Frames that programs send on come to the same when polls are computed ahead as with an event for each frame."""

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.line import Convoy
from netstack.traffic import inject

FRAME = bytes.fromhex("02000000020102000000010108004500002e00010000401166cc0a0000010a000002") + bytes(30)
COUNT = "r6 = r1; r1 = 0; *(u32 *)(r10 - 4) = r1; r1 = map_fd[{counter}]; r2 = r10; r2 += -4;"
COUNT += "call bpf_map_lookup_elem; if r0 == 0 goto +4; r7 = *(u64 *)(r0 + 0); r8 = r7; r8 += 1; *(u64 *)(r0 + 0) = r8;"
DROP, TX = "r0 = 1; exit", "r0 = 3; exit"
TO_MAP = "r1 = map_fd[{devmap}]; r2 = 0; r3 = 0; call bpf_redirect_map; exit"
TO_IFINDEX = "r1 = 3; r2 = 0; call bpf_redirect; exit"
# every eighth frame goes back, every eighth one is dropped
SWAY = COUNT + "r7 &= 7; if r7 == 3 goto tx; if r7 == 5 goto drop; r1 = map_fd[{devmap}]; r2 = 0; r3 = 0;"
SWAY += "call bpf_redirect_map; exit; tx: r0 = 3; exit; drop: r0 = 1; exit"
GROW = "r2 = -4; call bpf_xdp_adjust_head; r0 = 3; exit"
PASS_ONE = COUNT + "r0 = 1; if r7 != 500 goto +1; r0 = 2; exit"


def chain(record: bool, texts: tuple[str, str, str], every: int, *, count: int = 2000, ring: int = 512, **wire):
    """A flood from a to b, which may send it back or on to c; what is to be seen afterwards."""
    sim = Simulation(seed=1, record=record)
    hosts = [sim.host(name) for name in "abc"]
    a, b, c = hosts
    options = {"rate": "10Gbit", "delay": "1us", **wire}
    sim.link(a.nic("eth0", ring=ring), b.nic("eth0", ring=ring), **options)
    sim.link(b.nic("eth1"), c.nic("eth0", ring=ring), **options)
    counters, links = [], []
    for host, text in zip(hosts, texts, strict=True):
        counters.append(host.bpf.map_create(MapType.ARRAY, 4, 8, 1))
        devmap = host.bpf.map_create(MapType.DEVMAP, 4, 4, 4)
        if host is b:
            host.bpf.map_update_elem(devmap, bytes(4), (3).to_bytes(4, "little"))
        code = encode(assemble(text.format(counter=counters[-1], devmap=devmap)))
        links.append(host.attach_xdp(host.bpf.prog_load(ProgType.XDP, code, license="GPL").fd, "eth0"))
    inject(a.device("eth0"), [FRAME], 1000, every, copies=count)
    sim.run()
    seen = {"now": sim.now_ns, "wires": [(wire.ab.stats, wire.ba.stats) for wire in sim.wires]}
    for host, link, counter in zip(hosts, links, counters, strict=True):
        stats = link.stats
        runs = {name: number for name, number in stats.verdicts.items() if number}
        seen[host.name] = (
            {device.name: device.stats.as_dict() for device in host.net.devices.values()},
            (stats.runs, runs, stats.run_cost_ps, stats.packet_cost_ps),
            host.bpf.map_lookup_elem(counter, bytes(4)),
            {reason: number for reason, number in host.net.drops.items() if number},
        )
    return seen, b.device("eth0").queues[0], c.device("eth0").queues[0]


@pytest.mark.parametrize(
    ("texts", "every", "options"),
    [
        ((DROP, TX, DROP), 100, {}),
        ((DROP, TX, DROP), 7, {"rate": "100Gbit"}),
        ((DROP, TX, DROP), 2000, {"rate": None}),
        ((DROP, GROW, DROP), 100, {}),
        ((DROP, TO_MAP, DROP), 100, {}),
        ((DROP, TO_MAP, COUNT + DROP), 1000, {"ring": 64}),
        ((DROP, TO_IFINDEX, DROP), 70, {"delay": "0ns"}),
        ((COUNT + DROP, SWAY, COUNT + DROP), 100, {}),
        ((COUNT + DROP, SWAY, COUNT + DROP), 3000, {"delay": "20us"}),
    ],
)
def test_the_same_as_frame_by_frame(texts, every, options) -> None:
    assert chain(False, texts, every, **options)[0] == chain(True, texts, every, **options)[0]


def test_who_follows_is_computed_in_the_same_events() -> None:
    _, near, far = chain(False, (DROP, TO_MAP, DROP), 100)
    assert near.rx_packets == far.rx_packets == 2000
    assert isinstance(far.line, Convoy)
    assert not far.ring
    assert not far.line.pending


def test_a_frame_for_the_stack_ends_it() -> None:
    """Nothing is lost or counted twice; times differ once, as the module says."""
    one, other = (chain(record, (DROP, TO_MAP, PASS_ONE), 100)[0] for record in (False, True))
    for name in "abc":
        assert one[name][1:3] == other[name][1:3]
    assert one["wires"] == other["wires"]
    assert one["c"][3] == other["c"][3]
