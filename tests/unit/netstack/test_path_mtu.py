"""Path MTUs: what is believed (RFC 1191, RFC 8201; net.ipv4.route.min_pmtu), and for how long."""

import pytest

from netstack.fib import Route, RouteType
from netstack.headers import IpHdr, icmp_bytes, ip_bytes
from netstack.path_mtu import PathMtu


@pytest.fixture
def net(lab):
    net = lab.net("a")
    net.add_nic("eth0", "10.0.0.1/24")
    return net


def route(net) -> Route:
    return Route(0, 0, RouteType.UNICAST, net.devices["eth0"])


def test_learned_and_forgotten(net, lab) -> None:
    path, way = PathMtu(net, 4), route(net)
    assert path.of(way, 9) == 1500
    assert path.update(way, 9, 1300)
    assert not path.update(way, 9, 1400)
    assert (path.of(way, 9), path.of(way, 8), path.is_locked(9)) == (1300, 1500, False)
    net.clock.call_at(600_000_000_000, lambda: None)
    lab.run()
    assert path.of(way, 9) == 1500


def test_what_is_too_small(net) -> None:
    path, path6, way = PathMtu(net, 4), PathMtu(net, 6), route(net)
    # 552 at least, and no Don't Fragment any more
    assert path.update(way, 9, 100)
    assert (path.of(way, 9), path.is_locked(9)) == (552, True)
    assert not path6.update(way, 9, 1279)
    assert path6.update(way, 9, 1280)
    assert path6.of(way, 9) == 1280
    assert not path6.update(way, 9, 2000)


def line(lab):
    """a - r - b, with an MTU of 1400 behind r."""
    a, b = lab.net("a"), lab.net("b")
    r = lab.net("r", sysctl={"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
    lab.connect(a.add_nic("eth0", ["10.0.0.1/24", "fd00::1/64"]), r.add_nic("eth0", ["10.0.0.2/24", "fd00::2/64"]))
    lab.connect(
        r.add_nic("eth1", ["10.0.1.2/24", "fd01::2/64"], mtu=1400),
        b.add_nic("eth0", ["10.0.1.1/24", "fd01::1/64"], mtu=1400),
    )
    for net, via, via6 in ((a, "10.0.0.2", "fd00::2"), (b, "10.0.1.2", "fd01::2")):
        net.add_route("default", via=via)
        net.add_route("default", via=via6)
    return a, r, b


def test_datagrams_that_are_too_long_once_are_cut_then(lab) -> None:
    """RFC 1191: the router says 1400; the next datagram goes in two fragments, without Don't Fragment."""
    a, r, b = line(lab)
    sender, receiver = a.udp_socket(), b.udp_socket(port=9)
    for _ in range(2):
        sender.sendto(bytes(1450), "10.0.1.1", 9)
        lab.run()
    assert [len(row.data) for row in receiver.received] == [1450]
    assert [(str(error.errno.name), error.offender) for error in sender.errors] == [("EMSGSIZE", "10.0.0.2")]
    assert (r.snmp["IcmpOutDestUnreachs"], a.snmp["IpFragCreates"]) == (1, 2)
    sender.sendto(bytes(1300), "10.0.1.1", 9)
    lab.run()
    frame = [row.data for row in lab.frames(a, "out") if row.data[23] == 17][-1]
    assert frame[20] & 0x40


def test_so_it_is_in_ipv6(lab) -> None:
    a, r, b = line(lab)
    sender, receiver = a.udp_socket6(), b.udp_socket6(port=9)
    for _ in range(2):
        sender.sendto(bytes(1450), "fd01::1", 9)
        lab.run()
    assert [len(row.data) for row in receiver.received] == [1450]
    assert (r.snmp["Icmp6OutPktTooBigs"], a.snmp["Ip6FragCreates"]) == (1, 2)


def test_what_icmp_is_told_of_its_own_messages(lab) -> None:
    """icmp_err(): an error that quotes a message of ICMP counts like one about a datagram."""
    a, r, _ = line(lab)
    quote = ip_bytes(IpHdr(0x45, 0, 0, 7, 0x4000, 64, 1, 0, 0x0A000001, 0x0A000101), bytes(8))
    error = ip_bytes(IpHdr(0x45, 0, 0, 7, 0, 64, 1, 0, 0x0A000002, 0x0A000001), icmp_bytes(3, 4, 1300, quote))
    frame = a.devices["eth0"].mac + bytes(6) + b"\x08\0" + error
    r.devices["eth0"].inject(frame)
    lab.run()
    assert a.path_mtu.of(a.fib.lookup(0x0A000101), 0x0A000101) == 1300


def test_tcp_learns_of_it(lab) -> None:
    from netstack.tcp_flow import BulkFlow

    a, _, b = line(lab)
    flow = BulkFlow(a, b, 0x0A000101, 80, 50_000)
    b.devices["eth0"].set_mtu(1500)
    lab.run(5_000_000_000)
    assert (flow.received, flow.good) == (50_000, True)
