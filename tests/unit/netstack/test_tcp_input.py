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
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
