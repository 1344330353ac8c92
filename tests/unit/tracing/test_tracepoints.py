"""Tracepoints: slots, notes, the scheduler's. What Linux answers is in tests/facts/test_tracepoints.py."""

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from tracing.tracepoints import SCHED_TRACEPOINTS, _nothing


@pytest.fixture
def kernel():
    return Simulation(seed=1).host("a").kernel


def test_without_programs_a_slot_does_nothing(kernel) -> None:
    assert kernel.tracepoints.bpf_trigger_tp is _nothing
    fd = kernel.bpf.prog_load(ProgType.RAW_TRACEPOINT, encode(assemble("r0 = 0; exit")), name="p").fd
    link = kernel.bpf.raw_tracepoint_open("bpf_trigger_tp", fd)
    kernel.tracepoints.bpf_trigger_tp(kernel.cpus[0], 1)
    kernel.bpf.close(link)
    kernel.tracepoints.bpf_trigger_tp(kernel.cpus[0], 1)
    assert kernel.tracepoints.bpf_trigger_tp is _nothing
    assert [(run.hook, run.device, run.prog) for run in kernel.recorder.runs] == [("raw_tp", "bpf_trigger_tp", "p")]
    assert [note.kind for note in kernel.recorder.notes] == ["attach", "detach"]


def test_names_that_the_kernel_does_not_have(kernel) -> None:
    with pytest.raises(AttributeError, match="no_such_tracepoint"):
        kernel.tracepoints.fire(kernel.cpus[0], "no_such_tracepoint")


def test_a_program_that_is_under_way_is_missed(kernel) -> None:
    fd = kernel.bpf.prog_load(ProgType.RAW_TRACEPOINT, encode(assemble("r0 = 0; exit"))).fd
    kernel.bpf.raw_tracepoint_open("bpf_trigger_tp", fd)
    prog = kernel.fds.lookup(fd)
    prog.active[0] = 1
    kernel.tracepoints.bpf_trigger_tp(kernel.cpus[0], 1)
    assert (prog.stats.recursion_misses, kernel.recorder.runs) == (1, [])


@pytest.mark.parametrize("name", SCHED_TRACEPOINTS)
def test_the_schedulers_can_be_attached_to(kernel, name: str) -> None:
    assert kernel.tracepoints.get(name).num_args > 0
