"""Multicast listener reports: RFC 3810 (version 2), RFC 2710 (version 1)."""

from ipaddress import IPv6Address

import pytest
from scapy.layers.inet6 import (
    ICMPv6MLQuery,
    ICMPv6MLQuery2,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import Ether

from ebpfsim.errors import KernelError

S = 1_000_000_000
GROUP = int(IPv6Address("ff05::99"))


@pytest.fixture
def bench(lab):
    a = lab.net("a")
    nic, router = a.add_nic("eth0", "fd00::1/64"), lab.net("r").add_nic("eth0", (), "02:00:00:00:00:0b")
    lab.connect(nic, router)
    return lab, a, nic, router


def reports(lab, net, layer) -> list[Ether]:
    return [frame for frame in (Ether(row.data) for row in lab.frames(net, "out")) if layer in frame]


def test_joining_and_leaving_are_told_twice(bench) -> None:
    lab, a, nic, _ = bench
    a.mld.join(nic, GROUP)
    lab.run(2 * S)
    told = reports(lab, a, ICMPv6MLReport2)
    assert len(told) == 2
    packet = told[0]
    # RFC 3810, 5.2.14, and 5: to ff02::16 with a hop limit of 1 and a router alert
    assert (packet[IPv6].dst, packet[IPv6].hlim, packet[IPv6].src[:4]) == ("ff02::16", 1, "fe80")
    assert packet.dst == "33:33:00:00:00:16"
    assert isinstance(packet[IPv6ExtHdrHopByHop].options[0], RouterAlert)
    (record,) = packet[ICMPv6MLReport2].records
    assert (record.rtype, record.dst) == (4, "ff05::99")
    a.mld.leave(nic, GROUP)
    lab.run(4 * S)
    assert [frame[ICMPv6MLReport2].records[0].rtype for frame in reports(lab, a, ICMPv6MLReport2)] == [4, 4, 3, 3]
    assert a.snmp["Icmp6OutMLDv2Reports"] == 4


def ask(router, query) -> None:
    head = Ether(src="02:00:00:00:00:0b", dst="33:33:00:00:00:01") / IPv6(src="fe80::b", dst="ff02::1", hlim=1)
    router.inject(bytes(head / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / query))


def test_who_is_asked_tells_all_groups(bench) -> None:
    """RFC 3810, 6: all but ff02::1, within the time that the query gives."""
    lab, a, nic, router = bench
    a.mld.join(nic, GROUP)
    lab.run(3 * S)
    ask(router, ICMPv6MLQuery2(mladdr="::", mrd=1000))
    lab.run(5 * S)
    message = bytes(reports(lab, a, ICMPv6MLReport2)[-1][ICMPv6MLReport2])
    assert int.from_bytes(message[6:8], "big") == 3
    told = {(message[at], str(IPv6Address(message[at + 4 : at + 20]))) for at in range(8, 68, 20)}
    own = IPv6Address(0xFF02_0000_0000_0000_0000_0001_FF00_0000 | int.from_bytes(nic.mac[3:], "big"))
    assert told == {(2, "ff05::99"), (2, "ff02::1:ff00:1"), (2, str(own))}
    times = [row.time_ns for row in lab.frames(a, "out")]
    assert 3 * S < times[-1] <= 4 * S + 1_000_000


def test_a_query_of_version_1_is_answered_as_such(bench) -> None:
    lab, a, nic, router = bench
    a.mld.join(nic, GROUP)
    lab.run(3 * S)
    ask(router, ICMPv6MLQuery(mladdr="ff05::99", mrd=500))
    lab.run(5 * S)
    (answer,) = reports(lab, a, ICMPv6MLReport)
    assert (answer[IPv6].dst, answer[ICMPv6MLReport].mladdr) == ("ff05::99", "ff05::99")


def test_queries_come_from_the_link(bench) -> None:
    lab, a, _, router = bench
    head = Ether(src="02:00:00:00:00:0b", dst="33:33:00:00:00:01") / IPv6(src="fd00::b", dst="ff02::1", hlim=1)
    router.inject(bytes(head / ICMPv6MLQuery2(mladdr="::", mrd=10)))
    lab.run(S)
    assert reports(lab, a, ICMPv6MLReport2) == []


def test_groups_receive(bench) -> None:
    lab, a, nic, router = bench
    sock = a.udp_socket6(port=9)
    from scapy.layers.inet import UDP

    frame = Ether(src="02:00:00:00:00:0b", dst="33:33:00:00:00:99") / IPv6(src="fd00::b", dst="ff05::99")
    frame = frame / UDP(dport=9) / b"x"
    router.inject(bytes(frame))
    lab.run(S)
    a.mld.join(nic, GROUP)
    router.inject(bytes(frame))
    lab.run(3 * S)
    assert len(sock.received) == 1


@pytest.mark.parametrize(("call", "errno"), [("join", "EADDRINUSE"), ("leave", "EADDRNOTAVAIL")])
def test_refusals(bench, call: str, errno: str) -> None:
    _, a, nic, _ = bench
    group = int(IPv6Address("ff02::1")) if call == "join" else GROUP
    with pytest.raises(KernelError, match=errno):
        getattr(a.mld, call)(nic, group)
    with pytest.raises(KernelError, match="EINVAL"):
        a.mld.join(nic, 1)
