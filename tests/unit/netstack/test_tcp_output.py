"""What is sent and when (RFC 9293, 3.7 and 3.8; RFC 896; RFC 1122, 4.2.3; RFC 1191; RFC 7323, 2)."""

import pytest
from tcp_script import run_script

OPEN = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
"""

SCRIPTS = {
    "Nagle: a short segment waits for the ACK of another short one (RFC 896)": OPEN + """
+0   write 100
+0   > P. 1:101(100) ack 1
+0   write 100
+0   write 200
+.05 silence
+.05 < . 1:1(0) ack 101 win 65535
+0   > P. 101:401(300) ack 1
""",
    "TCP_NODELAY: it does not wait": OPEN + """
+0   set TCP_NODELAY 1
+0   write 100
+0   > P. 1:101(100) ack 1
+0   write 100
+0   > P. 101:201(100) ack 1
""",
    "a full segment does not wait": OPEN + """
+0   write 100
+0   > P. 1:101(100) ack 1
+0   write 1000
+0   > P. 101:1101(1000) ack 1
""",
    "Minshall: a short segment behind full ones only goes at once": OPEN + """
+0   write 2500
+0   > . 1:1001(1000) ack 1
+0   > . 1001:2001(1000) ack 1
+0   > P. 2001:2501(500) ack 1
""",
    "TCP_CORK: nothing but full segments until it is taken away": OPEN + """
+0   set TCP_CORK 1
+0   write 1500
+0   > . 1:1001(1000) ack 1
+.1  silence
+0   set TCP_CORK 0
+0   > P. 1001:1501(500) ack 1
""",
    "data that waits is sent when TCP_NODELAY is set": OPEN + """
+0   write 100
+0   > P. 1:101(100) ack 1
+0   write 100
+0   set TCP_NODELAY 1
+0   > P. 101:201(100) ack 1
""",
    "the MSS of the peer limits segments": """
0    listen
+0   < S 0:0(0) win 65535 <mss 500>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   write 1200
+0   > . 1:501(500) ack 1
+0   > . 501:1001(500) ack 1
+0   > P. 1001:1201(200) ack 1
""",
    "timestamps take 12 bytes of the MSS (RFC 7323, 3.2 and RFC 6691)": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,nop,TS val 1 ecr 0>
+0   > S. 0:0(0) ack 1 win 65160 <mss 1460,nop,nop,TS val 0 ecr 1>
+.1  < . 1:1(0) ack 1 win 65535 <nop,nop,TS val 2 ecr 0>
+0   accept
+0   write 1000
+0   > . 1:989(988) ack 1 <nop,nop,TS val 100 ecr 2>
+0   > P. 989:1001(12) ack 1 <nop,nop,TS val 100 ecr 2>
""",
    "TCP_MAXSEG limits what is offered and what is sent": """
0    socket
+0   set TCP_MAXSEG 700
+0   connect
+0   > S 0:0(0) win 65100 <mss 700,sackOK,TS val 0 ecr 0,nop,wscale 10>
+.1  < S. 0:0(0) ack 1 win 8000 <mss 1460>
+0   > . 1:1(0) ack 1
+0   tcp mss_cache == 700
""",
    "a window that is scaled (RFC 7323, 2.3)": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,wscale 2>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,wscale 10>
+.1  < . 1:1(0) ack 1 win 1000
+0   accept
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
+0   tcp snd_wnd == 4000
""",
    "a window smaller than a segment: half of it is filled at once (RFC 9293, 3.8.6.2.1)": """
0    listen
+0   < S 0:0(0) win 600 <mss 1000>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 600
+0   accept
+0   write 1000
+0   > . 1:301(300) ack 1
+0   > P. 301:601(300) ack 1
""",
    "the send buffer is full: EAGAIN, and room again when something is acknowledged": """
0    listen
+0   set SO_SNDBUF 4608
+0   < S 0:0(0) win 2000 <mss 1000>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 2000
+0   accept
+0   write 100000 6000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
+0   write 1 EAGAIN
+.1  < . 1:1(0) ack 2001 win 20000
*    > . 2001:3001(1000) ack 1
*    > P. 3001:4001(1000) ack 1
*    > . 4001:5001(1000) ack 1
*    > P. 5001:6001(1000) ack 1
+.1  < . 1:1(0) ack 6001 win 20000
+0   write 10
+0   > P. 6001:6011(10) ack 1
""",
    "an idle connection begins anew with its first window (RFC 2861)": OPEN + """
+0   write 3000
+0   > . 1:1001(1000) ack 1
+0   > . 1001:2001(1000) ack 1
+0   > P. 2001:3001(1000) ack 1
+.1  < . 1:1(0) ack 3001 win 65535
+0   tcp snd_cwnd >= 10
+10  write 1000
+0   > P. 3001:4001(1000) ack 1
+0   tcp snd_cwnd == 10
""",
    "writing after shutdown: EPIPE": OPEN + """
+0   shutdown wr
+0   > F. 1:1(0) ack 1
+0   write 10 EPIPE
""",
    "a corked segment goes when the timer of probes fires (tcp(7): a ceiling of 200 ms)": OPEN + """
+0   set TCP_CORK 1
+0   write 500
# 200 ms and the round trip of the handshake
+.3  > P. 1:501(500) ack 1
""",
    "uncorking sends what waits": OPEN + """
+0   set TCP_CORK 1
+0   write 1500
+0   > . 1:1001(1000) ack 1
+.05 set TCP_CORK 0
+0   > P. 1001:1501(500) ack 1
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
