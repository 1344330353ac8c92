"""When the receiver acknowledges (RFC 1122, 5681, 3168)."""

import pytest
from tcp_openings import OPEN, STAMPS
from tcp_script import run_script

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
    "a connection that talks acknowledges after 40 ms (TCP_ATO_MIN)": OPEN + """
+0   < P. 1:11(10) ack 1 win 65535
+0   > . 1:1(0) ack 11
+0   write 10
+0   > P. 1:11(10) ack 11
+.01 < P. 11:21(10) ack 11 win 65535
+.04 > . 11:11(0) ack 21
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
