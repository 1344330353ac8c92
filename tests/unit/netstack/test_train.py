"""Floods that are computed come to the same as floods that are sent frame by frame: times, counters, verdicts, maps."""

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.traffic import Generator, inject
from netstack.train import Train

FRAME = bytes.fromhex("02000000020102000000010108004500002e00010000401166cc0a0000010a000002") + bytes(30)
COUNT = "r6 = r1; r1 = 0; *(u32 *)(r10 - 4) = r1; r1 = map_fd[{}]; r2 = r10; r2 += -4; call bpf_map_lookup_elem;"
COUNT += "if r0 == 0 goto +4; r1 = *(u64 *)(r0 + 0); r1 += 1; *(u64 *)(r0 + 0) = r1;"
BUSY = "r1 = 300; r1 += -1; if r1 != 0 goto -2; r0 = 1; exit"


def flood(record: bool, text: str, every: int, *, count: int = 3000, ring: int = 512, change_ns: int = 0, **wire):
    """What is to be seen after a flood; the program may be replaced while it lasts."""
    sim = Simulation(seed=1, record=record)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24", ring=ring), **{"delay": "5us", **wire})
    counter = b.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    load = [encode(assemble(each.format(counter))) for each in (text, "r0 = 1; exit")]
    fds = [b.bpf.prog_load(ProgType.XDP, code).fd for code in load]
    link = b.attach_xdp(fds[0], "eth0")
    sent = inject(a.device("eth0"), [FRAME], 1000, every, copies=count)
    assert isinstance(sent, Generator if record else Train)
    if change_ns:
        sim.clock.call_at(change_ns, lambda: link.update(fds[1]))
    sim.run()
    stats = link.stats
    return {
        "now": sim.now_ns,
        "sender": a.device("eth0").stats.as_dict(),
        "receiver": b.device("eth0").stats.as_dict(),
        "runs": (stats.runs, stats.verdicts, stats.run_cost_ps, stats.packet_cost_ps),
        "counter": b.bpf.map_lookup_elem(counter, bytes(4)),
        "drops": dict(b.net.drops),
        "wire": sim.wires[0].ab.stats,
    }


@pytest.mark.parametrize(
    ("text", "every", "options"),
    [
        ("r0 = 1; exit", 100, {}),
        ("r0 = 1; exit", 100, {"rate": "10Gbit"}),
        ("r0 = 1; exit", 1000, {"rate": "1Gbit", "delay": "20us"}),
        ("r0 = 1; exit", 7, {"ring": 64}),
        (BUSY, 100, {}),
        (BUSY, 250, {"ring": 100}),
        (COUNT + "r0 = 1; exit", 100, {}),
        (COUNT + "r0 = 1; exit", 100, {"change_ns": 150_003}),
        (BUSY, 100, {"change_ns": 150_003}),
    ],
)
def test_the_same_as_frame_by_frame(text, every, options) -> None:
    assert flood(False, text, every, **options) == flood(True, text, every, **options)


def test_frames_for_the_stack_go_one_by_one() -> None:
    one, other = flood(False, "r0 = 2; exit", 500, count=600), flood(True, "r0 = 2; exit", 500, count=600)
    for key in ("sender", "receiver", "runs", "drops"):
        assert one[key] == other[key]


def test_what_cannot_be_computed_is_sent() -> None:
    """Records, programs that read the time, wires that lose: a generator."""
    for text, record, wire in (
        ("r0 = 1; exit", True, {}),
        ("call bpf_ktime_get_ns; r0 = 1; exit", False, {}),
        ("r0 = 1; exit", False, {"loss": 0.01}),
    ):
        sim = Simulation(seed=1, record=record)
        a, b = sim.host("a"), sim.host("b")
        sim.link(a.nic("eth0"), b.nic("eth0"), **wire)
        b.attach_xdp(b.bpf.prog_load(ProgType.XDP, encode(assemble(text))).fd, "eth0")
        assert isinstance(inject(a.device("eth0"), [FRAME], 0, 100, copies=1000), Generator)


def test_a_flood_can_be_cut_short() -> None:
    seen = []
    for record in (False, True):
        sim = Simulation(seed=1, record=record)
        a, b = sim.host("a"), sim.host("b")
        sim.link(a.nic("eth0"), b.nic("eth0"))
        b.attach_xdp(b.bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 1; exit"))).fd, "eth0")
        sent = inject(a.device("eth0"), [FRAME], 0, 100, copies=10_000)
        sim.run(until=100_000)
        before = b.device("eth0").stats.rx_packets
        sent.cancel()
        sim.run()
        seen.append((sent.sent, before, b.device("eth0").stats.rx_packets))
    assert seen[0] == seen[1]
    assert (seen[0][0], seen[0][2]) == (1001, 1001)
