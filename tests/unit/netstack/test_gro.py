"""Segments that go up the stack as one packet (net/core/gro.c, net/ipv4/tcp_offload.c, inet_gro_flush(), v6.18)."""

from typing import Any

import pytest

import ebpfsim
from netstack.gso import gso_frames
from netstack.headers import IpHdr, ip_bytes, parse_ip
from netstack.headers6 import ip6_bytes, parse_ip6
from netstack.skb import SKB_GSO_TCP_FIXEDID, SKB_GSO_TCPV4, SKB_GSO_TCPV6, SkBuff
from netstack.tcp_flow import BulkFlow
from netstack.tcp_hdr import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Tcphdr, established_options, tcp_bytes

SOURCE, TARGET = parse_ip("10.0.0.1"), parse_ip("10.0.0.2")
DATA = bytes(index * 13 & 0xFF for index in range(4000))


class Queue:
    """A card's queue, and what comes out of it above."""

    def __init__(self) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        host = self.sim.host("b")
        self.nic: Any = host.nic("eth0", "10.0.0.2/24")
        self.cpu = self.nic.net.cpus[0]
        self.gro = self.nic.queues[0].gro
        self.up: list[SkBuff] = []
        self.nic.net.packet_handlers[0x0800] = lambda skb, _cpu: self.up.append(skb)

    def frame(self, seq: int, size: int = 1000, flags: int = ACK, **fields: Any) -> bytes:
        """Return a segment of the stream."""
        ident = fields.get("ident", 100 + seq // 1000)
        tos, ttl, frag = fields.get("tos", 0), fields.get("ttl", 64), fields.get("frag", 0x4000)
        segment = tcp_bytes(
            SOURCE, TARGET, (fields.get("port", 5000), 80), seq, fields.get("ack", 7), flags, fields.get("window", 500),
            established_options((fields.get("stamp", 1), 2)), DATA[seq : seq + size],
        )  # fmt: skip
        packet = ip_bytes(IpHdr(0x45, tos, 0, ident, frag, ttl, 6, 0, SOURCE, TARGET), segment)
        return bytes(self.nic.mac + fields.get("mac", b"\2\0\0\0\0\1") + b"\x08\0" + packet + fields.get("pad", b""))

    def receive(self, *frames: bytes, flush: bool = True) -> list[SkBuff]:
        for frame in frames:
            self.gro.receive(frame, self.nic.record("in", frame), b"", self.cpu)
        if flush:
            self.gro.flush(self.cpu)
        return self.up


@pytest.fixture
def queue() -> Queue:
    return Queue()


def sizes(packets: list[SkBuff]) -> list[int]:
    return [len(Tcphdr(skb.data[34:]).data) for skb in packets]


def test_segments_in_order_are_one_packet(queue: Queue) -> None:
    frames = [queue.frame(seq) for seq in (0, 1000, 2000)] + [queue.frame(3000, 500, ACK | PSH)]
    (skb,) = queue.receive(*frames, flush=False)
    th, ip = Tcphdr(skb.data[34:]), IpHdr.unpack(skb.data, 14)
    assert (th.seq, th.data, th.flags) == (0, DATA[:3500], ACK | PSH)
    assert (ip.tot_len, ip.id) == (len(skb.data) - 14, 100)
    assert (skb.gso_size, skb.gso_segs, skb.gso_type) == (1000, 4, SKB_GSO_TCPV4)
    # what is sent on is what came
    assert gso_frames(skb) == frames


def test_one_alone_goes_up_as_it_came(queue: Queue) -> None:
    frame = queue.frame(0)
    (skb,) = queue.receive(frame)
    assert (skb.data, skb.gso_size) == (frame, 0)


@pytest.mark.parametrize("flag", [PSH, FIN, URG, RST])
def test_flags_that_end_a_packet_and_are_not_held_back(queue: Queue, flag: int) -> None:
    assert len(queue.receive(queue.frame(0, flags=ACK | flag), flush=False)) == 1


@pytest.mark.parametrize("size", [1, 999])
def test_a_short_segment_is_the_last(queue: Queue, size: int) -> None:
    queue.receive(queue.frame(0), queue.frame(1000, size), flush=False)
    assert sizes(queue.up) == [1000 + size]


# what a veth with GRO hands to packet sockets on Linux 6.18 (without TSO at the sender, gro_flush_timeout of 200 ms):
# bytes of data, gso_size, flags, identification
ANSWERS: dict[str, tuple[list[dict[str, Any]], list[tuple[int, int, int, int]]]] = {
    "PSH ends": (
        [{"seq": 0}, {"seq": 1000}, {"seq": 2000}, {"seq": 3000, "size": 500, "flags": ACK | PSH}],
        [(3500, 1000, 24, 100)],
    ),
    "a short one": ([{"seq": 0}, {"seq": 1000, "size": 999}], [(1999, 1000, 16, 100)]),
    "a gap": ([{"seq": 0}, {"seq": 2000}], [(1000, 0, 16, 100), (1000, 0, 16, 102)]),
    "a longer one": ([{"seq": 0}, {"seq": 1000, "size": 1001}], [(1000, 0, 16, 100), (1001, 0, 16, 101)]),
    "CWR": ([{"seq": 0}, {"seq": 1000, "flags": ACK | CWR}], [(1000, 0, 16, 100), (1000, 0, 144, 101)]),
    "ECE": ([{"seq": 0}, {"seq": 1000, "flags": ACK | ECE}], [(1000, 0, 16, 100), (1000, 0, 80, 101)]),
    "URG": ([{"seq": 0}, {"seq": 1000, "flags": ACK | URG}], [(1000, 0, 16, 100), (1000, 0, 48, 101)]),
    "FIN": ([{"seq": 0}, {"seq": 1000, "flags": ACK | FIN}], [(2000, 1000, 17, 100)]),
    "SYN": ([{"seq": 0}, {"seq": 1000, "flags": ACK | SYN}], [(1000, 0, 16, 100), (1000, 0, 18, 101)]),
    "behind PSH": ([{"seq": 0, "flags": ACK | PSH}, {"seq": 1000}], [(1000, 0, 24, 100), (1000, 0, 16, 101)]),
    "the ACK": ([{"seq": 0}, {"seq": 1000, "ack": 8}], [(1000, 0, 16, 100), (1000, 0, 16, 101)]),
    "the window": ([{"seq": 0}, {"seq": 1000, "window": 501}], [(1000, 0, 16, 100), (1000, 0, 16, 101)]),
    "the time stamp": ([{"seq": 0}, {"seq": 1000, "stamp": 2}], [(1000, 0, 16, 100), (1000, 0, 16, 101)]),
    "the TOS": ([{"seq": 0}, {"seq": 1000, "tos": 3}], [(1000, 0, 16, 100), (1000, 0, 16, 101)]),
    "the TTL": ([{"seq": 0}, {"seq": 1000, "ttl": 63}], [(1000, 0, 16, 100), (1000, 0, 16, 101)]),
    "DF": ([{"seq": 0}, {"seq": 1000, "frag": 0}], [(1000, 0, 16, 100), (1000, 0, 16, 101)]),
    "the sender": ([{"seq": 0}, {"seq": 1000, "mac": b"\2\0\0\0\0\3"}], [(1000, 0, 16, 100), (1000, 0, 16, 101)]),
    "an ACK alone": ([{"seq": 0}, {"seq": 1000, "size": 0}], [(1000, 0, 16, 100), (0, 0, 16, 101)]),
    "an identification": ([{"seq": 0}, {"seq": 1000, "ident": 102}], [(1000, 0, 16, 100), (1000, 0, 16, 102)]),
    "the same identification": ([{"seq": seq, "ident": 9} for seq in (0, 1000, 2000)], [(3000, 1000, 16, 9)]),
    "the same, then on": (
        [{"seq": 0, "ident": 9}, {"seq": 1000, "ident": 9}, {"seq": 2000, "ident": 11}],
        [(2000, 1000, 16, 9), (1000, 0, 16, 11)],
    ),
    "no DF, counting": ([{"seq": 0, "frag": 0}, {"seq": 1000, "frag": 0}], [(2000, 1000, 16, 100)]),
    "no DF, the same": (
        [{"seq": 0, "frag": 0, "ident": 9}, {"seq": 1000, "frag": 0, "ident": 9}],
        [(2000, 1000, 16, 9)],
    ),
    "two flows": (
        [{"seq": seq, "port": port} for seq in (0, 1000) for port in (5000, 5001)],
        [(2000, 1000, 16, 100), (2000, 1000, 16, 100)],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_linux_puts_together(queue: Queue, name: str) -> None:
    frames, wanted = ANSWERS[name]
    queue.receive(*[queue.frame(**fields) for fields in frames])
    found = []
    for skb in queue.up:
        th = Tcphdr(skb.data[34:])
        found.append((len(th.data), skb.gso_size, th.flags, IpHdr.unpack(skb.data, 14).id))
    assert found == wanted


def test_identifications_that_stay_the_same(queue: Queue) -> None:
    (skb,) = queue.receive(*[queue.frame(seq, ident=9) for seq in (0, 1000, 2000)])
    assert skb.gso_type == SKB_GSO_TCPV4 | SKB_GSO_TCP_FIXEDID
    assert gso_frames(skb) == [queue.frame(seq, ident=9) for seq in (0, 1000, 2000)]


def test_identifications_that_stay_the_same_may_not_count_on(queue: Queue) -> None:
    queue.receive(queue.frame(0, ident=9), queue.frame(1000, ident=9), queue.frame(2000, ident=11))
    assert sizes(queue.up) == [2000, 1000]


def test_an_ack_lets_what_was_held_back_go_first(queue: Queue) -> None:
    queue.receive(queue.frame(0), queue.frame(1000), queue.frame(2000, 0), flush=False)
    assert sizes(queue.up) == [2000, 0]


def test_flows_are_put_together_each_by_itself(queue: Queue) -> None:
    frames = [queue.frame(seq, port=port) for seq in (0, 1000) for port in (5000, 5001)]
    assert sizes(queue.receive(*frames)) == [2000, 2000]


def test_ipv6(queue: Queue) -> None:
    source, target = parse_ip6("2001:db8::1"), parse_ip6("2001:db8::2")

    def frame(seq: int, tclass: int = 0) -> bytes:
        segment = tcp_bytes(source, target, (5000, 80), seq, 7, ACK, 500, b"", DATA[seq : seq + 1000])
        packet = ip6_bytes(source, target, 6, 64, segment, tclass)
        return bytes(queue.nic.mac + b"\2\0\0\0\0\1" + b"\x86\xdd" + packet)

    queue.nic.net.packet_handlers[0x86DD] = lambda skb, _cpu: queue.up.append(skb)
    frames = [frame(seq) for seq in (0, 1000, 2000)]
    first, other = queue.receive(*frames, frame(3000, 3))
    assert (first.gso_size, first.gso_segs, first.gso_type) == (1000, 3, SKB_GSO_TCPV6)
    assert int.from_bytes(first.data[18:20], "big") == len(first.data) - 54
    assert gso_frames(first) == frames
    # a mark of ECN is another traffic class
    assert (other.data, other.gso_size) == (frame(3000, 3), 0)


def test_a_wrong_checksum_is_not_taken_up(queue: Queue) -> None:
    bad = bytearray(queue.frame(1000))
    bad[-1] ^= 1
    assert sizes(queue.receive(queue.frame(0), bytes(bad), queue.frame(2000))) == [1000, 1000, 1000]


def test_padding_behind_a_packet_is_not_data(queue: Queue) -> None:
    assert sizes(queue.receive(queue.frame(0), queue.frame(1000, 100, pad=b"\0" * 4))) == [1000, 104]


def test_no_packet_is_longer_than_64_kib(queue: Queue) -> None:
    start = 0
    frames = []
    for _ in range(46):
        segment = tcp_bytes(SOURCE, TARGET, (5000, 80), start, 7, ACK, 500, b"", bytes(1460))
        packet = ip_bytes(IpHdr(0x45, 0, 0, len(frames), 0x4000, 64, 6, 0, SOURCE, TARGET), segment)
        frames.append(bytes(queue.nic.mac + b"\2\0\0\0\0\1" + b"\x08\0" + packet))
        start += 1460
    queue.receive(*frames)
    assert [skb.gso_segs for skb in queue.up] == [44, 2]


def test_what_a_packet_costs_the_receive_buffer(queue: Queue) -> None:
    first, merged = Queue().receive(queue.frame(0))[0], queue.receive(queue.frame(0), queue.frame(1000))[0]
    assert merged.truesize == first.truesize + 2048


def test_generic_xdp_wants_packets_as_they_came(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue.nic.xdp, "generic", object())
    monkeypatch.setattr("netstack.rx._do_xdp_generic", lambda _skb, _cpu: True)
    assert sizes(queue.receive(queue.frame(0), queue.frame(1000))) == [1000, 1000]


def test_interrupts_of_bulk_are_fifty_microseconds_apart() -> None:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="1Gbit", delay="1ms")
    flow = BulkFlow(a.net, b.net, TARGET, 5001, 2_000_000)
    sim.run("2s")
    assert flow.ended
    assert flow.good
    segments, packets = a.net.snmp["TcpOutSegs"], b.net.snmp["TcpInSegs"]
    # four frames of 1,514 bytes take 49 us at 1 Gbit/s
    assert 3 < segments / packets < 5
