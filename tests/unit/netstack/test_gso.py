"""Several segments in one packet, and how they are cut (net/ipv4/tcp_offload.c, inet_gso_segment(), v6.18)."""

from typing import Any

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold, ip_compute_csum
from netstack.gso import gso_frames, gso_network_seglen, gso_segment, pkt_len
from netstack.headers import IpHdr, parse_ip
from netstack.skb import SKB_GSO_TCP_FIXEDID, SKB_GSO_TCPV4, SkBuff, tagged_frame, vlan_insert_tag
from netstack.tcp_flow import BulkFlow
from netstack.tcp_hdr import ACK, CWR, FIN, PSH, Tcphdr, established_options, tcp_partial

SOURCE, TARGET = parse_ip("10.0.0.1"), parse_ip("10.0.0.2")
ETH = bytes.fromhex("020000000002020000000001") + b"\x08\x00"
DATA = bytes(index * 7 & 0xFF for index in range(3500))
OPTIONS = established_options((100, 200))


@pytest.fixture(scope="module")
def nic() -> Any:
    return ebpfsim.Simulation(seed=1).host("a").nic("eth0", "10.0.0.1/24")


def packet(nic: Any, flags: int = ACK | PSH, *, seq: int = 1000, ident: int = 0xFFFE) -> SkBuff:
    segment = tcp_partial(SOURCE, TARGET, (5000, 80), seq, 77, flags, 501, OPTIONS, DATA)
    header = IpHdr(0x45, 0, 20 + len(segment), ident, 0x4000, 64, 6, 0, SOURCE, TARGET).pack()
    header = header[:10] + ip_compute_csum(header).to_bytes(2, "big") + header[12:]
    skb = SkBuff(ETH + header + segment, nic, 0x0800)
    skb.network_header, skb.transport_header = 14, 34
    skb.gso_size, skb.gso_segs, skb.gso_type = 1000, 4, SKB_GSO_TCPV4
    return skb


def parts(frames: list[bytes], network: int = 14) -> list[tuple[IpHdr, Tcphdr]]:
    """Parse frames, whose checksums must be right."""
    out = []
    for frame in frames:
        ip = IpHdr.unpack(frame, network)
        assert ip_compute_csum(frame[network : network + 20]) == 0
        assert ip.tot_len == len(frame) - network
        segment = frame[network + 20 :]
        assert csum_fold(csum_partial(segment) + csum_tcpudp_nofold(ip.saddr, ip.daddr, len(segment), 6)) == 0
        out.append((ip, Tcphdr(segment)))
    return out


def test_headers_of_each_segment(nic: Any) -> None:
    found = parts(gso_frames(packet(nic, ACK | PSH | FIN | CWR)))
    assert [th.seq for _, th in found] == [1000, 2000, 3000, 4000]
    assert b"".join(th.data for _, th in found) == DATA
    # the identification counts, and wraps
    assert [ip.id for ip, _ in found] == [0xFFFE, 0xFFFF, 0, 1]
    assert [th.flags for _, th in found] == [ACK | CWR, ACK, ACK, ACK | PSH | FIN]
    assert {(th.ack_seq, th.window, th.tsval, th.tsecr) for _, th in found} == {(77, 501, 100, 200)}


def test_sequence_numbers_wrap(nic: Any) -> None:
    found = parts(gso_frames(packet(nic, seq=0xFFFF_FF00)))
    assert [th.seq for _, th in found] == [0xFFFF_FF00, 744, 1744, 2744]


def test_a_fixed_identification_stays(nic: Any) -> None:
    skb = packet(nic)
    skb.gso_type |= SKB_GSO_TCP_FIXEDID
    assert {ip.id for ip, _ in parts(gso_frames(skb))} == {0xFFFE}


def test_a_program_that_changes_an_address_and_the_checksum_field_keeps_all_segments_right(nic: Any) -> None:
    skb = packet(nic)
    data = bytearray(skb.data)
    # 10.0.0.2 becomes 10.0.0.9: the IP checksum, and the sum of the pseudo header (inet_proto_csum_replace4)
    data[33] = 9
    data[24:26] = ip_compute_csum(data[14:24] + b"\0\0" + data[26:34]).to_bytes(2, "big")
    old = int.from_bytes(data[50:52], "big")
    data[50:52] = (csum_fold(old + 7) ^ 0xFFFF).to_bytes(2, "big")
    skb.data = bytes(data)
    assert {ip.daddr for ip, _ in parts(gso_frames(skb))} == {parse_ip("10.0.0.9")}


def test_a_vlan_tag_is_on_each(nic: Any) -> None:
    skb = packet(nic)
    skb.vlan_proto, skb.vlan_tci = 0x8100, 5
    vlan_insert_tag(skb)
    frames = gso_frames(skb)
    assert {frame[12:18] for frame in frames} == {bytes.fromhex("810000050800")}
    assert len(parts(frames, 18)) == 4


def test_segments_as_packets_of_their_own(nic: Any) -> None:
    skb = packet(nic)
    skb.mark = 7
    segments = gso_segment(skb)
    assert [segment.data for segment in segments] == gso_frames(skb)
    assert {(each.gso_size, each.gso_segs, each.mark, each.transport_header) for each in segments} == {(0, 0, 7, 34)}


