"""What test runs of Linux 6.18 answered of the socket that their packet belongs to."""

from typing import Any

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

# to the helper's result as a bool; the packet's socket is of no protocol, closed, and all there
SOCKET = "r7 = 0; r1 = *(u64 *)(r1 + 168); if r1 == 0 goto out; call bpf_sk_fullsock; if r0 == 0 goto out; r7 = 1; "
LOOKUP = "*(u64 *)(r10 - 16) = 0; *(u64 *)(r10 - 8) = 0; r2 = r10; r2 += -16; r3 = 12; r4 = -1; r5 = 0; r7 = 1; "
RELEASE = "if r0 == 0 goto out; r7 = 2; r1 = r0; call bpf_sk_release; "
OUT = "out: r0 = r7; exit"
PROGRAMS = {
    "full": (SOCKET + OUT, 1),
    "tcp": (SOCKET + "r1 = r0; call bpf_tcp_sock; if r0 == 0 goto out; r7 = 2; " + OUT, 1),
    "listener": (SOCKET + "r1 = r0; call bpf_get_listener_sock; if r0 == 0 goto out; r7 = 2; " + OUT, 1),
    "lookup tcp": (LOOKUP + "call bpf_sk_lookup_tcp; " + RELEASE + OUT, 1),
    "lookup udp": (LOOKUP + "call bpf_sk_lookup_udp; " + RELEASE + OUT, 1),
    "classid": ("call bpf_get_cgroup_classid; exit", 0),
}
FRAME = bytes.fromhex("02000000000202000000000108004500002800010000401100000a0000010a000002") + bytes(20)


@pytest.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.live)])
def bpf(request: pytest.FixtureRequest) -> Any:
    if request.param == "linux":
        from ebpfsim.live import Bpf

        return Bpf()
    return ebpfsim.Simulation(seed=1).host("h").bpf


@pytest.mark.parametrize("name", PROGRAMS)
def test_sockets_of_test_runs(bpf: Any, name: str) -> None:
    program, answer = PROGRAMS[name]
    fd = bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(program)), license="GPL").fd
    assert bpf.prog_test_run(fd, FRAME).retval == answer


# the tuple is 10.0.0.1:7 > 127.0.0.1:PORT; the found socket's own port (struct bpf_sock.src_port) is the result
FIND = """
    r6 = r1
    r1 = {port}
    r1 = be16 r1
    *(u16 *)(r10 - 6) = r1
    *(u16 *)(r10 - 8) = 0x0700
    *(u32 *)(r10 - 12) = 0x0100007f
    *(u32 *)(r10 - 16) = 0x0100000a
    r1 = r6
    r2 = r10
    r2 += -16
    r3 = {size}
    r4 = {netns}
    r5 = {flags}
    call {helper}
    r7 = 0
    if r0 == 0 goto out
    r7 = *(u32 *)(r0 + 44)
    r1 = r0
    call bpf_sk_release
out:
    r0 = r7
    exit
"""


@pytest.mark.parametrize(
    ("helper", "port", "found"),
    [
        ("bpf_sk_lookup_udp", 53, 53),
        ("bpf_sk_lookup_udp", 54, 0),
        ("bpf_sk_lookup_tcp", 53, 0),
        ("bpf_skc_lookup_tcp", 53, 0),
    ],
)
@pytest.mark.parametrize(("size", "netns", "flags", "fits"), [(12, -1, 0, True), (12, -1, 1, False), (12, 5, 0, False)])
def test_sockets_that_are_open_are_found(
    helper: str, port: int, found: int, size: int, netns: int, flags: int, fits: bool
) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    host.udp_socket("127.0.0.1", 53)
    text = FIND.format(helper=helper, port=port, size=size, netns=netns, flags=flags)
    fd = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text)), license="GPL").fd
    assert host.bpf.prog_test_run(fd, FRAME).retval == (found if fits else 0)


