"""Frames that Linux was asked about (``ip_world``), as a host and as a router: IP, its fragments, options and errors.

Names begin with what a case is of. What Linux 6.18 answered stands in tests/data/ip_cases.json.
"""

from collections.abc import Iterator

from scapy.layers.inet import (
    ICMP,
    IP,
    UDP,
    IPOption_LSRR,
    IPOption_NOP,
    IPOption_Router_Alert,
    IPOption_RR,
    IPOption_SSRR,
    IPOption_Timestamp,
)
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Jumbo,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.support.ip_world import MAC_0, MAC_1, MAC_A, MAC_C, Case

BROADCAST = "ff:ff:ff:ff:ff:ff"
A4, R4, FAR4 = "10.0.1.1", "10.0.1.2", "10.0.2.9"
A6, R6, FAR6 = "2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::9"
E = Ether(src=MAC_A, dst=MAC_0)
E1 = Ether(src=MAC_C, dst=MAC_1)


def ip(**fields: object) -> IP:
    return IP(**{"src": A4, "dst": R4, "id": 7, **fields})


def ip6(**fields: object) -> IPv6:
    return IPv6(**{"src": A6, "dst": R6, **fields})


def udp(data: bytes = b"data", port: int = 53) -> Packet:
    return UDP(sport=1000, dport=port) / data


def whole(packet: Packet) -> bytes:
    """Return what is behind the header of IP of a packet, with its sums."""
    return bytes(packet)[20 if isinstance(packet, IP) else 40 :]


PAYLOAD = bytes(range(256)) * 8


