"""tcx: attach, detach, update and query, asked of Linux 6.18 side by side (kernel/bpf/{mprog,tcx}.c).

Facts of "tc: tcx": the order of BEFORE and AFTER, EEXIST, ESTALE, EBUSY, ERANGE, the revision, what is left when the
device goes.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.mprog import BPF_MPROG_MAX

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from tcx_steps import Place, answers  # noqa: E402

# fmt: off
STEPS: list[list[list[Any]]] = [
    [
        ["query"],
        ["attach", "P1"],
        ["attach", "P2"],
        ["attach", "P3", {"flags": "before"}],
        ["attach", "P4", {"flags": "after"}],
        ["attach", "P1"],
        ["attach", "P5", {"flags": "before after"}],
        ["attach", "P5", {"flags": "before", "rel": "P1"}],
        ["attach", "P6", {"flags": "after", "rel": "P1"}],
        ["attach", "P7", {"rel": "P1"}],
        ["attach", "P7", {"flags": "before", "rel": "P9"}],
        ["attach", "P7", {"flags": "before", "rel": "bad"}],
        ["attach", "P7", {"revision": 99}],
        ["attach", "P7", {"revision": 7}],
        ["attach", "P8", {"flags": "replace", "old": "P2"}],
        ["attach", "P9", {"flags": "replace", "old": "P2"}],
        ["attach", "P9", {"flags": "replace before", "old": "P8", "rel": "P4"}],
        ["attach", "P10", {"flags": "replace before", "old": "P1", "rel": "P6"}],
        ["detach", "P1"],
        ["detach", ""],
        ["detach", "", {"flags": "before"}],
        ["detach", "", {"flags": "after"}],
        ["detach", "", {"flags": "before", "rel": "P6"}],
        ["detach", "P99"],
        ["detach", "P6", {"flags": "before", "rel": "P6"}],
        ["detach", "P6", {"flags": "replace"}],
    ],
    [
        ["attach", "P5", {"flags": "before after"}],
        ["detach", "P1"],
        ["attach", "S1"],
        ["link", "L1", {"prog": "P1"}],
        ["link", "L2", {"prog": "P2", "flags": "before link", "rel": "L1"}],
        ["attach", "P3", {"flags": "after", "rel": "P2"}],
        ["attach", "P4", {"flags": "after link id", "rel": "L1"}],
        ["detach", "P1"],
        ["detach", ""],
        ["attach", "P9", {"flags": "replace", "old": "P1"}],
        ["update", "L1", {"prog": "P10"}],
        ["update", "L1", {"prog": "P3"}],
        ["update", "L1", {"prog": "P11", "old": "P1"}],
        ["update", "L1", {"prog": "P11", "old": "P10"}],
        ["update", "L1", {"prog": "S1"}],
        ["unlink", "L1"],
        ["info", "L1"],
        ["update", "L1", {"prog": "P12"}],
        ["unlink", "L1"],
        ["link", "L3", {"prog": "P3"}],
        ["link", "L3", {"prog": "P20", "flags": "link"}],
        ["link", "L3", {"prog": "P20", "flags": "before link id", "rel": "P3"}],
        ["link", "L3", {"prog": "P20", "flags": "replace", "rel": "P3"}],
        ["link", "L3", {"prog": "S3"}],
        ["close", "L2"],
        ["info", "L1"],
        ["detach", "", {"flags": "link"}],
        ["detach", "", {"flags": "id"}],
        ["detach", "", {"revision": 3}],
    ],
    # 63 entries are the most, wherever the next one shall go
    [
        *(["attach", f"P{number}"] for number in range(BPF_MPROG_MAX)),
        ["attach", "P90"],
        ["attach", "P90", {"flags": "before"}],
        ["attach", "P90", {"flags": "before", "rel": "P7"}],
        ["attach", "P90", {"flags": "replace", "old": "P7"}],
    ],
]
# fmt: on


@pytest.fixture(scope="module")
def linux() -> Any:
    """What Linux answers to all steps, in a network namespace of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "tcx_steps.py")],
        input=json.dumps(STEPS),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.live
@pytest.mark.parametrize("number", range(len(STEPS)))
def test_steps_as_on_linux(linux: Any, number: int) -> None:
    said = json.loads(json.dumps(answers(Simulation().host("h").bpf, STEPS[number])))
    for step, ours, theirs in zip(STEPS[number], said, linux[number], strict=True):
        assert ours == theirs, step


@pytest.fixture
def host() -> Any:
    return Simulation().host("h")


def load(host: Any) -> int:
    fd: int = host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble("r0 = -1; exit"))).fd
    return fd


def test_link_info(host: Any) -> None:
    """hooks-6.12.md "Link info": type 11, ifindex, attach_type 46."""
    fd = host.bpf.link_create(load(host), 1, AttachType.TCX_INGRESS)
    info = host.bpf.obj_get_info_by_fd(fd)
    assert (info.type, info.ifindex, info.attach_type) == (LinkType.TCX, 1, 46)


def test_device_gone(host: Any) -> None:
    """Fact: "device gone: ifindex 0, update ENOLINK, detach 0"."""
    host.nic("eth0")
    prog = load(host)
    link = host.bpf.link_create(prog, 2, AttachType.TCX_EGRESS)
    host.bpf.prog_attach(load(host), 2, AttachType.TCX_EGRESS)
    host.device("eth0").tcx.uninstall()
    assert host.bpf.obj_get_info_by_fd(link).ifindex == 0
    with pytest.raises(KernelError, match="ENOLINK"):
        host.bpf.link_update(link, load(host))
    host.bpf.link_detach(link)
    assert host.bpf.prog_query(2, AttachType.TCX_EGRESS).prog_ids == ()


def test_the_revision_starts_anew(host: Any) -> None:
    """An entry goes with its last program (tcx_entry_is_active), and its revision with it."""
    place = Place(host.bpf)
    assert place.step("attach", "P1")[0] == 2
    assert place.step("detach", "P1") == [1, [], []]
    assert place.step("attach", "P1")[0] == 2


def test_references_are_given_back(host: Any) -> None:
    fds = [load(host) for _ in range(3)]
    progs = [host.prog(fd) for fd in fds]
    before = [prog.refs for prog in progs]
    link = host.bpf.link_create(fds[0], 1, AttachType.TCX_INGRESS)
    host.bpf.prog_attach(fds[1], 1, AttachType.TCX_INGRESS)
    host.bpf.link_update(link, fds[2])
    assert [prog.refs for prog in progs] != before
    host.bpf.close(link)
    host.bpf.prog_detach(fds[1], 1, AttachType.TCX_INGRESS)
    assert [prog.refs for prog in progs] == before


def test_notes_tell_the_order(host: Any) -> None:
    host.bpf.link_create(load(host), 1, AttachType.TCX_INGRESS)
    host.bpf.prog_attach(load(host), 1, AttachType.TCX_INGRESS, flags=1 << 3)
    first, second = host.sim.recorder.notes[-2:]
    assert (first.kind, first.details["order"], first.details["link"]) == ("attach", "1", "link 1")
    assert (second.details["order"], second.details["revision"]) == ("2 1", 3)
