"""Functions of programs as targets: registers are words; nested runs keep their bodies apart."""

from pathlib import Path

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InternalError
from ebpfsim.progs.prog import AttachTarget
from hooks.program_site import ProgramSite

OBJECT = Path(__file__).resolve().parents[2] / "data" / "trampolines" / "targets.bpf.o"


@pytest.fixture(params=["jit", "interp"])
def host(request):
    return Simulation(seed=1).host("a", engine=request.param)


@pytest.fixture
def xmain(host):
    obj = host.open(OBJECT)
    obj.load(only=["xmain"])
    return host.kernel.fds.lookup(obj.programs["xmain"].fd), obj


def test_words_are_registers_and_calls_lead_back_to_the_body(host, xmain) -> None:
    prog, obj = xmain
    sub = next(sub for sub in prog.subprogs if sub.name == "sub_s")
    site = ProgramSite(AttachTarget(prog.btf, sub.type_id, "sub_s", None, prog=prog, subprog=sub))
    assert site.model.nr_words == 5
    calls = []

    def call(cpu, *words):
        calls.append((cpu.number, words[:2]))
        return site.original(cpu, *words) + 1

    site.poke(call)
    assert host.bpf.prog_test_run(obj.programs["xmain"].fd, bytes(64)).retval == 43
    assert calls == [(0, (3, 4))]
    site.poke(None)
    assert host.bpf.prog_test_run(obj.programs["xmain"].fd, bytes(64)).retval == 42


def test_a_function_of_the_kernel_is_none(xmain) -> None:
    prog, _ = xmain
    with pytest.raises(InternalError, match=r"f\(\) is no function of a program"):
        ProgramSite(AttachTarget(prog.btf, 1, "f", None))
