"""TCP over IPv6 (net/ipv6/tcp_ipv6.c, v6.18; RFC 8200, 8.1 for the checksum, 8.3 for the MSS)."""

from typing import Any

import pytest

import ebpfsim
from ebpfsim.btf.view import place
from ebpfsim.errnos import Errno
from netstack.checksum import csum_fold, csum_partial
from netstack.headers6 import icmp6_bytes, ip6_bytes, parse_ip6
from netstack.tcp import TcpMsg, tcp_socket
from netstack.tcp_flow import BulkFlow, TcpServer
from netstack.tcp_hdr import ACK, PSH, RST, SYN, OptionsReceived, Tcphdr, tcp_bytes
from netstack.tcp_ipv4 import connect_to
from netstack.tcp_sock import AF_INET6
from netstack.tcp_states import TcpState

ONE, TWO = parse_ip6("2001:db8::1"), parse_ip6("2001:db8::2")


class Pair:
    def __init__(self, **shape: Any) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.a, self.b = self.sim.host("a"), self.sim.host("b")
        self.nic, self.other = self.a.nic("eth0", "2001:db8::1/64"), self.b.nic("eth0", "2001:db8::2/64")
        self.sim.link(self.nic, self.other, **shape)
        self.net: Any = self.a.net
        self.cpu = self.net.cpus[0]

    def segments(self, host: str) -> list[Tcphdr]:
        """Return what a host has sent; checksums must be right."""
        found = []
        for record in self.sim.recorder.packets:
            if (record.host, record.direction) == (host, "out") and record.data[12:14] == b"\x86\xdd":
                data = record.data
                if data[20] != 6:
                    continue
                segment = data[54:]
                assert csum_fold(csum_partial(segment) + csum_partial(data[22:54]) + len(segment) + 6) == 0
                found.append(Tcphdr(segment))
        return found


def test_a_flow() -> None:
    pair = Pair(rate="1Gbit", delay="1ms")
    flow = BulkFlow(pair.net, pair.b.net, TWO, 5001, 300_000)
    pair.sim.run("2s")
    assert (flow.ended, flow.good, flow.error) == (True, True, 0)
    sent = pair.segments("a")
    # 1,500 bytes less 40 and 20, and 12 of the timestamp
    assert OptionsReceived(sent[0]).mss_clamp == 1440
    assert max(len(th.data) for th in sent) == 1428
    # segments went up together
    assert pair.b.net.snmp["TcpInSegs"] < len(sent) / 2


def test_losses_are_repaired() -> None:
    pair = Pair(rate="100Mbit", delay="1ms", loss=0.02)
    flow = BulkFlow(pair.net, pair.b.net, TWO, 5001, 300_000)
    pair.sim.run("20s")
    assert (flow.ended, flow.good) == (True, True)
    assert flow.retransmits > 0


def test_nobody_listens() -> None:
    pair = Pair()
    tp = tcp_socket(pair.net, pair.cpu, AF_INET6)
    assert connect_to(pair.cpu, tp, TWO, 9) == 0
    pair.sim.run("1s")
    assert (tp.state, tp.sk_err) == (TcpState.CLOSE, Errno.ECONNREFUSED)
    assert [th.flags for th in pair.segments("b")] == [RST | ACK]


def test_no_route() -> None:
    pair = Pair()
    tp = tcp_socket(pair.net, pair.cpu, AF_INET6)
    assert connect_to(pair.cpu, tp, parse_ip6("2001:db9::1"), 9) == -Errno.ENETUNREACH


def test_loopback() -> None:
    pair = Pair()
    got: list[bytes] = []

    def serve(child: Any, cpu: Any) -> None:
        def read(cpu: Any) -> None:
            message = TcpMsg()
            pair.net.functions.tcp_recvmsg(cpu, child, message, 100, 0)
            got.extend(message.received)

        child.data_ready = read

    TcpServer(pair.net, 80, serve, family=AF_INET6)
    tp = tcp_socket(pair.net, pair.cpu, AF_INET6)
    softnet = pair.net.softnet[0]
    # the unspecified address is oneself
    softnet.run_timer(lambda: connect_to(pair.cpu, tp, 0, 80))
    pair.sim.run("10ms")
    assert tp.peer == (1, 80)
    softnet.run_timer(lambda: pair.net.functions.tcp_sendmsg(pair.cpu, tp, TcpMsg(b"hello"), 5))
    pair.sim.run("20ms")
    assert got == [b"hello"]


