"""IPv6 by its RFCs: 8200 (packets, extension headers), 4291 (addresses), 4443 (ICMPv6), 4861 (neighbours)."""

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import HBHOptUnknown as Unknown
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)  # fmt: skip
from scapy.layers.l2 import Ether

from ebpfsim.errors import KernelError
from netstack.headers6 import parse_ip6
from netstack.neigh import Nud

A, B, FAR = "2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::9"
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
E = Ether(src=MAC_A, dst=MAC_B)


class Bench:
    """``r`` has 2001:db8:1::2 and, on eth1 with an MTU of 1280, 2001:db8:2::2; neighbours are known."""

    def __init__(self, lab, forward: bool = False) -> None:
        self.lab = lab
        self.r = lab.net("r", sysctl={"net.ipv6.conf.all.forwarding": int(forward)})
        self.eth0 = self.r.add_nic("eth0", f"{B}/64", MAC_B)
        self.eth1 = self.r.add_nic("eth1", "2001:db8:2::2/64", "02:00:00:00:00:0c", mtu=1280)
        self.sender = lab.net("a").add_nic("eth0", (), MAC_A, mtu=9000)
        beyond = lab.net("c").add_nic("eth0", (), "02:00:00:00:00:0d")
        lab.connect(self.sender, self.eth0)
        lab.connect(self.eth1, beyond)
        self.r.neigh6.add(self.eth0, parse_ip6(A), self.sender.mac)
        self.r.neigh6.add(self.eth1, parse_ip6(FAR), beyond.mac)
        self.any = self.r.udp_socket6(port=53)

    def case(self, packet) -> tuple[str, list[IPv6], list[IPv6]]:
        """Let a packet come; return why it was dropped, what was sent back, and what was sent on."""
        self.lab.recorder.packets.clear()
        self.sender.inject(bytes(packet))
        self.lab.run()
        (received,) = self.lab.frames(self.r, "in")
        out = [Ether(record.data)[IPv6] for record in self.lab.frames(self.r, "out", "eth0")]
        on = [Ether(record.data)[IPv6] for record in self.lab.frames(self.r, "out", "eth1")]
        return received.reason, out, on


@pytest.fixture
def bench(lab) -> Bench:
    return Bench(lab)


@pytest.fixture
def router(lab) -> Bench:
    return Bench(lab, forward=True)


def ip(**fields) -> IPv6:
    return IPv6(**{"src": A, "dst": B, **fields})


def udp(port: int = 53) -> UDP:
    return UDP(sport=1000, dport=port)


def right(packet: IPv6) -> bool:
    """Whether the checksum of an ICMPv6 message is what scapy computes."""
    copy = IPv6(bytes(packet))
    was, copy.payload.cksum = copy.payload.cksum, None
    return IPv6(bytes(copy)).payload.cksum == was


def test_a_datagram_is_delivered(bench) -> None:
    reason, out, _ = bench.case(E / ip() / udp() / b"hello")
    assert (reason, out) == ("", [])
    (datagram,) = bench.any.received
    assert (datagram.source, datagram.data) == ((A, 1000), b"hello")
    counters = bench.r.snmp
    assert [counters[f"Ip6In{name}"] for name in ("Receives", "Delivers")] == [1, 1]
    assert counters["Udp6InDatagrams"] == 1


@pytest.mark.parametrize(
    ("packet", "reason", "counter"),
    [
        (ip(version=5) / udp(), "IP_INHDR", "Ip6InHdrErrors"),
        # RFC 4291, 2.7 and 2.5.3
        (ip(src="ff02::1") / udp(), "IP_INHDR", "Ip6InHdrErrors"),
        (ip(dst="::1") / udp(), "IP_INHDR", "Ip6InHdrErrors"),
        (ip(src="::1") / udp(), "IP_INHDR", "Ip6InHdrErrors"),
        (ip(plen=99) / udp(), "PKT_TOO_SMALL", "Ip6InTruncatedPkts"),
        (ip(dst=FAR) / udp(), "IP_INADDRERRORS", "Ip6InAddrErrors"),
        (ip(dst="2001:db8:1::77") / udp(), "IP_INADDRERRORS", "Ip6InAddrErrors"),
        (ip(dst="ff02::1234") / udp(), "NOT_SPECIFIED", "Ip6InMcastPkts"),
        (ip() / UDP(dport=53, chksum=0) / b"x", "UDP_CSUM", "Udp6InCsumErrors"),
        (ip() / UDP(dport=53, chksum=1) / b"x", "UDP_CSUM", "Udp6InErrors"),
        (ip() / UDP(dport=53, len=99) / b"x", "PKT_TOO_SMALL", "Udp6InErrors"),
    ],
)
def test_wrong_packets(bench, packet, reason, counter) -> None:
    assert bench.case(Ether(src=MAC_A, dst=MAC_B, type=0x86DD) / packet)[:2] == (reason, [])
    assert bench.r.snmp[counter] == 1


