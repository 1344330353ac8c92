"""How connections begin and what is left of them (RFC 9293, 3.5, 3.6, 3.10.7; RFC 7323; RFC 1337; RFC 5961)."""

import pytest
from tcp_script import run_script

# a connection without options, and one that was accepted
SYN = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
"""
OPEN = (
    SYN
    + """
+.01 < . 1:1(0) ack 1 win 65535
+0   accept
"""
)
CONNECT = """
0    connect
+0   > S 0:0(0) win 64240 <mss 1460,sackOK,TS val 0 ecr 0,nop,wscale 10>
"""

SCRIPTS = {
    "passive open with all options: the answer offers what the SYN does (RFC 7323, 2.2, 3.2)": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 0 ecr 100,nop,wscale 10>
+.01 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 110 ecr 0>
+0   accept
+0   state ESTABLISHED
""",
    "passive open without options": OPEN + "+0 state ESTABLISHED",
    "passive open, SACK without timestamps": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK>
""",
    "the SYN-ACK is sent again after 1, 3, 7, 15, 31 seconds, then given up (RFC 6298, 5)": SYN + """
1    > S. 0:0(0) ack 1
3    > S. 0:0(0) ack 1
7    > S. 0:0(0) ack 1
15   > S. 0:0(0) ack 1
31   > S. 0:0(0) ack 1
70   silence
+0   gone
""",
    "the SYN again: so is the answer": SYN + """
+.2  < S 0:0(0) win 65535 <mss 1460>
+0   > S. 0:0(0) ack 1
""",
    "an ACK of the SYN-ACK of something else is answered with RST (RFC 9293, 3.10.7.4)": SYN + """
+.01 < . 1:1(0) ack 5 win 65535
+0   > R 5:5(0)
""",
    "a RST ends a connection that was not there yet": SYN + """
+.01 < R 1:1(0) win 0
+2   silence
+0   gone
""",
    "data with the ACK of the handshake": SYN + """
+.01 < P. 1:101(100) ack 1 win 65535
+0   > . 1:1(0) ack 101
+0   accept
+0   read 100
""",
    "connection refused: RST to a SYN for no one (RFC 9293, 3.10.7.1)": """
0    < S 0:0(0) win 65535 <mss 1460>
+0   > R. 0:0(0) ack 1 win 0
""",
    "an ACK for no one is answered with a RST of that number": """
0    < . 1:1(0) ack 77 win 65535
+0   > R 77:77(0) win 0
""",
    "a RST for no one is not answered": """
0    < R. 1:1(0) ack 77 win 65535
+1   silence
""",
    "data for no one": """
0    < P. 1:11(10) ack 500 win 65535
+0   > R 500:500(0)
""",
    "an ACK to a listener is answered with RST": """
0    listen
+0   < . 1:1(0) ack 9 win 65535
+0   > R 9:9(0)
""",
    "SYN and FIN together are ignored": """
0    listen
+0   < FS 0:0(0) win 65535 <mss 1460>
+2   silence
""",
    "active open with all options": CONNECT + """
+.1  < S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 500 ecr 0,nop,wscale 8>
+0   > . 1:1(0) ack 1 win 63 <nop,nop,TS val 100 ecr 500>
+0   state ESTABLISHED
""",
    "active open, the other end knows no options": CONNECT + """
+.1  < S. 0:0(0) ack 1 win 8000 <mss 1000>
+0   > . 1:1(0) ack 1 win 64240
+0   state ESTABLISHED
+0   tcp mss_cache == 1000
+0   tcp snd_wnd == 8000
""",
    "active open, no MSS: 536 (RFC 9293, 3.7.1)": CONNECT + """
+.1  < S. 0:0(0) ack 1 win 8000
+0   > . 1:1(0) ack 1
+0   tcp mss_cache == 536
""",
    "connect is refused": CONNECT + """
+.1  < R. 0:0(0) ack 1 win 0
+0   error ECONNREFUSED
+0   state CLOSE
+0   gone
""",
    "a RST that acknowledges nothing of ours does not refuse": CONNECT + """
+.1  < R. 0:0(0) ack 100 win 0
+0   state SYN_SENT
""",
    "a SYN-ACK of an old connection is answered with RST (RFC 9293, figure 9)": CONNECT + """
+.1  < S. 0:0(0) ack 91 win 65535 <mss 1460>
+0   > R 91:91(0) win 0
+0   state SYN_SENT
""",
    "the SYN is sent again every second at first, then with backoff": CONNECT + """
1    > S 0:0(0) win 64240
2    > S 0:0(0)
3    > S 0:0(0)
4    > S 0:0(0)
5    > S 0:0(0)
7    > S 0:0(0)
11   > S 0:0(0)
19   > S 0:0(0)
35   > S 0:0(0)
67   > S 0:0(0)
131  silence
+1   error ETIMEDOUT
""",
    "simultaneous open (RFC 9293, figure 7)": CONNECT + """
+.1  < S 0:0(0) win 8000 <mss 1460>
+0   > S. 0:0(0) ack 1
+0   state SYN_RECV
+.1  < S. 0:0(0) ack 1 win 8000 <mss 1460>
+0   > . 1:1(0) ack 1
+0   state ESTABLISHED
""",
    "simultaneous open, ended by an ACK": CONNECT + """
