"""The TCP tools of Debian's libbpf-tools, unchanged, on one connection between two hosts of which everything is known.

``srv`` on host b listens at 10.0.0.2:80, answers 5 bytes with 10 and closes when the other end has; ``cli`` on host a
(uid 1000) connects after 1 ms, writes, reads, sleeps 5 ms and closes. The wire takes 1 ms each way, so a round trip is
2 ms and some microseconds. What the records hold is what the tools' sources (iovisor/bcc, libbpf-tools) say.
"""

import os
from pathlib import Path
from struct import unpack_from
from typing import Any

import pytest

import ebpfsim
from ebpfsim.errors import VerifierError

FOLDER = Path(os.environ.get("EBPFSIM_WILD", Path(__file__).parents[2] / "build" / "wild"))
A, B = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
CLOSE, LISTEN, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK = 7, 10, 2, 3, 1, 4, 5, 8, 9
CLIENT_PORT = 32768  # the first one of net.ipv4.ip_local_port_range

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no objects: make wild")


class Machines:
    """Two hosts; ``watch`` loads a tool on one of them, ``run`` lets the connection happen."""

    def __init__(self) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.a, self.b = self.sim.host("a"), self.sim.host("b")
        nics = self.a.nic("eth0", "10.0.0.1/24"), self.b.nic("eth0", "10.0.0.2/24")
        self.sim.link(*nics, rate="1Gbit", delay="1ms")
        self.buffer: Any = None

    def watch(self, host: Any, tool: str, without: str = "") -> Any:
        obj = host.open(str(FOLDER / f"libbpf-tools_{tool}.o"))
        for program in obj.programs.values():
            unwanted = ("v6", without) if without else ("v6",)
            program.autoload = not any(word in program.section for word in unwanted)
        obj.load()
        obj.attach()
        if "events" in obj.maps:
            self.buffer = host.perf_buffer(obj.maps["events"])
        return obj

    def run(self) -> list[bytes]:
        server = [
            {"socket": ["inet", "stream"], "as": "l"}, {"bind": ["$l", "10.0.0.2:80"]}, {"listen": ["$l", 5]},
            {"accept": ["$l", 0, 0], "as": "c"}, {"recv": ["$c", 100]}, {"send": ["$c", "hello back"]},
            {"recv": ["$c", 100]}, {"close": ["$c"]}, {"close": ["$l"]},
        ]  # fmt: skip
        client = [
            {"socket": ["inet", "stream"], "as": "s"}, {"connect": ["$s", "10.0.0.2:80"]}, {"send": ["$s", "GET /"]},
            {"recv": ["$s", 100]}, {"sleep": "5ms"}, {"close": ["$s"]},
        ]  # fmt: skip
        self.srv = self.b.spawn("srv", steps=server)
        self.cli = self.a.spawn("cli", at="1ms", uid=1000, steps=client)
        self.sim.run("1s")
        assert [each.retval for each in self.cli.results[1:4]] == [0, 5, 10]
        return [sample.data for sample in self.buffer.consume()] if self.buffer is not None else []


@pytest.fixture
def machines() -> Machines:
    return Machines()


def comm(data: bytes, at: int) -> str:
    return data[at : at + 16].partition(b"\0")[0].decode()


def test_tcpconnect(machines: Machines) -> None:
    machines.watch(machines.a, "tcpconnect")
    (record,) = machines.run()
    assert (record[:4], record[16:20], comm(record, 32)) == (A, B, "cli")
    family, pid, uid = unpack_from("<III", record, 56)
    assert (family, pid, uid) == (2, machines.cli.pid, 1000)
    assert 80 in (int.from_bytes(record[68:70], "big"), int.from_bytes(record[70:72], "big"))


def test_tcpconnlat(machines: Machines) -> None:
    machines.watch(machines.a, "tcpconnlat", without="fentry")
    (record,) = machines.run()
    assert (record[:4], record[16:20], comm(record, 32)) == (A, B, "cli")
    delta_us, _, tgid, family = unpack_from("<QQIi", record, 48)
    assert (tgid, family) == (machines.cli.pid, 2)
    # the round trip, with ARP on both ways
    assert 4000 <= delta_us < 4100
    assert int.from_bytes(record[74:76], "big") == 80 or int.from_bytes(record[72:74], "big") == 80