def test_echo(bench) -> None:
    _, (reply,), _ = bench.case(E / ip(hlim=9) / ICMPv6EchoRequest(id=7, seq=3, data=b"abc"))
    echo = reply[ICMPv6EchoReply]
    assert (reply.src, reply.dst, reply.hlim, echo.id, echo.seq, echo.data) == (B, A, 64, 7, 3, b"abc")
    assert right(reply)


def test_echo_to_a_group_is_answered_from_an_address(bench) -> None:
    group = Ether(src=MAC_A, dst="33:33:00:00:00:01")
    _, (reply,), _ = bench.case(group / ip(dst="ff02::1") / ICMPv6EchoRequest())
    assert reply.src == B


def test_closed_port(bench) -> None:
    sent = ip() / udp(99) / (b"z" * 1400)
    reason, (reply,), _ = bench.case(E / sent)
    error = reply[ICMPv6DestUnreach]
    assert (reason, error.code) == ("NO_SOCKET", 4)
    # RFC 4443, 2.4 (c): as much as fits into the minimum MTU
    assert len(bytes(reply)) == 1280
    assert bytes(reply)[48:] == bytes(sent)[: 1280 - 48]
    assert right(reply)


@pytest.mark.parametrize(
    "packet",
    [
        # RFC 4443, 2.4 (e): about errors, to groups, from groups and from nobody there are none
        ip() / ICMPv6DestUnreach(code=4) / IPv6(src=B, dst=A) / udp(),
        ip(dst="ff02::1") / udp(99),
        ip(src="::") / udp(99),
    ],
)
def test_no_error_about_these(bench, packet) -> None:
    dst = "33:33:00:00:00:01" if packet.dst == "ff02::1" else MAC_B
    assert bench.case(Ether(src=MAC_A, dst=dst) / packet)[1] == []


def test_errors_are_limited(bench) -> None:
    answers = sum(len(bench.case(E / ip() / udp(99))[1]) for _ in range(20))
    assert answers == 6
    assert bench.r.snmp["Icmp6OutRateLimitHost"] == 14


@pytest.mark.parametrize(
    "headers",
    [
        IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
        IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(segleft=0) / IPv6ExtHdrDestOpt(),
        # the two highest bits 00: skip an unknown option
        IPv6ExtHdrDestOpt(options=[Unknown(otype=0x1E, optdata=b"ab")]),
    ],
)
def test_extension_headers_are_passed(bench, headers) -> None:
    assert bench.case(E / ip() / headers / udp() / b"x")[:2] == ("", [])
    assert len(bench.any.received) == 1


@pytest.mark.parametrize(
    ("headers", "reason", "code", "pointer"),
    [
        # RFC 8200, 4.2: 10 answer, 11 answer unless to a group, 01 drop
        (IPv6ExtHdrDestOpt(options=[Unknown(otype=0x9E, optdata=b"ab")]), "UNHANDLED_PROTO", 2, 42),
        (IPv6ExtHdrDestOpt(options=[Unknown(otype=0xDE, optdata=b"ab")]), "UNHANDLED_PROTO", 2, 42),
        (IPv6ExtHdrDestOpt(options=[Unknown(otype=0x5E, optdata=b"ab")]), "UNHANDLED_PROTO", None, None),
        # RFC 5095 and 8200, 4.4: a routing header with segments left
        (IPv6ExtHdrRouting(type=0, segleft=1, addresses=["::9"]), "NOT_SPECIFIED", 0, 42),
        # RFC 8200, 4.3: hop-by-hop options come first
        (IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop(), "IP_NOPROTO", 1, 40),
    ],
)
def test_wrong_extension_headers(bench, headers, reason, code, pointer) -> None:
    got, out, _ = bench.case(E / ip() / headers / udp() / b"x")
    assert got == reason
    if code is None:
        assert out == []
    else:
        problem = out[0][ICMPv6ParamProblem]
        assert (problem.code, problem.ptr) == (code, pointer)


