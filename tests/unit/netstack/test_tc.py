"""tcx and tc on the paths of real packets: verdicts, order, redirects, what programs see and change.

Facts named are those of "tc" measured on Linux 6.18, and of act_bpf on 6.12.
"""

from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

OTHERS = (1, 3, 5, 6, 9, 100)


class Lab:
    """Two machines on a wire; programs are attached to ``b``, a socket there listens on port 53."""

    def __init__(self) -> None:
        self.sim = Simulation()
        self.a, self.b = self.sim.host("a"), self.sim.host("b")
        self.wire = self.sim.link(self.a.nic("eth0", "10.0.0.1/24"), self.b.nic("eth0", "10.0.0.2/24"), delay="1us")
        self.server = self.b.udp_socket("10.0.0.2", 53)
        self.client = self.a.udp_socket("10.0.0.1", 1000)
        self.out = self.b.udp_socket("10.0.0.2", 1001)
        self.sink = self.a.udp_socket("10.0.0.1", 54)
        self.send()
        self.send_out()
        self.server.received.clear()
        self.sink.received.clear()

    def load(self, code: str | int, kind: ProgType = ProgType.SCHED_CLS, host: Any = None) -> Any:
        text = f"r0 = {code}; exit" if isinstance(code, int) else code
        host = host or self.b
        return host.prog(host.bpf.prog_load(kind, encode(assemble(text))).fd)

    def send(self, data: bytes = b"x") -> int:
        """Let ``a`` send to the server; return how many datagrams came through."""
        before = len(self.server.received)
        self.client.sendto(data, "10.0.0.2", 53)
        self.sim.run()
        return len(self.server.received) - before

    def send_out(self, data: bytes = b"y") -> int:
        """Let ``b`` send to ``a``."""
        before = len(self.sink.received)
        self.out.sendto(data, "10.0.0.1", 54)
        self.sim.run()
        return len(self.sink.received) - before


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.mark.parametrize(("code", "through"), [(-1, 1), (0, 1), (2, 0), (7, 0), (4, 1), (100, 1)])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_tcx_verdicts(lab: Lab, direction: str, code: int, through: int) -> None:
    """Fact: tcx -1 next, 0 pass, 2 drop, 7 redirect (without a target: lost); others mean next."""
    link = lab.b.attach_tcx(lab.load(code), "eth0", direction)
    assert (lab.send if direction == "ingress" else lab.send_out)() == through
    names = {-1: "TCX_NEXT", 0: "TCX_PASS", 2: "TCX_DROP", 7: "TCX_REDIRECT"}
    assert link.verdicts == {names.get(code, "TCX_NEXT"): 1}


def test_tcx_passes_by_cls_bpf(lab: Lab) -> None:
    """Fact: -1 goes on into cls_bpf, 0 passes and skips cls_bpf."""
    dropping = lab.b.attach_tc(lab.load(2), "eth0")
    link = lab.b.attach_tcx(lab.load(-1), "eth0")
    assert lab.send() == 0
    link.update(lab.load(0))
    assert lab.send() == 1
    assert (dropping.runs, dropping.verdicts) == (1, {"TC_ACT_SHOT": 1})


def test_tcx_order(lab: Lab) -> None:
    runs = lab.sim.recorder.runs
    last = lab.b.attach_tcx(lab.load(-1), "eth0", label="last")
    lab.b.attach_tcx(lab.load(-1), "eth0", before=last, label="middle")
    lab.b.attach_tcx(lab.load(-1), "eth0", first=True, label="first")
    lab.send()
    assert [(run.hook, run.link) for run in runs] == [("tcx_ingress", name) for name in ("first", "middle", "last")]
    last.close()
    lab.send()
    assert [run.link for run in runs[3:]] == ["first", "middle"]


@pytest.mark.parametrize("code", [-1, 0, 2, 4, 7, 8, *OTHERS])
def test_direct_action_codes(lab: Lab, code: int) -> None:
    """Fact: only -1, 0, 2, 4, 7, 8 keep their meaning; other values mean "next filter"."""
    first = lab.b.tc_qdisc_add("eth0") and lab.b.tc_filter_add("eth0", "ingress", lab.load(code), pref=1)
    second = lab.b.tc_filter_add("eth0", "ingress", lab.load(0), pref=2)
    goes_on = code == -1 or code in OTHERS
    assert lab.send() == (code == 0 or goes_on)
    assert (first.runs, second.runs) == (1, int(goes_on))


@pytest.mark.parametrize("code", [0, 2])
def test_egress_filters_and_the_sender(lab: Lab, code: int) -> None:
    """A UDP socket without IP_RECVERR hears nothing of a drop (udp_send_skb); the counters do."""
    lab.b.attach_tc(lab.load(code), "eth0", "egress")
    assert lab.send_out() == (code == 0)
    assert lab.b.net.snmp["UdpSndbufErrors"] == (code == 2)
    assert lab.b.net.drops["TC_EGRESS"] == (code == 2)


