"""Lists of programs of netkit devices (drivers/net/netkit.c, v6.18); Linux 6.12.117 gave revisions and errnos."""

import pytest

from ebpfsim import KernelError, Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

PRIMARY, PEER = AttachType.NETKIT_PRIMARY, AttachType.NETKIT_PEER


@pytest.fixture
def host():
    """nk0 has number 3, its peer nk1 number 2."""
    host = Simulation(seed=1).host("h")
    host.netkit("nk0", "nk1")
    return host


def program(host, verdict: int = -1) -> int:
    return host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(f"r0 = {verdict}; exit"))).fd


def test_both_lists_are_reached_by_the_primary(host) -> None:
    for kind in (PRIMARY, PEER):
        host.bpf.link_create(program(host), 3, kind)
        assert host.bpf.prog_query(3, kind).revision == 2
    for device in ("nk0", "nk1"):
        assert len(host.device(device).netkit.active.mprog.items) == 1
    with pytest.raises(KernelError) as refused:
        host.bpf.prog_query(2, PRIMARY)
    assert refused.value.errno == 13


def test_revisions_go_on_when_a_list_is_empty(host) -> None:
    """Unlike those of tcx, whose entries come and go with their programs."""
    fd = program(host)
    host.bpf.prog_attach(fd, 3, PRIMARY)
    host.bpf.prog_detach(fd, 3, PRIMARY)
    assert host.bpf.prog_query(3, PRIMARY).revision == 3


def test_links_replace_their_program_and_leave(host) -> None:
    link = host.bpf.link_create(program(host), 3, PEER)
    new = program(host, 0)
    host.bpf.link_update(link, new)
    assert host.bpf.obj_get_info_by_fd(link).prog_id == host.kernel.fds.lookup(new).id
    host.bpf.link_detach(link)
    assert host.bpf.obj_get_info_by_fd(link).ifindex == 0
    with pytest.raises(KernelError) as refused:
        host.bpf.link_update(link, program(host))
    assert refused.value.errno == 67  # ENOLINK


def test_records_name_the_hook(host) -> None:
    host.bpf.link_create(program(host), 3, PEER)
    (note,) = [note for note in host.sim.recorder.notes if note.kind == "attach"]
    assert note.text.startswith("netkit_peer attach: program")
    assert note.details["device"] == "nk1"
