"""Errors of ICMPv6 as a socket hears of them (tab_unreach[] and icmpv6_err_convert(), net/ipv6/icmp.c)."""

import pytest

from ebpfsim.errnos import Errno
from netstack.headers6 import icmp6_bytes, ip6_bytes, parse_ip6, udp6_bytes

A, B = parse_ip6("2001:db8::1"), parse_ip6("2001:db8::2")


@pytest.mark.parametrize(
    ("kind", "code", "errno"),
    [
        (1, 0, Errno.ENETUNREACH), (1, 1, Errno.EACCES), (1, 2, Errno.EHOSTUNREACH), (1, 3, Errno.EHOSTUNREACH),
        (1, 4, Errno.ECONNREFUSED), (1, 5, Errno.EACCES), (2, 0, Errno.EMSGSIZE), (3, 0, Errno.EHOSTUNREACH),
        (4, 1, Errno.EPROTO),
    ],
)  # fmt: skip
def test_errors_have_an_errno(lab, kind, code, errno) -> None:
    a, b = lab.net("a"), lab.net("b")
    lab.connect(a.add_nic("eth0", "2001:db8::1/64"), b.add_nic("eth0", "2001:db8::2/64"))
    sock = a.udp_socket6("2001:db8::1", 7)
    quote = ip6_bytes(A, B, 17, 64, udp6_bytes(A, B, 7, 9, b"x"))
    packet = ip6_bytes(B, A, 58, 64, icmp6_bytes(B, A, kind, code, 1280, quote))
    frame = a.devices["eth0"].mac + b.devices["eth0"].mac + b"\x86\xdd" + packet
    b.devices["eth0"].inject(frame)
    lab.run()
    assert [error.errno for error in sock.errors] == [errno]


def test_a_message_with_a_wrong_sum_is_dropped(lab) -> None:
    a, b = lab.net("a"), lab.net("b")
    lab.connect(a.add_nic("eth0", "2001:db8::1/64"), b.add_nic("eth0", "2001:db8::2/64"))
    message = bytearray(icmp6_bytes(B, A, 128, 0, 0, b"abc"))
    message[2] ^= 1
    frame = a.devices["eth0"].mac + b.devices["eth0"].mac + b"\x86\xdd" + ip6_bytes(B, A, 58, 64, bytes(message))
    b.devices["eth0"].inject(frame)
    lab.run()
    assert (a.drops, a.snmp["Icmp6InCsumErrors"]) == ({"ICMP_CSUM": 1}, 1)