def test_ingress_drop_has_a_reason(lab: Lab) -> None:
    lab.b.attach_tc(lab.load(2), "eth0")
    lab.send()
    record = next(each for each in reversed(lab.sim.recorder.packets) if each.host == "b")
    assert (record.direction, record.reason) == ("in", "TC_INGRESS")


ACTIONS = {
    # result of a1: (a2 runs, the next filter runs, delivered), hooks-6.12.md section 6
    -1: (1, 0, 1),
    0: (0, 0, 1),
    2: (0, 0, 0),
    3: (1, 0, 1),
    7: (0, 0, 0),
    4: (0, 1, 1),
    6: (0, 1, 1),
    8: (0, 1, 1),
    100: (0, 1, 1),
}


@pytest.mark.parametrize("code", ACTIONS)
def test_act_bpf(lab: Lab, code: int) -> None:
    """Fact: "act_bpf (SEC action programs a1, a2 piped, then a cls_bpf da filter a3) a1 returns"."""
    a1, a2 = (lab.load(result, ProgType.SCHED_ACT) for result in (code, 0))
    lab.b.tc_qdisc_add("eth0")
    lab.b.tc_filter_add("eth0", "ingress", lab.load(1), pref=1, direct_action=False, actions=[a1, a2])
    third = lab.b.tc_filter_add("eth0", "ingress", lab.load(0), pref=2)
    delivered = lab.send()
    runs = [run.prog_id for run in lab.sim.recorder.runs]
    assert (runs.count(a1.id), runs.count(a2.id), third.runs, delivered) == (1, *ACTIONS[code])


def test_act_bpf_reclassify_ends_in_a_drop(lab: Lab) -> None:
    """Fact: "1 RECLASSIFY: a1 runs again, many times, then DROPPED": max_reclassify_loop is 16."""
    action = lab.load(1, ProgType.SCHED_ACT)
    lab.b.tc_qdisc_add("eth0")
    lab.b.tc_filter_add("eth0", "ingress", lab.load(1), direct_action=False, actions=[action])
    assert lab.send() == 0
    assert sum(run.prog_id == action.id for run in lab.sim.recorder.runs) == 17
    assert lab.b.net.drops["TC_RECLASSIFY_LOOP"] == 1


def test_act_bpf_takes_only_programs_for_it(lab: Lab) -> None:
    """Fact: "act_bpf takes only SCHED_ACT programs (a SCHED_CLS one: -EINVAL)"."""
    from ebpfsim.errors import KernelError

    lab.b.tc_qdisc_add("eth0")
    with pytest.raises(KernelError, match="EINVAL"):
        lab.b.tc_filter_add("eth0", "ingress", lab.load(1), actions=[lab.load(0)])


def test_classid_without_direct_action(lab: Lab) -> None:
    """A result other than 0 and -1 is the class id; a filter that matches lets the packet go on."""
    lab.b.tc_qdisc_add("eth0")
    missed = lab.b.tc_filter_add("eth0", "ingress", lab.load(0), pref=1, direct_action=False)
    hit = lab.b.tc_filter_add("eth0", "ingress", lab.load(2), pref=2, direct_action=False)
    never = lab.b.tc_filter_add("eth0", "ingress", lab.load(2), pref=3)
    assert lab.send() == 1
    assert (missed.runs, hit.runs, never.runs) == (1, 1, 0)


def test_protocol_of_a_filter(lab: Lab) -> None:
    lab.b.tc_qdisc_add("eth0")
    arp = lab.b.tc_filter_add("eth0", "ingress", lab.load(2), protocol="arp")
    ip = lab.b.tc_filter_add("eth0", "ingress", lab.load(0), protocol="ip")
    assert lab.send() == 1
    assert (arp.runs, ip.runs) == (0, 1)


def store(lab: Lab, off: int, size: str = "u32") -> tuple[Any, int]:
    # a program that stores a field of its context in a map
    fd = lab.b.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    code = f"""
        r6 = *({size} *)(r1 + {off})
        r2 = r10; r2 += -4; *(u32 *)(r10 - 4) = 0
        r1 = map_fd[{fd}] ll
        call bpf_map_lookup_elem
        if r0 == 0 goto +1
        *(u64 *)(r0 + 0) = r6
        r0 = -1; exit
    """
    return lab.load(code), fd


