"""Segments as packets of IPv4 (RFC 791; RFC 6864; RFC 3168): ids, DF, TTL and TOS."""

from typing import Any

import pytest
from tcp_script import Script

from netstack.checksum import ip_compute_csum
from netstack.headers import IP_DF, IpHdr

SCRIPT = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
"""


def packets(script: Any) -> list[IpHdr]:
    return [IpHdr.unpack(record.data, 14) for record in script._records()]


@pytest.fixture
def script() -> Any:
    return Script(SCRIPT).run()


def test_headers(script: Any) -> None:
    synack, first, second = packets(script)
    assert {(each.frag_off, each.ttl, each.tos) for each in (synack, first, second)} == {(IP_DF, 64, 0)}
    # a SYN-ACK has no id, a connection counts its packets (__ip_select_ident)
    assert synack.id == 0
    assert second.id == first.id + 1 & 0xFFFF
    for record in script._records():
        assert ip_compute_csum(record.data[14:34]) == 0


def test_ttl_and_tos_of_the_socket(script: Any) -> None:
    script.sock.ttl, script.sock.tos = 9, 0x10
    script.do_set("TCP_NODELAY", "1")
    script.do_write("10")
    last = packets(script)[-1]
    assert (last.ttl, last.tos) == (9, 0x10)
    script.seen += 1
