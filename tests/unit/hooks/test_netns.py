"""Flow dissectors and sk_lookup of a network namespace, asked of Linux 6.18 side by side.

Facts: "flow_dissector: same program again EINVAL; link beside a program EEXIST; second link E2BIG. sk_lookup: ...
64 links then E2BIG".
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebpfsim import KernelError, Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from netns_steps import answers  # noqa: E402

STEPS: list[list[Any]] = [
    ["attach", "F1", {}],
    ["attach", "F1", {}],
    ["attach", "F2", {}],
    ["attach", "F3", {"flags": 1}],
    ["attach", "F3", {"fd": 5}],
    ["link", "F3", {"id": "a"}],
    ["detach", "F1", {}],
    ["detach", "F2", {"fd": 5}],
    ["detach", "F2", {}],
    ["detach", "F2", {}],
    ["link", "F3", {"id": "a"}],
    ["link", "F4", {"id": "b"}],
    ["link", "F4", {"id": "b", "flags": 1}],
    ["link", "F4", {"id": "b", "fd": 0xFFFF}],
    ["attach", "F4", {}],
    ["detach", "F3", {}],
    ["update", "F5", {"id": "a", "old": "F4"}],
    ["update", "F5", {"id": "a", "old": "F3"}],
    ["update", "L1", {"id": "a"}],
    ["unlink", "F5", {"id": "a"}],
    ["update", "F1", {"id": "a"}],
    ["attach", "L1", {}],
    *(["link", f"L{number}", {"id": str(number)}] for number in range(66)),
]


def ours() -> list[Any]:
    host = Simulation().host("h")
    return json.loads(json.dumps(answers(host.bpf, host.netns_fd, STEPS)))  # type: ignore[no-any-return]


@pytest.mark.live
def test_steps_as_on_linux() -> None:
    command = [sys.executable, str(HERE / "netns_steps.py")]
    done = subprocess.run(command, input=json.dumps(STEPS), capture_output=True, text=True, check=True)
    for step, have, want in zip(STEPS, ours(), json.loads(done.stdout), strict=True):
        assert have == want, step


def test_facts() -> None:
    said = ours()
    assert said[1] == "EINVAL"
    assert said[5] == "EEXIST"
    assert said[11] == "E2BIG"
    assert said[-2:] == ["E2BIG", "E2BIG"]
    assert len(said[-3]) == 64


def load(host: Any, kind: ProgType, code: str) -> Any:
    expected = 36 if kind == ProgType.SK_LOOKUP else 0
    return host.prog(host.bpf.prog_load(kind, encode(assemble(code)), expected_attach_type=expected).fd)


def test_sk_lookup_drops() -> None:
    """Fact: "DROP gives ECONNREFUSED": the sender hears of it as if there were no socket."""
    host = Simulation().host("h")
    server, client = host.udp_socket("127.0.0.1", 9), host.udp_socket("127.0.0.1", 10)
    link = host.attach_netns(load(host, ProgType.SK_LOOKUP, "r0 = 0; exit"))
    client.sendto(b"x", "127.0.0.1", 9)
    host.sim.run()
    assert (len(server.received), [error.errno.name for error in client.errors]) == (0, ["ECONNREFUSED"])
    assert link.verdicts == {"SK_DROP": 1}
    link.update(load(host, ProgType.SK_LOOKUP, "r0 = 1; exit"))
    client.sendto(b"x", "127.0.0.1", 9)
    host.sim.run()
    assert len(server.received) == 1
    info = host.bpf.obj_get_info_by_fd(link.fd)
    assert (info.type, info.attach_type) == (LinkType.NETNS, 36)


# ---- several namespaces of a host -----------------------------------------------------------------------------------


@pytest.fixture
def spaces() -> Any:
    """A host and a namespace of it, joined by a pair of devices."""
    host = Simulation(seed=1).host("h")
    space = host.netns("b")
    host.veth("v0", "b/v1", address="10.0.0.1/24", peer_address="10.0.0.2/24")
    return host, space


def code(kind: ProgType, text: str, where: Any, attach_type: AttachType) -> int:
    fd: int = where.bpf.prog_load(kind, encode(assemble(text)), expected_attach_type=attach_type).fd
    return fd


def arrives(sender: Any, receiver: Any, address: str) -> int:
    socket = receiver.udp_socket(address, 9)
    sender.udp_socket().sendto(b"x", address, 9)
    sender.sim.run()
    count = len(socket.received)
    socket.close()
    return count


def test_sk_lookup_of_one_namespace_leaves_others_alone(spaces: Any) -> None:
    host, space = spaces
    fd = code(ProgType.SK_LOOKUP, "r0 = 0; exit", host, AttachType.SK_LOOKUP)
    with space.attach_netns(fd) as link:
        assert (arrives(host, space, "10.0.0.2"), arrives(space, host, "10.0.0.1")) == (0, 1)
        assert (link.runs, link.info()["netns_ino"]) == (1, 0xF000_0000)
    assert arrives(host, space, "10.0.0.2") == 1


def test_netfilter_of_one_namespace_leaves_others_alone(spaces: Any) -> None:
    host, space = spaces
    fd = code(ProgType.NETFILTER, "r0 = 0; exit", host, AttachType.NETFILTER)
    with space.attach_netfilter(fd, "LOCAL_IN") as link:
        assert (arrives(host, space, "10.0.0.2"), arrives(space, host, "10.0.0.1"), link.runs) == (0, 1, 1)
        # the same place of another namespace is free
        host.attach_netfilter(fd, "LOCAL_IN").close()
    assert arrives(host, space, "10.0.0.2") == 1


def test_calls_are_about_the_namespace_of_the_caller(spaces: Any) -> None:
    host, space = spaces
    fd = code(ProgType.NETFILTER, "r0 = 0; exit", host, AttachType.NETFILTER)
    link = space.bpf.link_create(fd, 0, AttachType.NETFILTER, pf=2, hooknum=1)
    assert (arrives(host, space, "10.0.0.2"), arrives(space, host, "10.0.0.1")) == (0, 1)
    host.bpf.close(link)
    dissector = code(ProgType.FLOW_DISSECTOR, "r0 = 129; exit", host, AttachType.FLOW_DISSECTOR)
    space.bpf.prog_attach(dissector, 0, AttachType.FLOW_DISSECTOR)
    assert host.bpf.prog_query(host.netns_fd(), AttachType.FLOW_DISSECTOR).count == 0
    assert host.bpf.prog_query(space.netns_fd(), AttachType.FLOW_DISSECTOR).count == 1


def test_a_flow_dissector_of_the_first_namespace_is_the_only_one(spaces: Any) -> None:
    # flow_dissector_bpf_prog_attach_check(), net/core/flow_dissector.c
    host, space = spaces
    other = host.netns("c")
    fd = code(ProgType.FLOW_DISSECTOR, "r0 = 129; exit", host, AttachType.FLOW_DISSECTOR)
    with space.attach_netns(fd), other.attach_netns(fd):
        with pytest.raises(KernelError, match="EEXIST"):
            host.attach_netns(fd)
        with pytest.raises(KernelError, match="EEXIST"):
            host.bpf.prog_attach(fd, 0, AttachType.FLOW_DISSECTOR)
    with host.attach_netns(fd), pytest.raises(KernelError, match="EEXIST"):
        space.attach_netns(fd)
