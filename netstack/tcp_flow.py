"""Flows of TCP between hosts, made by applications that live outside of tasks: bulk data, requests with responses.

A sender fills its send buffer whenever there is room, a receiver reads whatever comes at once. Data is a pattern that
every place of the stream determines, so that whoever receives knows whether it is the right byte.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errors import KernelError
from netstack.headers import format_ip, format_ip6
from netstack.sockopt import IPPROTO_TCP, TCP_CONGESTION, set_tcp_option
from netstack.tcp import TcpMsg, tcp_socket
from netstack.tcp_ipv4 import connect_to
from netstack.tcp_sock import AF_INET, AF_INET6, TcpSock
from netstack.tcp_states import TcpState

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["BulkFlow", "TcpServer"]

CHUNK = 65536
_PATTERN = bytes(place * 131 + (place >> 8) * 17 & 0xFF for place in range(1 << 16)) * 2


def pattern(start: int, size: int) -> bytes:
    """Return bytes of the stream that every flow carries."""
    out, at = b"", start % (1 << 16)
    while len(out) < size:
        out += _PATTERN[at : at + min(size - len(out), 1 << 16)]
        at = 0 if len(out) < size and size > 1 << 16 else at
    return out


def _listen(cpu: Cpu, sock: TcpSock, backlog: int) -> int:
    return int(sock.net.functions.__inet_listen_sk(cpu, sock, backlog))


class TcpServer:
    """Listens at a port and gives every connection to ``serve``, which sets its callbacks."""

    def __init__(
        self,
        net: "Net",
        port: int,
        serve: Callable[[TcpSock, Cpu], object],
        *,
        backlog: int = 128,
        family: int = AF_INET,
    ) -> None:
        self.net, self.serve = net, serve
        cpu = net.cpus[0]
        self.sock = tcp_socket(net, cpu, family)
        self.sock.v6only = family == AF_INET6
        net.tcp.get_port(self.sock, 0, port)
        err = _listen(cpu, self.sock, backlog)
        if err:
            raise KernelError("listen", -err, f"port {port} of {net.name}")
        self.sock.data_ready = self._ready

    def _ready(self, cpu: Cpu) -> None:
        while self.sock.accept_queue:
            child = self.net.functions.inet_csk_accept(cpu, self.sock, TcpMsg())
            self.serve(child, cpu)

    def close(self) -> None:
        """Listen no more."""
        self.net.functions.tcp_close(self.net.cpus[0], self.sock, 0)


class BulkFlow:
    """``size`` bytes (None: without end) from one host to a port of another one.

    ``received`` counts what has arrived, ``good`` says that all of it was right; ``done_ns`` is when the last byte
    came. ``congestion`` names the algorithm.
    """

    def __init__(
        self,
        source: "Net",
        target: "Net",
        address: int,
        port: int,
        size: int | None = None,
        *,
        congestion: str = "",
        start_ns: int = 0,
    ) -> None:
        self.source, self.target, self.size = source, target, size
        self.address, self.port, self.congestion = address, port, congestion
        self.sent = self.received = 0
        self.good, self.closed = True, False
        self.started_ns = self.done_ns = -1
        self.error = 0
        self.sender: TcpSock | None = None
        self.receiver: TcpSock | None = None
        # an address of more than 32 bits is one of IPv6
        self.family = AF_INET6 if address >> 32 else AF_INET
        self.server = TcpServer(target, port, self._serve, family=self.family)
        source.clock.call_at(max(start_ns, source.clock.now_ns), lambda: source.softnet[0].run_timer(self._start))

    def __repr__(self) -> str:
        shown = format_ip(self.address) if self.family == AF_INET else f"[{format_ip6(self.address)}]"
        return f"<BulkFlow {self.source.name} > {shown}:{self.port} {self.received} bytes>"

    @property
    def retransmits(self) -> int:
        """How many segments were sent again."""
        return self.sender.total_retrans if self.sender is not None else 0

    @property
    def ended(self) -> bool:
        """Whether all has come and both ends have closed."""
        return self.size is not None and self.received == self.size and self.done_ns >= 0

    def _start(self) -> None:
        net = self.source
        cpu = net.cpus[0]
        tp = self.sender = tcp_socket(net, cpu, self.family)
        if self.congestion:
            err = set_tcp_option(cpu, tp, IPPROTO_TCP, TCP_CONGESTION, self.congestion.encode())
            if err:
                raise KernelError("setsockopt", -err, f"congestion control '{self.congestion}' of {net.name}")
        tp.state_change = tp.write_space = self._push
        tp.error_report = self._failed
        self.started_ns = net.clock.now_ns
        err = connect_to(cpu, tp, self.address, self.port)
        if err:
            self.error = -err
        net.softnet[cpu.number].settle()

    def _failed(self, _cpu: Cpu) -> None:
        assert self.sender is not None
        self.error = self.sender.sk_err

    def _push(self, cpu: Cpu) -> None:
        tp, size = self.sender, self.size
        assert tp is not None
        if tp.state not in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT) or self.closed:
            return
        functions = self.source.functions
        while size is None or self.sent < size:
            count = CHUNK if size is None else min(CHUNK, size - self.sent)
            taken = functions.tcp_sendmsg(cpu, tp, TcpMsg(pattern(self.sent, count)), count)
            if taken <= 0:
                return
            self.sent += taken
        self.closed = True
        functions.tcp_close(cpu, tp, 0)

    def _serve(self, child: TcpSock, cpu: Cpu) -> None:
        self.receiver = child
        child.data_ready = child.state_change = self._read
        self._read(cpu)

    def _read(self, cpu: Cpu) -> None:
        tp = self.receiver
        assert tp is not None
        msg = TcpMsg()
        got = self.target.functions.tcp_recvmsg(cpu, tp, msg, 1 << 30, 0)
        for part in msg.received:
            self.good = self.good and part == pattern(self.received, len(part))
            self.received += len(part)
        if got > 0 and self.received == self.size:
            self.done_ns = cpu.now_ns
        if tp.done and not tp.dead:
            self.target.functions.tcp_close(cpu, tp, 0)
