"""What acknowledgments do to the sender (RFC 5681, 6298, 6582, 6937, 8985, 2018, 2883, 3168)."""

import pytest
from tcp_script import run_script

# peers without options, with SACK, with both
RENO = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   set TCP_CONGESTION reno
"""
SACK = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK>
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   set TCP_CONGESTION reno
"""
TEN = """
+0   write 10000
+0   > . 1:1001(1000) ack 1
+0   > . 1001:2001(1000) ack 1
+0   > . 2001:3001(1000) ack 1
+0   > . 3001:4001(1000) ack 1
+0   > . 4001:5001(1000) ack 1
+0   > . 5001:6001(1000) ack 1
+0   > . 6001:7001(1000) ack 1
+0   > . 7001:8001(1000) ack 1
+0   > . 8001:9001(1000) ack 1
+0   > P. 9001:10001(1000) ack 1
"""

SCRIPTS = {
    "the initial window is ten segments (RFC 6928)": RENO + """
+0   write 20000
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
+.05 silence
+0   tcp snd_cwnd == 10
""",
    "slow start: two segments for each that is acknowledged (RFC 5681, 3.1)": RENO + """
+0   write 14000
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
+.1  < . 1:1(0) ack 2001 win 65535
+0   > . 10001:11001(1000) ack 1
+0   > . 11001:12001(1000) ack 1
+0   > . 12001:13001(1000) ack 1
+0   > P. 13001:14001(1000) ack 1
+0   tcp snd_cwnd == 12
""",
    "the peer's window limits what is sent (RFC 9293, 3.8.6)": """
0    listen
+0   < S 0:0(0) win 2500 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 2500
+0   accept
+0   write 5000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1    # half a window is pushed
+.1  < . 1:1(0) ack 2001 win 2500
+0   > . 2001:3001(1000) ack 1
+0   > P. 3001:4001(1000) ack 1
""",
    "the RTO is the round trip and four deviations, at least 200 ms more (RFC 6298, Linux)": RENO + """
+0   write 1000
+0   > P. 1:1001(1000) ack 1
# srtt 100 ms, deviation 50 ms: 4 of them are 200 ms
+.3  > P. 1:1001(1000) ack 1
+0   count TcpExtTCPTimeouts 1
""",
    "each timeout is twice as long as the one before (RFC 6298, 5.5)": RENO + """
+0   write 1000
+0   > P. 1:1001(1000) ack 1
+.3  > P. 1:1001(1000) ack 1
+.6  > P. 1:1001(1000) ack 1
+1.2 > P. 1:1001(1000) ack 1
+2.4 > P. 1:1001(1000) ack 1
+4.8 > P. 1:1001(1000) ack 1
+.1  < . 1:1(0) ack 1001 win 65535
+0   tcp snd_cwnd == 2
""",
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
    "SACK: what lies in a hole is sent again, nothing else (RFC 6675, 8985)": SACK + TEN + """
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
    "SACK: two holes": SACK + TEN + """
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
    "reordering within a quarter of the round trip is no loss (RFC 8985, 6.2)": SACK + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:3001>
+.01 < . 1:1(0) ack 3001 win 65535
+0   silence
+0   count TcpRetransSegs 0
+0   tcp reord_seen == 1
+0   tcp snd_cwnd >= 10
""",
    "the reordering window is over: lost (RFC 8985, 6.3)": SACK + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>
*    > . 1:1001(1000) ack 1
+0   count TcpExtTCPSackRecovery 1
""",
    "a retransmission that is lost too is found by what comes after it": SACK + TEN + """
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
    "a tail loss is probed for after two round trips (RFC 8985, 7.2)": SACK + """
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
# 2 * srtt and 2 ms
+.202 > P. 1001:2001(1000) ack 1
+0   count TcpExtTCPLossProbes 1
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:2001>
*    > . 1:1001(1000) ack 1
""",
    "a probe that was needed reduces the window once": SACK + """
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
+.1  < . 1:1(0) ack 1001 win 65535
*    > P. 1001:2001(1000) ack 1
+.1  < . 1:1(0) ack 2001 win 65535
+1   silence
+0   count TcpExtTCPLossProbes 1
""",
    "a D-SACK says that a retransmission was in vain: the window comes back (RFC 3708)": SACK + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:5001>
+0   > . 1:1001(1000) ack 1
+0   tcp snd_ssthresh == 5
+.05 < . 1:1(0) ack 5001 win 65535
+.05 < . 1:1(0) ack 5001 win 65535 <nop,nop,sack 1:1001>
+0   tcp snd_cwnd >= 10
+0   count TcpExtTCPDSACKUndo 1
""",
    "F-RTO: the ACK after a timeout is of the original (RFC 5682)": SACK + TEN + """
+.202 > P. 9001:10001(1000) ack 1
*    > . 1:1001(1000) ack 1
+0   tcp snd_cwnd == 1
+.01 < . 1:1(0) ack 5001 win 65535
+0   count TcpExtTCPSpuriousRTOs 1
+0   tcp snd_cwnd >= 10
+.05 silence
""",
    "an ACK that opens the window is no duplicate": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 20000
+0   accept
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
+.1  < . 1:1(0) ack 1 win 21000
+0   < . 1:1(0) ack 1 win 22000
+0   < . 1:1(0) ack 1 win 23000
+0   < . 1:1(0) ack 1 win 24000
+.05 silence
+0   count TcpRetransSegs 0
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
    "a SACK for what was not sent is ignored": SACK + TEN + """
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,sack 50001:51001>
+0   silence
+0   count TcpExtTCPSACKDiscard 1
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
