"""Addresses that come by themselves and what is done before they are good (RFC 4861, RFC 4862, RFC 7527)."""

from ipaddress import IPv6Address

import pytest
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

from ebpfsim.errors import InputError, KernelError
from netstack.addrconf6 import RouterDaemon

DAD = {"net.ipv6.conf.all.accept_dad": 1}
S = 1_000_000_000
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
LOCAL_A = "fe80::ff:fe00:a"
ROUTER = "fe80::1"


def number(text: str) -> int:
    return int(IPv6Address(text))


def pair(lab, address: str = "fd00::1/64", **sysctl):
    """a, which is looked at, and the card of somebody else."""
    a = lab.net("a", sysctl=sysctl)
    other = lab.net("b").add_nic("eth0", (), MAC_B)
    nic = a.add_nic("eth0", (), MAC_A)
    lab.connect(nic, other)
    a.add_address(nic, address)
    return a, nic, other


def sent(lab, net, layer) -> list[Ether]:
    return [frame for frame in (Ether(row.data) for row in lab.frames(net, "out")) if layer in frame]


def addresses(net, dev) -> list[str]:
    return [str(IPv6Address(address)) for address, _ in net.ipv6.state(dev).addresses]


def test_an_address_is_asked_for_before_it_is_good(lab) -> None:
    """RFC 4862, 5.4.2: from ::, to the solicited-node group, after up to a second, with a nonce (RFC 7527)."""
    a, nic, _ = pair(lab, **DAD)
    state = a.ipv6.state(nic)
    assert state.tentative == {number("fd00::1"), number(LOCAL_A)}
    assert not a.ipv6.is_local(number("fd00::1"))
    with pytest.raises(KernelError, match="EADDRNOTAVAIL"):
        a.udp_socket6("fd00::1", 9)
    lab.run()
    probes = {frame[ICMPv6ND_NS].tgt: frame for frame in sent(lab, a, ICMPv6ND_NS)}
    assert set(probes) == {"fd00::1", LOCAL_A}
    probe = probes["fd00::1"]
    assert (probe[IPv6].src, probe[IPv6].dst, probe[IPv6].hlim) == ("::", "ff02::1:ff00:1", 255)
    assert bytes(probe[ICMPv6ND_NS])[24:26] == b"\x0e\x01"
    assert state.tentative == set()
    assert a.ipv6.is_local(number("fd00::1"))
    # the groups of the addresses are told, twice each (RFC 3810, 6.1)
    assert len(sent(lab, a, ICMPv6MLReport2)) == 4


@pytest.mark.parametrize("kind", ["probe", "advertisement"])
def test_an_address_that_is_somebody_else_s_is_given_up(lab, kind: str) -> None:
    a, nic, other = pair(lab, **DAD)
    ether = Ether(src=MAC_B, dst="33:33:ff:00:00:01" if kind == "probe" else "33:33:00:00:00:01")
    if kind == "probe":
        packet = ether / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt="fd00::1")
    else:
        packet = ether / IPv6(src="fe80::b", dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt="fd00::1", S=0, R=0)
    other.inject(bytes(packet))
    lab.run()
    state = a.ipv6.state(nic)
    assert (state.dad_failed, state.tentative) == ({number("fd00::1")}, set())
    assert not a.ipv6.is_local(number("fd00::1"))
    assert a.ipv6.is_local(number(LOCAL_A))


