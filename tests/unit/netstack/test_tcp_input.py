"""What is received (RFC 9293, 3.10.7.4; RFC 5681, 4.2; RFC 2018 and 2883; RFC 5961; RFC 7323; RFC 1122, 4.2.3.2)."""

import pytest
from tcp_script import run_script

OPEN = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.01 < . 1:1(0) ack 1 win 65535
+0   accept
"""
SACK = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK>
+.01 < . 1:1(0) ack 1 win 65535
+0   accept
"""
STAMPS = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,sackOK,TS val 100 ecr 0,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 0 ecr 100,nop,wscale 10>
+.01 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 110 ecr 0>
+0   accept
"""

SCRIPTS = {
    "the first segments are acknowledged at once (quick ACKs)": OPEN + """
+.1  < P. 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001
+0   read 1000
+.1  < P. 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 2001
+0   read 1000
""",
    "who answers has the ACK go with the answer": OPEN + """
+.1  < P. 1:101(100) ack 1 win 65535
+0   > . 1:1(0) ack 101
+0   read 100
+0   write 50
+0   > P. 1:51(50) ack 101
+.1  < P. 101:201(100) ack 51 win 65535
+0   read 100
+.01 write 50
+0   > P. 51:101(50) ack 201
""",
    "an ACK that nothing goes with is put off for 40 ms (RFC 1122: less than 500)": OPEN + """
+.1  < P. 1:101(100) ack 1 win 65535
+0   > . 1:1(0) ack 101
+0   read 100
+0   write 50
+0   > P. 1:51(50) ack 101
+.1  < P. 101:201(100) ack 51 win 65535
+.04 > . 51:51(0) ack 201
+0   read 100
""",
    "the second full segment is acknowledged at once (RFC 1122, 4.2.3.2)": STAMPS + """
+.1  < P. 1:101(100) ack 1 win 257 <nop,nop,TS val 200 ecr 0>
+0   > . 1:1(0) ack 101
+0   read 100
+0   write 50
+0   > P. 1:51(50) ack 101
+.1  < . 101:1549(1448) ack 51 win 257 <nop,nop,TS val 300 ecr 0>
+0   < . 1549:2997(1448) ack 51 win 257 <nop,nop,TS val 300 ecr 0>
+0   > . 51:51(0) ack 2997
+0   read 2896
""",
    "out of order without SACK: a duplicate ACK for each (RFC 5681, 3.2)": OPEN + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1
+0   < . 2001:3001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1
+0   read EAGAIN
+.01 < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 3001
+0   read 3000
""",
    "out of order: SACK blocks, the newest first (RFC 2018, 4)": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+0   < . 3001:4001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 3001:4001 1001:2001>
+0   < . 5001:6001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 5001:6001 3001:4001 1001:2001>
""",
    "a SACK block that grows comes first": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+0   < . 3001:4001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 3001:4001 1001:2001>
+0   < . 2001:3001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:4001>
+0   < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 4001
+0   read 4000
""",
    "a gap is filled partly: what is left is told": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+0   < . 3001:4001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 3001:4001 1001:2001>
+.01 < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 2001 <nop,nop,sack 3001:4001>
+0   read 2000
""",
    "data that came already: a D-SACK (RFC 2883, 4.1)": SACK + """
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001
+0   read 1000
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001 <nop,nop,sack 1:1001>
""",
    "data that came out of order already: a D-SACK in front of the block (RFC 2883, 4.2)": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+.01 < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001 1001:2001>
""",
    "a segment that overlaps what is here brings its rest (RFC 9293, 3.4)": OPEN + """
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001
+.1  < . 501:1501(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1501
+0   read 1500
""",
    "a segment beyond the window is dropped and answered": OPEN + """
+.1  < . 100000:100100(100) ack 1 win 65535
+0   > . 1:1(0) ack 1
+0   read EAGAIN
""",
    "a FIN: the reader comes to the end": OPEN + """
+.1  < F. 1:1(0) ack 1 win 65535
+.04 > . 1:1(0) ack 2
+0   state CLOSE_WAIT
+0   read eof
""",
    "data and FIN in one segment": OPEN + """
+.1  < FP. 1:101(100) ack 1 win 65535
+.04 > . 1:1(0) ack 102
+0   read 100
+0   read eof
""",
    "a FIN that comes before the data waits for it": OPEN + """
+.1  < F. 1001:1001(0) ack 1 win 65535
+0   > . 1:1(0) ack 1
+0   state ESTABLISHED
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1002
+0   state CLOSE_WAIT
+0   read 1000
+0   read eof
""",
    "RST where it should be ends the connection": OPEN + """
+.1  < R 1:1(0) win 0
+0   state CLOSE
+0   error ECONNRESET
+0   read ECONNRESET
+0   gone
""",
    "RST elsewhere in the window is challenged (RFC 5961, 3.2)": OPEN + """
+.1  < R 100:100(0) win 0
+0   > . 1:1(0) ack 1
+0   state ESTABLISHED
""",
    "RST outside the window is ignored": OPEN + """
+.1  < R 200000:200000(0) win 0
+1   silence
+0   state ESTABLISHED
""",
    "RST behind what came out of order": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+.1  < R. 2001:2001(0) ack 1 win 0
