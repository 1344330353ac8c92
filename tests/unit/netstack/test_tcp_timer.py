"""Timers of connections (RFC 6298; RFC 1122, 4.2.3.5 and 4.2.3.6; RFC 5482; tcp(7))."""

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
    "keepalive: after TCP_KEEPIDLE, every TCP_KEEPINTVL, TCP_KEEPCNT times (RFC 1122, 4.2.3.6)": OPEN + """
+0   set TCP_KEEPIDLE 10
+0   set TCP_KEEPINTVL 2
+0   set TCP_KEEPCNT 3
+0   set SO_KEEPALIVE 1
+10  > . 0:0(0) ack 1
+2   > . 0:0(0) ack 1
+2   > . 0:0(0) ack 1
+2   > R. 1:1(0) ack 1
+0   error ETIMEDOUT
+0   count TcpExtTCPKeepAlive 3
""",
    "keepalive: an answer begins it anew": OPEN + """
+0   set TCP_KEEPIDLE 10
+0   set SO_KEEPALIVE 1
+10  > . 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 65535
*    > . 0:0(0) ack 1
+0   tcp probes_out == 1
""",
    "keepalive: a peer that has forgotten resets": OPEN + """
+0   set TCP_KEEPIDLE 10
+0   set SO_KEEPALIVE 1
+10  > . 0:0(0) ack 1
+.1  < R 1:1(0) win 0
+0   error ECONNRESET
""",
    "two hours of idleness by default": OPEN + """
+0   set SO_KEEPALIVE 1
+500 silence
+0   state ESTABLISHED
""",
    "TCP_USER_TIMEOUT: the connection is given up at the retransmission after it (RFC 5482)": OPEN + """
+0   set TCP_USER_TIMEOUT 1500
+0   write 100
+0   > P. 1:101(100) ack 1
+.3  > P. 1:101(100) ack 1
+.6  > P. 1:101(100) ack 1
# counted from the first retransmission
+.85 state ESTABLISHED
+.1  error ETIMEDOUT
+0   write 1 ETIMEDOUT
""",
    "TCP_SYNCNT: how often a SYN is sent again": """
0    socket
+0   set TCP_SYNCNT 1
+0   connect
+0   > S 0:0(0) win 64240
1    > S 0:0(0)
2    > S 0:0(0)
3    > S 0:0(0)
4    > S 0:0(0)
5    > S 0:0(0)
+5   error ETIMEDOUT
""",
    "an ICMP error about a SYN ends connecting (RFC 1122, 4.2.3.9)": """
0    connect
+0   > S 0:0(0) win 64240
+.1  icmp 3 1
+0   error EHOSTUNREACH
+0   state CLOSE
""",
    "an ICMP error about a connection that is there is kept for the end (RFC 1122, 4.2.3.9)": OPEN + """
+0   write 100
+0   > P. 1:101(100) ack 1
+0   icmp 3 1
+0   state ESTABLISHED
+0   tcp sk_err_soft == 113
+.1  < . 1:1(0) ack 101 win 65535
+0   tcp sk_err_soft == 0
""",
    "an ICMP error about a number that is not in flight is ignored (RFC 5927)": OPEN + """
+0   write 100
+0   > P. 1:101(100) ack 1
+.1  < . 1:1(0) ack 101 win 65535
+0   write 100
+0   > P. 101:201(100) ack 1
+.1  < . 1:1(0) ack 201 win 65535
+0   icmp 3 1
+0   count TcpExtOutOfWindowIcmps 1
""",
    "FIN_WAIT2 of TCP_LINGER2 seconds": OPEN + """
+0   set TCP_LINGER2 5
+0   close
+0   > F. 1:1(0) ack 1
+.1  < . 1:1(0) ack 2 win 65535
+4   silence
+2   gone
""",
    "after many timeouts the connection is over": "sysctl net.ipv4.tcp_retries2 3\n" + OPEN + """
+0   write 100
+0   > P. 1:101(100) ack 1
+.3  > P. 1:101(100) ack 1
+.6  > P. 1:101(100) ack 1
+1.2 > P. 1:101(100) ack 1
+2.3 state ESTABLISHED
+.2  error ETIMEDOUT
+0   count TcpExtTCPAbortOnTimeout 1
""",
    "the least timeout can be set": "sysctl net.ipv4.tcp_rto_min_us 20000\n" + """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1
+.001 < . 1:1(0) ack 1 win 65535
+0   accept
+0   write 100
+0   > P. 1:101(100) ack 1
+.021 > P. 1:101(100) ack 1
""",
    "keepalive: what was received meanwhile puts it off (RFC 1122, 4.2.3.6)": OPEN + """
+0   set SO_KEEPALIVE 1
+0   set TCP_KEEPIDLE 10
+0   set TCP_KEEPINTVL 5
+5   < P. 1:101(100) ack 1 win 65535
+0   > . 1:1(0) ack 101
# ten seconds after the data
+10  > . 0:0(0) ack 101
+.01 < . 101:101(0) ack 1 win 65535
# the timer looks five seconds later, and waits for what is missing of ten
+10  > . 0:0(0) ack 101
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