def pieces4(cuts: list[tuple[int, int]], size: int = 64, ident: int = 7, **fields: object) -> list[Packet]:
    """Return fragments of a datagram with ``size`` bytes of data: from byte to byte of what is behind IP."""
    data = whole(ip() / udp(PAYLOAD[:size]))
    made = []
    for start, end in cuts:
        flags = "MF" if end < len(data) else 0
        header = {"id": ident, "proto": 17, "frag": start // 8, "flags": flags, **fields}
        made.append(E / ip(**header) / Raw(data[start:end]))
    return made


def pieces6(
    cuts: list[tuple[int, int]], size: int = 64, ident: int = 9, data: bytes = b"", nh: int = 17
) -> list[Packet]:
    data = data or whole(ip6() / udp(PAYLOAD[:size]))
    return [
        E
        / ip6()
        / IPv6ExtHdrFragment(nh=nh, id=ident, offset=start // 8, m=int(end < len(data)))
        / Raw(data[start:end])
        for start, end in cuts
    ]


def case(*frames: Packet, device: str = "eth0", **options: object) -> Case:
    return Case([(device, bytes(frame)) for frame in frames], **options)


def routed(*frames: Packet, **options: object) -> Case:
    return case(*frames, forward=True, **options)


def _fragments4() -> Iterator[tuple[str, Case]]:
    yield "two", case(*pieces4([(0, 40), (40, 72)]))
    yield "last first", case(*pieces4([(40, 72), (0, 40)]))
    yield "three in any order", case(*pieces4([(24, 48), (48, 72), (0, 24)]))
    yield "of eight bytes", case(*pieces4([(at, at + 8) for at in range(0, 72, 8)]))
    yield "the same again", case(*pieces4([(0, 40), (0, 40), (40, 72)]))
    yield "one within another", case(*pieces4([(0, 40), (8, 24), (40, 72)]))
    yield "overlapping by eight", case(*pieces4([(0, 40), (32, 72)]), *pieces4([(40, 72)]))
    yield "overlapping from the front", case(*pieces4([(24, 72), (0, 32)]))
    yield "two ends", case(*pieces4([(40, 72), (0, 40)]), *pieces4([(40, 64)], 56))
    yield "an end before what was there", case(*pieces4([(40, 64)], 120), *pieces4([(0, 32)], 24), *pieces4([(32, 40)]))
    yield "beyond the end", case(*pieces4([(40, 72)]), *pieces4([(72, 96)], 120), *pieces4([(0, 40)]))
    yield "empty", case(E / ip(proto=17, frag=0, flags="MF"), *pieces4([(0, 40), (40, 72)]))
    yield "an odd length in the middle", case(*pieces4([(0, 36), (40, 72)]), *pieces4([(32, 40)]))
    yield (
        "longer than a packet may be",
        case(E / ip(proto=17, frag=8189, flags=0) / Raw(bytes(200)), *pieces4([(0, 40)])),
    )
    yield "of two packets", case(*pieces4([(0, 40)], ident=1), *pieces4([(40, 72)], ident=2))
    yield "with don't fragment", case(*pieces4([(0, 40), (40, 72)], flags="MF+DF")[:1], *pieces4([(40, 72)]))
    yield "with ECN", case(*pieces4([(0, 40)], tos=2), *pieces4([(40, 72)], tos=3))
    yield "with ECN that contradicts", case(*pieces4([(0, 40)], tos=0), *pieces4([(40, 72)], tos=3))
    yield "that time out, the first there", case(*pieces4([(0, 40)]), sysctl={"net.ipv4.ipfrag_time": 1}, wait_ms=1500)
    yield (
        "that time out, the first missing",
        case(*pieces4([(40, 72)]), sysctl={"net.ipv4.ipfrag_time": 1}, wait_ms=1500),
    )
    yield (
        "of an echo request",
        case(
            E / ip(proto=1, flags="MF") / Raw(whole(ip() / ICMP(id=3, seq=4) / PAYLOAD[:64])[:40]),
            E / ip(proto=1, frag=5) / Raw(whole(ip() / ICMP(id=3, seq=4) / PAYLOAD[:64])[40:]),
        ),
    )
    yield "that are forwarded", routed(*(f for f in pieces4([(0, 40), (40, 72)], dst=FAR4)))
    yield "a long reply", case(E / ip() / ICMP(id=3, seq=4) / PAYLOAD[:1400])
    yield "made by a router", routed(E / ip(dst=FAR4) / udp(PAYLOAD[:1400]))
    yield (
        "made by a router of a fragment",
        routed(E / ip(dst=FAR4, flags="MF", frag=10, proto=17) / Raw(PAYLOAD[:1400])),
    )
    yield (
        "made by a router, with options",
        routed(
            E
            / ip(
                dst=FAR4, options=[IPOption_RR(length=7, routers=["0.0.0.0"]), IPOption_Router_Alert(), IPOption_NOP()]
            )
            / udp(PAYLOAD[:1400])
        ),
    )
    yield "that a router must not make", routed(E / ip(dst=FAR4, flags="DF") / udp(PAYLOAD[:1400]))


def _fragments6() -> Iterator[tuple[str, Case]]:
    yield "two", case(*pieces6([(0, 40), (40, 72)]))
    yield "last first", case(*pieces6([(40, 72), (0, 40)]))
    yield "of eight bytes", case(*pieces6([(at, at + 8) for at in range(0, 72, 8)]))
    yield "the same again", case(*pieces6([(0, 40), (0, 40), (40, 72)]))
    yield "overlapping by eight", case(*pieces6([(0, 40), (32, 72), (40, 72)]))
    yield "one within another", case(*pieces6([(0, 40), (8, 24), (40, 72)]))
    yield "atomic", case(E / ip6() / IPv6ExtHdrFragment(nh=17, id=3, offset=0, m=0) / Raw(whole(ip6() / udp())))
    yield "an odd length in the middle", case(*pieces6([(0, 36)]))
    yield (
        "longer than a packet may be",
        case(E / ip6() / IPv6ExtHdrFragment(nh=17, id=3, offset=8191, m=0) / Raw(bytes(200))),
    )
    yield "without all headers", case(*pieces6([(0, 0)]), *pieces6([(0, 4)]))
    yield "first of a TCP header", case(E / ip6() / IPv6ExtHdrFragment(nh=6, id=3, offset=0, m=1) / Raw(bytes(16)))
    yield "a header cut short", case(E / ip6(nh=44, plen=4) / Raw(bytes(4)))
    yield (
        "twice",
        case(
            E
            / ip6()
            / IPv6ExtHdrFragment(nh=44, id=3, offset=0, m=0)
            / IPv6ExtHdrFragment(nh=17, id=4, offset=0, m=0)
            / Raw(whole(ip6() / udp()))
        ),
    )
    yield "two ends", case(*pieces6([(40, 72)]), *pieces6([(40, 64)], 56), *pieces6([(0, 40)]))
    yield "an end before what was there", case(*pieces6([(40, 64)], 120), *pieces6([(0, 32)], 24))
    yield "that time out, the first there", case(*pieces6([(0, 40)]), sysctl={"net.ipv6.ip6frag_time": 1}, wait_ms=1500)
    yield (
        "that time out, the first missing",
        case(*pieces6([(40, 72)]), sysctl={"net.ipv6.ip6frag_time": 1}, wait_ms=1500),
    )
    yield "of two packets", case(*pieces6([(0, 40)], ident=1), *pieces6([(40, 72)], ident=2))
    yield (
        "with a destination header in front",
        case(
            *(
                E
                / ip6()
                / IPv6ExtHdrDestOpt()
                / IPv6ExtHdrFragment(nh=17, id=9, offset=at // 8, m=int(not at))
                / Raw(whole(ip6() / udp(PAYLOAD[:64]))[at : at + 40])
                for at in (0, 40)
            )
        ),
    )
    yield (
        "with a destination header inside",
        case(
            *pieces6(
                [(0, 40), (40, 80)], nh=60, data=bytes.fromhex("1100010400000000") + whole(ip6() / udp(PAYLOAD[:64]))
            )
        ),
    )
    yield (
        "of an echo request",
        case(
            *pieces6([(0, 40), (40, 72)], nh=58, data=whole(ip6() / ICMPv6EchoRequest(id=3, seq=4, data=PAYLOAD[:64])))
        ),
    )
    yield (
        "of a neighbour solicitation",
        case(
            E
            / ip6(hlim=255)
            / IPv6ExtHdrFragment(nh=58, id=9, offset=0, m=0)
            / Raw(whole(ip6(hlim=255) / ICMPv6ND_NS(tgt=R6)))
        ),
    )
    yield "a long reply", case(E / ip6() / ICMPv6EchoRequest(id=3, seq=4, data=PAYLOAD[:1448]), device="eth0")
    yield "a long reply over a small link", case(
        *(
            E1 / ip6(src=FAR6, dst="2001:db8:2::2") / IPv6ExtHdrFragment(nh=58, id=9, offset=at // 8, m=int(at < 1000))
            / Raw(
                whole(ip6(src=FAR6, dst="2001:db8:2::2") / ICMPv6EchoRequest(id=3, seq=4, data=PAYLOAD[:1500]))
                [at : at + 1000]
            )
            for at in (0, 1000)
        ),
        device="eth1",
    )  # fmt: skip
    yield (
        "that are forwarded",
        routed(
            *(
                E
                / ip6(dst=FAR6)
                / IPv6ExtHdrFragment(nh=17, id=9, offset=at // 8, m=int(not at))
                / Raw(whole(ip6(dst=FAR6) / udp(PAYLOAD[:64]))[at : at + 40])
                for at in (0, 40)
            )
        ),
    )
    yield "that a router does not make", routed(E / ip6(dst=FAR6) / udp(PAYLOAD[:1400]))


def _options4() -> Iterator[tuple[str, Case]]:
    yield "record route", case(E / ip(options=[IPOption_RR(length=11, routers=["0.0.0.0"] * 2)]) / ICMP(id=1) / b"x")
    yield (
        "record route forwarded",
        routed(E / ip(dst=FAR4, options=[IPOption_RR(length=7, routers=["0.0.0.0"])]) / udp()),
    )
    yield (
        "record route that is full",
        routed(E / ip(dst=FAR4, options=[IPOption_RR(length=7, pointer=8, routers=["9.9.9.9"])]) / udp()),
    )
    yield "loose source route", case(E / ip(options=[IPOption_LSRR(length=7, routers=[FAR4])]) / udp())
    yield (
        "loose source route allowed",
        routed(
            E / ip(options=[IPOption_LSRR(length=7, routers=[FAR4])]) / udp(),
            sysctl={"net.ipv4.conf.all.accept_source_route": 1, "net.ipv4.conf.eth0.accept_source_route": 1},
        ),
    )
    yield (
        "strict source route allowed",
        routed(
            E / ip(options=[IPOption_SSRR(length=7, routers=[FAR4])]) / udp(),
            sysctl={"net.ipv4.conf.all.accept_source_route": 1, "net.ipv4.conf.eth0.accept_source_route": 1},
        ),
    )
    yield "a length of 1", case(E / ip(options=[Raw(b"\x07\x01\x04\x00")]) / udp())
    yield "a length beyond the header", case(E / ip(options=[Raw(b"\x07\x0b\x04\x00")]) / udp())
    yield "an unknown option", case(E / ip(options=[Raw(b"\x99\x04\x00\x00")]) / udp())
    yield "a pointer too small", case(E / ip(options=[Raw(b"\x07\x07\x03\x00\x00\x00\x00\x00")]) / udp())
    yield "router alert", routed(E / ip(dst=FAR4, options=[IPOption_Router_Alert()]) / udp())
    yield (
        "a timestamp that overflows",
        routed(E / ip(dst=FAR4, options=[IPOption_Timestamp(length=4, pointer=5, oflw=15, flg=0)]) / udp()),
    )
    yield "an end in the middle", case(E / ip(options=[Raw(b"\x01\x00\x07\x01")]) / udp())


def _forwarding4() -> Iterator[tuple[str, Case]]:
    yield "a TTL of 1", routed(E / ip(dst=FAR4, ttl=1) / udp())
    yield "a TTL of 0", routed(E / ip(dst=FAR4, ttl=0) / udp())
    yield "to oneself with a TTL of 0", routed(E / ip(ttl=0) / udp())
    yield "no route", routed(E / ip(dst="192.0.2.1") / udp())
    yield "unreachable", routed(E / ip(dst="10.6.0.1") / udp(), commands=["route add unreachable 10.6.0.0/16"])
    yield "prohibited", routed(E / ip(dst="10.6.0.1") / udp(), commands=["route add prohibit 10.6.0.0/16"])
    yield "a black hole", routed(E / ip(dst="10.6.0.1") / udp(), commands=["route add blackhole 10.6.0.0/16"])
    yield "back where it came from", routed(
        E / ip(dst="10.5.0.1") / udp(), commands=["route add 10.5.0.0/16 via 10.0.1.1"],
        sysctl={"net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.eth0.send_redirects": 0},
    )  # fmt: skip
    yield "back where it came from, with redirects", routed(
        E / ip(src="10.0.1.50", dst="10.5.0.1") / udp(), commands=[
            "route add 10.5.0.0/16 via 10.0.1.1", "neigh add 10.0.1.50 lladdr 02:00:00:00:00:0a dev eth0"],
        sysctl={"net.ipv4.conf.all.send_redirects": 1, "net.ipv4.conf.eth0.send_redirects": 1},
    )  # fmt: skip
    yield "the host does not forward", case(E / ip(dst=FAR4) / udp())
    yield "by the longest prefix", routed(
        E / ip(dst="10.5.1.1") / udp(), E / ip(dst="10.5.2.1") / udp(),
        commands=["route add 10.5.0.0/16 via 10.0.1.1", "route add 10.5.1.0/24 via 10.0.2.9"],
        sysctl={"net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.eth0.send_redirects": 0},
    )  # fmt: skip
    yield (
        "by metric",
        routed(
            E / ip(dst="10.5.1.1") / udp(),
            commands=["route add 10.5.0.0/16 via 10.0.1.1 metric 20", "route add 10.5.0.0/16 via 10.0.2.9 metric 10"],
        ),
    )
    yield "by a rule of sources", routed(
        E / ip(dst="10.5.1.1") / udp(),
        commands=["route add 10.5.0.0/16 via 10.0.1.1", "route add default via 10.0.2.9 table 100",
                  "rule add from 10.0.1.0/24 lookup 100 priority 1000"],
    )  # fmt: skip
    yield "by a rule of devices", routed(
        E / ip(dst="10.5.1.1") / udp(),
        commands=["route add unreachable 10.5.0.0/16", "route add default via 10.0.2.9 table 100",
                  "rule add iif eth0 lookup 100 priority 1000"],
    )  # fmt: skip
    yield "to a link-layer broadcast", routed(Ether(src=MAC_A, dst=BROADCAST) / ip(dst=FAR4) / udp())
    yield "to a directed broadcast", routed(E / ip(dst="10.0.2.255") / udp())
    yield "an error about an error", routed(E / ip(dst=FAR4, ttl=1) / ICMP(type=3, code=1) / bytes(ip() / udp()))
    yield "an error about an echo", routed(E / ip(dst=FAR4, ttl=1) / ICMP(id=4) / b"abc")
    yield "an error about a later fragment", routed(E / ip(dst=FAR4, ttl=1, frag=5, proto=17) / Raw(b"x" * 16))


def _martians4() -> Iterator[tuple[str, Case]]:
    for source in ("0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "240.0.0.1", R4, "10.0.1.255"):
        yield f"from {source}", case(E / ip(src=source) / udp())
    for dest in ("0.0.0.0", "127.0.0.1", "240.0.0.1", "255.255.255.255", "224.0.0.9", "10.0.1.0"):
        yield f"to {dest}", case(E / ip(dst=dest) / udp())
    yield (
        "rp_filter strict",
        case(E / ip(src=FAR4) / udp(), sysctl={"net.ipv4.conf.all.rp_filter": 1, "net.ipv4.conf.eth0.rp_filter": 1}),
    )
    yield "rp_filter loose", case(
        E / ip(src=FAR4) / udp(), E / ip(src="192.0.2.1") / udp(),
        sysctl={"net.ipv4.conf.all.rp_filter": 2, "net.ipv4.conf.eth0.rp_filter": 2},
    )  # fmt: skip
    yield "rp_filter off", case(E / ip(src=FAR4) / udp())


def _headers6() -> Iterator[tuple[str, Case]]:
    yield (
        "a destination option to skip",
        case(E / ip6() / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1E)]) / udp()),
    )
    for kind in (0x5E, 0x9E, 0xDE):
        yield (
            f"an unknown option {kind:#x}",
            case(E / ip6() / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=kind, optdata=b"ab")]) / udp()),
        )
        yield (
            f"an unknown hop-by-hop option {kind:#x}",
            case(E / ip6() / IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=kind, optdata=b"ab")]) / udp()),
        )
    yield (
        "an unknown option 0xde to a group",
        case(
            Ether(src=MAC_A, dst="33:33:00:00:00:01")
            / ip6(dst="ff02::1")
            / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0xDE, optdata=b"ab")])
            / ICMPv6EchoRequest()
        ),
    )
    yield (
        "an unknown option 0x9e to a group",
        case(
            Ether(src=MAC_A, dst="33:33:00:00:00:01")
            / ip6(dst="ff02::1")
            / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x9E, optdata=b"ab")])
            / ICMPv6EchoRequest()
        ),
    )
    yield "hop-by-hop, not in front", case(E / ip6() / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / udp())
    yield "router alert", case(E / ip6() / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / udp())
    yield "a jumbo payload", case(E / ip6() / IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=100)]) / udp())
    yield "padding that is not zero", case(E / ip6() / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\1\2\3\4")]) / udp())
    yield "seven bytes of padding", case(E / ip6() / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(8))]) / udp())
    yield "a routing header of type 0", case(E / ip6() / IPv6ExtHdrRouting(type=0, segleft=1, addresses=[FAR6]) / udp())
    yield (
        "a routing header that has ended",
        case(E / ip6() / IPv6ExtHdrRouting(type=0, segleft=0, addresses=[FAR6]) / udp()),
    )
    yield "a routing header of type 2", case(E / ip6() / IPv6ExtHdrRouting(type=2, segleft=1, addresses=[FAR6]) / udp())
    yield (
        "a routing header of an unknown type",
        case(E / ip6() / IPv6ExtHdrRouting(type=77, segleft=1, addresses=[FAR6]) / udp()),
    )
    yield "a header that is cut short", case(E / ip6(nh=60, plen=4) / Raw(bytes.fromhex("11000104")))
    yield "a header longer than the packet", case(E / ip6(nh=60, plen=16) / Raw(bytes.fromhex("1109010400000000") * 2))
    yield "an unknown next header", case(E / ip6(nh=200) / Raw(b"abcdefgh"))
    yield "no next header", case(E / ip6(nh=59) / Raw(b"abcdefgh"))
    yield "an unknown header behind a known one", case(E / ip6() / IPv6ExtHdrDestOpt(nh=200) / Raw(b"abcdefgh"))


