"""Trampolines: generations, text pokes, recursion, statistics, costs. Orders and errnos are in tests/facts."""

import importlib.util
import time
from itertools import pairwise
from pathlib import Path

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P
from hooks.dispatcher_image import NOP_FUNC
from hooks.text import GRACE_NS
from hooks.trampoline_image import JMP, branch_to
from tracing.kallsyms import Kallsyms

_CONFTEST = Path(__file__).resolve().parents[1] / "ebpfsim" / "conftest.py"
_spec = importlib.util.spec_from_file_location("kernels", _CONFTEST)
assert _spec
assert _spec.loader
_kernels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_kernels)
TEST1 = "bpf_fentry_test1"


@pytest.fixture
def host():
    return _kernels.make_kernel_of_two_cpus()


@pytest.fixture
def attach(host):
    def attach(kind=A.TRACE_FENTRY, code="r0 = 0; exit", function=TEST1, **attributes):
        btf_id = vmlinux().find(function, Kind.FUNC)
        fd = host.bpf.prog_load(
            P.TRACING, encode(assemble(code)), expected_attach_type=kind, attach_btf_id=btf_id, **attributes
        ).fd
        return host.bpf.link_create(fd, 0, kind), host.fds.lookup(fd)

    return attach


def test_every_change_is_a_generation_with_an_image_of_its_own(host, attach) -> None:
    links = [attach()[0] for _ in range(3)]
    (trampoline,) = host.trampolines.by_key.values()
    assert trampoline.generations == 3
    assert trampoline.name == f"bpf_trampoline_{(1 << 32) | 0x80000000 | vmlinux().find(TEST1, Kind.FUNC)}"
    assert host.text.nr_retired == 2
    for link in links:
        host.bpf.close(link)
    assert host.text.images == {}
    # images count their bytes, those that wait for a grace period too (bpf_tramp_image_free)
    sizes = [note.details["image_bytes"] for note in host.recorder.notes if note.kind == "trampoline"]
    assert host.text.charged == sum(sizes) == host.text.charged_most
    host.clock.now_ns += GRACE_NS
    host.text.reclaim()
    assert host.text.charged == 0
    assert host.text.freed == host.text.allocated == 5
    assert not host.trampolines.by_key


def test_pokes_chain_from_nop_to_nop(host, attach) -> None:
    for link in [attach()[0], attach(A.TRACE_FEXIT)[0]]:
        host.bpf.close(link)
    pokes = [note.details for note in host.recorder.notes if note.kind == "text_poke"]
    assert len(pokes) == 4
    assert pokes[0]["old"] == pokes[-1]["new"] == "0f1f440000"
    assert all(before["new"] == after["old"] for before, after in pairwise(pokes))
    assert all(poke["new"].startswith("e8") for poke in pokes[:-1])


def test_a_call_ends_in_the_generation_in_which_it_began(host, attach) -> None:
    seen = []
    function = host.functions.site(TEST1)
    first, _ = attach(name="first")

    original = function._function

    def changing(cpu, a):
        host.bpf.close(first)
        attach(A.TRACE_FEXIT, name="late")
        return original(cpu, a)

    attach(A.TRACE_FEXIT, name="early")
    function._function = changing
    assert host.functions.bpf_fentry_test1(host.cpus[0], 1) == 2
    function._function = original
    seen = [run.prog for run in host.recorder.runs]
    assert seen == ["first", "early"]
    host.functions.bpf_fentry_test1(host.cpus[0], 1)
    assert [run.prog for run in host.recorder.runs[2:]] == ["late", "early"]


def test_recursion_is_by_program_and_counted(host, attach) -> None:
    site = host.functions.site(TEST1)
    original = site._function
    _, outer = attach(name="p")
    _, other = attach(A.TRACE_FEXIT, name="x")
    outer.active[0] = 1
    host.functions.bpf_fentry_test1(host.cpus[0], 1)
    assert [run.prog for run in host.recorder.runs] == ["x"]
    assert (outer.stats.recursion_misses, other.stats.recursion_misses) == (1, 0)
    # it is counted for each CPU by itself
    host.functions.bpf_fentry_test1(host.cpus[1], 1)
    assert [run.prog for run in host.recorder.runs] == ["x", "p", "x"]
    assert site._function is original


def test_statistics_cover_the_body_only(host, attach) -> None:
    _, prog = attach(code="r0 = 0; exit")
    host.bpf.enable_stats(0)
    cpu = host.cpus[0]
    before = cpu.elapsed_ps
    host.functions.bpf_fentry_test1(cpu, 1)
    costs = host.costs
    assert cpu.elapsed_ps - before == costs.ps("fentry") + 2 * costs.ps("insn") + costs.ps("stats")
    assert prog.stats.run_cnt == 1
    assert prog.stats.run_time_ns <= 1


def test_images_are_the_same_in_every_run(attach, host) -> None:
    def image(kernel) -> bytes:
        (trampoline,) = kernel.trampolines.by_key.values()
        return kernel.text.code(trampoline.generation.image)

    other = _kernels.make_kernel_of_two_cpus()
    for kernel in (host, other):
        for kind in (A.TRACE_FENTRY, A.TRACE_FEXIT):
            btf_id = vmlinux().find(TEST1, Kind.FUNC)
            fd = kernel.bpf.prog_load(
                P.TRACING, encode(assemble("r0 = 0; exit")), expected_attach_type=kind, attach_btf_id=btf_id
            ).fd
            kernel.bpf.link_create(fd, 0, kind)
    assert image(host) == image(other)


def test_regeneration_of_37_programs_takes_less_than_200_us(host, attach) -> None:
    links = [attach(A.TRACE_FENTRY if number % 2 else A.TRACE_FEXIT)[0] for number in range(37)]
    (trampoline,) = host.trampolines.by_key.values()
    assert len(links) == trampoline.nr_links == 37
    times = []
    for _ in range(21):
        start = time.process_time_ns()
        trampoline._update()
        times.append(time.process_time_ns() - start)
    # the goal is 200 us on a free machine
    assert sorted(times)[10] < 600_000


def test_the_dispatcher_of_xdp_is_rebuilt_in_the_spare_half_in_less_than_200_us(host) -> None:
    code = encode(assemble("r0 = 2; exit"))
    progs = [host.fds.lookup(host.bpf.prog_load(P.XDP, code).fd) for _ in range(48)]
    dispatcher, times, places = host.xdp_dispatcher, [], []
    for prog in progs:
        start = time.process_time_ns()
        dispatcher.change_prog(None, prog)
        times.append(time.process_time_ns() - start)
        places.append(dispatcher.image.image_off)
    assert places[:4] == [0, 2048, 0, 2048]
    assert 0 < len(dispatcher.code()) <= 2048
    assert host.text.images["bpf_dispatcher_xdp"] is dispatcher.page
    # the goal is 200 us on a free machine
    assert sorted(times[-9:])[4] < 600_000
    for prog in progs:
        dispatcher.change_prog(prog, None)
    assert dispatcher.code() == b""
    pokes = [note.details for note in host.recorder.notes if note.details.get("site") == "bpf_dispatcher_xdp_func"]
    assert pokes[0]["old"] == pokes[-1]["new"] == branch_to(JMP, int(pokes[0]["address"]), NOP_FUNC).hex()
    assert Kallsyms(host).name_of(NOP_FUNC) == "bpf_dispatcher_nop_func"
