"""Bytes of tunnels after RFC 7348 (VXLAN), RFC 8926 (Geneve) and RFC 2784/2890 (GRE), as scapy reads them.

What Linux 6.18.44 puts around a frame in metadata mode is compared in tests/parity.
"""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN

from ebpfsim import KernelError, Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

KINDS = ("vxlan", "geneve", "gretap")


@pytest.fixture
def ends():
    """Two namespaces with 10.0.0.1 and 10.0.0.2 on a veth pair."""
    host = Simulation(seed=1).host("h")
    a, b = host.netns("a"), host.netns("b")
    host.veth("a/veth0", "b/veth1", address="10.0.0.1/24", peer_address="10.0.0.2/24")
    return a, b


def tunnels(ends, kind: str, **options):
    a, b = ends
    key = {"key" if kind == "gretap" else "vni": 42}
    for space, remote, address in ((a, "10.0.0.2", "10.1.0.1/24"), (b, "10.0.0.1", "10.1.0.2/24")):
        getattr(space, kind)("t0", remote=remote, address=address, **key, **options)


def hello(ends) -> int:
    a, b = ends
    receiver = b.udp_socket("10.1.0.2", 9)
    a.udp_socket().sendto(b"hello", "10.1.0.2", 9)
    a.sim.run()
    return len(receiver.received)


def on_the_wire(ends) -> list[bytes]:
    return [r.data for r in ends[0].sim.recorder.packets if r.device == "veth1" and r.direction == "in"]


@pytest.mark.parametrize("kind", KINDS)
def test_hosts_talk_through_a_tunnel(ends, kind) -> None:
    tunnels(ends, kind)
    assert hello(ends) == 1
    outer = [Ether(frame)[IP] for frame in on_the_wire(ends) if frame[12:14] == b"\x08\0"]
    assert {(ip.src, ip.dst, ip.ttl) for ip in outer} == {("10.0.0.1", "10.0.0.2", 64)}
    for ip in outer:
        check = ip.chksum
        del ip.chksum
        assert IP(bytes(ip)).chksum == check


def test_mtu_leaves_room(ends) -> None:
    for kind, mtu in (("vxlan", 1450), ("geneve", 1450), ("gretap", 1462)):
        dev = getattr(ends[0], kind)(kind, remote="10.0.0.2", **({} if kind == "gretap" else {"vni": 5}))
        assert dev.mtu == mtu


def test_vxlan_header(ends) -> None:
    tunnels(ends, "vxlan", dstport=4789)
    hello(ends)
    frame = Ether(next(data for data in on_the_wire(ends) if data[23] == 17))
    assert (frame[VXLAN].vni, frame[VXLAN].flags, frame["UDP"].dport) == (42, 8, 4789)
    assert 32768 <= frame["UDP"].sport < 60999


def test_geneve_header(ends) -> None:
    tunnels(ends, "geneve")
    hello(ends)
    data = next(data for data in on_the_wire(ends) if data[23] == 17)
    assert data[36:38] == (6081).to_bytes(2, "big")
    assert data[42:50].hex() == "0000655800002a00"


def test_gre_header_with_a_key(ends) -> None:
    tunnels(ends, "gretap")
    hello(ends)
    frame = Ether(next(data for data in on_the_wire(ends) if data[23] == 47))
    assert (frame[GRE].proto, frame[GRE].key_present, frame[GRE].key) == (0x6558, 1, 42)


@pytest.mark.parametrize("kind", KINDS)
def test_another_key_is_another_tunnel(ends, kind) -> None:
    a, b = ends
    key = "key" if kind == "gretap" else "vni"
    getattr(a, kind)("t0", remote="10.0.0.2", address="10.1.0.1/24", **{key: 42})
    getattr(b, kind)("t0", remote="10.0.0.1", address="10.1.0.2/24", **{key: 43})
    assert hello(ends) == 0


def test_a_vni_belongs_to_one_device(ends) -> None:
    ends[0].vxlan("t0", vni=5, remote="10.0.0.2")
    with pytest.raises(KernelError) as refused:
        ends[0].vxlan("t1", vni=5, remote="10.0.0.2")
    assert refused.value.errno == 17
    ends[0].link_del("t0")
    ends[0].vxlan("t1", vni=5, remote="10.0.0.2")


def test_vxlan_learns_who_is_where(ends) -> None:
    """vxlan_snoop(): the second device knows no remote end but the one it heard from."""
    a, b = ends
    a.vxlan("t0", vni=5, remote="10.0.0.2", address="10.1.0.1/24")
    b.vxlan("t0", vni=5, address="10.1.0.2/24")
    assert hello(ends) == 1
    assert list(b.device("t0").fdb.values()) == [0x0A000001]


def test_without_a_remote_end_frames_are_lost(ends) -> None:
    dev = ends[0].vxlan("t0", vni=5)
    dev.inject(b"\xff" * 6 + dev.mac + b"\x88\xb5" + bytes(50))
    assert (dev.stats.tx_dropped, ends[0].net.drops["NO_TX_TARGET"]) == (1, 1)