def test_hash_is_the_same_for_both_directions() -> None:
    bpf = ebpfsim.Simulation(seed=1).host("h").bpf
    fd = bpf.prog_load(ProgType.SCHED_CLS, encode(assemble("call bpf_get_hash_recalc; exit")), license="GPL").fd
    there = FRAME[:34] + bytes.fromhex("0035 1234".replace(" ", "")) + bytes(16)
    back = FRAME[:26] + FRAME[30:34] + FRAME[26:30] + bytes.fromhex("12340035") + bytes(16)
    other = FRAME[:34] + bytes.fromhex("00351235") + bytes(16)
    hashes = [bpf.prog_test_run(fd, frame).retval for frame in (there, back, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_who_listens_is_found() -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    task = host.spawn("server")
    sock = host.syscall(task, "socket", "AF_INET", "SOCK_STREAM", 0)
    assert host.syscall(task, "bind", sock, "127.0.0.1:53") == 0
    text = FIND.format(helper="bpf_sk_lookup_tcp", port=53, size=12, netns=-1, flags=0)
    fd = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text)), license="GPL").fd
    assert host.bpf.prog_test_run(fd, FRAME).retval == 0
    assert host.syscall(task, "listen", sock, 5) == 0
    assert host.bpf.prog_test_run(fd, FRAME).retval == 53


# the tuple is fd00::1 port 7 > ::1 port 53
FIND6 = """
    r6 = r1
    r1 = 0x35000700; *(u32 *)(r10 - 8) = r1
    r1 = 0x0100000000000000 ll; *(u64 *)(r10 - 16) = r1; *(u64 *)(r10 - 32) = r1
    r1 = 0; *(u64 *)(r10 - 24) = r1
    r1 = 0xfd; *(u64 *)(r10 - 40) = r1
    r1 = r6; r2 = r10; r2 += -40; r3 = 36; r4 = -1; r5 = 0
    call {helper}
    r7 = 0
    if r0 == 0 goto out
    r7 = *(u32 *)(r0 + 44)
    r1 = r0
    call bpf_sk_release
out:
    r0 = r7
    exit
"""


def test_sockets_of_ipv6_are_found() -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    task = host.spawn("server")

    def found(helper: str) -> int:
        text = FIND6.format(helper=helper)
        fd = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text)), license="GPL").fd
        retval: int = host.bpf.prog_test_run(fd, FRAME).retval
        return retval

    assert found("bpf_sk_lookup_udp") == 0
    sock = host.syscall(task, "socket", "AF_INET6", "SOCK_DGRAM", 0)
    assert host.syscall(task, "bind", sock, "[::1]:53") == 0
    assert (found("bpf_sk_lookup_udp"), found("bpf_sk_lookup_tcp")) == (53, 0)


CAST = """
    r6 = r1; r1 = *(u64 *)(r1 + 168); if r1 == 0 goto none
    call {helper}; if r0 == 0 goto none; r0 = 1; exit
none: r0 = 0; exit
"""


@pytest.mark.parametrize(
    ("helper", "found"), [("tcp_sock", 0), ("tcp6_sock", 0), ("udp6_sock", 0), ("unix_sock", 0), ("mptcp_sock", 0)]
)
def test_sockets_of_other_kinds_are_none(bpf: Any, helper: str, found: int) -> None:
    # the socket of a test run has no protocol (bpf_prog_test_run_skb)
    fd = bpf.prog_load(
        ProgType.SCHED_CLS, encode(assemble(CAST.format(helper=f"bpf_skc_to_{helper}"))), license="GPL"
    ).fd
    assert bpf.prog_test_run(fd, FRAME).retval == found


@pytest.mark.parametrize(
    ("cast", "found"), [("tcp_sock", 1), ("tcp6_sock", 0), ("tcp_request_sock", 0), ("udp6_sock", 0), ("unix_sock", 0)]
)
def test_a_socket_that_listens_is_one_of_tcp(cast: str, found: int) -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    task = host.spawn("server")
    sock = host.syscall(task, "socket", "AF_INET", "SOCK_STREAM", 0)
    assert host.syscall(task, "bind", sock, "127.0.0.1:53") == 0
    assert host.syscall(task, "listen", sock, 5) == 0
    text = FIND.format(helper="bpf_skc_lookup_tcp", port=53, size=12, netns=-1, flags=0).replace(
        "r7 = *(u32 *)(r0 + 44)\n    r1 = r0",
        f"r8 = r0\n    r1 = r0\n    call bpf_skc_to_{cast}\n    if r0 == 0 goto free\n    r7 = 1\nfree:\n    r1 = r8",
    )
    fd = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(text)), license="GPL").fd
    assert host.bpf.prog_test_run(fd, FRAME).retval == found
