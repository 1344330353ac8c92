"""Requests and responses over TCP: clients of one host that ask a server of another, one request after the other.

A request says in its first 8 bytes how long it is and how long the answer shall be; a client waits for the whole
answer, thinks, and asks again, perhaps by a new connection. All sizes and times are drawn from the simulation's seed.
"""

from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError, KernelError
from ebpfsim.rng import Stream
from netstack.distribution import Distribution
from netstack.neigh import AF_INET, AF_INET6
from netstack.sockopt import IPPROTO_TCP, TCP_CONGESTION, set_tcp_option
from netstack.tcp import TcpMsg, tcp_socket
from netstack.tcp_flow import TcpServer
from netstack.tcp_ipv4 import connect_to
from netstack.tcp_sock import TcpSock
from netstack.tcp_states import TcpState
from netstack.udp_flow import shown

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["RequestFlow"]

_HEAD = Struct("!II")
MAX_BYTES = 1 << 30
CHUNK = 65536
_ZEROES = bytes(CHUNK)


class _Stream:
    # one end of a connection: what is yet to be sent, and what has come
    def __init__(self, net: "Net", tp: TcpSock) -> None:
        self.net, self.tp = net, tp
        self.head, self.left = b"", 0

    def send(self, cpu: Cpu, head: bytes, size: int) -> None:
        self.head, self.left = head, size
        self.push(cpu)

    def push(self, cpu: Cpu) -> None:
        if self.tp.state not in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT):
            return
        while self.left:
            # in one go: what is sent in two is delayed by Nagle's algorithm
            data = self.head + _ZEROES[: min(CHUNK, self.left) - len(self.head)]
            taken = self.net.functions.tcp_sendmsg(cpu, self.tp, TcpMsg(data), len(data))
            if taken <= 0:
                return
            self.head = self.head[taken:]
            self.left -= taken

    def read(self, cpu: Cpu) -> bytes:
        msg = TcpMsg()
        self.net.functions.tcp_recvmsg(cpu, self.tp, msg, MAX_BYTES, 0)
        return b"".join(msg.received)

    def close(self, cpu: Cpu) -> None:
        if not self.tp.dead:
            self.net.functions.tcp_close(cpu, self.tp, 0)


class RequestFlow:
    """``count`` requests of ``clients`` that take turns on their own connections, to a port of another host.

    ``request`` and ``response`` are sizes in bytes, ``think`` the time between an answer and the next request;
    ``per_connection`` requests go by one connection (None: all). ``responses`` counts complete answers, ``received``
    their bytes, ``latencies_ns`` has for each how long it took from the request on, a new connection included;
    ``failed`` counts connections that broke.
    """

    def __init__(
        self,
        source: "Net",
        target: "Net",
        address: int,
        port: int,
        *,
        request: Distribution,
        response: Distribution,
        think: Distribution,
        count: int,
        clients: int = 1,
        per_connection: int | None = None,
        congestion: str = "",
        start_ns: int = 0,
        name: str = "",
    ) -> None:
        for what, size in (("request", request), ("response", response)):
            if (size.highest or 0) > MAX_BYTES:
                raise InputError("", f"a {what} has at most {MAX_BYTES} bytes")
        self.source, self.target, self.address, self.port = source, target, address, port
        self.request, self.response, self.think = request, response, think
        self.count, self.per_connection, self.congestion = count, per_connection, congestion
        self.random: Stream = source.rng.stream(f"flow {name or shown(address)}:{port}")
        self.sent = self.responses = self.received = self.failed = self.connections = self.retransmits = 0
        self.latencies_ns: list[int] = []
        self.started_ns = self.done_ns = -1
        # an address of more than 32 bits is one of IPv6
        self.family = AF_INET6 if address >> 32 else AF_INET
        self.server = TcpServer(target, port, self._serve, family=self.family)
        at_ns = max(start_ns, source.clock.now_ns)
        for _ in range(min(clients, count)):
            client = _Client(self)
            source.clock.call_at(at_ns, client.begin)

    def __repr__(self) -> str:
        return f"<RequestFlow {self.source.name} > {shown(self.address)}:{self.port} {self.responses}/{self.count}>"

    @property
    def ended(self) -> bool:
        """Whether all answers have come."""
        return self.responses == self.count

    def _serve(self, child: TcpSock, cpu: Cpu) -> None:
        service = _Service(self.target, child)
        child.data_ready = child.state_change = service.read
        child.write_space = service.stream.push
        service.read(cpu)