def test_families_have_ports_of_their_own() -> None:
    pair = Pair()
    TcpServer(pair.net, 80, lambda _child, _cpu: None)
    TcpServer(pair.net, 80, lambda _child, _cpu: None, family=AF_INET6)
    assert [pair.net.tcp.lookup_listener(0, 80, family).family for family in (2, 10)] == [2, 10]


def test_the_structure_has_both_addresses() -> None:
    pair = Pair()
    flow = BulkFlow(pair.net, pair.b.net, TWO, 5001)
    pair.sim.run("10ms")
    tp: Any = flow.sender
    mem, base = pair.net.kernel.mem, tp.struct_address
    common = {name: base + place("sock_common", name)[0] for name in ("skc_family", "skc_v6_daddr", "skc_v6_rcv_saddr")}
    assert mem.load(common["skc_family"], 2) == 10
    assert int.from_bytes(mem.read(common["skc_v6_daddr"], 16), "big") == TWO
    assert int.from_bytes(mem.read(common["skc_v6_rcv_saddr"], 16), "big") == ONE


def open_flow(pair: Pair) -> Any:
    """Return a connection of a to a peer that is made of segments, with 2,000 bytes in flight."""
    tp = tcp_socket(pair.net, pair.cpu, AF_INET6)
    connect_to(pair.cpu, tp, TWO, 80)
    pair.sim.run("10ms")
    ports = 80, tp.port
    isn = tp.snd_una
    inject(pair, tcp_bytes(TWO, ONE, ports, 1000, isn + 1, SYN | ACK, 65535, bytes((2, 4, 5, 160))))
    pair.net.functions.tcp_sendmsg(pair.cpu, tp, TcpMsg(bytes(2000)), 2000)
    pair.sim.run("30ms")
    return tp


def inject(pair: Pair, payload: bytes, protocol: int = 6) -> None:
    packet = ip6_bytes(TWO, ONE, protocol, 64, payload)
    pair.other.inject(pair.nic.mac + pair.other.mac + b"\x86\xdd" + packet)
    pair.sim.run(pair.sim.now_ns + 10_000_000)


@pytest.fixture
def silent() -> Pair:
    """Return hosts whose second one does not answer segments."""
    pair = Pair()
    pair.b.net.protocols6[6] = lambda skb, cpu: skb.consume(cpu)
    return pair


def test_a_path_that_takes_less_is_learned(silent: Pair) -> None:
    tp = open_flow(silent)
    first = next(record for record in silent.sim.recorder.packets if len(record.data) > 1000)
    quoted = first.data[14 : 14 + 200]
    inject(silent, icmp6_bytes(TWO, ONE, 2, 0, 1300, quoted), 58)
    # RFC 8201: the MTU less 60 bytes; what was too long is sent again in pieces
    assert tp.mss_cache == 1240
    again = silent.segments("a")[-2:]
    assert [len(th.data) for th in again] == [1240, 760]
    assert again[-1].flags & PSH


def test_an_unreachable_host_ends_connecting(silent: Pair) -> None:
    tp = tcp_socket(silent.net, silent.cpu, AF_INET6)
    connect_to(silent.cpu, tp, TWO, 80)
    silent.sim.run("10ms")
    quoted = next(record.data for record in silent.sim.recorder.packets if record.data[20] == 6)[14:]
    inject(silent, icmp6_bytes(TWO, ONE, 1, 3, 0, quoted), 58)
    assert (tp.state, tp.sk_err) == (TcpState.CLOSE, Errno.EHOSTUNREACH)
