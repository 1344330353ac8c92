"""Functions of the scheduler that programs can be attached to (kernel/sched/{core,fair,psi}.c, v6.18).

What they do is done by ``tracing.sched``; here is who calls whom, in the recorded order.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from tracing.functions import kernel_function
from tracing.runqueue import Runqueue
from tracing.sched import Scheduler
from tracing.task import Task, TaskState

__all__: list[str] = []

ENQUEUE_WAKEUP, ENQUEUE_NOCLOCK = 1, 8
TSK_RUNNING = 1 << 2


def _queue(sched: Scheduler, rq: int) -> Runqueue:
    return next(queue for queue in sched.queues if queue.address == rq)


@kernel_function
def schedule(k: Any, cpu: Cpu) -> None:
    """Give the CPU to who is next."""
    k.sched.schedule(cpu)


@kernel_function
def do_task_dead(k: Any, cpu: Cpu) -> None:
    """Give up the CPU for ever."""
    sched: Scheduler = k.sched
    sched.current(cpu).struct.state = TaskState.DEAD
    sched.schedule(cpu)


@kernel_function
def dequeue_task_fair(k: Any, cpu: Cpu, rq: int, p: int, flags: int) -> int:
    """Take a task off its queue."""
    task: Task = k.sched.by_address[p]
    k.functions.dequeue_entities(cpu, rq, task.struct.member_address("se"), flags)
    _queue(k.sched, rq).remove(task)
    return 1


@kernel_function
def dequeue_entities(k: Any, _cpu: Cpu, rq: int, _se: int, _flags: int) -> int:
    """Account for what the task has run."""
    k.sched.runtime(_queue(k.sched, rq))
    return 1


@kernel_function
def pick_next_task_fair(k: Any, cpu: Cpu, rq: int, _prev: int, _rf: int) -> int:
    """Return who is next; 0 when nobody is ready."""
    found: int = k.functions.pick_task_fair(cpu, rq)
    return found


@kernel_function
def pick_task_fair(k: Any, _cpu: Cpu, rq: int) -> int:
    """Return who of those that are ready has had least."""
    queue = _queue(k.sched, rq)
    if queue.current in queue.entities:
        k.sched.runtime(queue)
    task = queue.pick()
    return task.address if task is not None else 0


@kernel_function
def put_prev_task_fair(_k: Any, _cpu: Cpu, _rq: int, _prev: int, _next: int) -> None:
    """Let the task go that ran, when the idle task follows."""


@kernel_function
def psi_task_switch(_k: Any, _cpu: Cpu, _prev: int, _next: int, _sleep: int) -> None:
    """Keep pressure stall information, which is not modelled."""


@kernel_function
def psi_task_change(_k: Any, _cpu: Cpu, _task: int, _clear: int, _set: int) -> None:
    """Keep pressure stall information, which is not modelled."""


@kernel_function
def wake_up_process(k: Any, cpu: Cpu, p: int) -> int:
    """Wake a task."""
    ret: int = k.functions.try_to_wake_up(cpu, p, TaskState.INTERRUPTIBLE | TaskState.UNINTERRUPTIBLE, 0)
    return ret


@kernel_function
def try_to_wake_up(k: Any, cpu: Cpu, p: int, state: int, wake_flags: int) -> int:
    """Make a task ready that waits in one of these states; whether it did."""
    sched: Scheduler = k.sched
    task = sched.by_address.get(p)
    queue = sched.thread_queue(task) if task is not None else None
    if task is None or queue is None or not task.struct.state & state:
        return 0
    sched.trace(cpu, "sched_waking", p)
    functions = k.functions
    functions.ttwu_queue_wakelist(cpu, p, queue.cpu.number, wake_flags)
    functions.ttwu_do_activate(cpu, queue.address, p, wake_flags, 0)
    return 1


@kernel_function
def ttwu_queue_wakelist(_k: Any, _cpu: Cpu, _p: int, _target: int, _wake_flags: int) -> int:
    """Leave the work to the task's CPU: never done here."""
    return 0


@kernel_function
def ttwu_do_activate(k: Any, cpu: Cpu, rq: int, p: int, wake_flags: int, _rf: int) -> None:
    """Put a task that was woken on its queue, and see whether it takes the CPU."""
    functions, sched = k.functions, k.sched
    functions.enqueue_task(cpu, rq, p, ENQUEUE_WAKEUP | ENQUEUE_NOCLOCK)
    functions.wakeup_preempt(cpu, rq, p, wake_flags)
    sched.trace(cpu, "sched_wakeup", p)


@kernel_function
def enqueue_task(k: Any, cpu: Cpu, rq: int, p: int, flags: int) -> None:
    """Put a task on a queue."""
    k.functions.enqueue_task_fair(cpu, rq, p, flags)
    k.functions.psi_task_change(cpu, p, 0, TSK_RUNNING)


@kernel_function
def enqueue_task_fair(k: Any, cpu: Cpu, rq: int, p: int, _flags: int) -> None:
    """Put a task on a queue; what runs there is accounted for."""
    sched: Scheduler = k.sched
    sched.runtime(_queue(sched, rq))
    sched.activate(sched.by_address[p], cpu)


@kernel_function
def wakeup_preempt(k: Any, cpu: Cpu, rq: int, p: int, flags: int) -> None:
    """See whether a task that was woken takes the CPU from the one that runs."""
    if not _queue(k.sched, rq).is_idle:
        k.functions.check_preempt_wakeup_fair(cpu, rq, p, flags)


@kernel_function
def check_preempt_wakeup_fair(k: Any, cpu: Cpu, rq: int, p: int, _wake_flags: int) -> None:
    """Let it, when it has had less and the other one its slice."""
    k.sched.wakeup_preempt(_queue(k.sched, rq), k.sched.by_address[p], cpu)


@kernel_function
def wake_up_new_task(k: Any, cpu: Cpu, p: int) -> None:
    """Put a task that was just made on its queue."""
    sched: Scheduler = k.sched
    queue = sched.thread_queue(sched.by_address[p])
    assert queue is not None
    k.functions.enqueue_task(cpu, queue.address, p, ENQUEUE_NOCLOCK)
    sched.trace(cpu, "sched_wakeup_new", p)
    k.functions.wakeup_preempt(cpu, queue.address, p, 0)


@kernel_function
def do_sched_yield(k: Any, cpu: Cpu) -> None:
    """Let others run that are ready."""
    functions, queue = k.functions, k.sched.queues[cpu.number]
    functions.yield_task_fair(cpu, queue.address)
    functions.schedule(cpu)


@kernel_function
def yield_task_fair(k: Any, _cpu: Cpu, rq: int) -> None:
    """Stand behind all that are ready."""
    queue = _queue(k.sched, rq)
    k.sched.runtime(queue)
    entity = queue.entities[queue.current]
    entity.vruntime_ns = max([entity.vruntime_ns, *(queue.entities[task].vruntime_ns for task in queue.ready)])


@kernel_function
def sched_tick(k: Any, cpu: Cpu) -> None:
    """Charge the task that runs for the time since somebody last looked."""
    queue = k.sched.queues[cpu.number]
    if not queue.is_idle:
        k.functions.task_tick_fair(cpu, queue.address, queue.current.address, 0)
        k.functions.sched_balance_trigger(cpu, queue.address)


@kernel_function
def task_tick_fair(k: Any, _cpu: Cpu, rq: int, _curr: int, _queued: int) -> None:
    """Account for what the task has run; whether its slice is over is seen behind the interrupt."""
    k.sched.runtime(_queue(k.sched, rq))
