"""How connections are closed (RFC 9293, 3.6 and 3.10.4; RFC 1122, 4.2.2.13; RFC 2525, 2.17)."""

import pytest
from tcp_openings import CONNECTED
from tcp_script import run_script

OPEN = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
"""

SCRIPTS = {
    "the host closes first (RFC 9293, figure 12)": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+0   state FIN_WAIT1
+.1  < . 1:1(0) ack 2 win 65535
+.1  < F. 1:1(0) ack 2 win 65535
+0   > . 2:2(0) ack 2
+0   timewait
+61  gone
""",
    "the peer closes first": OPEN + """
+.1  < F. 1:1(0) ack 1 win 65535
+.04 > . 1:1(0) ack 2
+0   state CLOSE_WAIT
+0   close
+0   > F. 1:1(0) ack 2
+0   state LAST_ACK
+.1  < . 2:2(0) ack 2 win 65535
+0   gone
""",
    "both close at once (RFC 9293, figure 13)": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+0   < F. 1:1(0) ack 1 win 65535
+0   > . 2:2(0) ack 2
+0   state CLOSING
+.1  < . 2:2(0) ack 2 win 65535
+0   timewait
""",
    "FIN and its ACK come together": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.1  < F. 1:1(0) ack 2 win 65535
+0   > . 2:2(0) ack 2
+0   timewait
""",
    "half closed: the other direction goes on (RFC 9293, 3.6)": OPEN + """
+0   shutdown wr
+0   > F. 1:1(0) ack 1
+.1  < . 1:1(0) ack 2 win 65535
+0   state FIN_WAIT2
+.1  < P. 1:101(100) ack 2 win 65535
+0   > . 2:2(0) ack 101
+0   read 100
+.1  < F. 101:101(0) ack 2 win 65535
+0   > . 2:2(0) ack 102
+0   timewait
""",
    "the peer is half closed: the host may go on sending": OPEN + """
+.1  < F. 1:1(0) ack 1 win 65535
+.04 > . 1:1(0) ack 2
+0   read eof
+0   write 100
+0   > P. 1:101(100) ack 2
+.1  < . 2:2(0) ack 101 win 65535
+0   close
+0   > F. 101:101(0) ack 2
""",
    "the FIN is sent again when nobody answers": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.3  > F. 1:1(0) ack 1
+.6  > F. 1:1(0) ack 1
""",
    "closing with data that nobody has read: RST (RFC 2525, 2.17)": OPEN + """
+.1  < P. 1:101(100) ack 1 win 65535
+0   > . 1:1(0) ack 101
+0   close
+0   > R. 1:1(0) ack 101
+0   gone
+0   count TcpExtTCPAbortOnClose 1
""",
    "SO_LINGER of 0: RST": OPEN + """
+0   set SO_LINGER 0
+0   write 10
+0   > P. 1:11(10) ack 1
+0   close
+0   > R. 11:11(0) ack 1
+0   gone
""",
    "data that was written before close is delivered first": OPEN + """
+0   write 1500
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:1501(500) ack 1
+0   close
+0   > F. 1501:1501(0) ack 1
+.1  < . 1:1(0) ack 1502 win 65535
""",
    "who was reset cannot write": OPEN + """
+.1  < R 1:1(0) win 0
+0   read ECONNRESET
+0   write 10 EPIPE
""",
    "the end of the stream is there for every reader": OPEN + """
+.1  < F. 1:1(0) ack 1 win 65535
+.04 > . 1:1(0) ack 2
+0   read eof
+0   read eof
""",
    "closing a connection that is being made sends nothing": """
0    connect
+0   > S 0:0(0) win 64240
+.1  close
+0   gone
+2   silence
""",
    "a RST in FIN_WAIT1": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.1  < R 1:1(0) win 0
+0   gone
""",
    "a RST in LAST_ACK": OPEN + """
+.1  < F. 1:1(0) ack 1 win 65535
+.04 > . 1:1(0) ack 2
+0   close
+0   > F. 1:1(0) ack 2
+.1  < R 2:2(0) win 0
+0   gone
""",
    "data in FIN_WAIT1 after close: RST": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.1  < P. 1:101(100) ack 2 win 65535
+0   > R 2:2(0)
+0   gone
""",
    "a listener that closes resets those that nobody accepted": """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
""",
    "half closed by the host: what the peer sends is read to its end": CONNECTED + """
+0   shutdown wr
+0   > F. 1:1(0) ack 1
+.01 < . 1:1(0) ack 2 win 65535
+0   state FIN_WAIT2
+.01 < P. 1:501(500) ack 2 win 65535
+0   > . 2:2(0) ack 501
+0   read 500
+.01 < F. 501:501(0) ack 2 win 65535
+0   > . 2:2(0) ack 502
+0   read eof
""",
    "shutdown of reading does not stop sending": OPEN + """
+0   shutdown rd
+0   write 100
+0   > P. 1:101(100) ack 1
+.01 < . 1:1(0) ack 101 win 65535
+0   read eof
""",
    "data for nobody behind the end: RST": OPEN + """
+0   close
+0   > F. 1:1(0) ack 1
+.01 < . 1:1(0) ack 2 win 65535
+.01 < P. 1:101(100) ack 2 win 65535
+0   > R 2:2(0)
""",
    "MSG_PEEK leaves what it shows": OPEN + """
+0   < P. 1:101(100) ack 1 win 65535
+0   > . 1:1(0) ack 101
+0   read 60 peek
+0   read 60
+0   read 40 peek
+0   read 40
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
