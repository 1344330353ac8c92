"""What changing hooks costs: ``python -m pytest tests/bench/test_hooks.py -m bench -s``. CPU time, medians."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P
from hooks.text import GRACE_NS

pytestmark = pytest.mark.bench

GOAL_US = 200
ROUNDS = 101
KINDS = {"fentry": [A.TRACE_FENTRY], "mixed": [A.TRACE_FENTRY, A.MODIFY_RETURN, A.TRACE_FEXIT]}
FUNCTION = "bpf_modify_return_test"


def timed_us(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time_ns()
    found = call()
    return (time.process_time_ns() - start) / 1000, found


def report(what: str, times: list[float]) -> None:
    median = statistics.median(times)
    print(f"{what}: {median:.0f} us (best {min(times):.0f}, goal {GOAL_US})")
    assert median < GOAL_US


@pytest.mark.parametrize("kinds", KINDS)
def test_attaching_to_a_trampoline_of_37_programs(kinds: str) -> None:
    kernel = Simulation().host("h", cpus=2).kernel
    code, number = encode(assemble("r0 = 0; exit")), vmlinux().find(FUNCTION, Kind.FUNC)

    def load(kind: A) -> int:
        return kernel.bpf.prog_load(P.TRACING, code, expected_attach_type=kind, attach_btf_id=number).fd

    for at in range(37):
        kind = KINDS[kinds][at % len(KINDS[kinds])]
        kernel.bpf.link_create(load(kind), 0, kind)
    attach, detach = [], []
    for at in range(ROUNDS):
        kind = KINDS[kinds][at % len(KINDS[kinds])]
        fd = load(kind)
        took, link = timed_us(lambda fd=fd, kind=kind: kernel.bpf.link_create(fd, 0, kind))
        attach.append(took)
        detach.append(timed_us(lambda link=link: kernel.bpf.close(link))[0])
        kernel.clock.run(kernel.clock.now_ns + GRACE_NS)
    report(f"attach to a trampoline of 37 ({kinds})", attach)
    report(f"detach from one of 38 ({kinds})", detach)


def test_rebuilding_a_dispatcher_of_48() -> None:
    kernel = Simulation().host("h").kernel
    code = encode(assemble("r0 = 2; exit"))
    progs = [kernel.fds.lookup(kernel.bpf.prog_load(P.XDP, code).fd) for _ in range(60)]
    dispatcher = kernel.xdp_dispatcher
    for prog in progs[:47]:
        dispatcher.change_prog(None, prog)
    add, remove = [], []
    for at in range(ROUNDS):
        prog = progs[47 + at % 13]
        add.append(timed_us(lambda prog=prog: dispatcher.change_prog(None, prog))[0])
        assert dispatcher.num_progs == 48
        remove.append(timed_us(lambda prog=prog: dispatcher.change_prog(prog, None))[0])
    report("dispatcher of 48, one more", add)
    report("dispatcher of 47, one less", remove)


def test_replacing_the_program_of_a_link_under_packets() -> None:
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"))
    code = encode(assemble("r0 = 1; exit"))
    progs = [b.bpf.prog_load(P.XDP, code, name=f"p{number}").fd for number in range(2)]
    link = b.bpf.link_create(progs[0], b.device("eth0").ifindex, A.XDP)
    start = time.process_time_ns()
    for number in range(500):
        a.send("eth0", bytes(64), at=number * 1000)
        sim.clock.call_at(number * 1000 + 500, lambda n=number: b.bpf.link_update(link, progs[(n + 1) % 2]))
    sim.run()
    print(f"500 packets and 500 replacements: {(time.process_time_ns() - start) / 1e6:.0f} ms")
    runs = [run.prog for run in sim.recorder.runs if run.hook == "xdp"]
    assert len(runs) == 500
    assert set(runs) == {"p0", "p1"}
