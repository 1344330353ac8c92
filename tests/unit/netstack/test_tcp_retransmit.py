"""What is sent again, and probes (RFC 8985, 9293)."""

import pytest
from tcp_openings import FULL, SACK, SACK_RENO, SLOW
from tcp_script import run_script

SCRIPTS = {
    "a tail loss is probed for after two round trips (RFC 8985, 7.2)": SACK_RENO + """
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
# 2 * srtt and 2 ms
+.202 > P. 1001:2001(1000) ack 1
+0   count TcpExtTCPLossProbes 1
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>
*    > . 1:1001(1000) ack 1
""",
    "a probe that was needed reduces the window once": SACK_RENO + """
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
+.1  < . 1:1(0) ack 1001 win 65535
*    > P. 1001:2001(1000) ack 1
+.1  < . 1:1(0) ack 2001 win 65535
+1   silence
+0   count TcpExtTCPLossProbes 1
""",
    "the peer shrinks its window: what was sent is sent again after the timeout": """
0    listen
+0   < S 0:0(0) win 5000 <mss 1000>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 5000
+0   accept
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
+.1  < . 1:1(0) ack 1001 win 500
*    > . 1001:1501(500) ack 1
""",
    "a retransmission is cut to an MSS that has shrunk, and none is longer (RFC 1191)": SLOW + """
+0   write 1000
+0   > P. 1:1001(1000) ack 1
+0   icmp 3 4 600
+0   > . 1:561(560) ack 1
+0   > P. 561:1001(440) ack 1
+.1  < . 1:1(0) ack 1001 win 65535
+0   write 1000
+0   > . 1001:1561(560) ack 1
+0   > P. 1561:2001(440) ack 1
""",
    "segments in flight are cut to the MTU that a router tells (RFC 1191)": FULL + """
+0   write 2896
+0   > . 1:1449(1448) ack 1 <nop,nop,TS val 100 ecr 200>
+0   > P. 1449:2897(1448) ack 1 <nop,nop,TS val 100 ecr 200>
+.01 icmp 3 4 1000
+0   > . 1:949(948) ack 1 <nop,nop,TS val * ecr 200>
+0   > . 949:1897(948) ack 1 <nop,nop,TS val * ecr 200>
+0   > . 1897:2845(948) ack 1 <nop,nop,TS val * ecr 200>
+0   > P. 2845:2897(52) ack 1 <nop,nop,TS val * ecr 200>
""",
    "a probe of one segment waits for a delayed ACK, and no longer than the timeout (RFC 8985, 7.2)": SACK + """
+.1  < P. 1:2(1) ack 1 win 65535
+0   > . 1:1(0) ack 2
+0   write 500
+0   > P. 1:501(500) ack 2
+.21 > P. 1:501(500) ack 2
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
