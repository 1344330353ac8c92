"""Programs of sock_ops: which events are told when, with which arguments, and what replies do (v6.18)."""

import struct
from typing import Any

import pytest

import ebpfsim
from ebpfsim.helpers.time import TICK_NS
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from netstack.headers import parse_ip
from netstack.tcp_flow import BulkFlow
from netstack.tcp_states import TcpState as S

(TIMEOUT_INIT, RWND_INIT, CONNECT, ACTIVE, PASSIVE, NEEDS_ECN, BASE_RTT, RTO, RETRANS, STATE, LISTEN, RTT) = range(
    1, 13
)
EVENT = struct.Struct("<7I4x")
# op, args[0..2], is_fullsock, local_port, snd_cwnd go to a ring buffer; then come the events that were asked for
PROGRAM = """
    r6 = r1
    r2 = *(u32 *)(r6 + 0); *(u32 *)(r10 - 32) = r2
    r2 = *(u32 *)(r6 + 4); *(u32 *)(r10 - 28) = r2
    r2 = *(u32 *)(r6 + 8); *(u32 *)(r10 - 24) = r2
    r2 = *(u32 *)(r6 + 12); *(u32 *)(r10 - 20) = r2
    r2 = *(u32 *)(r6 + 72); *(u32 *)(r10 - 16) = r2
    r2 = *(u32 *)(r6 + 68); *(u32 *)(r10 - 12) = r2
    r2 = *(u32 *)(r6 + 76); *(u32 *)(r10 - 8) = r2
    *(u32 *)(r10 - 4) = 0
    r1 = map_fd[{ring}] ll; r2 = r10; r2 += -32; r3 = 32; r4 = 0; call bpf_ringbuf_output
    r7 = *(u32 *)(r6 + 0)
    r8 = -1
    {reply}
    *(u32 *)(r6 + 4) = r8
    if r7 != 4 goto not_active
    r1 = r6; r2 = {flags}; call bpf_sock_ops_cb_flags_set
not_active:
    r0 = 1
    exit
"""


class Lab:
    """A flow between two hosts, the program on one of them."""

    def __init__(self, *, at: str = "a", flags: int = 0, reply: str = "", **shape: Any) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.a, self.b = self.sim.host("a"), self.sim.host("b")
        self.sim.link(self.a.nic("eth0", "10.0.0.1/24"), self.b.nic("eth0", "10.0.0.2/24"), **shape)
        self.host = self.a if at == "a" else self.b
        self.ring = self.host.bpf.map_create(MapType.RINGBUF, 0, 0, 1 << 18)
        code = encode(assemble(PROGRAM.format(ring=self.ring, flags=flags, reply=reply)))
        fd = self.host.bpf.prog_load(
            ProgType.SOCK_OPS, code, expected_attach_type=AttachType.CGROUP_SOCK_OPS, license="GPL"
        ).fd
        self.host.attach_cgroup(fd, "/")

    def run(self, size: int = 20_000, until: str = "5s") -> list[tuple[int, ...]]:
        flow = BulkFlow(self.a.net, self.b.net, parse_ip("10.0.0.2"), 5001, size)
        self.sim.run(until)
        assert flow.received == size
        ring = self.host.kernel.fds.lookup(self.ring)
        return [EVENT.unpack(each) for each in ring.consume()]


SHAPE: dict[str, Any] = {"rate": "10Mbit", "delay": "5ms"}


def test_the_active_side() -> None:
    events = Lab(**SHAPE).run()
    assert [(op, full) for op, _, _, _, full, *_ in events] == [
        (CONNECT, 1), (RWND_INIT, 1), (TIMEOUT_INIT, 1), (NEEDS_ECN, 1), (ACTIVE, 1),
    ]  # fmt: skip
    assert {event[5] for event in events} == {events[0][5]}
    assert events[-1][6] == 10


def test_the_passive_side() -> None:
    events = Lab(at="b", **SHAPE).run()
    assert [(op, full) for op, _, _, _, full, *_ in events] == [
        (LISTEN, 1), (RWND_INIT, 0), (TIMEOUT_INIT, 0), (PASSIVE, 1),
    ]  # fmt: skip


def test_states_are_told_before_they_change() -> None:
    events = [event for event in Lab(flags=4, **SHAPE).run() if event[0] == STATE]
    assert [(old, new) for _, old, new, *_ in events] == [
        (S.ESTABLISHED, S.FIN_WAIT1), (S.FIN_WAIT1, S.FIN_WAIT2), (S.FIN_WAIT2, S.CLOSE),
    ]  # fmt: skip


def test_round_trips() -> None:
    events = [event for event in Lab(flags=8, **SHAPE).run() if event[0] == RTT]
    assert events
    assert all(10_000 <= rtt <= 30_000 for _, rtt, *_ in events)
    # the smoothed one, eight times as much
    assert all(80_000 <= srtt <= 240_000 for _, _, srtt, *_ in events)


def test_retransmissions_and_timeouts() -> None:
    events = Lab(flags=3, loss=0.3, **SHAPE).run(until="100s")
    assert {(event[2], event[3]) for event in events if event[0] == RETRANS} == {(1, 0)}
    timeouts = [event for event in events if event[0] == RTO]
    # retransmits so far, timeout in ticks, no end
    assert timeouts
    assert all(event[3] == 0 for event in timeouts)


def test_a_first_window_of_a_program() -> None:
    lab = Lab(reply="if r7 != 2 goto no\nr8 = 4\nno:", **SHAPE)
    flow = BulkFlow(lab.a.net, lab.b.net, parse_ip("10.0.0.2"), 5001, 10)
    lab.sim.run("5ms")
    assert flow.sender is not None
    assert flow.sender.rcv_wnd == 4 * 1460


@pytest.mark.parametrize("ticks", [50, 500])
def test_a_first_timeout_of_a_program(ticks: int) -> None:
    lab = Lab(reply=f"if r7 != 1 goto no\nr8 = {ticks}\nno:", **SHAPE)
    sent: list[int] = []
    lab.b.net.functions.__dict__["tcp_v4_rcv"] = lambda cpu, skb: sent.append(cpu.now_ns) or 0
    BulkFlow(lab.a.net, lab.b.net, parse_ip("10.0.0.2"), 5001, 10)
    lab.sim.run("3s")
    assert sent[1] == pytest.approx(ticks * TICK_NS + 5_000_000, abs=1_000_000)
