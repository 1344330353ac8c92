"""Round trips and timeouts (RFC 6298)."""

import pytest
from tcp_openings import RENO
from tcp_script import run_script

SCRIPTS = {
    "the RTO is the round trip and four deviations, at least 200 ms more (RFC 6298, Linux)": RENO + """
+0   write 1000
+0   > P. 1:1001(1000) ack 1
# srtt 100 ms, deviation 50 ms: 4 of them are 200 ms
+.3  > P. 1:1001(1000) ack 1
+0   count TcpExtTCPTimeouts 1
""",
    "each timeout is twice as long as the one before (RFC 6298, 5.5)": RENO + """
+0   write 1000
+0   > P. 1:1001(1000) ack 1
+.3  > P. 1:1001(1000) ack 1
+.6  > P. 1:1001(1000) ack 1
+1.2 > P. 1:1001(1000) ack 1
+2.4 > P. 1:1001(1000) ack 1
+4.8 > P. 1:1001(1000) ack 1
+.1  < . 1:1(0) ack 1001 win 65535
+0   tcp snd_cwnd == 2
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])
