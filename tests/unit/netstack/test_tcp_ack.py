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
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