def test_unknown_protocol(bench) -> None:
    reason, (reply,), _ = bench.case(E / ip(nh=200) / b"12345678")
    problem = reply[ICMPv6ParamProblem]
    assert (reason, problem.code, problem.ptr) == ("IP_NOPROTO", 1, 6)


def test_no_next_header_is_nothing_wrong(bench) -> None:
    # dst_discard(): it counts as delivered, though nobody gets it
    assert bench.case(E / ip(nh=59) / b"12345678")[:2] == ("NOT_SPECIFIED", [])
    assert bench.r.snmp["Ip6InDelivers"] == 1


def test_forwarding(router) -> None:
    sent = ip(dst=FAR, hlim=7, tc=4, fl=99) / udp() / b"abc"
    reason, out, (on,) = router.case(E / sent)
    assert (reason, out) == ("", [])
    assert bytes(on) == bytes(ip(dst=FAR, hlim=6, tc=4, fl=99) / udp() / b"abc")
    assert router.r.snmp["Ip6OutForwDatagrams"] == 1


@pytest.mark.parametrize(
    ("packet", "reason", "layer", "code"),
    [
        (ip(dst=FAR, hlim=1) / udp(), "IP_INHDR", ICMPv6TimeExceeded, 0),
        (ip(dst="2001:db8:9::1") / udp(), "IP_INNOROUTES", ICMPv6DestUnreach, 0),
        (ip(dst=FAR) / udp() / bytes(1300), "PKT_TOO_BIG", ICMPv6PacketTooBig, 0),
    ],
)
def test_what_cannot_be_forwarded_is_answered(router, packet, reason, layer, code) -> None:
    got, (reply,), on = router.case(E / packet)
    assert (got, reply[layer].code, on) == (reason, code, [])
    assert right(reply)
    if layer is ICMPv6PacketTooBig:
        assert reply[layer].mtu == 1280


def test_link_local_packets_stay_on_their_link(router) -> None:
    reason, _, on = router.case(E / ip(src="fe80::a", dst=FAR) / udp())
    assert (reason, on) == ("IP_INADDRERRORS", [])


def test_addresses_of_a_device(bench) -> None:
    addresses = [address for address, _ in bench.r.ipv6.state(bench.eth0).addresses]
    # RFC 4291, appendix A: the interface identifier of a MAC address
    assert addresses == [parse_ip6("fe80::ff:fe00:b"), parse_ip6(B)]
    assert parse_ip6("ff02::1:ff00:2") in bench.r.ipv6.state(bench.eth0).groups
    with pytest.raises(KernelError) as caught:
        bench.r.add_address(bench.eth0, f"{B}/64")
    assert caught.value.errno_name == "EEXIST"


def test_a_solicitation_is_answered_and_teaches(bench) -> None:
    bench.r.neigh6.remove_device(bench.eth0)
    asked = Ether(src=MAC_A, dst="33:33:ff:00:00:02") / IPv6(src=A, dst="ff02::1:ff00:2", hlim=255)
    _, (reply,), _ = bench.case(asked / ICMPv6ND_NS(tgt=B) / ICMPv6NDOptSrcLLAddr(lladdr=MAC_A))
    answer = reply[ICMPv6ND_NA]
    assert (reply.dst, reply.hlim, answer.tgt, answer.R, answer.S, answer.O) == (A, 255, B, 0, 1, 1)
    assert reply[ICMPv6NDOptDstLLAddr].lladdr == MAC_B
    neigh = bench.r.neigh6.lookup(bench.eth0, parse_ip6(A))
    assert neigh.mac.hex(":") == MAC_A


