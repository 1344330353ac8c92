"""Scripts that talk TCP to a simulated host segment by segment, in the manner of packetdrill.

A line is a time and what happens then. Times are seconds: ``0.1`` since the beginning, ``+0.1`` since the line before,
``*`` whenever it comes (within ten minutes). What follows is one of::

    < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,wscale 7>     the peer sends this segment
    > S. 0:0(0) ack 1 win 64240 <mss 1460>                               the host must send this one
    listen / accept / connect / write 1000 / read 500 / read eof / read EAGAIN / close / shutdown wr
    write 1 oob / read 1 oob / read 10 peek          with MSG_OOB, MSG_PEEK
    icmp 3 1                      an ICMP error about the last segment: type, code, MTU
    set TCP_NODELAY 1             an option of the socket (before or after it is connected)
    fill 2                        so many connections wait to be accepted
    state ESTABLISHED             the state of the socket
    error ECONNRESET              what its error is
    tcp snd_cwnd == 10            a member of the socket
    count TcpExtTCPTimeouts 1     how much a counter has risen
    sysctl net.ipv4.tcp_sack 0    before anything else
    silence                       nothing was sent since the line before

Numbers are relative: 0 is the SYN of either end. Flags are F S R P . U E W as packetdrill writes them; ``P`` is
compared. Of what the host sends ``win`` and options are compared when they are written; ``TS val`` of the host counts
milliseconds of its clock from the script's beginning, ``val *`` and ``ecr *`` are not compared. A segment of the host
must be expected: one that nobody expects fails the script.
"""

import re
from typing import Any

import ebpfsim
from ebpfsim.errnos import Errno
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from netstack.headers import EthHdr, IpHdr, icmp_bytes, ip_bytes, parse_ip
from netstack.inet_csk import clear_xmit_timers
from netstack.sockopt import IPPROTO_TCP, SOL_SOCKET, set_tcp_option
from netstack.tcp import TcpMsg, tcp_socket
from netstack.tcp_hdr import ACK, CWR, ECE, FIN, M32, PSH, RST, SYN, URG, Tcphdr, tcp_bytes
from netstack.tcp_ipv4 import connect_to
from netstack.tcp_states import TcpState

