"""Fragments of IPv6 beyond those that Linux was asked about: limits, links, what is cut."""

from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Ether

from netstack.headers6 import parse_ip6
from netstack.ip6_fragment import first_part


def pair(lab, **sysctl):
    a, b = lab.net("a"), lab.net("b", sysctl=sysctl)
    lab.connect(a.add_nic("eth0", "fd00::1/64", mtu=1280), b.add_nic("eth0", "fd00::2/64"))
    return a, b


def test_a_long_datagram_is_cut_and_put_together(lab) -> None:
    """RFC 8200, 4.5: all but the last piece have a multiple of 8 bytes; all fit the link."""
    a, b = pair(lab)
    sock = b.udp_socket6(port=9)
    data = bytes(range(256)) * 20
    a.udp_socket6(port=1).sendto(data, "fd00::2", 9)
    lab.run()
    (datagram,) = sock.received
    assert datagram.data == data
    frames = [Ether(row.data) for row in lab.frames(a, "out") if row.data[20] == 44]
    offsets = [(frame[IPv6ExtHdrFragment].offset, frame[IPv6ExtHdrFragment].m) for frame in frames]
    assert offsets == [(0, 1), (154, 1), (308, 1), (462, 1), (616, 0)]
    assert all(len(frame[IPv6]) <= 1280 for frame in frames)
    assert len({frame[IPv6ExtHdrFragment].id for frame in frames}) == 1
    assert [a.snmp[f"Ip6Frag{name}"] for name in ("OKs", "Creates", "Fails")] == [1, 5, 0]
    assert [b.snmp[f"Ip6Reasm{name}"] for name in ("Reqds", "OKs", "Fails")] == [5, 1, 0]


def test_a_path_s_mtu_cuts_too(lab) -> None:
    a, b = pair(lab)
    a.devices["eth0"].set_mtu(1500)
    route, _ = a.ipv6.route_output(parse_ip6("fd00::2"))
    a.path_mtu6.update(route, parse_ip6("fd00::2"), 1400)
    sock = b.udp_socket6(port=9)
    a.udp_socket6(port=1).sendto(bytes(1400), "fd00::2", 9)
    lab.run()
    assert len(sock.received) == 1
    assert max(len(row.data) for row in lab.frames(a, "out")) <= 1414


def test_what_all_queues_hold_is_limited(lab) -> None:
    _, b = pair(lab, **{"net.ipv6.ip6frag_high_thresh": 100})
    sender = lab.nets[0].devices["eth0"]
    for ident in range(3):
        packet = IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrFragment(nh=17, id=ident, m=1) / bytes(64)
        sender.inject(bytes(Ether(src=sender.mac.hex(":"), dst=b.devices["eth0"].mac.hex(":")) / packet))
    lab.run(1_000_000)
    assert [len(b.frags6.queues), b.snmp["Ip6ReasmFails"]] == [1, 2]
    assert [row.reason for row in lab.frames(b, "in")] == ["", "NOMEM", "NOMEM"]
    lab.run()
    assert (b.frags6.queues, b.frags6.bytes) == ({}, 0)


def test_which_part_all_pieces_have() -> None:
    """RFC 8200, 4.5: up to the hop-by-hop and routing headers, with the destination options in front of the latter."""
    ip, udp = IPv6(src="fd00::1", dst="fd00::2"), UDP() / b"x"
    assert first_part(bytes(ip / udp)) == (40, 6)
    assert first_part(bytes(ip / IPv6ExtHdrHopByHop() / udp)) == (48, 40)
    assert first_part(bytes(ip / IPv6ExtHdrDestOpt() / udp)) == (40, 6)
    routed = IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["::1"])
    assert first_part(bytes(ip / routed / IPv6ExtHdrDestOpt() / udp)) == (72, 48)
