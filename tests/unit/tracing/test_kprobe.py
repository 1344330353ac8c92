"""Probes: registers, links and their references. What Linux answers is in tests/facts/test_kprobes.py."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType


@pytest.fixture
def kernel():
    return Simulation(seed=1).host("a").kernel


def test_the_seventh_argument_is_on_the_stack(kernel) -> None:
    # PT_REGS_SP: the return address, then the argument
    map_fd = kernel.bpf.map_create(2, 4, 8, 1)
    text = f"""
        r3 = *(u64 *)(r1 + 152); r3 += 8; r1 = r10; r1 += -16; r2 = 8; call bpf_probe_read_kernel
        *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map_fd}]; call bpf_map_lookup_elem
        if r0 == 0 goto out; r7 = *(u64 *)(r10 - 16); *(u64 *)(r0 + 0) = r7; out: r0 = 0; exit
    """
    fd = kernel.bpf.prog_load(ProgType.KPROBE, encode(assemble(text))).fd
    kernel.kprobes.attach(kernel.fds.lookup(fd), kernel.kprobes.open("bpf_modify_return_test2"))
    room = kernel.mem.alloc(8)
    kernel.functions.bpf_modify_return_test2(kernel.cpus[0], 1, room, 3, 4, 5, 6, 77)
    assert kernel.bpf.map_lookup_elem(map_fd, bytes(4)) == (77).to_bytes(8, "little")


def test_costs_and_notes(kernel) -> None:
    fd = kernel.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit")), name="p").fd
    event = kernel.fds.install(kernel.kprobes.open("bpf_fentry_test1", is_return=True))
    link = kernel.bpf.link_create(fd, event, AttachType.PERF_EVENT)
    cpu = kernel.cpus[0]
    before = cpu.elapsed_ps
    kernel.functions.bpf_fentry_test1(cpu, 1)
    assert cpu.elapsed_ps - before == kernel.costs.ps("kretprobe") + 2 * kernel.costs.ps("insn")
    kernel.bpf.close(link)
    texts = [note.text for note in kernel.recorder.notes]
    assert texts == [f"kretprobe {kind}: program 'p' (id 1), bpf_fentry_test1" for kind in ("attach", "detach")]


def test_a_link_keeps_its_event(kernel) -> None:
    fd = kernel.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit"))).fd
    event = kernel.kprobes.open("bpf_fentry_test1")
    event_fd = kernel.fds.install(event)
    link = kernel.bpf.link_create(fd, event_fd, AttachType.PERF_EVENT)
    kernel.bpf.close(event_fd)
    assert event.refs == 1
    kernel.bpf.close(link)
    assert event.refs == 0


def test_offsets_are_not_modelled(kernel) -> None:
    with pytest.raises(NotModelled, match=r"bpf_fentry_test1\+0x5"):
        kernel.kprobes.open("bpf_fentry_test1", 5)