LEN, PKT_TYPE, PROTOCOL, IIF, IFINDEX, WIRE_LEN = 0, 4, 16, 36, 40, 160
FRAME = 14 + 20 + 8 + 1
SEEN = [
    ("ingress", LEN, FRAME),
    ("ingress", PKT_TYPE, 0),
    ("ingress", PROTOCOL, 0x0008),
    ("ingress", IIF, 2),
    ("ingress", IFINDEX, 2),
    ("ingress", WIRE_LEN, FRAME - 14),  # fact: live wire_len is len-14 at ingress, len at egress
    ("egress", LEN, FRAME),
    ("egress", WIRE_LEN, FRAME),
    ("egress", IIF, 0),  # fact: ingress_ifindex is 0 at egress
    ("egress", IFINDEX, 2),
]


@pytest.mark.parametrize(("direction", "off", "value"), SEEN)
def test_what_programs_see(lab: Lab, direction: str, off: int, value: int) -> None:
    prog, fd = store(lab, off)
    lab.b.attach_tcx(prog, "eth0", direction)
    assert (lab.send if direction == "ingress" else lab.send_out)() == 1
    assert int.from_bytes(lab.b.bpf.map_lookup_elem(fd, bytes(4)), "little") == value


def test_changes_reach_later_programs_and_the_socket(lab: Lab) -> None:
    """mark and tc_classid go from program to program, bytes of the payload to the socket."""
    mark = lab.load("*(u32 *)(r1 + 8) = 77; *(u32 *)(r1 + 72) = 5; r0 = -1; exit")
    write = lab.load(
        "*(u8 *)(r10 - 1) = 90; r2 = 42; r3 = r10; r3 += -1; r4 = 1; r5 = 0; call bpf_skb_store_bytes;"
        " r1 = 40; r0 = 0; exit"
    )
    seen, fd = store(lab, 8)
    lab.b.attach_tcx(mark, "eth0")
    lab.b.attach_tcx(seen, "eth0")
    lab.b.attach_tcx(write, "eth0")
    # the checksum of the datagram is wrong now, as in Linux
    assert lab.send(b"abc") == 0
    assert lab.b.net.drops["UDP_CSUM"] == 1
    assert int.from_bytes(lab.b.bpf.map_lookup_elem(fd, bytes(4)), "little") == 77


def test_forwarded_packets_keep_their_mark() -> None:
    sim = Simulation()
    a, r, b = (sim.host(name, sysctl={"net.ipv4.ip_forward": 1}) for name in "arb")
    sim.link(a.nic("eth0", "10.0.0.1/24"), r.nic("eth0", "10.0.0.254/24"))
    sim.link(r.nic("eth1", "10.0.1.254/24"), b.nic("eth0", "10.0.1.2/24"))
    a.net.add_route("default", via="10.0.0.254")
    b.net.add_route("default", via="10.0.1.254")
    load = lambda code: r.prog(r.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(code))).fd)  # noqa: E731
    r.attach_tcx(load("*(u32 *)(r1 + 8) = 9; r0 = 0; exit"), "eth0")
    marked = r.attach_tcx(
        load("r0 = *(u32 *)(r1 + 8); if r0 == 9 goto +2; r0 = -1; exit; r0 = 2; exit"), "eth1", "egress"
    )
    sock = b.udp_socket("10.0.1.2", 9)
    a.udp_socket("10.0.0.1", 1).sendto(b"x", "10.0.1.2", 9)
    sim.run()
    assert not sock.received
    assert marked.verdicts["TCX_DROP"] == 1


REDIRECT = "r1 = {ifindex}; r2 = {flags}; call bpf_redirect; exit"


class Three:
    """``b`` has a second wire, to ``c``."""

    def __init__(self) -> None:
        self.lab = Lab()
        sim = self.lab.sim
        self.c = sim.host("c")
        sim.link(self.lab.b.nic("eth1", "10.0.1.1/24"), self.c.nic("eth0", "10.0.1.2/24"))

    def frames(self) -> int:
        return len([each for each in self.lab.sim.recorder.packets if (each.host, each.direction) == ("c", "in")])


def test_redirect_to_another_device() -> None:
    three = Three()
    three.lab.b.attach_tcx(three.lab.load(REDIRECT.format(ifindex=3, flags=0)), "eth0")
    assert three.lab.send() == 0
    assert three.frames() == 1


def test_redirect_to_an_unknown_device(lab: Lab) -> None:
    """Fact: "bpf_redirect to an unknown ifindex is no error at the call (returns 7, the packet is lost)"."""
    link = lab.b.attach_tcx(lab.load(REDIRECT.format(ifindex=99, flags=0)), "eth0")
    assert lab.send() == 0
    assert link.verdicts == {"TCX_REDIRECT": 1}


def test_redirect_to_ingress() -> None:
    """BPF_F_INGRESS: the packet comes in by the other device, whose own programs see it."""
    three = Three()
    seen = three.lab.b.attach_tcx(three.lab.load(0), "eth1")
    three.lab.b.attach_tcx(three.lab.load(REDIRECT.format(ifindex=3, flags=1)), "eth0")
    three.lab.send()
    assert seen.runs == 1


