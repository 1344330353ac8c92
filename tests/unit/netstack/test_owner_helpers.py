"""Whose packets and sockets are: cookies, users, control groups, namespaces (net/core/filter.c, v6.18)."""

from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

KEEP = """
    {code}; r7 = r0; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map}] ll; call bpf_map_lookup_elem
    if r0 == 0 goto out; *(u64 *)(r0 + 0) = r7; out: r0 = 1; exit
"""


@pytest.fixture
def host() -> Any:
    return Simulation(seed=1).host("h")


def egress(host: Any, code: str, path: str = "/", *, cgroup: str = "/web/shop", **maps: int) -> int:
    """Let a program of a cgroup look at a datagram; return what it kept."""
    kept = host.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    text = KEEP.format(code=code.format(**maps), map=kept)
    fd = host.bpf.prog_load(
        ProgType.CGROUP_SKB, encode(assemble(text)), expected_attach_type=AttachType.CGROUP_INET_EGRESS
    ).fd
    with host.attach_cgroup(fd, path):
        host.udp_socket(cgroup=cgroup).sendto(b"x", "127.0.0.1", 9)
    return int.from_bytes(host.bpf.map_lookup_elem(kept, bytes(4)), "little", signed=True)


def test_control_groups_of_packets(host: Any) -> None:
    ids = [host.cgroup(path).cgroup_id for path in ("/", "/web", "/web/shop")]
    assert egress(host, "call bpf_skb_cgroup_id") == ids[2]
    levels = [egress(host, f"r2 = {level}; call bpf_skb_ancestor_cgroup_id") for level in (0, 1, 2, 3, -1)]
    assert levels == [*ids, 0, 0]


def test_packets_under_control_groups(host: Any) -> None:
    array = host.bpf.map_create(MapType.CGROUP_ARRAY, 4, 4, 4)
    for index, path in enumerate(("/web", "/other")):
        group = host.cgroup(path)
        group.get()
        host.bpf.map_update_elem(
            array, index.to_bytes(4, "little"), host.kernel.fds.install(group).to_bytes(4, "little")
        )
    code = "r2 = map_fd[{array}] ll; r3 = {index}; call bpf_skb_under_cgroup"
    assert [egress_tc(host, code, array=array, index=index) for index in range(5)] == [1, 0, -11, -11, -7]


def egress_tc(host: Any, code: str, **names: int) -> int:
    """Let a program of tc look at a datagram of a socket of /web/shop."""
    kept = host.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    text = KEEP.format(code=code.format(**names), map=kept)
    fd = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text)), expected_attach_type=AttachType.TCX_EGRESS).fd
    # somebody takes it, so that no error comes back
    receiver = host.udp_socket("127.0.0.1", 9)
    with host.attach_tcx(fd, "lo", "egress"):
        host.udp_socket(cgroup="/web/shop").sendto(b"x", "127.0.0.1", 9)
    receiver.close()
    return int.from_bytes(host.bpf.map_lookup_elem(kept, bytes(4)), "little", signed=True)


def test_cookies_tell_sockets_apart(host: Any) -> None:
    cookies = [egress(host, "call bpf_get_socket_cookie") for _ in range(2)]
    assert len({*cookies, 0}) == 3


def test_users_of_packets(host: Any) -> None:
    assert egress_tc(host, "call bpf_get_socket_uid") == 0
    # what comes in has no socket yet
    kept = host.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    text = KEEP.format(code="call bpf_get_socket_uid", map=kept)
    fd = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text))).fd
    result = host.bpf.prog_test_run(fd, bytes(12) + b"\x08\x06" + bytes(50))
    assert result.retval == 1


def test_namespaces_have_numbers(host: Any) -> None:
    assert egress_tc(host, "r1 = 0; call bpf_get_netns_cookie") == 1
    space = host.netns("b")
    space.udp_socket("127.0.0.1", 9)
    fd = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble("call bpf_get_netns_cookie; exit"))).fd
    assert egress_tc(host, "call bpf_get_netns_cookie") == 1
    with space.attach_tcx(fd, "lo", "egress") as link:
        space.udp_socket().sendto(b"x", "127.0.0.1", 9)
        # 2 is a verdict, too
        assert link.verdicts == {"TCX_DROP": 1}


# r0 of bpf_skb_set_tstamp() as BPF_PROG_TEST_RUN of Linux 6.18 told it: protocol, stamp, clock
TSTAMPS = [
    (0x0800, 5, 0, 0), (0x0800, 0, 0, 0), (0x0800, 5, 1, 0), (0x0800, 0, 1, -22), (0x0800, 5, 2, 0),
    (0x0800, 0, 2, -22), (0x0800, 5, 3, -22), (0x0806, 5, 0, -95),
]  # fmt: skip


def stamp(bpf: Any, protocol: int, tstamp: int, clock: int) -> int:
    text = f"r2 = {tstamp}; r3 = {clock}; call bpf_skb_set_tstamp; exit"
    fd = bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text))).fd
    packet = bytes(12) + protocol.to_bytes(2, "big") + b"\x45" + bytes(49)
    found = int(bpf.prog_test_run(fd, packet).retval)
    return found - (1 << 32) if found >> 31 else found


@pytest.mark.parametrize(("protocol", "tstamp", "clock", "answer"), TSTAMPS)
def test_time_stamps(host: Any, protocol: int, tstamp: int, clock: int, answer: int) -> None:
    assert stamp(host.bpf, protocol, tstamp, clock) == answer


@pytest.mark.live
def test_time_stamps_of_this_kernel() -> None:
    from ebpfsim.live import Bpf

    bpf = Bpf()
    assert [stamp(bpf, *row[:3]) for row in TSTAMPS] == [row[3] for row in TSTAMPS]
