"""States of congestion control (RFC 5681, 6582, 5682, 3168)."""

import pytest
from tcp_openings import RENO, SACK_RENO, TEN
from tcp_script import run_script

SCRIPTS = {
    "after a timeout slow start begins with one segment (RFC 5681, 3.1)": RENO + TEN + """
+.3  > . 1:1001(1000) ack 1
+0   tcp snd_cwnd == 1
+0   tcp snd_ssthresh == 5
+.1  < . 1:1(0) ack 1001 win 65535
+0   > . 1001:2001(1000) ack 1
+0   > . 2001:3001(1000) ack 1
+.1  < . 1:1(0) ack 3001 win 65535
+0   > . 3001:4001(1000) ack 1
+0   > . 4001:5001(1000) ack 1
+0   > . 5001:6001(1000) ack 1
+0   > . 6001:7001(1000) ack 1
""",
    "three duplicate ACKs: the segment is sent again at once (RFC 5681, 3.2)": RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535
+0   < . 1:1(0) ack 1 win 65535
+0   silence
+0   < . 1:1(0) ack 1 win 65535
+0   > . 1:1001(1000) ack 1
+0   tcp snd_ssthresh == 5
+0   count TcpExtTCPRenoRecovery 1
""",
    "NewReno: a partial ACK shows the next loss (RFC 6582, 3.2)": RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535
+0   < . 1:1(0) ack 1 win 65535
+0   < . 1:1(0) ack 1 win 65535
+0   > . 1:1001(1000) ack 1
+0   < . 1:1(0) ack 1 win 65535
+0   < . 1:1(0) ack 1 win 65535
+0   < . 1:1(0) ack 1 win 65535
+0   < . 1:1(0) ack 1 win 65535
+0   < . 1:1(0) ack 1 win 65535
+.1  < . 1:1(0) ack 3001 win 65535
+0   > . 3001:4001(1000) ack 1
+.1  < . 1:1(0) ack 10001 win 65535
+0   tcp snd_ssthresh == 5
""",
    "F-RTO: the ACK after a timeout is of the original (RFC 5682)": SACK_RENO + TEN + """
+.202 > P. 9001:10001(1000) ack 1
*    > . 1:1001(1000) ack 1
+0   tcp snd_cwnd == 1
+.01 < . 1:1(0) ack 5001 win 65535
+0   count TcpExtTCPSpuriousRTOs 1
+0   tcp snd_cwnd >= 10
+.05 silence
""",
    "ECE reduces the window once, and CWR says so (RFC 3168, 6.1.2)": """
sysctl net.ipv4.tcp_ecn 1
0    listen
+0   < SEW 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>
+0   > SE. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK>
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   set TCP_CONGESTION reno
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
+.1  < E. 1:1(0) ack 1001 win 65535
+0   tcp snd_ssthresh == 5
+0   write 1000
+0   > PW. 2001:3001(1000) ack 1
""",
    "slow start ends at the threshold, what is left counts for one segment a window (RFC 5681, 3.1)": RENO + TEN + """
+.3  > . 1:1001(1000) ack 1
+.1  < . 1:1(0) ack 10001 win 65535
+0   tcp snd_ssthresh == 5
+0   tcp snd_cwnd == 6
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
