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

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import LinkType, ProgType

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
