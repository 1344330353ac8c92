"""Programs of routes: what Linux 6.18 did with their verdicts, and what they put in front of packets."""

from typing import Any

import pytest

from ebpfsim import KernelError, Simulation
from ebpfsim.attached_lwt import AttachedLwt
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

KINDS = {"lwt_in": ProgType.LWT_IN, "lwt_out": ProgType.LWT_OUT, "lwt_xmit": ProgType.LWT_XMIT}
NETWORK, TARGET = "10.3.0.0/24", "10.3.0.3"


@pytest.fixture
def hosts() -> Any:
    """A host, and a router that knows the way to a network."""
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b", sysctl={"net.ipv4.ip_forward": 1})
    sim.link(a.nic("eth0", ["10.0.0.1/24"]), b.nic("eth0", ["10.0.0.2/24", "10.3.0.3/24"]))
    a.net.add_route(NETWORK, via="10.0.0.2")
    return a, b


def attach(host: Any, hook: str, code: str, to: str = NETWORK) -> AttachedLwt:
    prog = host.bpf.prog_load(KINDS[hook], encode(assemble(code)))
    return AttachedLwt(host, to, hook, host.prog(prog.fd))


def sends(a: Any, b: Any, data: bytes = b"x") -> tuple[str, int]:
    """Send a datagram: the errno, and how many arrive."""
    server = b.udp_socket(TARGET, 53)
    try:
        a.udp_socket().sendto(data, TARGET, 53)
        said = ""
    except KernelError as error:
        said = error.errno_name
    a.sim.run()
    count = len(server.received)
    server.close()
    return said, count


# what sendto() said and how many frames the other end of the veth pair got: Linux 6.18 with iproute2
LINUX = [
    ("lwt_out", 0, "", 1), ("lwt_out", 1, "EINVAL", 0), ("lwt_out", 2, "EPERM", 0), ("lwt_out", 3, "EINVAL", 0),
    ("lwt_out", 5, "EINVAL", 0), ("lwt_out", 7, "", 1), ("lwt_out", 128, "", 1), ("lwt_out", -1, "EINVAL", 0),
    ("lwt_xmit", 0, "", 1), ("lwt_xmit", 1, "EINVAL", 0), ("lwt_xmit", 2, "EPERM", 0), ("lwt_xmit", 3, "EINVAL", 0),
    ("lwt_xmit", 5, "EINVAL", 0), ("lwt_xmit", 7, "", 0), ("lwt_xmit", 128, "", 0), ("lwt_xmit", -1, "EINVAL", 0),
]  # fmt: skip


@pytest.mark.parametrize(("hook", "verdict", "errno", "delivered"), LINUX)
def test_verdicts(hosts: Any, hook: str, verdict: int, errno: str, delivered: int) -> None:
    a, b = hosts
    attach(a, hook, f"r0 = {verdict}; exit")
    assert sends(a, b) == (errno, delivered)


@pytest.mark.parametrize(("verdict", "delivered"), [(0, 1), (2, 0), (1, 0)])
def test_packets_that_come_in(hosts: Any, verdict: int, delivered: int) -> None:
    a, b = hosts
    link = attach(b, "lwt_in", f"r0 = {verdict}; exit", "10.3.0.3/32")
    assert (sends(a, b), link.runs) == (("", delivered), 1)


PUSH = """
    r6 = r1; *(u64 *)(r10 - 24) = 0x20000045; *(u8 *)(r10 - 20) = 0; *(u32 *)(r10 - 16) = 0x0440
    *(u32 *)(r10 - 12) = 0x0100000a; *(u32 *)(r10 - 8) = 0x0200000a; r1 = {size}; *(u16 *)(r10 - 22) = r1
    r1 = r6; r2 = {kind}; r3 = r10; r3 += -24; r4 = {length}; call bpf_lwt_push_encap; if r0 != 0 goto out
    r0 = {verdict}; exit; out: r0 = 2; exit
"""


def push(kind: int = 2, length: int = 20, verdict: int = 128) -> str:
    # IP in IP from 10.0.0.1 to 10.0.0.2, of 20 + 20 + 8 + 1 bytes; the checksum is left to the kernel
    return PUSH.format(size=49 << 8, kind=kind, length=length, verdict=verdict)


def test_packets_in_packets_are_routed_anew(hosts: Any) -> None:
    a, b = hosts
    attach(a, "lwt_xmit", push())
    assert sends(a, b) == ("", 0)
    frame = next(row.data for row in a.sim.recorder.packets if row.host == "b" and row.data[23:24] == b"\x04")
    assert frame[14:34].hex() == "45000031000000004004" + "66c7" + "0a0000010a000002"
    assert frame[34:35] == b"\x45"
    assert frame[50:54] == bytes([10, 3, 0, 3])


@pytest.mark.parametrize(("kind", "length"), [(0, 20), (1, 20), (2, 19), (3, 20)])
def test_what_cannot_be_pushed(hosts: Any, kind: int, length: int) -> None:
    a, b = hosts
    attach(a, "lwt_xmit", push(kind, length))
    assert sends(a, b) == ("EPERM", 0)


def test_replaced_and_detached(hosts: Any) -> None:
    a, b = hosts
    link = attach(a, "lwt_out", "r0 = 2; exit")
    assert sends(a, b) == ("EPERM", 0)
    link.update(a.bpf.prog_load(ProgType.LWT_OUT, encode(assemble("r0 = 0; exit"))).fd)
    assert (sends(a, b), link.verdicts) == (("", 1), {"BPF_OK": 1})
    link.detach()
    assert (sends(a, b), link.runs) == (("", 1), 1)


def test_refusals(hosts: Any) -> None:
    a, _ = hosts
    with pytest.raises(KernelError, match="ESRCH"):
        attach(a, "lwt_out", "r0 = 0; exit", "10.9.0.0/24")
    prog = a.prog(a.bpf.prog_load(ProgType.LWT_IN, encode(assemble("r0 = 0; exit"))).fd)
    with pytest.raises(KernelError, match="EINVAL"):
        AttachedLwt(a, NETWORK, "lwt_out", prog)
