"""Programs of cgroups on sockets: who is refused with which errno, which addresses come out (v6.18).

Facts of "Cgroup and sockets", measured on Linux 6.18.
"""

from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

TYPES = {
    A.CGROUP_INET_INGRESS: P.CGROUP_SKB,
    A.CGROUP_INET_EGRESS: P.CGROUP_SKB,
    A.CGROUP_INET_SOCK_CREATE: P.CGROUP_SOCK,
    A.CGROUP_INET_SOCK_RELEASE: P.CGROUP_SOCK,
    A.CGROUP_INET4_POST_BIND: P.CGROUP_SOCK,
}


class Lab:
    """A host that talks to itself over loopback; sockets of /web are looked at."""

    def __init__(self) -> None:
        self.host = Simulation().host("h")

    def attach(self, kind: A, code: str, path: str = "/web") -> Any:
        host, prog_type = self.host, TYPES.get(kind, P.CGROUP_SOCK_ADDR)
        fd = host.bpf.prog_load(prog_type, encode(assemble(code)), expected_attach_type=kind).fd
        return host.attach_cgroup(fd, path)

    def socket(self, port: int = 0, address: str = "127.0.0.1", path: str = "/web") -> Any:
        return self.host.udp_socket(address, port, cgroup=path)

    def errno(self, call: Any, *args: Any, **more: Any) -> str:
        try:
            call(*args, **more)
        except KernelError as error:
            return error.errno_name
        return "ok"


@pytest.fixture
def lab() -> Lab:
    return Lab()


EGRESS = [
    ("r0 = 0; exit", "EPERM"),  # fact: "Egress skb program: 0 gives EPERM to a UDP sender, 1 ok"
    ("r0 = 1; exit", "ok"),
    ("r0 = 2; exit", "ok"),  # drop and congestion: ENOBUFS, which udp_send_skb() keeps to itself
    ("r0 = 3; exit", "ok"),
    ("r1 = -13; call bpf_set_retval; r0 = 1; exit", "EACCES"),  # fact: "bpf_set_retval(-E) wins"
    ("r1 = -13; call bpf_set_retval; r0 = 0; exit", "EACCES"),
]


@pytest.mark.parametrize(("code", "errno"), EGRESS)
def test_egress(lab: Lab, code: str, errno: str) -> None:
    server = lab.socket(9, path="/")
    if "set_retval" in code:
        # programs on packets have no such helper; those of an address have
        lab.attach(A.CGROUP_UDP4_SENDMSG, code)
    else:
        lab.attach(A.CGROUP_INET_EGRESS, code)
    assert lab.errno(lab.socket(1).sendto, b"x", "127.0.0.1", 9) == errno
    lab.host.sim.run()
    assert len(server.received) == (errno == "ok" and "r0 = 2" not in code)


def test_all_run_after_one_has_refused(lab: Lab) -> None:
    """Fact: "MULTI child first, then parent, all run even after one refused"."""
    child = lab.attach(A.CGROUP_INET_EGRESS, "r0 = 0; exit", "/web/child")
    parent = lab.attach(A.CGROUP_INET_EGRESS, "r0 = 1; exit")
    sock = lab.socket(1, path="/web/child")
    assert lab.errno(sock.sendto, b"x", "127.0.0.1", 9) == "EPERM"
    assert (child.verdicts, parent.verdicts) == ({"deny": 1}, {"allow": 1})
    assert [run.prog_id for run in lab.host.sim.recorder.runs] == [child.info()["prog_id"], parent.info()["prog_id"]]


def test_out_of_range(lab: Lab) -> None:
    """Fact: "R0 out of range: ... should have been in [0, 1]" (ingress)."""
    with pytest.raises(KernelError) as refused:
        lab.attach(A.CGROUP_INET_INGRESS, "r0 = 2; exit")
    assert "the register R0 has smin=2 smax=2 should have been in [0, 1]" in refused.value.log  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [0, 1])
def test_ingress(lab: Lab, code: int) -> None:
    lab.attach(A.CGROUP_INET_INGRESS, f"r0 = {code}; exit")
    server = lab.socket(9)
    lab.socket(1, path="/").sendto(b"x", "127.0.0.1", 9)
    lab.host.sim.run()
    assert (len(server.received), lab.host.net.snmp["UdpInErrors"]) == (code, 1 - code)


