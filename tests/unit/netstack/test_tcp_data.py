"""Data in and out of order (RFC 9293, 2018, 2883)."""

import pytest
from tcp_openings import OPEN, SACK
from tcp_script import run_script

SCRIPTS = {
    "out of order without SACK: a duplicate ACK for each (RFC 5681, 3.2)": OPEN + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1
+0   < . 2001:3001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1
+0   read EAGAIN
+.01 < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 3001
+0   read 3000
""",
    "out of order: SACK blocks, the newest first (RFC 2018, 4)": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+0   < . 3001:4001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 3001:4001 1001:2001>
+0   < . 5001:6001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 5001:6001 3001:4001 1001:2001>
""",
    "a SACK block that grows comes first": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+0   < . 3001:4001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 3001:4001 1001:2001>
+0   < . 2001:3001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:4001>
+0   < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 4001
+0   read 4000
""",
    "a gap is filled partly: what is left is told": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+0   < . 3001:4001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 3001:4001 1001:2001>
+.01 < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 2001 <nop,nop,sack 3001:4001>
+0   read 2000
""",
    "data that came already: a D-SACK (RFC 2883, 4.1)": SACK + """
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001
+0   read 1000
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001 <nop,nop,sack 1:1001>
""",
    "data that came out of order already: a D-SACK in front of the block (RFC 2883, 4.2)": SACK + """
+.1  < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001>
+.01 < . 1001:2001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1 <nop,nop,sack 1001:2001 1001:2001>
""",
    "a segment that overlaps what is here brings its rest (RFC 9293, 3.4)": OPEN + """
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001
+.1  < . 501:1501(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1501
+0   read 1500
""",
    "a FIN that comes before the data waits for it": OPEN + """
+.1  < F. 1001:1001(0) ack 1 win 65535
+0   > . 1:1(0) ack 1
+0   state ESTABLISHED
+.1  < . 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1002
+0   state CLOSE_WAIT
+0   read 1000
+0   read eof
""",
    "data that came already with some that is new: its beginning is told (RFC 2883, 4.1)": SACK + """
+0   < P. 1:1001(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1001
+0   < P. 501:1501(1000) ack 1 win 65535
+0   > . 1:1(0) ack 1501 <nop,nop,sack 501:1001>
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