def test_own_probes_that_come_back_mean_nothing(lab) -> None:
    """RFC 7527: the nonce says that it is one's own."""
    a, nic, other = pair(lab, **DAD)
    while not (probes := sent(lab, a, ICMPv6ND_NS)):
        lab.run(a.clock.now_ns + S // 50)
    for frame in probes:
        other.inject(bytes(frame))
    lab.run()
    assert a.ipv6.state(nic).dad_failed == set()


def advertise(other, *options, lifetime: int = 1800, source: str = ROUTER, **fields) -> None:
    packet = Ether(src=MAC_B, dst="33:33:00:00:00:01") / IPv6(src=source, dst="ff02::1", hlim=255)
    packet /= ICMPv6ND_RA(routerlifetime=lifetime, chlim=33, **fields)
    for option in options:
        packet /= option
    other.inject(bytes(packet))


def prefix(text: str = "fd01::", valid: int = 3600, flags: int = 1, length: int = 64, lasting: int | None = None):
    preferred = valid if lasting is None else lasting
    return ICMPv6NDOptPrefixInfo(
        prefix=text, prefixlen=length, L=flags, A=flags, validlifetime=valid, preferredlifetime=preferred
    )


def test_a_router_gives_a_route_addresses_and_limits(lab) -> None:
    a, nic, other = pair(lab)
    advertise(other, ICMPv6NDOptSrcLLAddr(lladdr=MAC_B), prefix(), ICMPv6NDOptMTU(mtu=1400))
    lab.run(S)
    assert addresses(a, nic) == [LOCAL_A, "fd00::1", "fd01::ff:fe00:a"]
    default = a.ipv6.fib.lookup(number("2001:db8::1"))
    assert (default.gateway, default.metric, default.dev) == (number(ROUTER), 1024, nic)
    assert a.ipv6.fib.lookup(number("fd01::5")).dev is nic
    neigh = a.neigh6.lookup(nic, number(ROUTER))
    assert (neigh.mac.hex(":"), neigh.is_router) == (MAC_B, True)
    a.udp_socket6().sendto(bytes(1380), "2001:db8::1", 9)
    lab.run(2 * S)
    frame = next(frame for frame in sent(lab, a, IPv6) if frame[IPv6].dst == "2001:db8::1")
    # the hop limit and the MTU of the link: the datagram went in pieces, from the best address
    assert (frame[IPv6].hlim, frame[IPv6].nh, frame.dst) == (33, 44, MAC_B)


def test_lifetimes_end(lab) -> None:
    a, nic, other = pair(lab)
    advertise(other, prefix(valid=100), lifetime=50)
    lab.run(S)
    lab.run(60 * S)
    assert a.ipv6.fib.lookup(number("2001:db8::1")) is None
    assert "fd01::ff:fe00:a" in addresses(a, nic)
    lab.run(110 * S)
    assert addresses(a, nic) == [LOCAL_A, "fd00::1"]
    assert a.ipv6.fib.lookup(number("fd01::5")) is None
    # a router that takes itself back
    advertise(other, lifetime=50)
    lab.run(111 * S)
    advertise(other, lifetime=0)
    lab.run(112 * S)
    assert a.ipv6.fib.lookup(number("2001:db8::1")) is None


def test_nobody_takes_an_address_away_that_is_good_for_long(lab) -> None:
    """RFC 4862, 5.5.3 (e): two hours are left, whatever is said."""
    a, nic, other = pair(lab)
    advertise(other, prefix(valid=86400))
    lab.run(S)
    advertise(other, prefix(valid=10))
    lab.run(7000 * S)
    assert "fd01::ff:fe00:a" in addresses(a, nic)
    lab.run(7300 * S)
    assert "fd01::ff:fe00:a" not in addresses(a, nic)


@pytest.mark.parametrize(
    "option",
    [prefix("fe80::"), prefix(valid=10, lasting=20), prefix(length=48), prefix(valid=0), prefix(flags=0)],
    ids=["link-local", "preferred longer than valid", "no 64 bits", "not valid", "no flags"],
)
def test_prefixes_that_make_no_address(lab, option) -> None:
    a, nic, other = pair(lab)
    advertise(other, option)
    lab.run(S)
    assert addresses(a, nic) == [LOCAL_A, "fd00::1"]


@pytest.mark.parametrize(
    ("sysctl", "taken"),
    [({}, True), ({"net.ipv6.conf.all.accept_ra": 0}, False), ({"net.ipv6.conf.all.forwarding": 1}, False),
     ({"net.ipv6.conf.all.forwarding": 1, "net.ipv6.conf.all.accept_ra": 2}, True)],
)  # fmt: skip
def test_who_listens_to_routers(lab, sysctl, taken: bool) -> None:
    a, _, other = pair(lab, **sysctl)
    advertise(other)
    lab.run(S)
    assert (a.ipv6.fib.lookup(number("2001:db8::1")) is not None) == taken


def test_routers_speak_from_their_link_only(lab) -> None:
    """RFC 4861, 6.1.2."""
    a, _, other = pair(lab)
    advertise(other, source="fd00::b")
    lab.run(S)
    assert a.ipv6.fib.lookup(number("2001:db8::1")) is None


def test_a_router_that_is_asked_answers(lab) -> None:
    """A whole network without an address that somebody wrote down: a asks, r advertises, a pings r."""
    r = lab.net("r", sysctl={"net.ipv6.conf.all.forwarding": 1})
    a = lab.net("a", sysctl={**DAD, "net.ipv6.conf.all.router_solicitations": 3})
    nic, own = r.add_nic("eth0", "fd07::1/64"), a.add_nic("eth0", (), MAC_A)
    lab.connect(nic, own)
    daemon = RouterDaemon(r, nic, ["fd07::/64"], every_ns=3600 * S)
    lab.run(S)
    a.ipv6.state(own)
    lab.run(8 * S)
    assert addresses(a, own) == [LOCAL_A, "fd07::ff:fe00:a"]
    assert len(sent(lab, a, ICMPv6ND_RS)) == 1
    assert daemon.sent == 2
    ping = a.sockets6.ping()
    ping.send_echo("fd07::1")
    lab.run(9 * S)
    assert len(ping.received) == 1
    with pytest.raises(InputError, match="does not forward"):
        RouterDaemon(a, own, ["fd07::/64"])
    with pytest.raises(InputError, match="prefix"):
        RouterDaemon(r, nic, ["fd07::1/64"])


def test_addresses_can_be_taken_away(lab) -> None:
    a, nic, _ = pair(lab)
    a.ipv6.remove_address(nic, number("fd00::1"))
    assert addresses(a, nic) == [LOCAL_A]
    assert not a.ipv6.is_local(number("fd00::1"))
    with pytest.raises(KernelError, match="EADDRNOTAVAIL"):
        a.ipv6.remove_address(nic, number("fd00::1"))