@pytest.mark.parametrize(
    ("fields", "message", "reason"),
    [
        # RFC 4861, 7.1.1
        ({"hlim": 254}, ICMPv6ND_NS(tgt=B), "IPV6_NDISC_HOP_LIMIT"),
        ({"hlim": 255}, ICMPv6ND_NS(tgt=B, code=1), "IPV6_NDISC_BAD_CODE"),
        ({"hlim": 255}, ICMPv6ND_NS(tgt="2001:db8:1::77"), "IPV6_NDISC_NS_OTHERHOST"),
        ({"hlim": 255}, ICMPv6ND_NS(tgt=B) / b"\x01\x00", "IPV6_NDISC_BAD_OPTIONS"),
        ({"hlim": 255, "src": "::"}, ICMPv6ND_NS(tgt=B), "IPV6_NDISC_BAD_OPTIONS"),
        ({"hlim": 255}, ICMPv6ND_NS(tgt="ff02::1"), "NOT_SPECIFIED"),
    ],
)
def test_wrong_solicitations(bench, fields, message, reason) -> None:
    assert bench.case(E / ip(**fields) / message)[:2] == (reason, [])


def test_two_hosts_find_each_other(lab) -> None:
    a, b = lab.net("a"), lab.net("b")
    lab.connect(a.add_nic("eth0", "2001:db8::1/64"), b.add_nic("eth0", "2001:db8::2/64"))
    received = b.udp_socket6("2001:db8::2", 9)
    a.udp_socket6().sendto(b"hello", "2001:db8::2", 9)
    ping = a.sockets6.ping()
    ping.send_echo("2001:db8::2", b"abc")
    lab.run()
    assert [datagram.data for datagram in received.received] == [b"hello"]
    assert [(datagram.source, datagram.data) for datagram in ping.received] == [(("2001:db8::2", 1), b"abc")]
    first = Ether(lab.frames(a, "out")[0].data)
    # RFC 2464, 7; RFC 4861, 7.2.2
    assert (first.dst, first[IPv6].dst, first[ICMPv6ND_NS].tgt) == (
        "33:33:ff:00:00:02",
        "ff02::1:ff00:2",
        "2001:db8::2",
    )
    assert a.neigh6.lookup(a.devices["eth0"], parse_ip6("2001:db8::2")).state == Nud.REACHABLE


def test_nobody_answers(lab) -> None:
    a = lab.net("a")
    lab.connect(a.add_nic("eth0", "2001:db8::1/64"), lab.net("b").add_nic("eth0"))
    sock = a.udp_socket6("2001:db8::1", 7)
    sock.sendto(b"x", "2001:db8::9", 9)
    lab.run()
    asked = [record.time_ns for record in lab.frames(a, "out", "eth0")]
    assert asked == [0, 10**9, 2 * 10**9]
    # ADDR_UNREACH comes back from the host itself
    assert [error.errno.name for error in sock.errors] == ["EHOSTUNREACH"]


def test_loopback(lab) -> None:
    a = lab.net("a")
    received = a.udp_socket6("::1", 9)
    a.udp_socket6().sendto(b"self", "::1", 9)
    lab.run()
    assert [datagram.data for datagram in received.received] == [b"self"]


def test_link_local_destinations_need_a_device(lab) -> None:
    a, b = lab.net("a"), lab.net("b")
    lab.connect(a.add_nic("eth0", "2001:db8::1/64"), b.add_nic("eth0", "2001:db8::2/64", "02:00:00:00:00:22"))
    received, sock = b.udp_socket6(port=9), a.udp_socket6()
    with pytest.raises(KernelError):
        sock.sendto(b"x", "fe80::ff:fe00:22", 9)
    sock.sendto(b"x", "fe80::ff:fe00:22", 9, device="eth0")
    lab.run()
    assert received.received[0].source.address.startswith("fe80::")


def test_routes_by_a_gateway(lab) -> None:
    a, r, b = lab.net("a"), lab.net("r", sysctl={"net.ipv6.conf.all.forwarding": 1}), lab.net("b")
    lab.connect(a.add_nic("eth0", "2001:db8:1::1/64"), r.add_nic("eth0", "2001:db8:1::fe/64"))
    lab.connect(r.add_nic("eth1", "2001:db8:2::fe/64"), b.add_nic("eth0", "2001:db8:2::1/64"))
    a.add_route("default", via="2001:db8:1::fe")
    b.add_route("2001:db8:1::/64", via="2001:db8:2::fe")
    ping = a.sockets6.ping()
    ping.send_echo("2001:db8:2::1")
    lab.run()
    assert len(ping.received) == 1
    with pytest.raises(KernelError) as caught:
        b.udp_socket6().sendto(b"x", "2001:db8:9::1", 9)
    assert caught.value.errno_name == "ENETUNREACH"
