"""Which segments are acceptable (RFC 9293, 5961, 7323)."""

import pytest
from tcp_openings import FULL, OPEN, SACK, STAMPS
from tcp_script import run_script

SCRIPTS = {
    "a segment beyond the window is dropped and answered": OPEN + """
+.1  < . 100000:100100(100) ack 1 win 65535
+0   > . 1:1(0) ack 1
+0   read EAGAIN
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
    "PAWS: a pure ACK that was overtaken is no old segment (RFC 7323, 5.3)": FULL + """
+0   < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 300 ecr 0>
+0   > . 1:1(0) ack 101 <nop,nop,TS val * ecr 300>
+.01 < . 101:101(0) ack 1 win 512 <nop,nop,TS val 290 ecr 0>
+.01 silence
+0   count TcpExtPAWSEstab 0
""",
    "PAWS: timestamps wrap (RFC 7323, 5.2)": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 4294967290 ecr 0,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 0 ecr 4294967290,nop,wscale 10>
+.1  < . 1:1(0) ack 1 win 512 <nop,nop,TS val 4294967292 ecr 0>
+0   accept
+0   < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 5 ecr 0>
+0   > . 1:1(0) ack 101 <nop,nop,TS val * ecr 5>
""",
    "a RST with an older timestamp is one all the same (RFC 7323, 5.2)": FULL + """
+0   < R. 1:1(0) ack 1 win 512 <nop,nop,TS val 50 ecr 0>
+0   error ECONNRESET
""",
    "an ACK older than what the peer ever offered is challenged (RFC 5961, 5.2)": OPEN + """
+0   write 1000
+0   > P. 1:1001(1000) ack 1
+.01 < . 1:1(0) ack 1001 win 65535
+.01 < . 1:1(0) ack 4294900000 win 65535
+0   > . 1001:1001(0) ack 1
""",
    "RST in FIN_WAIT2": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.1  < . 1:1(0) ack 2 win 65535
+.1  < R. 1:1(0) ack 2 win 0
+0   gone
""",
    "RST in CLOSING": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < F. 1:1(0) ack 1 win 65535
+0   > . 2:2(0) ack 2
+0   state CLOSING
+.01 < R. 2:2(0) ack 1 win 0
+0   gone
""",
    "RST in CLOSE_WAIT: EPIPE": OPEN + """
+.01 < F. 1:1(0) ack 1 win 65535
+.04 > . 1:1(0) ack 2
+.01 < R. 2:2(0) ack 1 win 0
+0   error EPIPE
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
