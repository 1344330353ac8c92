"""The TCP tools of Debian's libbpf-tools, unchanged, on a connection over IPv6, and one over IPv4 by a mapped address.

Server and client do what those of ``test_tcp_tools`` do, on sockets of AF_INET6. What the records hold is what the
tools' sources (iovisor/bcc, libbpf-tools) say: ``struct event`` of tcpconnect.h, tcplife.h and tcpstates.h.
"""

import os
from ipaddress import IPv6Address
from pathlib import Path
from struct import unpack_from
from typing import Any

import pytest

import ebpfsim

FOLDER = Path(os.environ.get("EBPFSIM_WILD", Path(__file__).parents[2] / "build" / "wild"))
ONE, TWO = IPv6Address("fd00::1").packed, IPv6Address("fd00::2").packed
MAPPED_ONE, MAPPED_TWO = (IPv6Address(f"::ffff:10.0.0.{host}").packed for host in (1, 2))
CLOSE, LISTEN, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK = 7, 10, 2, 3, 1, 4, 5, 8, 9
AF_INET6 = 10
CLIENT_PORT = 32768  # the first one of net.ipv4.ip_local_port_range

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no objects: make wild")


class Machines:
    """Two hosts; ``watch`` loads a tool on one of them, ``run`` lets the connection happen."""

    def __init__(self) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.a, self.b = self.sim.host("a"), self.sim.host("b")
        nics = (
            self.a.nic("eth0", ["10.0.0.1/24", "fd00::1/64"]),
            self.b.nic("eth0", ["10.0.0.2/24", "fd00::2/64"]),
        )
        self.sim.link(*nics, rate="1Gbit", delay="1ms")
        self.buffer: Any = None

    def watch(self, host: Any, tool: str) -> None:
        obj = host.open(str(FOLDER / f"libbpf-tools_{tool}.o"))
        obj.load()
        obj.attach()
        self.buffer = host.perf_buffer(obj.maps["events"])

    def run(self, target: str = "[fd00::2]:80") -> list[bytes]:
        server = [
            {"socket": ["inet6", "stream"], "as": "l"}, {"bind": ["$l", "[::]:80"]}, {"listen": ["$l", 5]},
            {"accept": ["$l", 0, 0], "as": "c"}, {"recv": ["$c", 100]}, {"send": ["$c", "hello back"]},
            {"recv": ["$c", 100]}, {"close": ["$c"]}, {"close": ["$l"]},
        ]  # fmt: skip
        client = [
            {"socket": ["inet6", "stream"], "as": "s"}, {"connect": ["$s", target]}, {"send": ["$s", "GET /"]},
            {"recv": ["$s", 100]}, {"sleep": "5ms"}, {"close": ["$s"]},
        ]  # fmt: skip
        self.srv = self.b.spawn("srv", steps=server)
        # after duplicate address detection
        self.cli = self.a.spawn("cli", at="3s", uid=1000, steps=client)
        self.sim.run("4s")
        assert [each.retval for each in self.cli.results[1:4]] == [0, 5, 10]
        return [sample.data for sample in self.buffer.consume()]


@pytest.fixture
def machines() -> Machines:
    return Machines()


def comm(data: bytes, at: int) -> str:
    return data[at : at + 16].partition(b"\0")[0].decode()


def test_tcpconnect(machines: Machines) -> None:
    machines.watch(machines.a, "tcpconnect")
    (record,) = machines.run()
    assert (record[:16], record[16:32], comm(record, 32)) == (ONE, TWO, "cli")
    assert unpack_from("<III", record, 56) == (AF_INET6, machines.cli.pid, 1000)
    assert int.from_bytes(record[70:72], "big") == 80


def test_tcpconnect_by_a_mapped_address(machines: Machines) -> None:
    # tcp_v6_connect() calls tcp_v4_connect(), and the tool has one entry per thread: what returns first is told
    machines.watch(machines.a, "tcpconnect")
    (record,) = machines.run("[::ffff:10.0.0.2]:80")
    assert (record[:4], record[16:20]) == (MAPPED_ONE[12:], MAPPED_TWO[12:])
    assert unpack_from("<III", record, 56) == (2, machines.cli.pid, 1000)


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize(
    ("target", "ends"), [("[fd00::2]:80", (ONE, TWO)), ("[::ffff:10.0.0.2]:80", (MAPPED_ONE, MAPPED_TWO))]
)
def test_tcplife(machines: Machines, side: str, target: str, ends: tuple[bytes, bytes]) -> None:
    machines.watch(getattr(machines, side), "tcplife")
    (record,) = machines.run(target)
    ts_us, span_us, rx_bytes, tx_bytes, pid, sport, dport, family = unpack_from("<QQQQIHHH", record, 32)
    own, other = ends if side == "a" else ends[::-1]
    assert (record[:16], record[16:32], family) == (own, other, AF_INET6)
    task = machines.cli if side == "a" else machines.srv
    assert (pid, comm(record, 74)) == (task.pid, task.name)
    assert (sport, dport) == ((CLIENT_PORT, 80) if side == "a" else (80, CLIENT_PORT))
    # SYN and FIN count where they came or were acknowledged before the end: the server's FIN came with its ACK
    assert (rx_bytes, tx_bytes) == ((10 + 1, 5 + 2) if side == "a" else (5 + 1, 10 + 1))
    assert 0 < span_us < ts_us


def test_tcpstates_of_who_closes_first(machines: Machines) -> None:
    machines.watch(machines.a, "tcpstates")
    steps = []
    for record in machines.run():
        _, _, _, old, new, family, _, dport = unpack_from("<QQIiiHHH", record, 40)
        assert (record[:16], record[16:32], family, dport) == (ONE, TWO, AF_INET6, 80)
        steps.append((old, new))
    assert steps == [
        (CLOSE, SYN_SENT), (SYN_SENT, ESTABLISHED), (ESTABLISHED, FIN_WAIT1), (FIN_WAIT1, FIN_WAIT2),
        (FIN_WAIT2, CLOSE),
    ]  # fmt: skip


def test_tcpstates_of_the_server(machines: Machines) -> None:
    machines.watch(machines.b, "tcpstates")
    steps = []
    for record in machines.run():
        (sock,) = unpack_from("<Q", record, 32)
        _, _, _, old, new, family, sport, dport = unpack_from("<QQIiiHHH", record, 40)
        assert (family, sport) == (AF_INET6, 80)
        steps.append((sock, old, new, dport, record[:16], record[16:32]))
    listener, child, none = steps[0][0], steps[1][0], bytes(16)
    # the child begins as its listener is: without an address and without another end
    assert steps == [
        (listener, CLOSE, LISTEN, 0, none, none), (child, LISTEN, SYN_RECV, 0, none, none),
        (child, SYN_RECV, ESTABLISHED, CLIENT_PORT, TWO, ONE), (child, ESTABLISHED, CLOSE_WAIT, CLIENT_PORT, TWO, ONE),
        (child, CLOSE_WAIT, LAST_ACK, CLIENT_PORT, TWO, ONE), (listener, LISTEN, CLOSE, 0, none, none),
        (child, LAST_ACK, CLOSE, CLIENT_PORT, TWO, ONE),
    ]  # fmt: skip
