"""Tunnels of IP packets: what is on the wire (RFC 2003, 2473, 2784, 2890, 4213, 6040), and that both ends meet."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Ether

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from netstack.l3_tunnel import L3_TUNNELS, ecn_decapsulate
from netstack.tunnel import TunnelConfig


def ends(kind: str, **options):
    """Two hosts with a tunnel each, 192.168.0.0/24 and fd09::/64 inside."""
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", ["10.0.0.1/24", "fd00::1/64"]), b.nic("eth0", ["10.0.0.2/24", "fd00::2/64"]))
    outside = ("fd00::1", "fd00::2") if kind == "ip6tnl" else ("10.0.0.1", "10.0.0.2")
    for host, local, remote, last in ((a, *outside, 1), (b, *reversed(outside), 2)):
        inside = [f"192.168.0.{last}/24"] if kind != "sit" else []
        inside += [f"fd09::{last}/64"] if kind != "ipip" else []
        getattr(host, kind)("t0", local=local, remote=remote, address=inside, **options)
    return sim, a, b


def outer(sim) -> list[Ether]:
    return [
        Ether(row.data)
        for row in sim.recorder.packets
        if (row.host, row.device, row.direction) == ("b", "eth0", "in") and row.data[12:14] != b"\x08\x06"
    ]


@pytest.mark.parametrize(
    ("kind", "options", "proto"),
    [("ipip", {}, 4), ("gre", {}, 47), ("gre", {"key": 7}, 47), ("gre", {"key": 7, "csum": True}, 47),
     ("ip6tnl", {}, 4)],
)  # fmt: skip
def test_ipv4_inside(kind, options, proto) -> None:
    sim, a, b = ends(kind, **options)
    ping = a.net.ping_socket()
    ping.send_echo("192.168.0.2", b"abc")
    sim.run(until="1s")
    assert len(ping.received) == 1
    packet = next(frame for frame in outer(sim) if ICMP in frame)
    if kind == "ip6tnl":
        assert (packet[IPv6].src, packet[IPv6].nh, packet[IPv6].hlim) == ("fd00::1", proto, 64)
    else:
        head = packet[IP]
        assert (head.src, head.dst, head.proto, head.ttl, str(head.flags)) == ("10.0.0.1", "10.0.0.2", proto, 64, "DF")
    if kind == "gre":
        gre = packet[GRE]
        has_key = options.get("key") is not None
        assert (gre.proto, gre.key_present, gre.key if has_key else None) == (0x800, has_key, options.get("key"))
        assert gre.chksum_present == bool(options.get("csum"))
    assert (a.device("t0").stats.tx_packets, b.device("t0").stats.rx_packets) == (1, 1)


@pytest.mark.parametrize("kind", ["sit", "gre", "ip6tnl"])
def test_ipv6_inside(kind) -> None:
    sim, a, b = ends(kind)
    sock = b.udp_socket6(port=9)
    a.udp_socket6().sendto(b"hello", "fd09::2", 9)
    sim.run(until="1s")
    assert [row.data for row in sock.received] == [b"hello"]
    packet = next(frame for frame in outer(sim) if UDP in frame)
    assert packet.getlayer(IPv6, 2 if kind == "ip6tnl" else 1).dst == "fd09::2"


@pytest.mark.parametrize(
    ("kind", "key", "mtu"), [("ipip", None, 1480), ("sit", None, 1480), ("gre", None, 1476), ("gre", 5, 1472),
                             ("ip6tnl", None, 1452)]
)  # fmt: skip
def test_their_mtu_leaves_room(kind, key, mtu) -> None:
    """As ``ip link`` shows for them over Ethernet."""
    config = TunnelConfig(key=key or 0, has_key=key is not None, csum=False)
    assert 1500 - L3_TUNNELS[kind].overhead(config) == mtu


def test_what_is_of_the_inner_packet() -> None:
    sim, a, b = ends("ipip", tos=1)
    a.device("eth0")
    raw = IP(src="192.168.0.1", dst="192.168.0.2", ttl=9, tos=0x2A) / UDP(dport=9) / b"x"
    tap = a.tun("tun0", address="192.168.7.1/24")
    a.kernel.net.sysctls["net.ipv4.ip_forward"] = 1
    tap.write(IP(src="192.168.7.2", dst="192.168.0.2", ttl=9, tos=0x2A) / UDP(dport=9) / b"x")
    sim.run(until="1s")
    packet = next(frame for frame in outer(sim) if UDP in frame)
    # tos inherit, and the ECN bits; the TTL is that which forwarding left
    assert (packet[IP].tos, packet[IP].ttl) == (0x2A, 8)
    assert packet[IP].payload.ttl == 8
    assert raw.tos == 0x2A
    assert b.net.snmp["UdpNoPorts"] == 1


def test_marks_of_congestion_come_in() -> None:
    """RFC 6040: CE outside goes in, unless what is inside does not know ECN."""

    def packet(tos: int) -> bytes:
        return bytes(IP(src="1.1.1.1", dst="2.2.2.2", tos=tos) / b"x")

    assert IP(ecn_decapsulate(packet(2), 3)).tos == 3
    assert IP(ecn_decapsulate(packet(2), 3)).chksum == IP(packet(3)).chksum
    assert ecn_decapsulate(packet(0), 3) is None
    assert ecn_decapsulate(packet(1), 1) == packet(1)
    six = bytes(IPv6(tc=2))
    assert IPv6(ecn_decapsulate(six, 3)).tc == 3


def test_nobody_takes_it() -> None:
    """tunnel4_rcv(): port unreachable."""
    sim, a, b = ends("gre", key=1)
    b.link_del("t0")
    b.gre("t0", local="10.0.0.2", remote="10.0.0.1", key=2, address="192.168.0.2/24")
    ping = a.net.ping_socket()
    ping.send_echo("192.168.0.2", b"abc")
    sim.run(until="1s")
    assert ping.received == []
    assert b.net.snmp["IcmpOutDestUnreachs"] == 1
    with pytest.raises(KernelError, match="EEXIST"):
        b.gre("t1", local="10.0.0.2", remote="10.0.0.1", key=2)


def test_gre_and_gretap_side_by_side() -> None:
    sim, a, b = ends("gre")
    for host, remote, last in ((a, "10.0.0.2", 1), (b, "10.0.0.1", 2)):
        host.gretap("g0", remote=remote, address=f"192.168.9.{last}/24")
    ping = a.net.ping_socket()
    for address in ("192.168.0.2", "192.168.9.2"):
        ping.send_echo(address, b"abc")
    sim.run(until="1s")
    assert len(ping.received) == 2
    b.link_del("t0")
    b.link_del("g0")
    assert 47 not in b.net.protocols


SET_KEY = """
r6 = r1
r1 = 0; *(u64 *)(r10 - 48) = r1; *(u64 *)(r10 - 40) = r1; *(u64 *)(r10 - 32) = r1; *(u64 *)(r10 - 24) = r1
*(u64 *)(r10 - 16) = r1; *(u64 *)(r10 - 8) = r1
*(u32 *)(r10 - 48) = 77
r1 = 0x0a000002; *(u32 *)(r10 - 44) = r1
r1 = r6; r2 = r10; r2 += -48; r3 = 44; r4 = 0
call bpf_skb_set_tunnel_key
r0 = 0
exit
"""


@pytest.mark.parametrize("kind", ["ipip", "gre"])
def test_programs_say_where_packets_go(kind) -> None:
    """external: the program at the device's egress names the other end, and the key of GRE."""
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"))
    for host, last in ((a, 1), (b, 2)):
        getattr(host, kind)("t0", external=True, address=f"192.168.0.{last}/24")
    prog = a.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(SET_KEY))).fd
    a.attach_tc(prog, "t0", "egress")
    sock = b.udp_socket(port=9)
    a.udp_socket().sendto(b"hello", "192.168.0.2", 9)
    sim.run(until="1s")
    assert [row.data for row in sock.received] == [b"hello"]
    packet = next(frame for frame in outer(sim) if UDP in frame)
    assert (packet[IP].dst, packet[IP].src) == ("10.0.0.2", "10.0.0.1")
    if kind == "gre":
        assert packet[GRE].key == 77
    # without a program nobody knows where to
    b.udp_socket().sendto(b"back", "192.168.0.1", 9)
    assert b.device("t0").stats.tx_dropped == 1
