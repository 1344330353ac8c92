"""SYN cookies (RFC 4987; net/ipv4/syncookies.c, v6.18) and the helpers that make and check them (net/core/filter.c)."""

from types import SimpleNamespace
from typing import Any

import pytest
from tcp_script import HOST, HOST_PORT, PEER, PEER_PORT, Script, run_script

from ebpfsim.errnos import Errno
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.headers import IpHdr
from netstack.tcp_hdr import ACK, SYN, Tcphdr, tcp_bytes
from netstack.tcp_syncookies import HELPERS, PERIOD_NS

ALWAYS = "sysctl net.ipv4.tcp_syncookies 2\n"
SCRIPTS = {
    "all options come back with the time stamp": ALWAYS + """
0    listen
+0.5 < S 0:0(0) win 65535 <mss 1400,sackOK,TS val 100 ecr 0,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 471 ecr 100,nop,wscale 10>
+0   count TcpExtSyncookiesSent 1
+.1  < . 1:1(0) ack 1 win 512 <nop,nop,TS val 200 ecr 471>
+0   count TcpExtSyncookiesRecv 1
+0   accept
+0   tcp snd_wscale == 7
+0   tcp sack_ok == 1
# the next smaller of 536, 1300, 1440, 1460, less the time stamp
+0   tcp mss_cache == 1288
+0   write 10
+0   > P. 1:11(10) ack 1
""",
    "without time stamps there are no other options": ALWAYS + """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460,nop,nop,sackOK,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 1000
+0   accept
+0   tcp snd_wnd == 1000
+0   tcp mss_cache == 500
""",
    "data with the ACK is there": ALWAYS + """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460>
+0   > S. 0:0(0) ack 1
+.1  < P. 1:101(100) ack 1 win 65535
+0   > . 1:1(0) ack 101
+0   accept
+0   read 100
""",
    "an ACK of something else is answered with RST": ALWAYS + """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 2 win 65535
+0   > R 2:2(0)
+0   count TcpExtSyncookiesFailed 1
""",
    "the SYN is answered once: nobody remembers it": ALWAYS + """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460>
+0   > S. 0:0(0) ack 1
+5   silence
""",
    "without cookies a full queue drops": "sysctl net.ipv4.tcp_syncookies 0\n" + """
0    listen 0
+0   < S 0:0(0) win 65535 <mss 1460>
+.1  silence
+0   count TcpExtTCPReqQFullDrop 1
+0   count TcpExtListenDrops 1
""",
    "a full queue is answered with cookies": """
0    listen 0
+0   < S 0:0(0) win 65535 <mss 1460>
+0   > S. 0:0(0) ack 1
+0   count TcpExtTCPReqQFullDoCookies 1
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   state ESTABLISHED
""",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    run_script(SCRIPTS[name])


class Listener:
    """A listener, and headers that helpers are given."""

    def __init__(self, sysctl: str = ALWAYS) -> None:
        self.script = Script(sysctl + "0 listen")
        self.script.run()
        self.net: Any = self.script.net
        self.mem = self.net.kernel.mem
        self.sk = self.script.listener.struct_address
        self.iph, self.th = self.mem.alloc(60), self.mem.alloc(60)

    def call(self, name: str, *args: int) -> int:
        cpu = SimpleNamespace(now_ns=self.net.clock.now_ns)
        run: Any = SimpleNamespace(mem=self.mem, kernel=self.net.kernel, cpu=cpu)
        result = HELPERS[HELPER_IDS[name]](run, *args, *[0] * (5 - len(args)))
        return result - (1 << 64) if result >> 63 else result

    def segment(self, flags: int, seq: int, ack: int, options: bytes = b"") -> Tcphdr:
        """Write headers of the peer's."""
        segment = tcp_bytes(PEER, HOST, (PEER_PORT, HOST_PORT), seq, ack, flags, 1000, options)
        self.mem.write(self.th, segment)
        self.mem.write(self.iph, IpHdr(0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0, PEER, HOST).pack())
        return Tcphdr(segment)

    def generate(self, name: str = "bpf_tcp_gen_syncookie", size: int = 24) -> int:
        if "raw" in name:
            return self.call(name, self.iph, self.th, size)
        return self.call(name, self.sk, self.iph, 20, self.th, size)

    def check(self) -> int:
        return self.call("bpf_tcp_check_syncookie", self.sk, self.iph, 20, self.th, 20)


MSS_1400 = bytes((2, 4, 5, 120))


@pytest.mark.parametrize("name", ["bpf_tcp_gen_syncookie", "bpf_tcp_raw_gen_syncookie_ipv4"])
def test_programs_make_cookies_that_the_stack_takes(name: str) -> None:
    listener = Listener()
    listener.segment(SYN, 777, 0, MSS_1400)
    value = listener.generate(name)
    cookie, mss = value & 0xFFFF_FFFF, value >> 32
    assert mss == 1300
    listener.segment(ACK, 778, cookie + 1 & 0xFFFF_FFFF)
    if "raw" in name:
        assert listener.check() == -Errno.ENOENT
        assert listener.call("bpf_tcp_raw_check_syncookie_ipv4", listener.iph, listener.th) == 0
        return
    assert listener.check() == 0
    script = listener.script
    # the stack takes it: 777 is the SYN, and the host's number is the cookie
    script.peer_isn, script.isn = 777, cookie
    script._inject("S 0:0(0) win 1000")
    script._inject(". 1:1(0) ack 1 win 1000")
    assert listener.net.snmp["TcpExtSyncookiesRecv"] == 1


def test_a_cookie_gets_old() -> None:
    listener = Listener()
    listener.segment(SYN, 777, 0, MSS_1400)
    cookie = listener.generate() & 0xFFFF_FFFF
    listener.segment(ACK, 778, cookie + 1 & 0xFFFF_FFFF)
    raw = "bpf_tcp_raw_check_syncookie_ipv4"
    listener.script.sim.run(PERIOD_NS + 10)
    assert listener.call(raw, listener.iph, listener.th) == 0
    listener.script.sim.run(2 * PERIOD_NS + 10)
    assert listener.call(raw, listener.iph, listener.th) == -Errno.EACCES
    assert listener.check() == -Errno.ENOENT


def test_what_is_no_syn() -> None:
    listener = Listener()
    listener.segment(SYN | ACK, 777, 5, MSS_1400)
    assert listener.generate() == -Errno.EINVAL
    listener.segment(SYN, 777, 0, MSS_1400)
    assert listener.generate(size=20) == -Errno.EINVAL
    assert listener.generate("bpf_tcp_raw_gen_syncookie_ipv4", 20) == -Errno.EINVAL
    assert listener.check() == -Errno.ENOENT


def test_a_queue_with_room_needs_no_cookies() -> None:
    listener = Listener("")
    listener.segment(SYN, 777, 0, MSS_1400)
    assert listener.generate() == -Errno.ENOENT


def test_cookies_are_off() -> None:
    listener = Listener("sysctl net.ipv4.tcp_syncookies 0\n")
    listener.segment(SYN, 777, 0, MSS_1400)
    assert listener.generate() == -Errno.ENOENT
    assert listener.check() == -Errno.EINVAL