def _forwarding6() -> Iterator[tuple[str, Case]]:
    yield "a hop limit of 1", routed(E / ip6(dst=FAR6, hlim=1) / udp())
    yield "a hop limit of 0", routed(E / ip6(dst=FAR6, hlim=0) / udp())
    yield "on", routed(E / ip6(dst=FAR6) / udp())
    yield "no route", routed(E / ip6(dst="2001:db8:99::1") / udp())
    yield "the host does not forward", case(E / ip6(dst=FAR6) / udp())
    for kind in ("unreachable", "prohibit", "blackhole"):
        yield kind, routed(E / ip6(dst="2001:db8:6::1") / udp(), commands=[f"-6 route add {kind} 2001:db8:6::/48"])
    yield "from a link-local address", routed(E / ip6(src="fe80::1", dst=FAR6) / udp())
    yield "from no address", routed(E / ip6(src="::", dst=FAR6) / udp())
    yield "to a link-local address", routed(E / ip6(dst="fe80::99") / udp())
    yield "to the loopback address", routed(E / ip6(dst="::1") / udp())
    yield "from a group", routed(E / ip6(src="ff02::1", dst=FAR6) / udp())
    yield (
        "back where it came from",
        routed(
            E / ip6(src="2001:db8:99::1", dst="2001:db8:5::1") / udp(),
            commands=["-6 route add 2001:db8:5::/48 via 2001:db8:1::1"],
        ),
    )
    yield "by metric", routed(
        E / ip6(dst="2001:db8:5::1") / udp(),
        commands=["-6 route add 2001:db8:5::/48 via 2001:db8:1::1 metric 20",
                  "-6 route add 2001:db8:5::/48 via 2001:db8:2::9 metric 10"],
    )  # fmt: skip
    yield (
        "by the longest prefix",
        routed(
            E / ip6(dst="2001:db8:5:1::1") / udp(),
            commands=["-6 route add unreachable 2001:db8:5::/48", "-6 route add 2001:db8:5:1::/64 via 2001:db8:2::9"],
        ),
    )
    yield "by a rule of sources", routed(
        E / ip6(dst="2001:db8:5::1") / udp(),
        commands=["-6 route add unreachable 2001:db8:5::/48", "-6 route add default via 2001:db8:2::9 table 100",
                  "-6 rule add from 2001:db8:1::/64 lookup 100 priority 1000"],
    )  # fmt: skip
    yield "by a rule of devices", routed(
        E / ip6(dst="2001:db8:5::1") / udp(),
        commands=["-6 route add unreachable 2001:db8:5::/48", "-6 route add default via 2001:db8:2::9 table 100",
                  "-6 rule add iif eth0 lookup 100 priority 1000"],
    )  # fmt: skip
    yield (
        "an option that a router looks at",
        routed(E / ip6(dst=FAR6) / IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=0x9E, optdata=b"ab")]) / udp()),
    )
    yield (
        "an option that a router does not look at",
        routed(E / ip6(dst=FAR6) / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x9E, optdata=b"ab")]) / udp()),
    )
    yield "to a link-layer group", routed(Ether(src=MAC_A, dst="33:33:00:00:00:01") / ip6(dst=FAR6) / udp())