def test_a_frame_without_payload_arrives_and_counts_as_dropped(ends) -> None:
    """iptunnel_xmit_stats() with a length of 0; Linux 6.18.44 counted 32 such frames so."""
    tunnels(ends, "vxlan")
    dev = ends[0].device("t0")
    dev.inject(b"\xff" * 6 + dev.mac + b"\x88\xb5")
    ends[0].sim.run()
    assert (dev.stats.tx_packets, dev.stats.tx_dropped, ends[1].device("t0").stats.rx_packets) == (0, 1, 1)


def test_metadata_mode_wants_to_be_told(ends) -> None:
    dev = ends[0].vxlan("t0", external=True)
    dev.inject(b"\xff" * 6 + dev.mac + b"\x88\xb5" + bytes(50))
    assert ends[0].net.drops["TUNNEL_TXINFO"] == 1


# tos, key and options of Geneve set by a program: 44 bytes of struct bpf_tunnel_key, 8 of options
SET = """
r6 = r1
r1 = 0
*(u64 *)(r10 - 8) = r1; *(u64 *)(r10 - 16) = r1; *(u64 *)(r10 - 24) = r1
*(u64 *)(r10 - 32) = r1; *(u64 *)(r10 - 40) = r1; *(u64 *)(r10 - 48) = r1
r1 = 7; *(u32 *)(r10 - 48) = r1
r1 = 0x0a000002; *(u32 *)(r10 - 44) = r1
r1 = 0x01020304; *(u32 *)(r10 - 56) = r1; *(u32 *)(r10 - 52) = r1
r1 = r6; r2 = r10; r2 += -48; r3 = 44; r4 = 0; call bpf_skb_set_tunnel_key
if r0 != 0 goto +6
r1 = r6; r2 = r10; r2 += -56; r3 = 8; call bpf_skb_set_tunnel_opt
if r0 != 0 goto +2
r0 = -1; exit
r0 = 2; exit
"""
GET = """
r6 = r1
r2 = r10; r2 += -8; r3 = 8; call bpf_skb_get_tunnel_opt
if r0 != 8 goto +4
r1 = *(u32 *)(r10 - 8)
if r1 != 0x01020304 goto +2
r0 = 0; exit
r0 = 2; exit
"""


def test_geneve_options_of_programs(ends) -> None:
    a, b = ends
    for space in ends:
        space.geneve("t0", external=True)
    for space, text, kind in ((a, SET, AttachType.TCX_EGRESS), (b, GET, AttachType.TCX_INGRESS)):
        fd = space.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text.replace("\n", ";").strip(";")))).fd
        space.bpf.link_create(fd, space.device("t0").ifindex, kind)
    dev, net = a.device("t0"), a.net
    net.add_address(dev, "10.1.0.1/24")
    net.neigh.add(dev, 0x0A010002, b.device("t0").mac)
    b.net.add_address(b.device("t0"), "10.1.0.2/24")
    assert hello(ends) == 1
    data = next(data for data in on_the_wire(ends) if data[12:14] == b"\x08\0")
    assert data[42:58].hex() == "02006558" + "00000700" + "0403020104030201"


@pytest.mark.parametrize(("outer", "inner", "after"), [(3, 2, 3), (3, 1, 3), (0, 2, 2), (1, 1, 1)])
def test_congestion_outside_is_congestion_inside(ends, outer, inner, after) -> None:
    """RFC 6040, table 4, as INET_ECN_decapsulate() has it."""
    a, b = ends
    b.vxlan("t0", vni=5, dstport=4789)
    mac = b.device("t0").mac.hex(":")
    packet = Ether(dst=mac, src="02:00:00:00:00:77") / IP(src="10.1.0.1", dst="10.1.0.2", tos=inner)
    wire = IP(src="10.0.0.1", dst="10.0.0.2", tos=outer) / UDP(dport=4789)
    a.send("veth0", wire / VXLAN(vni=5, flags=8) / packet)
    a.sim.run()
    (record,) = [r for r in a.sim.recorder.packets if r.device == "t0"]
    seen = Ether(record.data)[IP]
    assert seen.tos == after
    check = seen.chksum
    del seen.chksum
    assert IP(bytes(seen)).chksum == check


def test_congestion_that_the_inner_packet_does_not_know_is_a_loss(ends) -> None:
    a, b = ends
    b.vxlan("t0", vni=5, dstport=4789)
    packet = Ether(dst=b.device("t0").mac.hex(":"), src="02:00:00:00:00:77") / IP(tos=0, src="1.1.1.1", dst="2.2.2.2")
    outer = IP(src="10.0.0.1", dst="10.0.0.2", tos=3) / UDP(dport=4789)
    a.send("veth0", outer / VXLAN(vni=5, flags=8) / packet)
    a.sim.run()
    assert b.net.drops["IP_TUNNEL_ECN"] == 1
