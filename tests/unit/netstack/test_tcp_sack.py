"""What SACK blocks do to the sender (RFC 2018, 2883, 6675)."""

import pytest
from tcp_openings import SACK_RENO, TEN
from tcp_script import run_script

SCRIPTS = {
    "SACK: what lies in a hole is sent again, nothing else (RFC 6675, 8985)": SACK_RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>
+0   < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:3001>
+0   silence
+0   < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:4001>
+0   > . 1:1001(1000) ack 1
+.1  < . 1:1(0) ack 10001 win 65535
+0   tcp snd_ssthresh == 5
+0   tcp snd_cwnd == 6    # the threshold, and one for seven segments that were delivered
+0   count TcpRetransSegs 1
+0   count TcpExtTCPSackRecovery 1
""",
    "SACK: two holes": SACK_RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>
+0   < . 1:1(0) ack 1 win 65535 <nop,nop,sack 3001:4001 1001:2001>
+0   < . 1:1(0) ack 1 win 65535 <nop,nop,sack 3001:5001 1001:2001>
+0   > . 1:1001(1000) ack 1
+0   < . 1:1(0) ack 1 win 65535 <nop,nop,sack 3001:6001 1001:2001>
+0   < . 1:1(0) ack 1 win 65535 <nop,nop,sack 3001:7001 1001:2001>
+0   > . 2001:3001(1000) ack 1
+.1  < . 1:1(0) ack 10001 win 65535
+0   tcp snd_cwnd == 6
+0   count TcpRetransSegs 2
""",
    "a D-SACK says that a retransmission was in vain: the window comes back (RFC 3708)": SACK_RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:5001>
+0   > . 1:1001(1000) ack 1
+0   tcp snd_ssthresh == 5
+.05 < . 1:1(0) ack 5001 win 65535
+.05 < . 1:1(0) ack 5001 win 65535 <nop,nop,sack 1:1001>
+0   tcp snd_cwnd >= 10
+0   count TcpExtTCPDSACKUndo 1
""",
    "a SACK for what was not sent is ignored": SACK_RENO + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 50001:51001>
+0   silence
+0   count TcpExtTCPSACKDiscard 1
""",
    "reneging: what was told and is not acknowledged counts as lost half a round trip later (RFC 2018, 8)": SACK_RENO
    + TEN + """
+.1  < . 1:1(0) ack 1001 win 65535 <nop,nop,sack 2001:10001>
+0   > . 1001:2001(1000) ack 1
+.1  < . 1:1(0) ack 2001 win 65535
+.05 > . 2001:3001(1000) ack 1
+0   count TcpExtTCPSACKReneging 1
+0   tcp sacked_out == 0
""",
    "limited transmit: new data for the first duplicate ACKs (RFC 3042)": SACK_RENO + """
+0   write 12000
+0   > . 1:1001(1000) ack 1
+0   > . 1001:2001(1000) ack 1
+0   > . 2001:3001(1000) ack 1
+0   > . 3001:4001(1000) ack 1
+0   > . 4001:5001(1000) ack 1
+0   > . 5001:6001(1000) ack 1
+0   > . 6001:7001(1000) ack 1
+0   > . 7001:8001(1000) ack 1
+0   > . 8001:9001(1000) ack 1
+0   > . 9001:10001(1000) ack 1
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>
+0   > . 10001:11001(1000) ack 1
+.001 < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:3001>
+0   > P. 11001:12001(1000) ack 1
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
