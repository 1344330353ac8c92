"""Run queues (kernel/sched/fair.c, v6.18)."""

import pytest

from ebpfsim.clock import Clock
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from tracing.runqueue import Entity, Runqueue, base_slice_ns
from tracing.task import Namespaces, Task


# sched_init_granularity(): 0.7 ms, times 1 + ilog2(CPUs), of which 8 count
@pytest.mark.parametrize(("cpus", "slice_ns"), [(1, 700_000), (2, 1_400_000), (4, 2_100_000), (64, 2_800_000)])
def test_slices_grow_with_the_cpus(cpus: int, slice_ns: int) -> None:
    assert base_slice_ns(cpus) == slice_ns


def test_who_had_least_is_next() -> None:
    mem, clock = Memory(), Clock()
    cpu, spaces = Cpu(0, clock, mem), Namespaces(mem)
    idle, a, b, c = (Task(mem, spaces, pid, f"t{pid}", None, None) for pid in range(4))
    rq = Runqueue(mem, cpu, idle)
    assert rq.pick() is None
    for task in (a, b, c):
        rq.add(task, Entity(task, 700_000))
    assert rq.pick() is a
    rq.run(a)
    ran: list[tuple[Task, int]] = []
    cpu.charge(1_000_000)
    rq.update_curr(lambda task, ns: ran.append((task, ns)))
    rq.put(a)
    assert ran == [(a, 1000)]
    assert rq.pick() is b
    rq.run(b)
    # who comes now has had as much as all have had at least
    rq.remove(a)
    rq.add(a, Entity(a, 700_000))
    assert rq.pick() is c
    assert (rq.struct.nr_queued, rq.struct.nr_running, rq.struct.curr) == (3, 3, b.address)