@pytest.mark.parametrize(("ifindex", "sent", "through"), [(3, 1, 1), (99, 0, 1)])
def test_clone_redirect(ifindex: int, sent: int, through: int) -> None:
    """Fact: "clone_redirect to one EINVAL and the original continues"."""
    three = Three()
    code = f"r2 = {ifindex}; r3 = 0; call bpf_clone_redirect; r0 = 0; exit"
    three.lab.b.attach_tcx(three.lab.load(code), "eth0")
    assert three.lab.send() == through
    assert three.frames() == sent


def test_redirect_neigh_writes_the_addresses() -> None:
    """Fact: redirect_neigh rewrites MACs."""
    three = Three()
    b, c = three.lab.b, three.c
    b.net.neigh.add(b.device("eth1"), 0x0A000102, c.device("eth0").mac)
    code = """
        *(u32 *)(r10 - 20) = 2; *(u32 *)(r10 - 16) = 33619978; *(u32 *)(r10 - 12) = 0; *(u32 *)(r10 - 8) = 0
        *(u32 *)(r10 - 4) = 0
        r1 = 3; r2 = r10; r2 += -20; r3 = 20; r4 = 0; call bpf_redirect_neigh; exit
    """
    b.attach_tcx(three.lab.load(code), "eth0")
    three.lab.send()
    frame = next(each.data for each in three.lab.sim.recorder.packets if (each.host, each.direction) == ("c", "in"))
    assert frame[:12] == c.device("eth0").mac + b.device("eth1").mac


def test_redirect_neigh_to_a_next_hop_of_ipv6() -> None:
    """struct bpf_redir_neigh: fd00::9 has the address of c; the packet of IPv4 goes there all the same."""
    three = Three()
    b, c = three.lab.b, three.c
    b.net.neigh6.add(b.device("eth1"), 0xFD00 << 112 | 9, c.device("eth0").mac)
    code = """
        *(u32 *)(r10 - 20) = 10; *(u32 *)(r10 - 16) = 0xfd; *(u32 *)(r10 - 12) = 0; *(u32 *)(r10 - 8) = 0
        *(u32 *)(r10 - 4) = 0x9000000
        r1 = 3; r2 = r10; r2 += -20; r3 = 20; r4 = 0; call bpf_redirect_neigh; exit
    """
    b.attach_tcx(three.lab.load(code), "eth0")
    three.lab.send()
    frame = next(each.data for each in three.lab.sim.recorder.packets if (each.host, each.direction) == ("c", "in"))
    assert frame[:14] == c.device("eth0").mac + b.device("eth1").mac + b"\x08\0"


def test_redirect_neigh_of_ipv6_asks_its_routes() -> None:
    three = Three()
    b, c = three.lab.b, three.c
    b.net.add_address(b.device("eth1"), "fd00::1/64")
    b.net.neigh6.add(b.device("eth1"), 0xFD00 << 112 | 9, c.device("eth0").mac)
    b.attach_tcx(three.lab.load("r1 = 3; r2 = 0; r3 = 0; r4 = 0; call bpf_redirect_neigh; exit"), "eth0")
    packet = bytes.fromhex("6000000000083b40") + (0xFD01 << 112).to_bytes(16, "big")
    for last in (9, 1 << 80):
        daddr = (0xFD00 << 112 | last).to_bytes(16, "big")
        three.lab.a.device("eth0").inject(b.device("eth0").mac + bytes(6) + b"\x86\xdd" + packet + daddr + bytes(8))
    three.lab.sim.run()
    (frame,) = [each.data for each in three.lab.sim.recorder.packets if (each.host, each.direction) == ("c", "in")]
    assert frame[:14] == c.device("eth0").mac + b.device("eth1").mac + b"\x86\xdd"
    # the other one has no route
    assert b.net.drops["IP_OUTNOROUTES"] == 1


def test_redirects_at_egress_in_a_circle_end(lab: Lab) -> None:
    """XMIT_RECURSION_LIMIT, include/linux/netdevice.h: 8."""
    lab.b.attach_tcx(lab.load(REDIRECT.format(ifindex=2, flags=0)), "eth0", "egress")
    assert lab.send_out() == 0
    assert lab.b.net.drops["RECURSION_LIMIT"] == 1


def test_a_packet_without_programs_has_no_structure(lab: Lab) -> None:
    """The memory that packets without programs leave is what it was."""
    link = lab.b.attach_tcx(lab.load(-1), "eth0")
    lab.send()
    link.close()
    assert lab.b.device("eth0").tcx.ingress is None
    assert lab.send() == 1
