"""bpf_prog_run_xdp: dispatcher, records, warnings, costs."""

from typing import Any

import pytest

from ebpfsim.costs import load_profile
from ebpfsim.uapi.net import XdpAction
from netstack.xdp_buff import make_xdp_buff
from netstack.xdp_run import XdpCosts, XdpRun

COSTS = load_profile("skx3")


class Bench:
    """A host with eth0, and one frame to run programs on."""

    def __init__(self, lab: Any, **config: Any) -> None:
        self.lab = lab
        self.net = lab.net("r", **config)
        self.eth0 = self.net.add_nic("eth0")
        self.xdp = make_xdp_buff(lab.mem, bytes(64), self.eth0.xdp_rxq(0))
        self.cpu = self.net.kernel.cpus[0]

    def run(self, prog: Any, hook: str = "xdp", label: str = "") -> XdpRun:
        run: XdpRun = self.net.xdp.runner.bpf_prog_run_xdp(prog, self.xdp, self.cpu, hook, self.eth0, label)
        return run


@pytest.fixture
def bench(lab: Any) -> Bench:
    return Bench(lab)


def test_a_run_is_recorded(bench: Bench) -> None:
    prog = bench.lab.prog(bench.net, "r0 = 1; r0 += 1; exit")
    bench.cpu.charge(5_000)
    run = bench.run(prog, label="guard")
    (record,) = bench.lab.recorder.runs
    assert (run.act, run.verdict) == (2, XdpAction.XDP_PASS)
    assert (record.host, record.cpu, record.hook, record.device, record.link) == ("r", 0, "xdp", "eth0", "guard")
    assert (record.prog, record.prog_id, record.retval, record.verdict) == ("p", prog.id, 2, "XDP_PASS")
    # three instructions of 0.3 ns; the time is that at which the run began
    assert (record.insns, record.cost_ps, record.tail_calls, record.time_ns) == (3, 900, 0, 5)


@pytest.mark.parametrize(
    ("mitigations", "attached", "dispatch_ps"),
    [("auto", True, 2_200), ("off", True, 2_200), ("auto", False, 12_000), ("off", False, 1_500)],
)
def test_the_way_there_costs(lab: Any, mitigations: str, attached: bool, dispatch_ps: int) -> None:
    """Rows dispatcher.hit, call.indirect.retpoline and call.indirect of the profile."""
    bench = Bench(lab, mitigations=mitigations)
    prog = lab.prog(bench.net, "r0 = 1; exit")
    if attached:
        lab.attach(bench.eth0, prog)
    before_ps = bench.cpu.elapsed_ps
    run = bench.run(prog)
    assert run.cost_ps == bench.cpu.elapsed_ps - before_ps == dispatch_ps + 600
    assert lab.recorder.runs[0].cost_ps == 600


@pytest.mark.parametrize(("act", "what"), [(5, "Illegal"), (77, "Illegal"), (0xFFFFFFFF, "Illegal")])
def test_an_illegal_verdict_aborts_and_warns_once(bench: Bench, act: int, what: str) -> None:
    prog = bench.lab.prog(bench.net, f"w0 = {act}; exit")
    assert [bench.run(prog).verdict for _ in range(2)] == [XdpAction.XDP_ABORTED] * 2
    warning, first, second = bench.lab.recorder.notes
    text = f"{what} XDP return value {act} on prog p (id {prog.id}) dev eth0, expect packet loss!"
    assert (warning.kind, warning.text) == ("warning", text)
    assert first.text == second.text == f"prog_id={prog.id} action={act:#x} ifindex={bench.eth0.ifindex}"
    assert (bench.lab.recorder.runs[0].retval, bench.lab.recorder.runs[0].verdict) == (act, "XDP_ABORTED")


def test_aborted_is_an_exception_without_a_warning(bench: Bench) -> None:
    prog = bench.lab.prog(bench.net, "r0 = 0; exit")
    bench.run(prog)
    (note,) = bench.lab.recorder.notes
    assert (note.kind, note.text) == ("xdp_exception", f"prog_id={prog.id} action=ABORTED ifindex=2")


@pytest.mark.parametrize(("act", "verdict"), [(0, 0), (1, 1), (2, 2), (3, 0), (4, 0)])
def test_programs_of_devmaps_only_pass_or_drop(bench: Bench, act: int, verdict: int) -> None:
    run = bench.run(bench.lab.prog(bench.net, f"r0 = {act}; exit"), hook="xdp_devmap")
    assert (run.act, run.verdict) == (act, verdict)
    warnings = [note.text for note in bench.lab.recorder.notes if note.kind == "warning"]
    # dev_map_bpf_prog_run() passes no device to the warning
    text = f"Driver unsupported XDP return value {act} on prog p (id 1) dev N/A, expect packet loss!"
    assert warnings == ([text] if act in (3, 4) else [])


def test_a_packet_costs_what_was_published(bench: Bench) -> None:
    """facts/costs.md, section 12: XDP TX 60 ns, redirect by devmap 116 ns, both for the whole packet."""
    costs = XdpCosts(COSTS)
    to_the_program_ps = costs.driver_ps + COSTS.ps("dispatcher.hit")
    assert (to_the_program_ps + costs.tx_ps, to_the_program_ps + costs.redirect_ps) == (60_000, 116_000)
    # XDP no-op before stack: 13.3 ns with its call
    assert COSTS.ps("dispatcher.hit") + costs.pass_ps == 13_300


def test_run_statistics(lab: Any) -> None:
    """facts/kernel-6.18.md: run_cnt and run_time advance only while statistics are on. Row stats: 20 ns."""
    for stats in (False, True):
        bench = Bench(lab, stats=stats)
        prog = lab.prog(bench.net, "r0 = 1; exit")
        before_ps = bench.cpu.elapsed_ps
        for _ in range(10):
            bench.run(prog)
        # a retpoline of 12 ns and two instructions of 0.3 ns
        assert bench.cpu.elapsed_ps - before_ps == 10 * (12_600 + 20_000 * stats)
        assert (prog.stats.run_cnt, prog.stats.run_time_ns) == ((10, 126) if stats else (0, 0))