class _Service:
    # the server's end of a connection
    def __init__(self, net: "Net", tp: TcpSock) -> None:
        self.stream = _Stream(net, tp)
        self._head = b""
        self._missing = self._answer = 0

    def read(self, cpu: Cpu) -> None:
        data = self.stream.read(cpu)
        while data:
            if not self._missing:
                wanted = _HEAD.size - len(self._head)
                self._head, data = self._head + data[:wanted], data[wanted:]
                if len(self._head) < _HEAD.size:
                    break
                size, self._answer = _HEAD.unpack(self._head)
                self._head, self._missing = b"", size - _HEAD.size
            taken = min(self._missing, len(data))
            self._missing, data = self._missing - taken, data[taken:]
            if not self._missing:
                self.stream.send(cpu, b"", self._answer)
        if self.stream.tp.done:
            self.stream.close(cpu)


class _Client:
    # one who asks, by one connection after the other
    def __init__(self, flow: RequestFlow) -> None:
        self.flow = flow
        self.stream: _Stream | None = None
        self._asked = 0
        self._missing = 0
        self._since_ns = 0
        self._waits = False

    def begin(self) -> None:
        """Ask the next thing, if there is one."""
        self.flow.source.softnet[0].run_timer(self._next)

    def _next(self) -> None:
        flow, net = self.flow, self.flow.source
        cpu = net.cpus[0]
        if flow.sent >= flow.count:
            if self.stream is not None:
                self._leave(cpu)
            return
        flow.sent += 1
        if flow.started_ns < 0:
            flow.started_ns = net.clock.now_ns
        self._since_ns, self._waits = cpu.now_ns, True
        if self.stream is None:
            self._connect(cpu)
        else:
            self._ask(cpu)
        net.softnet[cpu.number].settle()

    def _connect(self, cpu: Cpu) -> None:
        flow, net = self.flow, self.flow.source
        tp = tcp_socket(net, cpu, flow.family)
        if flow.congestion:
            err = set_tcp_option(cpu, tp, IPPROTO_TCP, TCP_CONGESTION, flow.congestion.encode())
            if err:
                raise KernelError("setsockopt", -err, f"congestion control '{flow.congestion}' of {net.name}")
        self.stream = _Stream(net, tp)
        self._asked = 0
        tp.state_change, tp.write_space, tp.data_ready = self._changed, self._changed, self._read
        tp.error_report = self._broken
        flow.connections += 1
        if connect_to(cpu, tp, flow.address, flow.port):
            self._broken(cpu)

    def _changed(self, cpu: Cpu) -> None:
        stream = self.stream
        if stream is None:
            return
        if self._waits and not self._missing and not stream.left and stream.tp.state == TcpState.ESTABLISHED:
            self._ask(cpu)
        else:
            stream.push(cpu)
        if stream.tp.done:
            self._read(cpu)

    def _ask(self, cpu: Cpu) -> None:
        flow, stream = self.flow, self.stream
        assert stream is not None
        size = max(_HEAD.size, flow.request.draw(flow.random))
        self._missing = max(1, flow.response.draw(flow.random))
        self._asked += 1
        stream.send(cpu, _HEAD.pack(size, self._missing), size)

    def _read(self, cpu: Cpu) -> None:
        flow, stream = self.flow, self.stream
        if stream is None:
            return
        got = len(stream.read(cpu))
        flow.received += got
        if got and self._waits:
            self._missing -= got
            if self._missing <= 0:
                self._answered(cpu)
                return
        if stream.tp.done:
            # the other end has closed before it answered
            self._broken(cpu)

    def _answered(self, cpu: Cpu) -> None:
        flow = self.flow
        self._waits, self._missing = False, 0
        flow.responses += 1
        flow.latencies_ns.append(cpu.now_ns - self._since_ns)
        if flow.ended:
            flow.done_ns = cpu.now_ns
        if (flow.per_connection is not None and self._asked >= flow.per_connection) or flow.sent >= flow.count:
            self._leave(cpu)
        if flow.sent < flow.count:
            flow.source.clock.call_at(cpu.now_ns + flow.think.draw(flow.random), self.begin)

    def _broken(self, cpu: Cpu) -> None:
        flow = self.flow
        if self.stream is None:
            return
        self._leave(cpu)
        flow.failed += 1
        if self._waits:
            self._waits, self._missing = False, 0
            flow.source.clock.call_at(cpu.now_ns + max(1, flow.think.draw(flow.random)), self.begin)

    def _leave(self, cpu: Cpu) -> None:
        assert self.stream is not None
        self.flow.retransmits += self.stream.tp.total_retrans
        stream, self.stream = self.stream, None
        stream.close(cpu)
