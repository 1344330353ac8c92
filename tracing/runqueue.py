"""Run queues: what a CPU's fair scheduler knows (kernel/sched/fair.c, v6.18), with ``struct rq`` in RAM.

Every runnable task is owed the same time: who has had least runs next, and runs for a slice at least. Left out: nice
values, groups, deadlines of EEVDF, other classes. Of ``struct rq`` and ``struct cfs_rq`` programs find how many tasks
there are, who runs, and the CPU.
"""

from collections.abc import Callable

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.clock import Timer
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from tracing.task import Task

__all__ = ["TICK_NS", "Entity", "Runqueue", "base_slice_ns"]

TICK_NS = 4_000_000  # CONFIG_HZ is 250
BASE_SLICE_NS = 700_000  # normalized_sysctl_sched_base_slice
NICE_0_LOAD = 1024


def base_slice_ns(nr_cpus: int) -> int:
    """Return how long a task runs at least (update_sysctl: the slice grows with the logarithm of the CPUs)."""
    return BASE_SLICE_NS * min(nr_cpus, 8).bit_length()


class RqStruct(KernelStruct):
    """``struct rq``, of which ``cfs`` is the only class with tasks."""

    struct_name = "rq"
    cpu = Field()
    nr_running = Field()
    curr = Field()
    idle = Field()
    clock = Field()
    nr_switches = Field()
    nr_queued = Field("cfs.nr_queued")
    h_nr_queued = Field("cfs.h_nr_queued")
    h_nr_runnable = Field("cfs.h_nr_runnable")
    cfs_curr = Field("cfs.curr")
    cfs_rq_of = Field("cfs.rq")


class SchedEntity(KernelStruct):
    """``struct sched_entity`` in a task."""

    struct_name = "sched_entity"
    weight = Field("load.weight")
    on_rq = Field()
    exec_start = Field()
    sum_exec_runtime = Field()
    prev_sum_exec_runtime = Field()
    vruntime = Field()
    slice = Field()
    nr_migrations = Field()
    cfs_rq = Field()


class Entity:
    """What the scheduler knows of a task's share of its CPU."""

    __slots__ = ("exec_start_ns", "order", "picked_ns", "runtime_ns", "struct", "vruntime_ns")

    def __init__(self, task: Task, slice_ns: int) -> None:
        self.struct = SchedEntity(task.mem, task.struct.member_address("se"))
        self.struct.weight = NICE_0_LOAD
        self.struct.slice = slice_ns
        self.vruntime_ns = self.runtime_ns = self.exec_start_ns = 0
        # when it was put on a queue, in numbers; what it had run when it got the CPU
        self.order = self.picked_ns = 0


class Runqueue:
    """One CPU's run queue (``struct rq``).

    ``current`` is who runs. ``left_ns`` is work of the current task that the clock has not caught up with, which is in
    user space if ``in_user`` says so; ``burning`` waits for its end or the next tick.
    """

    def __init__(self, mem: Memory, cpu: Cpu, idle: Task) -> None:
        self.cpu = cpu
        self.idle = idle
        self.current = idle
        self.ready: list[Task] = []
        self.entities: dict[Task, Entity] = {}
        # the CPU is at work up to an instant that the clock has not reached
        self.busy = False
        self.need_resched = False
        self.left_ns = self.burn_start_ns = 0
        self.in_user = False
        self.burning: Timer | None = None
        self.min_vruntime_ns = 0
        self._orders = 0
        self.struct = RqStruct.alloc(mem)
        self.address = self.struct.address
        self.cfs_address = self.struct.member_address("cfs")
        self.struct.cpu = cpu.number
        self.struct.curr = self.struct.idle = idle.address
        self.struct.cfs_rq_of = self.address

    @property
    def is_idle(self) -> bool:
        """Whether nobody runs."""
        return self.current is self.idle

    def add(self, task: Task, entity: Entity) -> None:
        """Let a task be of this queue: runnable (enqueue_entity, place_entity)."""
        self.entities[task] = entity
        entity.vruntime_ns = max(entity.vruntime_ns, self.min_vruntime_ns)
        entity.struct.cfs_rq = self.cfs_address
        entity.struct.on_rq = 1
        self.put(task)
        self._count()

    def put(self, task: Task) -> None:
        """Let a runnable task wait for its turn."""
        self._orders += 1
        self.entities[task].order = self._orders
        self.ready.append(task)

    def remove(self, task: Task) -> Entity:
        """Take a task off (dequeue_entity)."""
        if task in self.ready:
            self.ready.remove(task)
        entity = self.entities.pop(task)
        entity.struct.on_rq = 0
        self._count()
        return entity

    def pick(self) -> Task | None:
        """Return who has had least of those that wait, or None (pick_next_entity)."""
        # within a slice they take turns
        entities = self.entities
        return min(
            self.ready,
            key=lambda task: (entities[task].vruntime_ns // BASE_SLICE_NS, entities[task].order),
            default=None,
        )

    def update_curr(self, on_runtime: Callable[[Task, int], None]) -> None:
        """Give the current task what it has run since somebody last looked (update_curr)."""
        entity = self.entities.get(self.current)
        now_ns = self.cpu.now_ns
        if entity is None or now_ns <= entity.exec_start_ns:
            return
        ran_ns = now_ns - entity.exec_start_ns
        entity.exec_start_ns = now_ns
        entity.runtime_ns += ran_ns
        entity.vruntime_ns += ran_ns
        struct = entity.struct
        struct.exec_start, struct.sum_exec_runtime, struct.vruntime = now_ns, entity.runtime_ns, entity.vruntime_ns
        waiting = [self.entities[task].vruntime_ns for task in self.ready]
        self.min_vruntime_ns = max(self.min_vruntime_ns, min([entity.vruntime_ns, *waiting]))
        on_runtime(self.current, ran_ns)

    def run(self, task: Task) -> None:
        """Let a task be the current one (set_next_task)."""
        if task in self.ready:
            self.ready.remove(task)
        self.current = task
        entity = self.entities.get(task)
        struct = self.struct
        struct.curr, struct.clock = task.address, self.cpu.now_ns
        struct.nr_switches += 1
        struct.cfs_curr = entity.struct.address if entity is not None else 0
        if entity is not None:
            entity.exec_start_ns = entity.struct.exec_start = self.cpu.now_ns
            entity.picked_ns = entity.struct.prev_sum_exec_runtime = entity.runtime_ns
        task.struct.cpu = self.cpu.number

    def slice_used(self, slice_ns: int) -> bool:
        """Whether the current task has run for its slice since it got the CPU."""
        entity = self.entities.get(self.current)
        return entity is None or entity.runtime_ns - entity.picked_ns >= slice_ns

    def _count(self) -> None:
        count = len(self.entities)
        struct = self.struct
        struct.nr_running = struct.nr_queued = struct.h_nr_queued = struct.h_nr_runnable = count