def test_lengths(nic: Any) -> None:
    skb = packet(nic)
    assert gso_network_seglen(skb) == 20 + 32 + 1000
    # the headers are on the wire four times (qdisc_pkt_len_init())
    assert pkt_len(skb) == len(DATA) + 4 * (14 + 20 + 32)
    skb.gso_segs = 0
    assert pkt_len(skb) == len(DATA) + 4 * (14 + 20 + 32)


def test_what_is_captured_has_its_checksum(nic: Any) -> None:
    assert len(parts([tagged_frame(packet(nic))])) == 1


def test_ipv6(nic: Any) -> None:
    addresses = bytes.fromhex("20010db8" + "00" * 11 + "01") + bytes.fromhex("20010db8" + "00" * 11 + "02")
    pseudo = csum_partial(addresses) + 32 + len(DATA) + 6
    segment = bytearray(tcp_partial(0, 0, (5000, 80), 1000, 77, ACK, 501, OPTIONS, DATA))
    segment[16:18] = (csum_fold(pseudo) ^ 0xFFFF).to_bytes(2, "big")
    header = bytes.fromhex("60000000") + len(segment).to_bytes(2, "big") + b"\x06\x40" + addresses
    skb = SkBuff(ETH[:12] + b"\x86\xdd" + header + segment, nic, 0x86DD)
    skb.network_header, skb.transport_header, skb.gso_size, skb.gso_segs = 14, 54, 1448, 3
    frames = gso_frames(skb)
    assert b"".join(Tcphdr(frame[54:]).data for frame in frames) == DATA
    for frame in frames:
        assert int.from_bytes(frame[18:20], "big") == len(frame) - 54
        assert csum_fold(csum_partial(frame[54:]) + csum_partial(addresses) + len(frame) - 54 + 6) == 0


def test_a_flow_leaves_as_segments_that_the_path_takes() -> None:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="1Gbit", delay="1ms")
    flow = BulkFlow(a.net, b.net, TARGET, 5001, 200_000)
    sim.run("2s")
    assert flow.ended
    assert flow.good
    sent = [record for record in sim.recorder.packets if record.host == "a" and record.direction == "out"]
    sent = [record for record in sent if record.data[12:14] == b"\x08\x00"]
    found = parts([record.data for record in sent])
    assert max(len(th.data) for _, th in found) == 1448
    assert sum(len(th.data) for _, th in found) == 200_000
    # every packet counts one on, whether it left alone or with others; those of one packet share its number
    found = [(ip, th) for ip, th in found if th.data]
    first = found[0][0].id
    assert [ip.id - first & 0xFFFF for ip, _ in found] == list(range(len(found)))
    assert len({record.packet for record in sent}) < len(sent) / 2


# what goes to 10.0.0.9 goes to 10.0.0.2, and its mark is how many segments it is
TO_ANOTHER = """
    r6 = r1
    r2 = *(u32 *)(r6 + 16)
    if r2 != 8 goto out
    r2 = *(u32 *)(r6 + 164)
    *(u32 *)(r6 + 8) = r2
    r1 = r6
    r2 = 24
    r3 = 0x900000a
    r4 = 0x200000a
    r5 = 4
    call bpf_l3_csum_replace
    r1 = r6
    r2 = 50
    r3 = 0x900000a
    r4 = 0x200000a
    r5 = 0x14
    call bpf_l4_csum_replace
    r7 = 0x200000a
    *(u32 *)(r10 - 4) = r7
    r1 = r6
    r2 = 30
    r3 = r10
    r3 += -4
    r4 = 4
    r5 = 0
    call bpf_skb_store_bytes
out:
    r0 = -1
    exit
"""
BACK = TO_ANOTHER.replace("0x900000a", "X").replace("0x200000a", "0x900000a").replace("X", "0x200000a")


def test_programs_of_tc_see_one_packet_of_several_segments_and_may_change_it() -> None:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    nic, other = a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24")
    sim.link(nic, other, rate="1Gbit", delay="1ms")
    a.net.neigh.add(nic, parse_ip("10.0.0.9"), other.mac)
    there = a.prog(a.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(TO_ANOTHER))).fd)
    # the way back: the source address, four bytes before
    text = BACK.replace("r2 = 30", "r2 = 26")
    back = a.prog(a.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text))).fd)
    a.attach_tcx(there, "eth0", "egress")
    a.attach_tcx(back, "eth0")
    marks: list[tuple[int, int]] = []
    cut = nic._transmit_segments

    def seen(skb: SkBuff) -> None:
        marks.append((skb.mark, skb.gso_segs))
        cut(skb)

    nic._transmit_segments = seen  # type: ignore[method-assign]
    flow = BulkFlow(a.net, b.net, parse_ip("10.0.0.9"), 5001, 300_000)
    sim.run("2s")
    assert flow.ended
    assert flow.good
    assert max(segs for _, segs in marks) >= 10
    assert all(mark == segs for mark, segs in marks)
    sent = [record.data for record in sim.recorder.packets if (record.host, record.direction) == ("a", "out")]
    found = parts([frame for frame in sent if frame[12:14] == b"\x08\x00"])
    assert {ip.daddr for ip, _ in found} == {TARGET}
