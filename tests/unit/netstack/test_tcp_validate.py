"""Which segments are acceptable (RFC 9293, 5961, 7323)."""

import pytest
from tcp_openings import OPEN, SACK, STAMPS
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
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