def test_ingress_programs_see_the_network_header(lab: Lab) -> None:
    """The first byte is that of the IPv4 header; a packet of 29 bytes."""
    code = """
        r6 = r1
        r2 = *(u32 *)(r6 + 0)
        if r2 != 29 goto no
        r2 = 0; r3 = r10; r3 += -1; r4 = 1
        call bpf_skb_load_bytes
        r1 = *(u8 *)(r10 - 1)
        if r1 != 69 goto no
        r0 = 1; exit
    no:
        r0 = 0; exit
    """
    lab.attach(A.CGROUP_INET_INGRESS, code)
    server = lab.socket(9)
    lab.socket(1, path="/").sendto(b"x", "127.0.0.1", 9)
    lab.host.sim.run()
    assert len(server.received) == 1


@pytest.mark.parametrize(("kind", "op"), [(A.CGROUP_INET_SOCK_CREATE, "socket"), (A.CGROUP_INET4_POST_BIND, "bind")])
def test_sockets_that_are_refused(lab: Lab, kind: A, op: str) -> None:
    link = lab.attach(kind, "r0 = 0; exit")
    with pytest.raises(KernelError) as refused:
        lab.socket(9)
    assert (refused.value.op, refused.value.errno_name) == (op, "EPERM")
    lab.socket(9, path="/")
    link.close()


def test_release(lab: Lab) -> None:
    link = lab.attach(A.CGROUP_INET_SOCK_RELEASE, "r0 = 1; exit")
    sock = lab.socket(9)
    assert link.runs == 0
    sock.close()
    assert link.runs == 1


LOCALHOST = 0x0100007F
PORT_90 = 0x5A00  # 90 in network order


def test_bind4_moves_a_socket(lab: Lab) -> None:
    lab.attach(A.CGROUP_INET4_BIND, f"r2 = {PORT_90}; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")
    assert lab.socket(9).getsockname() == ("127.0.0.1", 90)


def test_connect4(lab: Lab) -> None:
    """The program sends a connection to port 90, and getpeername() shows what it says."""
    link = lab.attach(A.CGROUP_INET4_CONNECT, f"r2 = {PORT_90}; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")
    server, sock = lab.socket(90, path="/"), lab.socket(1)
    sock.connect("127.0.0.1", 80)
    sock.send(b"x")
    lab.host.sim.run()
    assert [each.source for each in server.received] == [("127.0.0.1", 1)]
    assert (sock.getpeername(), link.runs) == (("127.0.0.1", 90), 1)
    lab.attach(A.CGROUP_INET4_GETPEERNAME, "r2 = 20480; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")
    assert sock.getpeername() == ("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("code", "errno"),
    [("r0 = 0; exit", "EPERM"), ("r1 = -111; call bpf_set_retval; r0 = 0; exit", "ECONNREFUSED")],
)
def test_connect4_refuses(lab: Lab, code: str, errno: str) -> None:
    lab.attach(A.CGROUP_INET4_CONNECT, code)
    assert lab.errno(lab.socket(1).connect, "127.0.0.1", 80) == errno


def test_retval_goes_from_program_to_program(lab: Lab) -> None:
    """bpf_get_retval() of the second program sees what the first has set."""
    lab.attach(A.CGROUP_INET4_CONNECT, "r1 = -111; call bpf_set_retval; r0 = 1; exit", "/web/child")
    lab.attach(A.CGROUP_INET4_CONNECT, "call bpf_get_retval; r1 = r0; r1 += -2; call bpf_set_retval; r0 = 1; exit")
    sock = lab.socket(1, path="/web/child")
    with pytest.raises(KernelError) as refused:
        sock.connect("127.0.0.1", 80)
    assert refused.value.errno == 113


def test_sendmsg4_and_recvmsg4(lab: Lab) -> None:
    lab.attach(A.CGROUP_UDP4_SENDMSG, f"r2 = {PORT_90}; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")
    lab.attach(A.CGROUP_UDP4_RECVMSG, "r2 = 20480; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")
    server = lab.socket(90)
    lab.socket(1).sendto(b"x", "127.0.0.1", 80)
    lab.host.sim.run()
    assert server.recvfrom().source == ("127.0.0.1", 80)


def test_a_connected_socket_hears_only_its_peer(lab: Lab) -> None:
    """compute_score() of net/ipv4/udp.c: another sender's datagram is not for it."""
    sock = lab.socket(9)
    sock.connect("127.0.0.1", 1)
    for port in (1, 2):
        lab.socket(port).sendto(b"x", "127.0.0.1", 9)
    lab.host.sim.run()
    assert [each.source.port for each in sock.received] == [1]