+.1  < S 0:0(0) win 8000 <mss 1460>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 8000
+0   state ESTABLISHED
""",
    "TIME_WAIT answers the FIN again, and lasts a minute from then on": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < . 1:1(0) ack 2 win 65535
+.01 < F. 1:1(0) ack 2 win 65535
+0   > . 2:2(0) ack 2
+0   timewait
+1   < F. 1:1(0) ack 2 win 65535
+0   > . 2:2(0) ack 2
+59  timewait
+2   gone
""",
    "TIME_WAIT and a RST: assassinated as Linux allows (RFC 1337)": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < F. 1:1(0) ack 2 win 65535
+0   > . 2:2(0) ack 2
+0   timewait
+.1  < R 2:2(0) win 0
+0   gone
""",
    "TIME_WAIT and a RST: not where net.ipv4.tcp_rfc1337 is set": "sysctl net.ipv4.tcp_rfc1337 1\n" + OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < F. 1:1(0) ack 2 win 65535
+0   > . 2:2(0) ack 2
+.1  < R 2:2(0) win 0
+0   timewait
""",
    "TIME_WAIT gives way to a new connection with a higher number (RFC 9293, 3.6.1)": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < F. 1:1(0) ack 2 win 65535
+0   > . 2:2(0) ack 2
+1   timewait
+0   < S 5000:5000(0) win 65535 <mss 1460>
+0   > S. 15937500:15937500(0) ack 5001    # the clock of RFC 6528 runs at 64 ns
""",
    "TIME_WAIT and an old SYN: an ACK of what we know": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < F. 1:1(0) ack 2 win 65535
+0   > . 2:2(0) ack 2
+1   < S 0:0(0) win 65535 <mss 1460>
+0   > . 2:2(0) ack 2
+0   timewait
""",
    "FIN_WAIT2 of an orphan: data gets a RST": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < . 1:1(0) ack 2 win 65535
+.01 < P. 1:11(10) ack 2 win 65535
+0   > R 2:2(0)
+0   gone
""",
    "FIN_WAIT2 of an orphan ends after a minute": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < . 1:1(0) ack 2 win 65535
+59  silence
+2   gone
""",
    "the accept queue is full: the last ACK counts as lost, and the answer comes again": """
0    listen 1
+0   < S 0:0(0) win 65535 <mss 1460>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  fill 2
+0   < . 1:1(0) ack 1 win 65535
+0   count TcpExtListenOverflows 1
+.9  > S. 0:0(0) ack 1 win 64240 <mss 1460>
""",
    "a scale of more than 14 counts as 14 (RFC 7323, 2.3)": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,wscale 15>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,wscale 10>
+.1  < . 1:1(0) ack 1 win 2
+0   accept
+0   tcp snd_wscale == 14
+0   tcp snd_wnd == 32768
""",
    "a host that does not scale ignores the offer": "sysctl net.ipv4.tcp_window_scaling 0\n" + """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 1000
+0   accept
+0   tcp snd_wnd == 1000
""",
    "an MSS that is too small counts as 48 (net.ipv4.tcp_min_snd_mss)": """
0    listen
+0   < S 0:0(0) win 65535 <mss 10>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   write 100
+0   > . 1:49(48) ack 1
+0   > . 49:97(48) ack 1
+0   > P. 97:101(4) ack 1
""",
    "TIME_WAIT gives way to a SYN with a later timestamp (RFC 6191)": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 0 ecr 100,nop,wscale 10>
+.1  < . 1:1(0) ack 1 win 512 <nop,nop,TS val 200 ecr 0>
+0   accept
+0   close
+0   > F. 1:1(0) ack 1 <nop,nop,TS val * ecr 200>
+.01 < F. 1:1(0) ack 2 win 512 <nop,nop,TS val 210 ecr 0>
+0   > . 2:2(0) ack 2 <nop,nop,TS val * ecr 210>
# a number that has been used, and a later time
+1   isn 0
+0   < S 1:1(0) win 65535 <mss 1460,sackOK,TS val 1300 ecr 0,nop,wscale 7>
+0   > S. 0:0(0) ack 2
""",
    "a SYN with ECE and CWR is answered with ECE (RFC 3168, 6.1.1)": """
0    listen
+0   < SEW 0:0(0) win 65535 <mss 1000>
+0   > SE. 0:0(0) ack 1 win 64240 <mss 1460>
""",
    "a SYN that is sent again says nothing of ECN in the end (RFC 3168, 6.1.1.1)": "sysctl net.ipv4.tcp_ecn 1\n" + """
0    connect
+0   > SEW 0:0(0) win 64240 <mss 1460,sackOK,TS val 0 ecr 0,nop,wscale 10>
+1   > SEW 0:0(0) win 64240 <mss 1460,sackOK,TS val 1000 ecr 0,nop,wscale 10>
+1   > S 0:0(0) win 64240 <mss 1460,sackOK,TS val 2000 ecr 0,nop,wscale 10>
+.1  < S. 0:0(0) ack 1 win 65535 <mss 1000>
+0   > . 1:1(0) ack 1
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
