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


def test_engines_agree_on_traced_traffic() -> None:
    # results, runs, instructions and costs, while a tracer comes and goes
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    outcomes = []
    for config in ({"engine": "jit"}, {"engine": "interp"}, {"engine": "jit", "debug": True}):
        sim = Simulation(seed=1)
        a, b = sim.host("a"), sim.host("b", **config)
        sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="10Gbit", delay="20us")
        target = b.open(OBJECT)
        target.load(only=["xmain"])
        xdp = b.attach_xdp(target.programs["xmain"], "eth0")
        links, objects = [], []
        for name in ("fentry_xmain", "fexit_xmain", "fexit_sub_s"):
            obj = b.open(OBJECT)
            obj.programs[name].attach_prog_fd = target.programs["xmain"].fd
            obj.load(only=[name])
            objects.append(obj)
            links.append(b.auto_attach(obj.programs[name]))
        a.send("eth0", Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(dport=53), count=40, every="10us")
        sim.run(until="200us")
        links[0].close()
        sim.run()
        runs = sim.recorder.runs
        costs = [(run.hook, run.prog, run.insns, run.cost_ps, run.retval) for run in runs]
        seen = [list(obj.bss["seen"]) for obj in objects]
        outcomes.append((xdp.verdicts, [link.runs for link in links], costs, seen, b.kernel.cpus[0].elapsed_ps))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0][1][1:] == [40, 40]
    assert 0 < outcomes[0][1][0] < 40
