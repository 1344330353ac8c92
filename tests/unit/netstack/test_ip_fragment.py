"""Fragments: RFC 791 (3.2), RFC 815, RFC 1122 (3.3), RFC 5722's rule that overlaps end a packet."""

import itertools

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

E = Ether(dst="02:00:00:00:00:0b", src="02:00:00:00:00:0a")
DATA = bytes(range(64))
WHOLE = bytes(UDP(sport=1000, dport=53) / DATA)  # 72 bytes, ports and checksum in front


def whole() -> bytes:
    packet = IP(src="10.0.1.1", dst="10.0.1.2", id=7) / UDP(sport=1000, dport=53) / Raw(DATA)
    return bytes(packet)[20:]


def piece(first: int, end: int, *, more: bool = True, ident: int = 7, src: str = "10.0.1.1", **fields) -> bytes:
    flags = ("MF" if more else "") if "flags" not in fields else fields.pop("flags")
    header = IP(src=src, dst="10.0.1.2", id=ident, proto=17, frag=first // 8, flags=flags, **fields)
    return bytes(E / header / Raw(whole()[first:end]))


THREE = [piece(0, 24), piece(24, 48), piece(48, 72, more=False)]


@pytest.fixture
def bench(lab):
    return lab.bench()


def give(bench, *frames: bytes) -> list[bytes]:
    """Let frames come one after the other, and return what the socket got."""
    for frame in frames:
        bench.sender.inject(frame)
    bench.lab.clock.run(bench.lab.clock.now_ns + 1_000_000)
    return [datagram.data for datagram in bench.any.received]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_pieces_come_in_any_order(bench, order) -> None:
    assert give(bench, *(THREE[index] for index in order)) == [DATA]
    counters = bench.r.snmp
    assert (counters["IpReasmReqds"], counters["IpReasmOKs"], counters["IpInDelivers"]) == (3, 1, 1)
    assert bench.r.frags.queues == {}
    assert bench.r.frags.bytes == 0


def test_a_piece_that_comes_twice_is_dropped(bench) -> None:
    assert give(bench, THREE[0], THREE[0], THREE[1], THREE[2]) == [DATA]
    assert bench.r.drops == {"DUP_FRAG": 1}


def test_a_piece_within_another_is_one_that_is_there(bench) -> None:
    assert give(bench, piece(0, 48), piece(8, 40), THREE[2]) == [DATA]
    assert bench.r.drops == {"DUP_FRAG": 1}


@pytest.mark.parametrize(("first", "end"), [(16, 40), (0, 40), (8, 48), (16, 32)])
def test_overlapping_pieces_end_the_packet(bench, first, end) -> None:
    assert give(bench, THREE[0], piece(first, end), THREE[1], THREE[2]) == []
    assert (bench.r.snmp["IpExtReasmOverlaps"], bench.r.snmp["IpReasmFails"]) == (1, 1)


def test_packets_of_other_senders_and_ids_are_others(bench) -> None:
    assert give(bench, THREE[0], piece(24, 48, ident=8), piece(24, 48, src="10.0.1.3"), THREE[2]) == []
    assert len(bench.r.frags.queues) == 3
    assert give(bench, THREE[1]) == [DATA]


def test_two_packets_at_once(bench) -> None:
    other = [piece(0, 40, ident=9), piece(40, 72, more=False, ident=9)]
    assert give(bench, THREE[0], other[0], THREE[1], other[1], THREE[2]) == [DATA, DATA]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_what_is_missing_after_30_seconds(bench, missing) -> None:
    give(bench, *(frame for index, frame in enumerate(THREE) if index != missing))
    bench.lab.run()
    assert 30_000_000_000 <= bench.lab.clock.now_ns < 30_100_000_000
    assert (bench.r.snmp["IpReasmTimeout"], bench.r.snmp["IpReasmFails"]) == (1, 1)
    assert bench.r.drops == {"FRAG_REASM_TIMEOUT": 2}
    sent = [record.data for record in bench.lab.frames(bench.r, "out")]
    # RFC 792: code 1, sent only when the first fragment is there
    assert [frame[34:36] for frame in sent] == ([] if missing == 0 else [b"\x0b\x01"])


def test_a_last_piece_with_another_end_is_wrong(bench) -> None:
    assert give(bench, THREE[2], piece(48, 64, more=False), THREE[0], THREE[1]) == []
    assert bench.r.snmp["IpReasmFails"] == 1


def test_a_piece_behind_the_end_is_wrong(bench) -> None:
    assert give(bench, piece(24, 48, more=False), piece(48, 72), THREE[0]) == []


def test_middle_pieces_are_cut_to_8_bytes(bench) -> None:
    # RFC 791: the data of all but the last fragment are a multiple of 8 octets
    assert give(bench, piece(0, 29), THREE[1], THREE[2]) == [DATA]


def test_an_empty_piece_is_wrong(bench) -> None:
    assert give(bench, THREE[0], piece(24, 24)) == []
    assert bench.r.snmp["IpReasmFails"] == 1


@pytest.mark.parametrize(
    ("tos", "result"),
    # RFC 3168, 5.3: a CE in one piece is one of the packet; beside Not-ECT it cannot be
    [((2, 2, 3), 1), ((1, 3, 1), 1), ((0, 0, 0), 1), ((0, 3, 0), 0)],
)
def test_ecn_of_pieces(bench, tos, result) -> None:
    bounds = [(0, 24, True), (24, 48, True), (48, 72, False)]
    frames = [piece(first, end, more=more, tos=bits) for (first, end, more), bits in zip(bounds, tos, strict=True)]
    assert len(give(bench, *frames)) == result


def test_pieces_for_others_are_forwarded_as_they_are(lab) -> None:
    bench = lab.bench(forward=True)
    frame = bytes(E / IP(src="10.0.1.1", dst="10.0.2.9", flags="MF", proto=17, frag=3, ttl=9) / Raw(b"x" * 16))
    (out,) = bench.case(frame).forwarded
    assert IP(out[14:]).ttl == 8
    assert out[18:22] == frame[18:22]


def test_a_packet_is_cut_for_a_small_link(lab) -> None:
    bench = lab.bench(forward=True)
    sent = IP(src="10.0.1.1", dst="10.0.2.9", id=99, tos=4) / UDP(sport=1, dport=2) / Raw(bytes(1200))
    outcome = bench.case(bytes(E / sent))
    pieces = [IP(frame[14:]) for frame in outcome.forwarded]
    mtu = bench.eth1.mtu
    room = (mtu - 20) & ~7
    sizes = [room] * (1208 // room) + [1208 % room]
    assert [len(each) - 20 for each in pieces] == sizes
    assert [each.frag * 8 for each in pieces] == [room * index for index in range(len(sizes))]
    assert [bool(each.flags.MF) for each in pieces] == [True] * (len(sizes) - 1) + [False]
    assert {(each.id, each.ttl, each.tos) for each in pieces} == {(99, 63, 4)}
    assert b"".join(bytes(each.payload) for each in pieces) == bytes(sent)[20:]
    for each in pieces:
        check, each.chksum = each.chksum, None
        assert IP(bytes(each)).chksum == check
    assert outcome.counters["IpFragCreates"] == len(sizes)
    assert outcome.counters["IpFragOKs"] == 1


def test_pieces_are_cut_again(lab) -> None:
    bench = lab.bench(forward=True)
    frame = bytes(E / IP(src="10.0.1.1", dst="10.0.2.9", flags="MF", proto=17, frag=10) / Raw(bytes(1200)))
    pieces = [IP(each[14:]) for each in bench.case(frame).forwarded]
    assert next(each.frag for each in pieces) == 10
    # more of the packet follows even the last of them
    assert all(each.flags.MF for each in pieces)


def test_copied_options_are_in_all_pieces_the_others_in_the_first(lab) -> None:
    bench = lab.bench(forward=True)
    # router alert (copied), record route of 7 bytes (not), end
    options = b"\x94\x04\0\0" + b"\x07\x07\x04\0\0\0\0" + b"\x00"
    packet = IP(bytes(IP(src="10.0.1.1", dst="10.0.2.9", proto=17, options=[])))
    header = bytearray(bytes(packet)[:20] + options)
    payload = bytes(1200)
    header[0], header[2:4] = 0x45 + len(options) // 4, (len(header) + len(payload)).to_bytes(2, "big")
    header[10:12] = b"\0\0"
    from netstack.checksum import ip_compute_csum

    header[10:12] = ip_compute_csum(header).to_bytes(2, "big")
    outcome = bench.case(bytes(E)[:12] + b"\x08\0" + bytes(header) + payload)
    first, *rest = (each[34:46] for each in outcome.forwarded)
    assert first[:4] == b"\x94\x04\0\0"
    assert first[4:7] == b"\x07\x07\x08"
    assert {each[:4] for each in rest} == {b"\x94\x04\0\0"}
    assert {each[4:11] for each in rest} == {b"\x01" * 7}


def test_a_packet_that_must_not_be_cut_comes_back(lab) -> None:
    bench = lab.bench(forward=True)
    outcome = bench.case(bytes(E / IP(src="10.0.1.1", dst="10.0.2.9", flags="DF") / UDP() / Raw(bytes(1200))))
    assert outcome.reason == "PKT_TOO_BIG"
    (reply,) = outcome.replies
    # RFC 1191: code 4, the next hop's MTU in the last 16 bits
    assert reply[34:36] + reply[40:42] == b"\x03\x04" + bench.eth1.mtu.to_bytes(2, "big")


def test_a_long_datagram_of_the_host_is_cut_and_put_together(lab) -> None:
    a, b = lab.pair()
    received = b.udp_socket(port=9)
    a.udp_socket().sendto(bytes(5000), "10.0.0.2", 9)
    lab.run()
    assert [len(datagram.data) for datagram in received.received] == [5000]
    # 5008 bytes in pieces of 1480
    frames = [record.data for record in lab.frames(a, "out") if record.data[12:14] == b"\x08\0"]
    assert [len(frame) - 34 for frame in frames] == [1480, 1480, 1480, 568]
    assert (a.snmp["IpFragCreates"], a.snmp["IpOutRequests"], b.snmp["IpReasmOKs"]) == (4, 1, 1)
    # DF cannot be set
    assert all(frame[20] & 0x40 == 0 for frame in frames)


def test_memory_of_all_queues_is_limited(lab) -> None:
    bench = lab.bench()
    bench.r.sysctls["net.ipv4.ipfrag_high_thresh"] = 2000
    give(bench, *(piece(0, 24, ident=ident) for ident in range(6)))
    # each small piece takes 960 bytes: the third queue is begun below the limit, the fourth is not
    assert (len(bench.r.frags.queues), bench.r.drops) == (3, {"NOMEM": 3})