def _icmp6() -> Iterator[tuple[str, Case]]:
    yield "echo", case(E / ip6() / ICMPv6EchoRequest(id=1, seq=2, data=b"abc"))
    yield (
        "echo to all nodes",
        case(Ether(src=MAC_A, dst="33:33:00:00:00:01") / ip6(dst="ff02::1") / ICMPv6EchoRequest(id=1, data=b"abc")),
    )
    yield "an echo reply that nobody waits for", case(E / ip6() / ICMPv6EchoReply(id=1, data=b"abc"))
    yield "a wrong sum", case(E / ip6() / ICMPv6EchoRequest(cksum=1, data=b"abc"))
    yield "cut short", case(E / ip6(nh=58) / Raw(b"\x80\x00\x7f"))
    yield "an unknown error", case(E / ip6() / ICMPv6Unknown(type=100, msgbody=bytes(48)))
    yield "an unknown message", case(E / ip6() / ICMPv6Unknown(type=200, msgbody=bytes(48)))
    yield "a port that is closed", case(E / ip6() / udp(port=99))
    yield (
        "a port that is closed, to a group",
        case(Ether(src=MAC_A, dst="33:33:00:00:00:01") / ip6(dst="ff02::1") / udp(port=99)),
    )
    yield "too big, too small a packet", case(E / ip6() / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(20)))
    yield "too big about nothing of ours", case(E / ip6() / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(ip6() / udp())))
    yield "a long packet in an error", routed(E / ip6(dst="2001:db8:99::1") / udp(PAYLOAD[:1400]))


