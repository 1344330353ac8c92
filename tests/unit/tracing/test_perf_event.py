"""Samples of software clocks on the virtual clock, and the programs that see them (kernel/events/core.c, v6.18)."""

from struct import pack, unpack
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

# counts, and keeps what the context and the event say: ip, sample_period, addr, counter, enabled, running, cookie
SAMPLE = """
    r6 = r1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map[seen] ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r7 = r0
    r1 = *(u64 *)(r7 + 0)
    r1 += 1
    *(u64 *)(r7 + 0) = r1
    r1 = *(u64 *)(r6 + 128)
    *(u64 *)(r7 + 8) = r1
    r1 = *(u64 *)(r6 + 168)
    *(u64 *)(r7 + 16) = r1
    r1 = *(u64 *)(r6 + 176)
    *(u64 *)(r7 + 24) = r1
    r1 = r6
    r2 = r7
    r2 += 32
    r3 = 24
    call bpf_perf_prog_read_value
    r1 = r6
    call bpf_get_attach_cookie
    *(u64 *)(r7 + 56) = r0
out:
    r0 = 0
    exit
"""


class Profiler:
    """A host with a program for samples."""

    def __init__(self, cpus: int = 1) -> None:
        self.host = Simulation(seed=1).host("h", cpus=cpus)
        self.map = self.host.bpf.map_create(MapType.ARRAY, 4, 64, 1)
        insns = encode(assemble(SAMPLE, maps={"seen": self.map}))
        self.fd = self.host.bpf.prog_load(ProgType.PERF_EVENT, insns).fd

    def seen(self) -> tuple[int, ...]:
        return unpack("<8Q", self.host.bpf.map_lookup_elem(self.map, bytes(4)))

    def run(self, until: str) -> None:
        self.host.sim.run(until)


@pytest.mark.parametrize(
    ("how", "samples", "period_ns"),
    [
        ({"period": "1ms"}, 10, 1_000_000),
        ({"frequency": 500}, 5, 2_000_000),
        # what comes after the first sample is never closer than 10 us
        ({"period": "1us"}, 1000, 1000),
    ],
)
def test_cpu_clock_samples_every_period(how: dict[str, Any], samples: int, period_ns: int) -> None:
    profiler = Profiler()
    link = profiler.host.attach_perf_event(profiler.fd, cookie=77, **how)
    profiler.run("10ms")
    count, ip, period, addr, counter, enabled, running, cookie = profiler.seen()
    assert (count, period, addr, cookie) == (samples, period_ns, 0, 77)
    # the kernel was idle, in its own code
    assert ip >> 63 == 1
    assert counter == enabled == running <= 10_000_000
    assert link.runs == samples
    link.close()
    profiler.run("20ms")
    assert profiler.seen()[0] == samples


def test_clock_of_a_task_goes_while_it_runs() -> None:
    profiler = Profiler(cpus=2)
    host = profiler.host
    task = host.spawn("t", steps=[{"compute": "3.5ms"}, {"sleep": "10ms"}, {"compute": "2ms"}], cpu=0)
    link = host.attach_perf_event(profiler.fd, "task-clock", period="1ms", pid=task.pid)
    profiler.run("30ms")
    count, ip, _, _, counter, enabled, _, _ = profiler.seen()
    # 5.5 ms of its own time; three samples before it slept, the half that was left, and two more
    assert (count, link.runs) == (5, 5)
    assert ip >> 63 == 0
    assert 5_000_000 <= counter == enabled < 5_100_000


def test_programs_by_ioctl_and_by_link_exclude_each_other() -> None:
    profiler = Profiler()
    host, prog = profiler.host, profiler.host.prog(profiler.fd)
    event = host.kernel.perf_events.open("cpu-clock", period_ns=1_000_000, cpu=0)
    event.set_bpf(prog)
    with pytest.raises(KernelError, match="EEXIST"):
        event.set_bpf(prog)
    fd = host.kernel.fds.install(event)
    with pytest.raises(KernelError, match="EEXIST"):
        host.bpf.link_create(profiler.fd, fd, AttachType.PERF_EVENT)
    event.clear_bpf()
    link = host.bpf.link_create(profiler.fd, fd, AttachType.PERF_EVENT, bpf_cookie=5)
    info = host.bpf.obj_get_info_by_fd(link)
    # BPF_PERF_EVENT_EVENT, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK
    assert (info.perf_event_type, info.event_type, info.event_config, info.cookie) == (6, 1, 0, 5)
    event.disable()
    profiler.run("3ms")
    assert profiler.seen()[0] == 0
    event.enable()
    profiler.run("6ms")
    assert (profiler.seen()[0], profiler.seen()[7]) == (3, 5)
    host.bpf.close(link)
    profiler.run("8ms")
    assert profiler.seen()[0] == 3
    wrong = host.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit"))).fd
    with pytest.raises(KernelError, match="EINVAL"):
        host.attach_perf_event(wrong, frequency=100)


@pytest.mark.parametrize(
    ("event", "how", "errno"),
    [
        ("cycles", {"cpu": 0}, "ENOENT"),
        ("cpu-clock", {"cpu": 9}, "EINVAL"),
        ("cpu-clock", {"pid": 4711}, "ESRCH"),
        ("cpu-clock", {"cpu": 0, "frequency": 100_001}, "EINVAL"),
        ("cpu-clock", {"cpu": -1, "pid": -1}, "EINVAL"),
    ],
)
def test_events_that_cannot_be(event: str, how: dict[str, int], errno: str) -> None:
    host = Simulation().host("h")
    with pytest.raises(KernelError, match=errno):
        host.kernel.perf_events.open(event, **how)


def test_stacks_are_those_of_what_was_interrupted() -> None:
    host = Simulation().host("h")
    stacks = host.bpf.map_create(MapType.STACK_TRACE, 4, 32, 16)
    seen = host.bpf.map_create(MapType.ARRAY, 4, 8, 2)
    code = """
        r6 = r1
        r2 = map[stacks] ll
        r3 = {flags}
        call bpf_get_stackid
        *(u64 *)(r10 - 16) = r0
        *(u32 *)(r10 - 4) = 0
        r2 = r10; r2 += -4
        r3 = r10; r3 += -16
        r4 = 0
        r1 = map[seen] ll
        call bpf_map_update_elem
        r0 = 0; exit
    """

    def stack_of(flags: int) -> int:
        insns = encode(assemble(code.format(flags=flags), maps={"stacks": stacks, "seen": seen}))
        link = host.attach_perf_event(host.bpf.prog_load(ProgType.PERF_EVENT, insns).fd, period="1ms")
        host.sim.run(host.sim.now_ns + 1_500_000)
        link.close()
        (found,) = unpack("<q", host.bpf.map_lookup_elem(seen, bytes(4)))
        return int(found)

    idle = stack_of(0)
    first, *_ = unpack("<4Q", host.bpf.map_lookup_elem(stacks, pack("<I", idle)))
    assert (
        host.kernel.kallsyms.name_of(first).startswith("pv_native_safe_halt")
        if hasattr(host.kernel, "kallsyms")
        else first
    )
    # BPF_F_USER_STACK: the idle task has none
    assert stack_of(1 << 8) == -14
    host.spawn("t", steps=[{"compute": "50ms"}])
    assert stack_of(1 << 8) >= 0
    assert stack_of(0) == -14
