"""From packets to sockets: what is no segment at all, and what ICMP says of connections (RFC 9293, 3.1; RFC 1191)."""

import pytest
from tcp_script import Script, run_script

from ebpfsim.uapi.net import IpProto
from netstack.headers import EthHdr, IpHdr, ip_bytes
from netstack.tcp_hdr import SYN, tcp_bytes

HOST, PEER = 0xC0A80001, 0xC0000201


@pytest.mark.parametrize(
    ("damage", "reason", "counters"),
    [
        (lambda data: data[:16] + b"\x12\x34" + data[18:], "TCP_CSUM", {"TcpInCsumErrors": 1, "TcpInErrs": 1}),
        (lambda data: data[:19], "PKT_TOO_SMALL", {"TcpInErrs": 1}),
        (lambda data: data[:12] + b"\x40" + data[13:], "PKT_TOO_SMALL", {"TcpInErrs": 1}),
        (lambda data: data[:12] + b"\xf0" + data[13:], "NOT_SPECIFIED", {"TcpInErrs": 1}),
        (lambda data: data, "NO_SOCKET", {"TcpOutRsts": 1, "TcpOutSegs": 1}),
    ],
    ids=["checksum", "cut short", "header of 16 bytes", "header longer than the segment", "nobody listens"],
)
def test_what_is_dropped(damage: object, reason: str, counters: dict[str, int]) -> None:
    # reasons and counters of tcp_v4_rcv(), v6.18
    script = Script("")
    before = script.net.snmp.as_dict()
    data = damage(tcp_bytes(PEER, HOST, (1, 2), 5, 0, SYN, 100))  # type: ignore[operator]
    packet = ip_bytes(IpHdr(0x45, 0, 0, 0, 0, 64, IpProto.TCP, 0, PEER, HOST), data)
    script.wire.inject(EthHdr(script.mac, script.wire.mac, 0x0800).pack() + packet)
    script.sim.run("1ms")
    assert script.net.drops == {reason: 1}
    after = script.net.snmp.as_dict()
    moved = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert {name: count for name, count in moved.items() if name.startswith("Tcp")} == {"TcpInSegs": 1, **counters}


def test_a_smaller_path_is_learned_once() -> None:
    script = run_script("""
0    connect
+0   > S 0:0(0) win 64240 <mss 1460,sackOK,TS val 0 ecr 0,nop,wscale 10>
+.1  < S. 0:0(0) ack 1 win 65535 <mss 1460>
+0   > . 1:1(0) ack 1
+0   write 1460
+0   > P. 1:1461(1460) ack 1
+0   icmp 3 4 1000
+0   > . 1:961(960) ack 1
+0   > P. 961:1461(500) ack 1
+0   tcp pmtu == 1000
""")
    # never below net.ipv4.route.min_pmtu
    script.net.tcp.learn_pmtu(1, 100)
    assert script.net.tcp.pmtu(script.sock.route, 1) == 552


def test_an_error_about_a_request_forgets_it() -> None:
    run_script("""
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1
+0   icmp 3 1
+0   gone
""")
