"""What Linux 6.12.117 did with netkit pairs: which verdicts let a packet through, who may attach."""

import pytest

from ebpfsim import KernelError, Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

PRIMARY, PEER = AttachType.NETKIT_PRIMARY, AttachType.NETKIT_PEER


@pytest.fixture
def host():
    host = Simulation(seed=1).host("h")
    host.netns("b")
    return host


def program(host, verdict: int, kind: AttachType = PRIMARY) -> int:
    code = encode(assemble(f"r0 = {verdict}; exit"))
    return host.bpf.prog_load(ProgType.SCHED_CLS, code, expected_attach_type=kind).fd


def sends(host, sender: str = "", *, back: bool = False) -> int:
    """How many of one datagram arrive at the other end."""
    here, there = (host, host.netns("b")) if not back else (host.netns("b"), host)
    target = "10.0.0.2" if not back else "10.0.0.1"
    socket = there.udp_socket(target, 9)
    here.udp_socket().sendto(b"hello", target, 9)
    host.sim.run()
    count = len(socket.received)
    socket.close()
    return count


def pair(host, **options):
    return host.netkit("nk0", "b/nk1", address="10.0.0.1/24", peer_address="10.0.0.2/24", **options)


def test_mode_l3_has_no_addresses_and_asks_for_none(host) -> None:
    a, b = pair(host)
    assert (a.mac, b.mac, a.noarp) == (bytes(6), bytes(6), True)
    assert sends(host) == 1
    assert all(record.data[12:14] == b"\x08\x00" for record in host.sim.recorder.packets)


def test_mode_l2_asks(host) -> None:
    a, _ = pair(host, mode="l2")
    assert a.mac != bytes(6)
    assert sends(host) == 1
    assert any(record.data[12:14] == b"\x08\x06" for record in host.sim.recorder.packets)


@pytest.mark.parametrize(
    ("verdict", "delivered"),
    [(-1, 1), (0, 1), (1, 0), (2, 0), (3, 0), (4, 0), (7, 0), (8, 0), (100, 0)],
)
def test_verdicts_of_the_primary(host, verdict, delivered) -> None:
    a, _ = pair(host)
    host.bpf.link_create(program(host, verdict), a.ifindex, PRIMARY)
    assert sends(host) == delivered
    assert sends(host, back=True) == 1
    lost = 0 if delivered or verdict == 7 else 1
    assert a.stats.tx_dropped == lost


def test_programs_of_the_peer_see_what_it_sends(host) -> None:
    a, b = pair(host)
    host.bpf.link_create(program(host, 2, PEER), a.ifindex, PEER)
    assert (sends(host), sends(host, back=True)) == (1, 0)
    assert b.netkit.active.mprog.items[0].stats.runs == 1


@pytest.mark.parametrize("policy", ["forward", "blackhole"])
def test_policy_decides_without_programs(host, policy) -> None:
    a, _ = pair(host, policy=policy)
    assert sends(host) == (policy == "forward")
    # a program that returns -1 lets it pass all the same
    host.bpf.link_create(program(host, -1), a.ifindex, PRIMARY)
    assert sends(host) == 1


def test_who_may_attach(host) -> None:
    pair(host)
    fd = program(host, 0)
    for space, ifindex, errno in ((host, 1, 6), (host.netns("b"), 2, 13), (host, 99, 19)):
        with pytest.raises(KernelError) as refused:
            space.bpf.link_create(fd, ifindex, PRIMARY)
        assert refused.value.errno == errno  # ENXIO, EACCES, ENODEV


def test_order_revision_and_info(host) -> None:
    a, _ = pair(host)
    first = host.bpf.link_create(program(host, -1), a.ifindex, PRIMARY)
    second = host.bpf.link_create(program(host, 0), a.ifindex, PRIMARY, flags=1 << 3)  # BPF_F_BEFORE
    found = host.bpf.prog_query(a.ifindex, PRIMARY)
    assert (found.revision, len(found.prog_ids)) == (3, 2)
    assert list(found.prog_ids) == sorted(found.prog_ids, reverse=True)
    info = host.bpf.obj_get_info_by_fd(first)
    assert (info.type, info.ifindex, info.attach_type) == (13, a.ifindex, int(PRIMARY))
    host.link_del("nk0")
    assert host.bpf.obj_get_info_by_fd(second).ifindex == 0


@pytest.mark.parametrize(("scrub", "mark"), [("default", 0), ("none", 7)])
def test_marks_are_scrubbed_on_the_way_into_another_namespace(host, scrub, mark) -> None:
    a, b = pair(host, scrub=scrub)
    code = encode(assemble("r2 = 7; *(u32 *)(r1 + 8) = r2; r0 = -1; exit"))
    host.bpf.link_create(host.bpf.prog_load(ProgType.SCHED_CLS, code).fd, a.ifindex, AttachType.TCX_EGRESS)
    code = encode(assemble(f"r2 = *(u32 *)(r1 + 8); r0 = 0; if r2 == {mark} goto +1; r0 = 2; exit"))
    space = host.netns("b")
    link = space.bpf.link_create(host.bpf.prog_load(ProgType.SCHED_CLS, code).fd, b.ifindex, AttachType.TCX_INGRESS)
    assert sends(host) == 1
    assert link


@pytest.mark.parametrize("wrong", [{"policy": "drop"}, {"mode": "l4"}, {"scrub": "all"}])
def test_options_that_there_are_not(host, wrong) -> None:
    with pytest.raises(KernelError) as refused:
        pair(host, **wrong)
    assert refused.value.errno == 22


def test_redirects_leave_by_another_device(host) -> None:
    a, _ = pair(host)
    host.netns("b").dummy("d0")
    code = encode(assemble("r1 = 3; r2 = 0; call bpf_redirect; exit"))
    host.bpf.link_create(host.bpf.prog_load(ProgType.SCHED_CLS, code).fd, a.ifindex, PRIMARY)
    assert sends(host) == 0
    assert host.device("b/d0").stats.tx_packets == 1
    assert a.stats.tx_packets == 1