@pytest.mark.parametrize("side", ["a", "b"])
def test_tcplife(machines: Machines, side: str) -> None:
    machines.watch(getattr(machines, side), "tcplife")
    (record,) = machines.run()
    ts_us, span_us, rx_bytes, tx_bytes, pid, sport, dport, family = unpack_from("<QQQQIHHH", record, 32)
    own, other = (A, B) if side == "a" else (B, A)
    assert (record[:4], record[16:20], family) == (own, other, 2)
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
        _, _, pid, old, new = unpack_from("<QQIii", record, 40)
        steps.append((old, new, pid in (machines.cli.pid, 0)))
    assert steps == [
        (CLOSE, SYN_SENT, True), (SYN_SENT, ESTABLISHED, True), (ESTABLISHED, FIN_WAIT1, True),
        (FIN_WAIT1, FIN_WAIT2, True), (FIN_WAIT2, CLOSE, True),
    ]  # fmt: skip


def test_tcpstates_of_the_server(machines: Machines) -> None:
    machines.watch(machines.b, "tcpstates")
    steps = []
    for record in machines.run():
        (sock,) = unpack_from("<Q", record, 32)
        _, _, _, old, new, family, sport, dport = unpack_from("<QQIiiHHH", record, 40)
        assert (family, sport) == (2, 80)
        steps.append((sock, old, new, dport))
    listener, child = steps[0][0], steps[1][0]
    # the child begins as its listener is: without another end (recorded on Linux 6.12)
    assert steps == [
        (listener, CLOSE, LISTEN, 0), (child, LISTEN, SYN_RECV, 0), (child, SYN_RECV, ESTABLISHED, CLIENT_PORT),
        (child, ESTABLISHED, CLOSE_WAIT, CLIENT_PORT), (child, CLOSE_WAIT, LAST_ACK, CLIENT_PORT),
        (listener, LISTEN, CLOSE, 0), (child, LAST_ACK, CLOSE, CLIENT_PORT),
    ]  # fmt: skip


@pytest.mark.parametrize("side", ["a", "b"])
def test_tcptracer(machines: Machines, side: str) -> None:
    machines.watch(getattr(machines, side), "tcptracer")
    found = []
    for record in machines.run():
        _, family, pid, uid, netns = unpack_from("<QIIII", record, 48)
        dport, sport = (int.from_bytes(record[at : at + 2], "big") for at in (72, 74))
        assert family == 2
        assert netns
        found.append((record[76], comm(record, 32), pid, uid, sport, dport))
    connect, accept, close = 0, 1, 2
    if side == "a":
        task, ports = machines.cli, (CLIENT_PORT, 80)
        assert found == [(connect, "cli", task.pid, 1000, *ports), (close, "cli", task.pid, 1000, *ports)]
    else:
        task, ports = machines.srv, (80, CLIENT_PORT)
        assert found == [(accept, "srv", task.pid, 0, *ports), (close, "srv", task.pid, 0, *ports)]


def test_tcprtt(machines: Machines) -> None:
    obj = machines.watch(machines.a, "tcprtt", without="fentry")
    machines.run()
    ((_, hist),) = obj.maps["hists"].items()
    # log2 of microseconds: 2,000 to 4,000 and some; the first sample had ARP in it
    assert sum(hist["slots"]) > 0
    assert not any(count for slot, count in enumerate(hist["slots"]) if slot not in (10, 11, 12))


def test_solisten(machines: Machines) -> None:
    machines.watch(machines.b, "solisten", without="fexit")
    (record,) = machines.run()
    pid, proto, backlog, ret, port = unpack_from("<IIiiH", record, 16)
    assert (record[:4], pid, backlog, ret, port) == (B, machines.srv.pid, 5, 0, 80)
    assert proto == 2 << 16 | 1  # AF_INET and SOCK_STREAM
    assert comm(record, 34) == "srv"


def test_tcptop(machines: Machines) -> None:
    obj = machines.watch(machines.a, "tcptop")
    machines.run()
    ((key, value),) = obj.maps["ip_map"].items()
    assert (key["name"], key["pid"], key["lport"], key["dport"]) == ("cli", machines.cli.pid, CLIENT_PORT, 80)
    assert value == {"sent": 5, "received": 10}


def test_tcpsynbl(machines: Machines) -> None:
    obj = machines.watch(machines.b, "tcpsynbl", without="fentry")
    machines.run()
    ((backlog, hist),) = obj.maps["hists"].items()
    # one connection, which found the queue of 5 empty
    assert (backlog, hist["slots"][0], sum(hist["slots"])) == (5, 1, 1)


def test_bindsnoop_does_not_load_on_this_kernel() -> None:
    # struct inet_sock has no member 'freebind' any more; Linux 6.18 says the same (loaded.json)
    host = ebpfsim.Simulation(seed=1).host("h")
    with pytest.raises(VerifierError, match=r"inet_sock\.freebind"):
        host.open(str(FOLDER / "libbpf-tools_bindsnoop.o")).load()
