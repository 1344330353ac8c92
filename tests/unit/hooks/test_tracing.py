"""Links on trampolines: notes and references. Rules and errnos are in tests/facts/test_trampolines.py."""

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P


@pytest.fixture
def host():
    return Simulation(seed=1).host("a")


def load(host, function: str, kind: A = A.TRACE_FENTRY) -> int:
    btf_id = vmlinux().find(function, Kind.FUNC)
    code = encode(assemble("r0 = 0; exit"))
    return host.bpf.prog_load(P.TRACING, code, name="p", expected_attach_type=kind, attach_btf_id=btf_id).fd


def test_attaching_and_detaching_are_notes(host) -> None:
    fd = load(host, "bpf_fentry_test1")
    host.bpf.close(host.bpf.link_create(fd, 0, A.TRACE_FENTRY))
    kinds = [note.kind for note in host.kernel.recorder.notes]
    assert kinds == ["text_poke", "trampoline", "attach", "text_poke", "trampoline", "detach"]
    attach = host.kernel.recorder.notes[2]
    assert attach.text == "fentry attach: program 'p' (id 1) to bpf_fentry_test1()"
    assert attach.details == {"hook": "fentry", "target": "bpf_fentry_test1", "prog_id": 1, "link": "link 1"}


def test_a_refused_link_leaves_nothing(host) -> None:
    fd = load(host, "__schedule")
    prog = host.kernel.fds.lookup(fd)
    refs = prog.refs
    with pytest.raises(KernelError, match="EBUSY"):
        host.bpf.link_create(fd, 0, A.TRACE_FENTRY)
    assert prog.refs == refs
    assert not len(host.kernel.links)
    assert not host.kernel.trampolines.by_key


def test_only_replacements_may_be_given_another_target(host) -> None:
    fd = load(host, "bpf_fentry_test1")
    with pytest.raises(KernelError, match="EINVAL"):
        host.bpf.link_create(fd, fd, A.TRACE_FENTRY, target_btf_id=1)
    with pytest.raises(KernelError, match="EINVAL"):
        host.bpf.link_create(fd, fd, A.TRACE_FENTRY)
