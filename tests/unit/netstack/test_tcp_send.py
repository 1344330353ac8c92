"""Segments without data (RFC 9293)."""

import pytest
from tcp_openings import SLOW
from tcp_script import run_script

SCRIPTS = {
    "a FIN goes with the last data that waits": SLOW + """
+0   write 100
+0   > P. 1:101(100) ack 1
+0   write 100
+0   close
+0   > FP. 101:201(100) ack 1
""",
    "a window of zero is probed, later and later (RFC 9293, 3.8.6.1)": """
0    listen
+0   < S 0:0(0) win 2000 <mss 1000>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 2000
+0   accept
+0   write 3000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
+.1  < . 1:1(0) ack 2001 win 0
+.3  > . 2000:2000(0) ack 1
+0   < . 1:1(0) ack 2001 win 0
+.6  > . 2000:2000(0) ack 1
+0   < . 1:1(0) ack 2001 win 0
+1.2 > . 2000:2000(0) ack 1
+.1  < . 1:1(0) ack 2001 win 5000
+0   > P. 2001:3001(1000) ack 1
+0   count TcpExtTCPWinProbe 3
""",
    "an answer that keeps the window closed lets the next probe wait twice as long (RFC 1122, 4.2.2.17)": """
0    listen
+0   < S 0:0(0) win 1000 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 0
+0   accept
+0   write 1000
+.3  > . 0:0(0) ack 1
+.01 < . 1:1(0) ack 1 win 0
+.6  > . 0:0(0) ack 1
+.01 < . 1:1(0) ack 1 win 0
+1.2 > . 0:0(0) ack 1
+.01 < . 1:1(0) ack 1 win 2000
+0   > P. 1:1001(1000) ack 1
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