HOST, PEER = parse_ip("192.168.0.1"), parse_ip("192.0.2.1")
HOST_PORT, PEER_PORT = 8080, 35000
FLAGS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "U": URG, "E": ECE, "W": CWR, ".": ACK}
TOLERANCE_NS = 1_000_000
LATEST_NS = 600 * 10**9
SEGMENT = re.compile(r"([FSRP.UEW]+) (\d+):(\d+)\((\d+)\)(?: ack (\d+))?(?: win (\d+|\*))?(?: urg (\d+))?(?: <(.*)>)?$")
LINE = re.compile(r"(\*|\+?[\d.]+)\s+(.*)")
OPTIONS = {"TCP_NODELAY": 1, "TCP_MAXSEG": 2, "TCP_CORK": 3, "TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6}
OPTIONS |= {"TCP_SYNCNT": 7, "TCP_LINGER2": 8, "TCP_WINDOW_CLAMP": 10, "TCP_QUICKACK": 12, "TCP_USER_TIMEOUT": 18}
SOCKET_OPTIONS = {"SO_SNDBUF": 7, "SO_RCVBUF": 8, "SO_KEEPALIVE": 9, "SO_REUSEADDR": 2}
SO_LINGER, TCP_CONGESTION = 13, 13


class Failed(AssertionError):
    """A script that did not go as it is written."""


class Script:
    """One host, its peer, and a script between them."""

    def __init__(self, text: str) -> None:
        self.lines = [(number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1)]
        self.lines = [(number, line) for number, line in self.lines if line]
        sysctls: dict[str, int | str] = {}
        while self.lines and self.lines[0][1].startswith("sysctl "):
            _, name, value = self.lines.pop(0)[1].split(None, 2)
            sysctls[name] = int(value) if value.isdecimal() else value
        self.sim = ebpfsim.Simulation(seed=1)
        host = self.sim.host("h", sysctl=sysctls)
        other = self.sim.host("peer")
        self.net: Any = host.net
        nic = host.nic("eth0", ["192.168.0.1/16"])
        self.wire = other.nic("eth0")
        self.sim.link(nic, self.wire)
        self.net.add_route("192.0.2.0/24", dev="eth0")
        self.net.neigh.add(nic, PEER, self.wire.mac)
        self.mac = nic.mac
        self.cpu = self.net.cpus[0]
        self.sock: Any = None
        self.listener: Any = None
        self.isn: int | None = None
        self.peer_isn = 0
        self.port = HOST_PORT
        self.tsoffset = 0
        self.seen = 0
        self.now_ns = 0
        self.number, self.line = 0, ""

    def run(self) -> "Script":
        """Do what the lines say."""
        before = self.net.snmp.as_dict()
        self.before = before
        for number, line in self.lines:
            self.number, self.line = number, line
            found = LINE.fullmatch(line)
            if found is None:
                self.fail("has no time")
            self._do(found[1], found[2].strip())
        left = self._next()
        if left is not None:
            self.fail(f"is the last, and the host has sent {self.text(left)}")
        if self.sock is not None:
            clear_xmit_timers(self.sock)
        return self

    def fail(self, why: str) -> Any:
        """Stop with the line and what was sent."""
        sent = "\n".join(f"    {record.time_ns / 1e9:.6f} {self.text(record)}" for record in self._records())
        raise Failed(f"line {self.number}, '{self.line}': {why}\n  the host has sent\n{sent}")

    def _do(self, time: str, what: str) -> None:
        if time == "*":
            when = None
        else:
            when = int(float(time.removeprefix("+")) * 1e9 + 0.5) + (self.now_ns if time.startswith("+") else 0)
        if what.startswith("> "):
            self._expect(when, what[2:])
            return
        assert when is not None, self.line
        self.now_ns = when
        self.sim.run(when)
        if what == "silence" or what.startswith("< "):
            record = self._next()
            if record is not None and record.time_ns < when - TOLERANCE_NS:
                self.fail(f"but the host has sent {self.text(record)}")
        if what.startswith("< "):
            self._inject(what[2:])
        elif what != "silence":
            verb, *words = what.split()
            getattr(self, f"do_{verb}")(*words)
            self.net.softnet[0].settle()

    # segments

    def _records(self) -> list[Any]:
        return [
            record
            for record in self.sim.recorder.packets
            if (record.host, record.direction) == ("h", "out") and record.data[12:14] == b"\x08\x00"
        ]

    def _next(self) -> Any:
        records = self._records()
        return records[self.seen] if self.seen < len(records) else None

    def _expect(self, when: int | None, text: str) -> None:
        limit = LATEST_NS if when is None else when + TOLERANCE_NS
        while (record := self._next()) is None:
            if self.sim.now_ns >= limit or not self.sim.clock.step():
                break
        if record is None:
            self.fail("but nothing was sent")
        if when is not None and abs(record.time_ns - when) > TOLERANCE_NS:
            self.fail(f"but it was sent at {record.time_ns / 1e9:.6f}, {self.text(record)}")
        self.now_ns = record.time_ns if when is None else when
        self.seen += 1
        self._compare(record, text)

    def _compare(self, record: Any, text: str) -> None:
        found = SEGMENT.fullmatch(text)
        if found is None:
            self.fail("is no segment")
        ip, th = IpHdr.unpack(record.data, 14), Tcphdr(record.data[34:])
        size = len(record.data) - 34
        if csum_fold(csum_partial(record.data[34:]) + csum_tcpudp_nofold(ip.saddr, ip.daddr, size, IpProto.TCP)):
            self.fail("but its checksum is wrong")
        if self.isn is None and th.flags & SYN:
            self.isn = th.seq
        shown = self.text(record).split(" win ")[0]
        flags, start, end, length, ack, window, urgent, options = found.groups()
        wanted = f"{flags} {start}:{end}({length})" + (f" ack {ack}" if ack is not None else "")
        if shown != wanted:
            self.fail(f"but it was {self.text(record)}")
        if window not in (None, "*") and th.window != int(window):
            self.fail(f"but its window is {th.window}")
        if urgent is not None and th.urg_ptr != int(urgent):
            self.fail(f"but its urgent pointer is {th.urg_ptr}")
        if options is not None and not self._same_options(options, record, th):
            self.fail(f"but it was {self.text(record)}")

    def _same_options(self, wanted: str, record: Any, th: Tcphdr) -> bool:
        have = self._options(record, th)
        pattern = re.escape(wanted).replace(r"\*", r"\d+").replace(r"\ ", " ")
        return re.fullmatch(pattern.replace(",", ",").replace("\\,", ","), have) is not None

    def _seq(self, number: int) -> int:
        return number - (self.isn or 0) & M32

    def text(self, record: Any) -> str:
        """Return a segment of the host as scripts write it."""
        th = Tcphdr(record.data[34:])
        flags = "".join(name for name, bit in FLAGS.items() if th.flags & bit)
        relative = not (th.flags & RST and not th.flags & ACK and self.isn is None)
        seq = self._seq(th.seq) if relative and self.isn is not None else th.seq
        if th.flags & SYN and self.isn is None:
            seq = 0
        text = f"{flags} {seq}:{seq + len(th.data) & M32}({len(th.data)})"
        if th.flags & ACK:
            text += f" ack {th.ack_seq - self.peer_isn & M32}"
        options = self._options(record, th)
        return text + f" win {th.window}" + (f" <{options}>" if options else "")

    def _options(self, record: Any, th: Tcphdr) -> str:
        raw, at, words = record.data[54 : 34 + th.doff], 0, []
        while at < len(raw):
            kind = raw[at]
            if kind == 1:
                words.append("nop")
                at += 1
                continue
            size, body = raw[at + 1], raw[at + 2 : at + raw[at + 1]]
            if kind == 2:
                words.append(f"mss {int.from_bytes(body, 'big')}")
            elif kind == 3:
                words.append(f"wscale {body[0]}")
            elif kind == 4:
                words.append("sackOK")
            elif kind == 8:
                val, ecr = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:], "big")
                words.append(f"TS val {val - self._tsoffset() & M32} ecr {ecr}")
            elif kind == 5:
                edges = [int.from_bytes(body[i : i + 4], "big") - self.peer_isn & M32 for i in range(0, len(body), 4)]
                pairs = zip(edges[::2], edges[1::2], strict=True)
                words.append("sack " + " ".join(f"{low}:{high}" for low, high in pairs))
            at += size
        return ",".join(words)

    def _tsoffset(self) -> int:
        ends = (HOST, self.port, PEER, PEER_PORT)
        offset: int = self.net.tcp.secure_seq_and_ts_off(ends, 0)[1]
        return offset

    def _inject(self, text: str) -> None:
        found = SEGMENT.fullmatch(text)
        if found is None:
            self.fail("is no segment")
        flags, start, _, length, ack, window, urgent, options = found.groups()
        bits = sum(FLAGS[each] for each in flags)
        ack_seq = (int(ack) + (self.isn or 0)) & M32 if ack is not None else 0
        seq, data = self.peer_isn + int(start) & M32, bytes(int(length))
        ports = (PEER_PORT, self.port)
        packed = self._pack(options or "")
        segment = tcp_bytes(PEER, HOST, ports, seq, ack_seq, bits, int(window or 0), packed, data, int(urgent or 0))
        packet = ip_bytes(IpHdr(0x45, self.ecn, 0, 0, 0x4000, 64, IpProto.TCP, 0, PEER, HOST), segment)
        self.wire.inject(EthHdr(self.mac, self.wire.mac, 0x0800).pack() + packet)
        # the interrupt and what it does take some microseconds
        self.sim.run(max(self.now_ns, self.sim.now_ns) + 50_000)

    ecn = 0

    def _pack(self, text: str) -> bytes:
        out = b""
        for word in text.split(",") if text else ():
            name, *rest = word.split()
            if name == "mss":
                out += bytes((2, 4)) + int(rest[0]).to_bytes(2, "big")
            elif name == "wscale":
                out += bytes((3, 3, int(rest[0])))
            elif name == "sackOK":
                out += bytes((4, 2))
            elif name == "nop":
                out += b"\1"
            elif name == "TS":
                ecr = (int(rest[3]) + self._tsoffset()) & M32 if int(rest[3]) else 0
                out += bytes((8, 10)) + int(rest[1]).to_bytes(4, "big") + ecr.to_bytes(4, "big")
            elif name == "sack":
                out += bytes((5, 2 + 8 * len(rest)))
                for pair in rest:
                    for edge in pair.split(":"):
                        out += ((int(edge) + (self.isn or 0)) & M32).to_bytes(4, "big")
        return out + b"\1" * (-len(out) % 4)

    # calls

    def do_listen(self, backlog: str = "10") -> None:
        self.listener = self.sock or tcp_socket(self.net, self.cpu)
        self.sock = None
        self.net.tcp.get_port(self.listener, 0, HOST_PORT)
        self.listener.max_ack_backlog = int(backlog)
        self.net.functions.inet_csk_listen_start(self.cpu, self.listener)

    def do_fill(self, number: str) -> None:
        # others have connected, whom nobody accepts
        self.listener.accept_queue.extend([self.listener] * int(number))

    def do_accept(self) -> None:
        found = self.net.functions.inet_csk_accept(self.cpu, self.listener, TcpMsg())
        if found is None:
            self.fail("returned nothing")
        self.sock = found

    def do_socket(self) -> None:
        self.sock = tcp_socket(self.net, self.cpu)

    def do_connect(self) -> None:
        self.sock = self.sock or tcp_socket(self.net, self.cpu)
        self.net.tcp.get_port(self.sock, HOST, HOST_PORT)
        self.sock.port_locked = True
        err = connect_to(self.cpu, self.sock, PEER, PEER_PORT)
        if err:
            self.fail(f"returned {err}")

    def do_write(self, size: str, result: str = "") -> None:
        data = bytes(int(size))
        message = TcpMsg(data)
        message.flags, result = (1, size) if result == "oob" else (0, result)
        got = self.net.functions.tcp_sendmsg(self.cpu, self.sock, message, len(data))
        self._result(got, result or size)

    def do_read(self, result: str, how: str = "") -> None:
        size = int(result) if result.isdecimal() else 1 << 20
        flags = {"": 0, "oob": 1, "peek": 2}[how]
        got = self.net.functions.tcp_recvmsg(self.cpu, self.sock, TcpMsg(), size, flags)
        self._result(got, "0" if result == "eof" else result)

    def _result(self, got: int, wanted: str) -> None:
        number = int(wanted) if wanted.lstrip("-").isdecimal() else -Errno[wanted]
        if got != number:
            self.fail(f"returned {got}")

    def do_close(self) -> None:
        self.net.functions.tcp_close(self.cpu, self.sock, 0)

    def do_shutdown(self, how: str) -> None:
        self.sock.sk_shutdown |= {"rd": 1, "wr": 2, "rdwr": 3}[how]
        self.net.functions.tcp_shutdown(self.cpu, self.sock, {"rd": 1, "wr": 2, "rdwr": 3}[how])

    def do_set(self, name: str, value: str) -> None:
        sock = self.sock if self.sock is not None else self.listener
        if name == "SO_LINGER":
            data = (1).to_bytes(4, "little") + int(value).to_bytes(4, "little")
            result = set_tcp_option(self.cpu, sock, SOL_SOCKET, SO_LINGER, data)
        elif name == "TCP_CONGESTION":
            result = set_tcp_option(self.cpu, sock, IPPROTO_TCP, TCP_CONGESTION, value.encode())
        else:
            level = SOL_SOCKET if name in SOCKET_OPTIONS else IPPROTO_TCP
            number = SOCKET_OPTIONS.get(name) or OPTIONS[name]
            result = set_tcp_option(self.cpu, sock, level, number, int(value).to_bytes(4, "little", signed=True))
        if result:
            self.fail(f"returned {result}")

    def do_icmp(self, type_: str, code: str, mtu: str = "0") -> None:
        # a router complains of the last segment that the host has sent
        quoted = self._records()[-1].data[14 : 14 + 28]
        message = icmp_bytes(int(type_), int(code), int(mtu), quoted)
        packet = ip_bytes(IpHdr(0x45, 0, 0, 0, 0, 64, IpProto.ICMP, 0, PEER, HOST), message)
        self.wire.inject(EthHdr(self.mac, self.wire.mac, 0x0800).pack() + packet)
        self.sim.run(max(self.now_ns, self.sim.now_ns) + 50_000)

    def do_ecn(self, bits: str) -> None:
        self.ecn = int(bits)

    def do_isn(self, number: str) -> None:
        # another connection: the peer begins with that number, the host with one of its own
        self.peer_isn, self.isn = int(number), None

    def do_state(self, name: str) -> None:
        sock = self.sock if self.sock is not None else self.listener
        if sock.state != TcpState[name]:
            self.fail(f"but it is {sock.state.name}")

    def do_gone(self) -> None:
        left = list(self.net.tcp.established.values())
        if left:
            self.fail(f"but there is {left}")

    def do_timewait(self) -> None:
        states = [each.state.name for each in self.net.tcp.established.values()]
        if states != ["TIME_WAIT"]:
            self.fail(f"but there is {states}")

    def do_error(self, name: str) -> None:
        if self.sock.sk_err != Errno[name]:
            self.fail(f"but it is {self.sock.sk_err}")

    def do_tcp(self, name: str, operator: str, value: str) -> None:
        have, wanted = int(getattr(self.sock, name)), int(value)
        good = {"==": have == wanted, "<=": have <= wanted, ">=": have >= wanted, "!=": have != wanted}[operator]
        if not good:
            self.fail(f"but it is {have}")

    def do_count(self, name: str, value: str) -> None:
        risen = self.net.snmp[name] - self.before[name]
        if risen != int(value):
            self.fail(f"but it is {risen}")


def run_script(text: str) -> Script:
    """Run a script; Failed when it does not go as it is written."""
    return Script(text).run()
