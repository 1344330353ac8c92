"""Sending IPv6: what goes to the next hop, to groups, and back out of the device that it came by."""

from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6ND_Redirect, IPv6
from scapy.layers.l2 import Ether

from netstack.headers6 import parse_ip6


def test_groups_have_their_own_link_layer_address(lab) -> None:
    """RFC 2464, 7: 33:33 and the last four bytes."""
    a, b = lab.net("a"), lab.net("b")
    lab.connect(a.add_nic("eth0", "fd00::1/64"), b.add_nic("eth0", "fd00::2/64"))
    sock = b.udp_socket6(port=9)
    a.udp_socket6(port=1).sendto(b"x", "ff02::1", 9)
    lab.run()
    (frame,) = lab.frames(a, "out")
    assert Ether(frame.data).dst == "33:33:00:00:00:01"
    assert len(sock.received) == 1
    assert a.snmp["Ip6OutMcastPkts"] == 1


def test_a_sender_is_told_of_a_better_first_hop(lab) -> None:
    """RFC 4861, 8: the target is the gateway's link-local address; the packet is sent on all the same."""
    r, x = lab.net("r", sysctl={"net.ipv6.conf.all.forwarding": 1}), lab.net("x")
    nic = r.add_nic("eth0", "fd00::1/64", "02:00:00:00:00:0b")
    end = x.add_nic("eth0", (), "02:00:00:00:00:0a")
    lab.connect(nic, end)
    for address in ("fd00::5", "fe80::9"):
        r.neigh6.add(nic, parse_ip6(address), end.mac)
    r.add_route("fd01::/64", via="fe80::9", dev="eth0")
    packet = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b") / IPv6(src="fd00::5", dst="fd01::1") / UDP()
    end.inject(bytes(packet))
    lab.run()
    redirect, on = (Ether(row.data) for row in lab.frames(r, "out"))
    told = redirect[ICMPv6ND_Redirect]
    assert (told.tgt, told.dst, redirect[IPv6].src, redirect[IPv6].hlim) == (
        "fe80::9", "fd01::1", "fe80::ff:fe00:b", 255,
    )  # fmt: skip
    assert bytes(packet[IPv6]) in bytes(redirect)
    assert on[IPv6].dst == "fd01::1"
    assert r.snmp["Icmp6OutRedirects"] == 1