+0   state CLOSE
""",
    "a SYN in a connection is challenged (RFC 5961, 4.2)": OPEN + """
+.1  < S 1:1(0) win 65535 <mss 1460>
+0   > . 1:1(0) ack 1
+0   state ESTABLISHED
""",
    "challenges are limited to one in half a second": OPEN + """
+.1  < S 1:1(0) win 65535 <mss 1460>
+0   > . 1:1(0) ack 1
+.1  < S 1:1(0) win 65535 <mss 1460>
+.3  silence
+.2  < S 1:1(0) win 65535 <mss 1460>
+0   > . 1:1(0) ack 1
""",
    "an ACK of what was never sent is challenged (RFC 5961, 5.2)": OPEN + """
+.1  < . 1:1(0) ack 5000 win 65535
+.5  state ESTABLISHED
""",
    "a segment without ACK is dropped": OPEN + """
+.1  < P 1:11(10) win 65535
+1   silence
+0   read EAGAIN
""",
    "an older timestamp is no segment of this connection (RFC 7323, 5.3)": STAMPS + """
+.1  < P. 1:11(10) ack 1 win 257 <nop,nop,TS val 50 ecr 0>
+0   > . 1:1(0) ack 1 <nop,nop,TS val * ecr 110>
+0   read EAGAIN
+0   count TcpExtPAWSEstab 1
""",
    "the timestamp that is echoed is that of the segment at the left edge (RFC 7323, 4.3)": STAMPS + """
+.1  < . 1001:2001(1000) ack 1 win 257 <nop,nop,TS val 300 ecr 0>
+0   > . 1:1(0) ack 1 <nop,nop,TS val * ecr 110,nop,nop,sack 1001:2001>
+.1  < . 1:1001(1000) ack 1 win 257 <nop,nop,TS val 290 ecr 0>
+0   > . 1:1(0) ack 2001 <nop,nop,TS val * ecr 290>
""",
    "the window closes when nobody reads, and the sender hears when somebody does (RFC 9293, 3.8.6)": """
0    listen
+0   set SO_RCVBUF 4096
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 win 2920 <mss 1460>
+.01 < . 1:1(0) ack 1 win 65535
+0   accept
+0   < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001
+0   < . 1001:2001(1000) ack 1 win 65535
*    > . 1:1(0) ack 2001
+0   tcp rcv_wnd <= 1000
+.1  < . 2001:3001(1000) ack 1 win 65535
*    > . 1:1(0) ack 3001 win 0
+.1  < . 3001:3002(1) ack 1 win 65535
+0   > . 1:1(0) ack 3001 win 0
+0   read 3000
+0   > . 1:1(0) ack 3001
+0   tcp rcv_wnd >= 2000
""",
    "ECN: a mark is echoed until CWR comes (RFC 3168, 6.1)": """
0    listen
+0   < SEW 0:0(0) win 65535 <mss 1000>
+0   > SE. 0:0(0) ack 1 win 64240 <mss 1460>
+.01 < . 1:1(0) ack 1 win 65535
+0   accept
+0   ecn 3
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > E. 1:1(0) ack 1001
+0   ecn 2
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > E. 1:1(0) ack 2001
+.1  < W. 2001:3001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 3001
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
