"""What counts as lost (RFC 8985)."""

import pytest
from tcp_openings import SACK_RENO, TEN
from tcp_script import run_script

SCRIPTS = {
    "reordering within a quarter of the round trip is no loss (RFC 8985, 6.2)": SACK_RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:3001>
+.01 < . 1:1(0) ack 3001 win 65535
+0   silence
+0   count TcpRetransSegs 0
+0   tcp reord_seen == 1
+0   tcp snd_cwnd >= 10
""",
    "the reordering window is over: lost (RFC 8985, 6.3)": SACK_RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>
*    > . 1:1001(1000) ack 1
+0   count TcpExtTCPSackRecovery 1
""",
    "a retransmission that is lost too is found by what comes after it": SACK_RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:5001>
+0   > . 1:1001(1000) ack 1
+0   write 2000
+.05 < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:8001>
*    > . 10001:11001(1000) ack 1
+0   > P. 11001:12001(1000) ack 1
+.15 < . 1:1(0) ack 1 win 65535 <nop,nop,sack 10001:11001 1001:8001>
*    > . 1:1001(1000) ack 1
+0   > . 8001:9001(1000) ack 1
+0   > P. 9001:10001(1000) ack 1
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
