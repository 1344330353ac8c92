"""Urgent data (RFC 9293, 3.8.5; RFC 6093; tcp(7))."""

import pytest
from tcp_openings import OPEN
from tcp_script import run_script

SCRIPTS = {
    "the urgent byte is read by itself, and is no part of the stream": OPEN + """
+0   < PU. 1:101(100) ack 1 win 65535 urg 50
+0   > . 1:1(0) ack 101
+0   read 1 oob
+0   read EINVAL oob
# a call ends in front of it
+0   read 49
+0   read 50
""",
    "a byte that nobody has read by itself is skipped": OPEN + """
+0   < PU. 1:101(100) ack 1 win 65535 urg 50
+0   > . 1:1(0) ack 101
+0   read 49
+0   read 50
+0   read EINVAL oob
""",
    "the pointer may come before the byte": OPEN + """
+0   read EINVAL oob
+0   < U. 1:1(0) ack 1 win 65535 urg 5
+0   read EAGAIN oob
+0   < P. 1:11(10) ack 1 win 65535
+0   > . 1:1(0) ack 11
+0   read 1 oob
""",
    "the last byte of what is sent with MSG_OOB is urgent": OPEN + """
+0   write 10 oob
+0   > PU. 1:11(10) ack 1 urg 10
+0   write 5
+0   > P. 11:16(5) ack 1
+.01 < . 1:1(0) ack 16 win 65535
+0   write 10
+0   > P. 16:26(10) ack 1
""",
    "peeking stops in front of the urgent byte": OPEN + """
+0   < PU. 1:101(100) ack 1 win 65535 urg 50
+0   > . 1:1(0) ack 101
+0   read 49 peek
+0   read 49
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