def _nd() -> Iterator[tuple[str, Case]]:
    group = Ether(src=MAC_A, dst="33:33:ff:00:00:02")
    ns = ICMPv6ND_NS(tgt=R6)
    lladdr = ICMPv6NDOptSrcLLAddr(lladdr=MAC_A)
    yield "asked by all", case(group / ip6(dst="ff02::1:ff00:2", hlim=255) / ns / lladdr)
    yield "asked directly", case(E / ip6(hlim=255) / ns / lladdr)
    yield "asked directly, without an address", case(E / ip6(hlim=255) / ns)
    yield "asked from far", case(E / ip6(hlim=254) / ns / lladdr)
    yield "with a code", case(E / ip6(hlim=255) / ICMPv6ND_NS(tgt=R6, code=1) / lladdr)
    yield "for somebody else", case(E / ip6(hlim=255) / ICMPv6ND_NS(tgt="2001:db8:1::77") / lladdr)
    yield "for a group", case(E / ip6(hlim=255) / ICMPv6ND_NS(tgt="ff02::1") / lladdr)
    yield "by one who has no address yet", case(group / ip6(src="::", dst="ff02::1:ff00:2", hlim=255) / ns)
    yield (
        "by one who has no address, with an option",
        case(group / ip6(src="::", dst="ff02::1:ff00:2", hlim=255) / ns / lladdr),
    )
    yield "by one who has no address, directly", case(E / ip6(src="::", hlim=255) / ns)
    yield "with an option of length 0", case(E / ip6(hlim=255) / ns / Raw(bytes(8)))
    yield "cut short", case(E / ip6(hlim=255) / ICMPv6Unknown(type=135, msgbody=bytes(8)))
    yield (
        "an answer that was not asked for",
        case(E / ip6(hlim=255) / ICMPv6ND_NA(tgt="2001:db8:1::5", R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=MAC_C)),
    )
    yield (
        "an answer to all that says it was asked for",
        case(
            Ether(src=MAC_A, dst="33:33:00:00:00:01")
            / ip6(dst="ff02::1", hlim=255)
            / ICMPv6ND_NA(tgt="2001:db8:1::5", R=0, S=1, O=1)
            / ICMPv6NDOptDstLLAddr(lladdr=MAC_C)
        ),
    )
    other = Ether(src="02:00:00:00:00:55", dst=MAC_0)
    yield (
        "an unknown asker is answered by its option",
        case(other / ip6(src="2001:db8:1::55", hlim=255) / ns / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:55")),
    )
    yield (
        "an unknown one's echo asks for it",
        case(other / ip6(src="2001:db8:1::55") / ICMPv6EchoRequest(id=1), wait_ms=0),
    )
    yield "asked of a router", routed(E / ip6(hlim=255) / ns / lladdr)


def _arp() -> Iterator[tuple[str, Case]]:
    def arp(**fields: object) -> ARP:
        return ARP(**{"op": 1, "hwsrc": MAC_A, "psrc": A4, "hwdst": "00:00:00:00:00:00", "pdst": R4, **fields})

    every = Ether(src=MAC_A, dst=BROADCAST)
    yield "asked", case(every / arp())
    yield "asked for the other device's address", case(every / arp(pdst="10.0.2.2"))
    yield "asked for somebody else", case(every / arp(pdst="10.0.1.77"))
    yield "a probe", case(every / arp(psrc="0.0.0.0"))
    yield "from another network", case(every / arp(psrc="192.0.2.1"))
    yield "asked for oneself", case(every / arp(psrc=R4))
    yield "for a group", case(every / arp(pdst="224.0.0.1"))
    yield "an operation that is unknown", case(every / arp(op=9))
    yield "of another hardware", case(every / arp(hwtype=7))
    yield "an answer that was not asked for", case(E / arp(op=2, psrc="10.0.1.9"))
    yield (
        "arp_ignore 1",
        case(
            every / arp(pdst="10.0.2.2"), sysctl={"net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.eth0.arp_ignore": 1}
        ),
    )
    yield "of a router for a far address", routed(every / arp(pdst="10.0.2.9"))


def _icmp4() -> Iterator[tuple[str, Case]]:
    yield "echo", case(E / ip() / ICMP(id=1, seq=2) / b"abc")
    yield "echo with a type of service", case(E / ip(tos=0x10) / ICMP(id=1) / b"abc")
    yield "echo to the broadcast address", case(Ether(src=MAC_A, dst=BROADCAST) / ip(dst="10.0.1.255") / ICMP(id=1))
    yield (
        "echo to the broadcast address, allowed",
        case(
            Ether(src=MAC_A, dst=BROADCAST) / ip(dst="10.0.1.255") / ICMP(id=1),
            sysctl={"net.ipv4.icmp_echo_ignore_broadcasts": 0},
        ),
    )
    yield "a wrong sum", case(E / ip() / ICMP(id=1, chksum=1) / b"abc")
    yield "cut short", case(E / ip(proto=1) / Raw(b"\x08\x00\xf7"))
    yield "an unknown type", case(E / ip() / ICMP(type=50) / b"abcdefgh")
    yield "an address mask request", case(E / ip() / ICMP(type=17, id=1) / b"")
    yield "a closed port", case(E / ip() / udp(port=99))
    yield "a closed port, by broadcast", case(Ether(src=MAC_A, dst=BROADCAST) / ip(dst="10.0.1.255") / udp(port=99))
    yield "an unknown protocol", case(E / ip(proto=200) / Raw(b"abcdefgh"))
    yield "an error that quotes too little", case(E / ip() / ICMP(type=3, code=3) / bytes(ip() / udp())[:20])
    yield "an error about nothing of ours", case(E / ip() / ICMP(type=3, code=3) / bytes(ip(src=R4, dst=A4) / udp()))
    yield "a long quote", case(E / ip() / udp(PAYLOAD[:1400], port=99))


def _udp() -> Iterator[tuple[str, Case]]:
    yield "delivered", case(E / ip() / udp())
    yield "without a sum", case(E / ip() / UDP(sport=1, dport=53, chksum=0) / b"abc")
    yield "a wrong sum", case(E / ip() / UDP(sport=1, dport=53, chksum=1) / b"abc")
    yield "a length too long", case(E / ip() / UDP(sport=1, dport=53, len=99) / b"abc")
    yield "a length too short", case(E / ip() / UDP(sport=1, dport=53, len=4) / b"abc")
    yield "a length shorter than what came", case(E / ip() / UDP(sport=1, dport=53, len=10) / b"abcdef")
    yield "empty", case(E / ip() / UDP(sport=1, dport=53))
    yield "from port 0", case(E / ip() / UDP(sport=0, dport=53) / b"abc")
    yield "by broadcast", case(Ether(src=MAC_A, dst=BROADCAST) / ip(dst="255.255.255.255") / udp())
    yield "6 delivered", case(E / ip6() / udp())
    yield "6 without a sum", case(E / ip6() / UDP(sport=1, dport=53, chksum=0) / b"abc")
    yield "6 to a group", case(Ether(src=MAC_A, dst="33:33:00:00:00:01") / ip6(dst="ff02::1") / udp())
    yield "6 a length too long", case(E / ip6() / UDP(sport=1, dport=53, len=99) / b"abc")


def _path_mtu() -> Iterator[tuple[str, Case]]:
    reply = IP(src=R4, dst=A4, id=1) / ICMP(type=0, id=3, seq=4)
    echo = E / ip() / ICMP(id=3, seq=4) / PAYLOAD[:1300]
    for mtu in (1000, 552, 300, 68, 0):
        told = E / ip() / ICMP(type=3, code=4, nexthopmtu=mtu) / bytes(reply / PAYLOAD[:1300])[:28]
        yield f"{mtu}, then a long echo", case(told, echo)
    told_udp = E / ip() / ICMP(type=3, code=4, nexthopmtu=1000) / bytes(IP(src=R4, dst=A4) / UDP(sport=9, dport=9))
    yield "about a datagram that nobody has sent", case(told_udp, echo)
    other = E / ip() / ICMP(type=3, code=4, nexthopmtu=1000) / bytes(IP(src=R4, dst="10.0.1.7") / ICMP(type=0))
    yield "about somebody else", case(other, echo)
    reply6 = ip6(src=R6, dst=A6) / ICMPv6EchoReply(id=3, seq=4, data=PAYLOAD[:1400])
    echo6 = E / ip6() / ICMPv6EchoRequest(id=3, seq=4, data=PAYLOAD[:1400])
    for mtu in (1400, 1280, 1000):
        told6 = E / ip6() / ICMPv6PacketTooBig(mtu=mtu) / Raw(bytes(reply6)[:200])
        yield f"6 {mtu}, then a long echo", case(told6, echo6)
    yield "forwarded packets go by the link", routed(
        E1 / IP(src=FAR4, dst="10.0.2.2") / ICMP(type=3, code=4, nexthopmtu=600)
        / bytes(IP(src="10.0.2.2", dst=FAR4) / ICMP(type=0)), E / ip(dst=FAR4) / udp(PAYLOAD[:1000])
    )  # fmt: skip


def _routers6() -> Iterator[tuple[str, Case]]:
    def ra(*options: Packet, source: str = "fe80::1", hlim: int = 255, **fields: object) -> Packet:
        made = Ether(src=MAC_A, dst="33:33:00:00:00:01") / IPv6(src=source, dst="ff02::1", hlim=hlim)
        made /= ICMPv6ND_RA(**{"routerlifetime": 1800, "chlim": 33, **fields})
        for option in options:
            made /= option
        return made

    link = ICMPv6NDOptSrcLLAddr(lladdr=MAC_A)
    prefix = ICMPv6NDOptPrefixInfo(prefix="2001:db8:7::", prefixlen=64)
    far = E / ip6(src="2001:db8:99::1") / ICMPv6EchoRequest(id=1, data=b"abc")
    own = "2001:db8:7::ff:fe00:b"
    asked = (
        Ether(src=MAC_A, dst="33:33:ff:00:00:0b") / ip6(dst="ff02::1:ff00:b", hlim=255) / ICMPv6ND_NS(tgt=own) / link
    )
    yield "a default route and a hop limit", case(ra(link), far)
    yield "no default route", case(ra(link, routerlifetime=0), far)
    yield "an address of a prefix", case(ra(link, prefix), asked, E / ip6(dst=own) / ICMPv6EchoRequest(id=1))
    yield (
        "a prefix that is on the link alone",
        case(ra(link, ICMPv6NDOptPrefixInfo(prefix="2001:db8:7::", prefixlen=64, A=0)), asked),
    )
    yield (
        "a prefix of another length",
        case(ra(link, ICMPv6NDOptPrefixInfo(prefix="2001:db8:7::", prefixlen=48)), asked),
    )
    yield (
        "a prefix that is not valid",
        case(
            ra(link, ICMPv6NDOptPrefixInfo(prefix="2001:db8:7::", prefixlen=64, validlifetime=0, preferredlifetime=0)),
            asked,
        ),
    )
    yield (
        "preferred for longer than valid",
        case(
            ra(link, ICMPv6NDOptPrefixInfo(prefix="2001:db8:7::", prefixlen=64, validlifetime=9, preferredlifetime=10)),
            asked,
        ),
    )
    yield "from another network", case(ra(link, source="2001:db8:1::1"), far)
    yield "from far", case(ra(link, hlim=64), far)
    yield "with an option of length 0", case(ra(Raw(bytes(8))), far)
    yield (
        "a link of a smaller MTU",
        case(ra(link, ICMPv6NDOptMTU(mtu=1300)), E / ip6() / ICMPv6EchoRequest(id=1, data=PAYLOAD[:1400])),
    )
    yield (
        "a link of an MTU that is too small",
        case(ra(link, ICMPv6NDOptMTU(mtu=1000)), E / ip6() / ICMPv6EchoRequest(id=1, data=PAYLOAD[:1400])),
    )
    yield "a router does not listen", routed(ra(link, prefix), asked)
    yield "a router that takes itself back", case(ra(link), ra(link, routerlifetime=0), far)


def _more() -> Iterator[tuple[str, Case]]:
    for protocol in (0, 41, 50, 132):
        yield f"protocol {protocol}", case(E / ip(proto=protocol) / Raw(b"abcdefgh"))
    yield "a header of 4 words", case(E / ip(ihl=4) / udp())
    yield "a header longer than the packet", case(E / ip(ihl=15, len=40) / Raw(bytes(20)))
    yield "version 6 as IPv4", case(E / ip(version=6) / udp())
    yield "a wrong sum of IPv4", case(E / ip(chksum=1) / udp())
    yield "shorter than it says", case(E / ip(len=200) / udp())
    yield "longer than it says", case(E / ip() / udp() / Raw(bytes(20)))
    yield "for another station", case(Ether(src=MAC_A, dst="02:00:00:00:00:77") / ip() / udp())
    yield "for another station, IPv6", case(Ether(src=MAC_A, dst="02:00:00:00:00:77") / ip6() / udp())
    yield "by a group of the link for one address", case(Ether(src=MAC_A, dst="01:00:5e:00:00:01") / ip() / udp())
    yield "reserved flag", case(E / ip(flags="evil") / udp())
    yield "a timestamp request", case(E / ip() / ICMP(type=13, id=1, code=5))
    yield "a redirect", case(E / ip() / ICMP(type=5, code=1, gw="10.0.1.9") / bytes(ip(src=R4, dst="10.9.9.9") / udp()))
    yield "to the address of the other link", case(E / ip(dst="10.0.2.2") / udp())
    yield "to the IPv6 address of the other link", case(E / ip6(dst="2001:db8:2::2") / udp())
    yield (
        "to a link-local address",
        case(E / ip6(src="fe80::ff:fe00:a", dst="fe80::ff:fe00:b") / ICMPv6EchoRequest(id=1)),
    )
    yield (
        "to the solicited-node group",
        case(Ether(src=MAC_A, dst="33:33:ff:00:00:02") / ip6(dst="ff02::1:ff00:2") / ICMPv6EchoRequest(id=1)),
    )
    yield (
        "to all routers, of a host",
        case(Ether(src=MAC_A, dst="33:33:00:00:00:02") / ip6(dst="ff02::2") / ICMPv6EchoRequest(id=1)),
    )
    yield (
        "to all routers",
        routed(Ether(src=MAC_A, dst="33:33:00:00:00:02") / ip6(dst="ff02::2") / ICMPv6EchoRequest(id=1)),
    )
    yield (
        "an interface-local group",
        case(Ether(src=MAC_A, dst="33:33:00:00:00:01") / ip6(dst="ff01::1") / ICMPv6EchoRequest(id=1)),
    )
    yield (
        "a group of scope 0",
        case(Ether(src=MAC_A, dst="33:33:00:00:00:01") / ip6(dst="ff00::1") / ICMPv6EchoRequest(id=1)),
    )


_GROUPS = {
    "path MTU": _path_mtu, "routers of IPv6": _routers6, "odd packets": _more,
    "fragments of IPv4": _fragments4, "fragments of IPv6": _fragments6, "options of IPv4": _options4,
    "forwarding of IPv4": _forwarding4, "martians": _martians4, "headers of IPv6": _headers6,
    "forwarding of IPv6": _forwarding6, "ICMPv6": _icmp6, "neighbours": _nd, "ARP": _arp, "ICMP": _icmp4, "UDP": _udp,
}  # fmt: skip
CASES: dict[str, Case] = {f"{group}: {name}": each for group, made in _GROUPS.items() for name, each in made()}
