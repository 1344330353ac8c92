"""Frames meet programs on a device: what each verdict does, natively and generically."""

from typing import Any

import pytest

from ebpfsim.errors import InternalError
from ebpfsim.uapi.flags import XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE
from ebpfsim.uapi.net import XdpAction
from netstack.bpf_net_context import bpf_net_ctx_set

# programs see struct xdp_buff: data at 0, data_end at 8, rxq at 32, its dev at 0 with ifindex at 224
DATA = "r2 = *(u64 *)(r1 + 0);"
FRAGS = 1 << 5  # BPF_F_XDP_HAS_FRAGS
UDP_PORT = 36  # Ethernet, IPv4, UDP: offset of the destination port


class Bench:
    """Host r behind eth0 with 10.0.0.2, host a that sends to it with 10.0.0.1, and sockets on ports 53 and 54 of r."""

    def __init__(self, lab: Any, mtu: int = 1500) -> None:
        self.lab = lab
        a, self.r = lab.net("a"), lab.net("r")
        self.sender = a.add_nic("eth0", "10.0.0.1/24", mtu=9000)
        self.eth0 = self.r.add_nic("eth0", "10.0.0.2/24", mtu=mtu)
        lab.connect(self.sender, self.eth0)
        lab.know(a, self.r)
        self.client = a.udp_socket("10.0.0.1", 1000)
        self.dns, self.other = self.r.udp_socket(port=53), self.r.udp_socket(port=54)

    def ask(self, data: bytes = b"question") -> None:
        """Send a datagram to port 53 and let everything happen."""
        self.client.sendto(data, "10.0.0.2", 53)
        self.lab.run()

    def received(self) -> Any:
        """The record of the last frame that r received."""
        return self.lab.frames(self.r, "in")[-1]


@pytest.fixture
def bench(lab: Any) -> Bench:
    return Bench(lab)


