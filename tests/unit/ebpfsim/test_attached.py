"""Attachments as users hold them, over a whole simulated kernel."""

import pytest

from ebpfsim import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.simulation import Host, Simulation
from ebpfsim.uapi.bpf import ProgType

PASS, DROP = "r0 = 2; exit", "r0 = 1; exit"
FRAME = bytes.fromhex("020000000201020000000101 88b5") + bytes(46)


@pytest.fixture
def host() -> Host:
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0"), b.nic("eth0"), delay=1000)
    return b


def load(host: Host, text: str) -> int:
    return host.bpf.prog_load(ProgType.XDP, encode(assemble(text)), name="p").fd


def send(host: Host, count: int) -> None:
    host.sim.hosts["a"].send("eth0", FRAME, count=count)
    host.sim.run()


def test_link_counts_verdicts_and_can_change_its_program(host: Host) -> None:
    link = host.attach_xdp(load(host, DROP), "eth0")
    send(host, 3)
    link.update(load(host, PASS))
    send(host, 2)
    assert (link.runs, link.verdicts) == (5, {"XDP_DROP": 3, "XDP_PASS": 2})
    assert link.info()["ifindex"] == host.device("eth0").ifindex


def test_update_with_the_wrong_old_program_is_refused(host: Host) -> None:
    # facts: link_update with F_REPLACE and the wrong old program EPERM
    link = host.attach_xdp(load(host, DROP), "eth0")
    with pytest.raises(KernelError) as refused:
        link.update(load(host, PASS), old=load(host, PASS))
    assert refused.value.errno_name == "EPERM"


def test_link_as_a_context_manager_leaves_its_hook_at_the_end(host: Host) -> None:
    with host.attach_xdp(load(host, DROP), "eth0") as link:
        send(host, 1)
    send(host, 1)
    assert link.runs == 1
    assert host.device("eth0").xdp.active is None
    link.close()


def test_pinned_link_outlives_its_descriptor(host: Host) -> None:
    link = host.attach_xdp(load(host, DROP), "eth0")
    link.pin("/sys/fs/bpf/guard")
    link.close()
    send(host, 1)
    assert link.runs == 1
    assert host.bpf.obj_get_info_by_fd(host.bpf.obj_get("/sys/fs/bpf/guard")).id == link.id


def test_detached_link_stays_without_a_hook(host: Host) -> None:
    # facts: after detach ENOLINK and ifindex 0
    link = host.attach_xdp(load(host, DROP), "eth0")
    link.detach()
    assert link.info()["ifindex"] == 0
    with pytest.raises(KernelError) as refused:
        link.update(load(host, PASS))
    assert refused.value.errno_name == "ENOLINK"
