"""Expected reasons, counters and replies were measured on Linux 6.18.44: namespaces, veth, skb:kfree_skb, nstat."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from ebpfsim.errnos import Errno
from netstack.checksum import ip_compute_csum

E = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b")
BROADCAST = Ether(src="02:00:00:00:00:0a", dst="ff:ff:ff:ff:ff:ff")
INPUT = {"IpInReceives": 1, "IpInDelivers": 1, "IcmpInMsgs": 1}
OUTPUT = {"IpOutRequests": 1, "IpOutTransmits": 1, "IcmpOutMsgs": 1}


def ip(**fields) -> IP:
    return IP(**{"src": "10.0.1.1", "dst": "10.0.1.2", "id": 1, **fields})


def masked(reply: bytes) -> str:
    """A reply without its IP id and header checksum, which must be right."""
    assert ip_compute_csum(reply[14:34]) == 0
    return (reply[:18] + b"\0\0" + reply[20:24] + b"\0\0" + reply[26:]).hex()


def test_echo_reply(lab) -> None:
    outcome = lab.bench().case(E / ip(tos=8) / ICMP(id=7, seq=1) / b"abc")
    assert outcome[:2] == ("", {**INPUT, "IcmpInEchos": 1, **OUTPUT, "IcmpOutEchoReps": 1})
    (reply,) = outcome.replies
    # the bytes Linux sent, id and checksum of the IP header zeroed: same TOS, TTL 64, no DF
    assert masked(reply) == (
        "02000000000a02000000000b0800" + "4508001f0000000040010000" + "0a0001020a000101" + "00003b9500070001616263"
    )


def test_echo_request_in_a_link_layer_broadcast_is_answered(lab) -> None:
    outcome = lab.bench().case(BROADCAST / ip() / ICMP(id=7) / b"abc")
    assert (outcome.reason, len(outcome.replies)) == ("", 1)


@pytest.mark.parametrize("destination", ["10.0.1.255", "255.255.255.255", "224.0.0.1"])
def test_echo_request_to_a_broadcast_address_is_ignored(lab, destination) -> None:
    outcome = lab.bench().case(BROADCAST / ip(dst=destination) / ICMP(id=7) / b"abc")
    counters = {**INPUT, "IcmpInErrors": 1, "IcmpInEchos": 1}
    if destination == "224.0.0.1":
        counters["IpExtInMcastPkts"] = 1
    else:
        counters["IpExtInBcastPkts"] = 1
    assert outcome[:3] == ("INVALID_PROTO", counters, [])


def test_echo_can_be_switched_off(lab) -> None:
    a = lab.net("a", sysctl={"net.ipv4.icmp_echo_ignore_all": "1"})
    eth0 = a.add_nic("eth0", "10.0.1.2/24", "02:00:00:00:00:0b")
    peer = lab.net("b").add_nic("eth0")
    lab.connect(peer, eth0)
    peer.inject(bytes(E / ip() / ICMP() / b"abc"))
    lab.run()
    assert lab.frames(a, "out") == []


def broken(frame: bytes, value: bytes) -> bytes:
    return frame[:36] + value + frame[38:]


INPUT_CASES = [
    (
        "checksum",
        broken(bytes(E / ip() / ICMP(id=7) / b"abc"), b"\x12\x34"),
        "ICMP_CSUM",
        ("IcmpInErrors", "IcmpInCsumErrors"),
    ),
    ("type 200", E / ip() / ICMP(type=200) / b"abc", "UNHANDLED_PROTO", ("IcmpInErrors",)),
    ("type 42", E / ip() / ICMP(type=42) / b"abc", "", ()),
    ("information request", E / ip() / ICMP(type=15) / bytes(28), "", ()),
    ("unasked reply", E / ip() / ICMP(type=0) / b"abc", "NO_SOCKET", ("IcmpInEchoReps",)),
    ("short quote", E / ip() / ICMP(type=3, code=3) / b"abc", "NOT_SPECIFIED", ("IcmpInErrors", "IcmpInDestUnreachs")),
]


@pytest.mark.parametrize(("frame", "reason", "counters"), [c[1:] for c in INPUT_CASES], ids=[c[0] for c in INPUT_CASES])
def test_icmp_input(lab, frame, reason, counters) -> None:
    assert lab.bench().case(frame)[:3] == (reason, {**INPUT, **dict.fromkeys(counters, 1)}, [])


def test_timestamp_is_answered(lab) -> None:
    # RFC 792: originate comes back, receive and transmit are milliseconds of the day
    (reply,) = lab.bench().case(E / ip() / ICMP(type=13, id=7, seq=9, ts_ori=1234)).replies
    answer = ICMP(reply[34:])
    assert (answer.type, answer.id, answer.seq, answer.ts_ori, answer.ts_rx) == (14, 7, 9, 1234, answer.ts_tx)


def test_redirect_changes_nothing(lab) -> None:
    outcome = lab.bench().case(E / ip() / ICMP(type=5) / bytes(28))
    assert outcome[:3] == ("", {**INPUT, "IcmpInRedirects": 1}, [])


def test_errors_are_quoted_to_576_bytes(lab) -> None:
    sent = bytes(E / ip() / UDP(sport=1000, dport=99) / (b"h" * 1000))
    (reply,) = lab.bench().case(sent).replies
    assert len(reply) == 590
    assert reply[42:] == sent[14 : 14 + 548]
    # measured: 03 03, checksum f8e2
    assert reply[34:42].hex() == "0303f8e200000000"


@pytest.mark.parametrize(
    ("type_", "code", "errno"),
    [
        # icmp_err_convert, net/ipv4/icmp.c; TIME_EXCEEDED is EHOSTUNREACH, PARAMETERPROB EPROTO
        (3, 0, Errno.ENETUNREACH),
        (3, 1, Errno.EHOSTUNREACH),
        (3, 2, Errno.ENOPROTOOPT),
        (3, 3, Errno.ECONNREFUSED),
        (3, 4, Errno.EMSGSIZE),
        (3, 5, Errno.EOPNOTSUPP),
        (3, 6, Errno.ENETUNREACH),
        (3, 7, Errno.EHOSTDOWN),
        (3, 8, Errno.ENONET),
        (3, 9, Errno.ENETUNREACH),
        (3, 10, Errno.EHOSTUNREACH),
        (3, 11, Errno.ENETUNREACH),
        (3, 12, Errno.EHOSTUNREACH),
        (3, 13, Errno.EHOSTUNREACH),
        (11, 0, Errno.EHOSTUNREACH),
        (12, 0, Errno.EPROTO),
    ],
)
def test_an_error_reaches_the_socket_it_is_about(lab, type_, code, errno) -> None:
    bench = lab.bench()
    quote = IP(src="10.0.1.2", dst="10.7.7.7") / UDP(sport=54, dport=1234) / b"abcdefgh"
    outcome = bench.case(E / ip() / ICMP(type=type_, code=code) / quote)
    assert outcome.reason == ""
    assert bench.bound.errors == [(800, errno, ("10.7.7.7", 1234), "10.0.1.1")]
    assert bench.any.errors == []


def test_ping(lab) -> None:
    a, b = lab.pair(delay_ns=1000)
    lab.know(a, b)
    sock = a.ping_socket()
    other = a.ping_socket()
    assert [sock.send_echo("10.0.0.2", b"payload"), sock.send_echo("10.0.0.2", b"")] == [1, 2]
    lab.run()
    assert [(d.source, d.data) for d in sock.received] == [(("10.0.0.2", 1), b"payload"), (("10.0.0.2", 2), b"")]
    assert other.received == []
    assert a.drops == b.drops == {}
    # two wires of 1,000 ns, two interrupts of 600 ns and two receptions of 200 ns (profile skx3)
    assert sock.received[0].time_ns == 2 * (1000 + 600 + 200)


def test_a_destination_gets_six_errors_at_once_and_then_one_a_second(lab) -> None:
    # inet_peer_xrlim_allow(): XRLIM_BURST_FACTOR 6, net.ipv4.icmp_ratelimit 1000 ms
    bench = lab.bench()
    bench.r.sysctls["net.ipv4.icmp_ratelimit"] = 1000
    answers = [len(bench.case(E / ip() / UDP(sport=1000, dport=99)).replies) for _ in range(8)]
    assert answers == [1] * 6 + [0] * 2
    assert bench.r.snmp["IcmpOutRateLimitHost"] == 2
    lab.clock.run(lab.clock.now_ns + 2_000_000_000)
    answers = [len(bench.case(E / ip() / UDP(sport=1000, dport=99)).replies) for _ in range(3)]
    assert answers == [1, 1, 0]


def test_the_host_sends_fifty_errors_at_once(lab) -> None:
    # net.ipv4.icmp_msgs_burst 50, icmp_msgs_per_sec 1000
    bench = lab.bench()
    bench.r.sysctls["net.ipv4.icmp_ratelimit"] = 0
    for number in range(60):
        bench.sender.inject(bytes(E / ip(src=f"10.0.1.{100 + number}") / UDP(sport=1, dport=99)))
    lab.clock.run(lab.clock.now_ns + 10_000_000)
    assert (bench.r.snmp["IcmpOutDestUnreachs"], bench.r.snmp["IcmpOutRateLimitGlobal"]) == (50, 10)
    # 20 ms later some have come back
    lab.clock.run(lab.clock.now_ns + 20_000_000)
    bench.sender.inject(bytes(E / ip(src="10.0.1.99") / UDP(sport=1, dport=99)))
    lab.clock.run(lab.clock.now_ns + 1_000_000)
    assert bench.r.snmp["IcmpOutDestUnreachs"] == 51


def test_answers_and_needed_fragments_are_not_limited(lab) -> None:
    bench = lab.bench(forward=True)
    bench.r.sysctls["net.ipv4.icmp_ratelimit"] = 1000
    echoes = [len(bench.case(E / ip() / ICMP(id=7) / b"abc").replies) for _ in range(10)]
    big = E / ip(dst="10.0.2.9", flags="DF") / UDP() / bytes(1200)
    needed = [len(bench.case(big).replies) for _ in range(10)]
    assert echoes == needed == [1] * 10