@pytest.fixture(params=[XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE], ids=["native", "generic"])
def mode(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize(
    ("act", "verdict", "reason", "asked", "back"),
    [
        (0, "XDP_ABORTED", "XDP", 0, 0),
        (1, "XDP_DROP", "XDP", 0, 0),
        (2, "XDP_PASS", "", 1, 0),
        (3, "XDP_TX", "", 0, 1),
        (77, "XDP_ABORTED", "XDP", 0, 0),
    ],
)
def test_verdicts(bench: Bench, mode: int, act: int, verdict: str, reason: str, asked: int, back: int) -> None:
    link = bench.lab.attach(bench.eth0, f"r0 = {act}; exit", mode)
    bench.ask()
    record = bench.received()
    assert (record.verdict, record.reason) == (verdict, reason)
    assert (link.runs, link.verdicts) == (1, {verdict: 1})
    assert len(bench.dns.received) == asked
    # what XDP_TX sends is the frame as it came
    assert [out.data for out in bench.lab.frames(bench.r, "out")] == [record.data] * back
    # facts/kernel-6.18.md: dropped and aborted frames still count in rx_packets
    stats = bench.eth0.stats
    assert (stats.rx_packets, stats.rx_dropped, stats.tx_packets) == (1, 0, back)
    kinds = [note.kind for note in bench.lab.recorder.notes if note.kind in ("warning", "xdp_exception")]
    assert kinds == {0: ["xdp_exception"], 77: ["warning", "xdp_exception"]}.get(act, [])


def test_the_frame_goes_up_as_the_program_left_it(bench: Bench, mode: int) -> None:
    """The program turns port 53 into 54 and the checksum off; the socket on 54 gets the datagram."""
    text = f"{DATA} r3 = 54; r3 = be16 r3; *(u16 *)(r2 + {UDP_PORT}) = r3; r4 = 0; *(u16 *)(r2 + 40) = r4; r0 = 2; exit"
    bench.lab.attach(bench.eth0, text, mode)
    bench.ask()
    assert (len(bench.dns.received), len(bench.other.received)) == (0, 1)
    # the record is of the frame as it came in
    assert bench.received().data[UDP_PORT : UDP_PORT + 2] == b"\0\x35"


def test_a_new_ethernet_header_is_looked_at_anew(bench: Bench, mode: int) -> None:
    """With another host's address the packet is OTHERHOST, natively and (bpf_prog_run_generic_xdp) generically."""
    bench.lab.attach(bench.eth0, f"{DATA} r3 = 7; *(u8 *)(r2 + 5) = r3; r0 = 2; exit", mode)
    bench.ask()
    assert bench.received().reason == "OTHERHOST"


def test_the_frame_is_sent_back_as_the_program_left_it(bench: Bench, mode: int) -> None:
    """An echo that grows by 10 zeroes at the end and loses its first 4 bytes."""
    text = "r6 = r1; r2 = 10; call bpf_xdp_adjust_tail; r1 = r6; r2 = 4; call bpf_xdp_adjust_head; r0 = 3; exit"
    bench.lab.attach(bench.eth0, text, mode)
    bench.ask()
    (out,) = bench.lab.frames(bench.r, "out")
    assert out.data == bench.received().data[4:] + bytes(10)


@pytest.mark.parametrize("queues", [1, 4])
def test_the_context_says_where_the_frame_came_in(lab: Any, mode: int, queues: int) -> None:
    r, sender = lab.net("r"), lab.net("a").add_nic("eth0")
    eth0 = r.add_nic("eth0", queues=queues)
    lab.connect(sender, eth0)
    text = "r2 = *(u64 *)(r1 + 32); r3 = *(u64 *)(r2 + 0); r4 = *(u32 *)(r3 + 224); r5 = *(u32 *)(r2 + 8);"
    link = lab.attach(eth0, f"{text} r4 *= 16; r4 += r5; r0 = r4; exit", mode)
    for number in range(16):
        sender.inject(
            b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0E\0\0\x1c" + bytes(5) + b"\x11\0\0" + bytes([10, 0, 0, number] * 2)
        )
    lab.run()
    where = [(run.retval // 16, run.retval % 16) for run in lab.recorder.runs]
    # queues are polled in turn
    assert sorted(where) == sorted((eth0.ifindex, record.queue) for record in lab.frames(r, "in"))
    assert (len({queue for _, queue in where}) > 1) == (queues > 1)
    assert link.runs == 16


def test_metadata_is_kept(bench: Bench, mode: int) -> None:
    text = "r6 = r1; r2 = -4; call bpf_xdp_adjust_meta; r2 = *(u64 *)(r6 + 16); r3 = 0x2a; *(u32 *)(r2 + 0) = r3;"
    bench.lab.attach(bench.eth0, f"{text} r0 = 2; exit", mode)
    cpu, frame, xdp = bench.r.cpus[0], bytes(range(64)), bench.r.xdp
    bpf_net_ctx_set(cpu)
    for _ in range(2):
        if mode == XDP_FLAGS_SKB_MODE:
            result = xdp.do_xdp_generic(bench.eth0, frame, cpu)
        else:
            result = xdp.receive(bench.eth0, bench.eth0.queues[0].xdp_ring, frame, cpu)
        assert result.verdict is XdpAction.XDP_PASS
        assert (result.frame, result.metadata) == (frame, b"\x2a\0\0\0")


@pytest.mark.parametrize("prog_flags", [0, FRAGS])
def test_generic_xdp_linearises_for_programs_without_fragments(lab: Any, prog_flags: int) -> None:
    """netif_skb_check_for_xdp: a frame of 8042 bytes lies in one piece, or has 3520 linear bytes for xdp.frags."""
    bench = Bench(lab, mtu=9000)
    text = f"{DATA} r6 = r1; r3 = *(u64 *)(r1 + 8); r3 -= r2; r7 = r3; call bpf_xdp_get_buff_len; r0 -= r7; exit"
    link = lab.attach(bench.eth0, lab.prog(bench.r, text, prog_flags=prog_flags), XDP_FLAGS_SKB_MODE)
    bench.ask(bytes(8000))
    assert lab.recorder.runs[-1].retval == (8042 - 3520 if prog_flags else 0)
    assert link.runs == 1


def test_native_frames_with_fragments_go_up_whole(lab: Any) -> None:
    bench = Bench(lab, mtu=9000)
    lab.attach(bench.eth0, lab.prog(bench.r, "r0 = 2; exit", prog_flags=FRAGS), XDP_FLAGS_DRV_MODE)
    bench.ask(bytes(range(250)) * 32)
    assert [datagram.data for datagram in bench.dns.received] == [bytes(range(250)) * 32]


def test_transmitting_without_a_cable_drops(lab: Any) -> None:
    """veth_xdp_rcv_one: when the driver cannot take it, rx_drops counts and xdp_exception says XDP_TX."""
    r = lab.net("r")
    eth0 = r.add_nic("eth0")
    lab.attach(eth0, "r0 = 3; exit")
    result = r.xdp.receive(eth0, eth0.queues[0].xdp_ring, bytes(64), r.cpus[0])
    assert (result.verdict, result.reason, eth0.stats.rx_dropped) == (XdpAction.XDP_TX, "XDP", 1)
    assert lab.recorder.notes[-1].text.endswith("action=TX ifindex=2")


def test_costs_of_a_dropped_packet(bench: Bench) -> None:
    """Rows xdp.drop.driver 31 and dispatcher.hit 2.2, and two instructions of 0.3 ns."""
    link = bench.lab.attach(bench.eth0, "r0 = 1; exit")
    bench.ask()
    assert (link.ns_per_run, link.ns_per_packet) == (2.8, 33.8)


@pytest.mark.parametrize(("act", "cost_ns"), [(1, 2.8), (2, 13.9), (3, 29.6)])
def test_the_cpu_is_charged_what_the_packet_costs(bench: Bench, act: int, cost_ns: float) -> None:
    """Beyond the driver's part: PASS 13.3 for call and hand-over, TX 60 - 31; plus two instructions of 0.3 ns."""
    link = bench.lab.attach(bench.eth0, f"r0 = {act}; exit")
    cpu = bench.r.cpus[0]
    before_ps = cpu.elapsed_ps
    bench.r.xdp.receive(bench.eth0, bench.eth0.queues[0].xdp_ring, bytes(64), cpu)
    assert cpu.elapsed_ps - before_ps == cost_ns * 1000
    assert link.ns_per_packet == cost_ns + 31


def test_programs_are_replaced_under_traffic(bench: Bench, mode: int) -> None:
    """facts/kernel-6.18.md: 500 packets sent while the program was replaced 500 times ran exactly 500 programs."""
    lab = bench.lab
    progs = [lab.prog(bench.r, f"r0 = {act}; exit") for act in (1, 2)]
    link = lab.attach(bench.eth0, progs[0], mode)
    for number in range(500):
        lab.clock.call_at(1000 * number, lambda: bench.client.sendto(b"x", "10.0.0.2", 53))
        lab.clock.call_at(1000 * number + 500, lambda number=number: link.update(progs[(number + 1) % 2]))
    lab.run()
    assert (link.runs, sum(link.verdicts.values()), len(lab.recorder.runs)) == (500, 500, 500)
    assert link.verdicts["XDP_PASS"] == len(bench.dns.received)
    assert 200 < link.verdicts["XDP_PASS"] < 300


def test_without_a_program_it_is_our_bug(bench: Bench) -> None:
    with pytest.raises(InternalError, match="'eth0', which has no program"):
        bench.r.xdp.receive(bench.eth0, bench.eth0.queues[0].xdp_ring, bytes(64), bench.r.cpus[0])
    with pytest.raises(InternalError, match="generic XDP on queue 0"):
        bench.r.xdp.do_xdp_generic(bench.eth0, bytes(64), bench.r.cpus[0])
