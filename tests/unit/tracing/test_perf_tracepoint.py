"""Programs on records: events, links and their references. Linux' answers are in tests/facts/test_trace_events.py."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType


@pytest.fixture
def host():
    return Simulation(seed=1).host("h", cpus=1)


@pytest.fixture
def load(host):
    def load(text: str = "r0 = 0; exit", **attributes) -> int:
        return host.bpf.prog_load(ProgType.TRACEPOINT, encode(assemble(text)), **attributes).fd

    return load


def test_costs_and_notes(host, load) -> None:
    link = host.attach_tracepoint(load(name="p"), "syscalls", "sys_enter_getpid")
    task = host.spawn("worker")
    host.syscall(task, "getpid")
    host.syscall(task, "getppid")
    costs = host.kernel.costs
    assert (link.runs, link.stats.run_cost_ps) == (1, costs.ps("tracepoint") + 2 * costs.ps("insn"))
    run = host.kernel.recorder.runs[-1]
    assert (run.hook, run.device, run.prog) == ("tracepoint", "syscalls:sys_enter_getpid", "p")
    link.close()
    texts = [note.text for note in host.kernel.recorder.notes]
    assert texts == [
        f"tracepoint {kind}: program 'p' (id 1), syscalls:sys_enter_getpid" for kind in ("attach", "detach")
    ]


def test_a_link_keeps_its_event_and_the_last_event_its_probe(host, load) -> None:
    kernel = host.kernel
    event = kernel.perf_tracepoints.open("sched", "sched_switch")
    event_fd = kernel.fds.install(event)
    link = host.bpf.link_create(load(), event_fd, AttachType.PERF_EVENT)
    host.bpf.close(event_fd)
    assert event.refs == 1
    assert len(kernel.tracepoints.get("sched_switch").probes) == 1
    host.bpf.close(link)
    assert event.refs == 0
    assert not kernel.tracepoints.get("sched_switch").probes


def test_system_calls_share_one_probe(host, load) -> None:
    sys_enter = host.kernel.tracepoints.get("sys_enter")
    links = [host.attach_tracepoint(load(), "syscalls", f"sys_enter_{name}") for name in ("getpid", "read", "getpid")]
    assert len(sys_enter.probes) == 1
    for link in links:
        link.close()
    assert not sys_enter.probes


def test_names(host) -> None:
    perf_tracepoints = host.kernel.perf_tracepoints
    with pytest.raises(KernelError, match="ENOENT"):
        perf_tracepoints.open("sched", "sched_swich")
    with pytest.raises(NotModelled, match="block:block_rq_complete"):
        perf_tracepoints.open("block", "block_rq_complete")
    with pytest.raises(NotModelled, match="syscalls:sys_enter_kexec_load"):
        perf_tracepoints.open("syscalls", "sys_enter_kexec_load")
    names = perf_tracepoints.names()
    assert {"sched:sched_switch", "syscalls:sys_enter_openat", "syscalls:sys_exit_execve"} <= set(names)
    for name in names:
        perf_tracepoints.open(*name.split(":")).put()


def test_cookies(host, load) -> None:
    map_fd = host.bpf.map_create(2, 4, 8, 1)
    store = f"""
        call bpf_get_attach_cookie; r7 = r0; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{map_fd}]
        call bpf_map_lookup_elem; if r0 == 0 goto out; *(u64 *)(r0 + 0) = r7; out: r0 = 0; exit
    """
    host.attach_tracepoint(load(store), "syscalls", "sys_enter_getpid", cookie=77)
    host.syscall(host.spawn("worker"), "getpid")
    assert host.bpf.map_lookup_elem(map_fd, bytes(4)) == (77).to_bytes(8, "little")


def test_programs_are_skipped_while_another_one_runs(host, load) -> None:
    # kprobe programs and those of records share bpf_prog_active
    fd = load()
    host.attach_tracepoint(fd, "raw_syscalls", "sys_enter")
    prog, cpu = host.prog(fd), host.kernel.cpus[0]
    task = host.spawn("worker")
    cpu.scratch["bpf_prog_active"] = 1
    host.syscall(task, "getpid")
    assert (prog.stats.recursion_misses, prog.stats.run_cnt) == (1, 0)
