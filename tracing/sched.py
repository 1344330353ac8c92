"""Tasks on CPUs: who runs, who waits, who wakes whom (kernel/sched/core.c, kernel/fork.c and kernel/exit.c, v6.18).

A task is a Python function that runs in a greenlet of its own, so that a function of the kernel can wait deep in its
calls and go on where it was, as on Linux. What a task does takes no time of the clock until it calls ``advance`` (each
of its steps ends so), ``compute`` (time in user space), waits, or exits; then the clock catches up with what its CPU
was charged. Ticks interrupt that, and so does whoever is woken and has had less: tasks that are ready share a CPU by
time slices. An idle CPU takes over a task that waits for another one, if user space was where it had got to.

Differs: what interrupts do on a CPU does not delay the task on it. A task that waits in a system call stays on its CPU.
A task gives up the CPU where it returns to user space, never inside the kernel (PREEMPT_NONE).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from greenlet import getcurrent, greenlet

from ebpfsim.clock import Clock
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.memory import Memory
from ebpfsim.memory.user import UserMemory
from hooks.cgroup import Cgroup
from tracing.frames import IN_TASK, stands_for
from tracing.hrtimer import HrTimers
from tracing.runqueue import TICK_NS, Entity, Runqueue, base_slice_ns
from tracing.task import PF_KTHREAD, Namespaces, Task, TaskState

__all__ = ["FIRST_PID", "SchedTrace", "Scheduler", "TaskExit", "WaitQueue"]

TASK_NORMAL = TaskState.INTERRUPTIBLE | TaskState.UNINTERRUPTIBLE
DEQUEUE_SLEEP = 1  # kernel/sched/sched.h
SIGCHLD = 17
HRTIMER_MODE_REL = 1
# what the idle task is in when it gives up the CPU, the innermost first
IDLE_SWITCH = ("schedule_idle", "do_idle", "cpu_startup_entry", "start_secondary", "common_startup_64")
# power:cpu_idle
IDLE_STATE, PWR_EVENT_EXIT = 1, 0xFFFF_FFFF
FIRST_PID = 1000  # of the tasks that scenarios start; those below belong to a system that started before them

# a tracepoint's name and its arguments, fired on a CPU
SchedTrace = Callable[..., None]
Main = Callable[[Task], int]


class TaskExit(BaseException):
    """Ends the task that raises it, from wherever in the kernel it is; ``code`` is ``task->exit_code``."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class _Thread:
    # what the scheduler keeps of a task
    __slots__ = ("code", "entity", "in_user", "left_ns", "pinned", "queue", "run", "timed_out", "timer")

    def __init__(self, run: greenlet, queue: Runqueue, entity: Entity, *, pinned: bool) -> None:
        self.run = run
        self.queue = queue
        self.entity = entity
        self.pinned = pinned
        # the address of the hrtimer that it waits for
        self.timer = 0
        self.timed_out = False
        self.code = 0
        # what it was at when it lost the CPU
        self.left_ns = 0
        self.in_user = False


class WaitQueue:
    """Tasks that wait for one thing (``wait_queue_head``)."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Task] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, task: Task) -> None:
        """Let a task be woken by this queue."""
        self._waiting.append(task)

    def remove(self, task: Task) -> None:
        """Forget a task, if it is here."""
        if task in self._waiting:
            self._waiting.remove(task)

    def take(self) -> list[Task]:
        """Return all that wait, first come first, and forget them."""
        waiting, self._waiting = self._waiting, []
        return waiting


class SchedKernel(Protocol):
    """What scheduling needs of the simulated kernel."""

    mem: Memory
    clock: Clock
    cpus: list[Cpu]

    @property
    def functions(self) -> Any:
        """Its functions, to be called through their slots."""
        ...


class Scheduler:
    """The tasks and run queues of one simulated kernel.

    ``tasks`` has the living tasks and zombies by pid, in order of their birth; the idle tasks, which all have pid 0,
    are not in it.
    """

    def __init__(self, kernel: SchedKernel, trace: SchedTrace | None = None, cgroup: Cgroup | None = None) -> None:
        self.kernel = kernel
        # where tasks without a parent are
        self._cgroup = cgroup
        # called with what a task was at, when that goes
        self.on_release: Callable[[Task], None] = lambda task: None
        # called with memory that a new task has
        self.on_memory: Callable[[UserMemory], None] = lambda user: None
        self.trace: SchedTrace = trace or (lambda cpu, name, *args: None)
        mem = kernel.mem
        self.namespaces = Namespaces(mem)
        self.tasks: dict[int, Task] = {}
        self.by_address: dict[int, Task] = {}
        self._threads: dict[Task, _Thread] = {}
        self._child_exits: dict[Task, WaitQueue] = {}
        self.hrtimers = HrTimers(kernel, self.trace)
        self.slice_ns = base_slice_ns(len(kernel.cpus))
        self.queues: list[Runqueue] = []
        for cpu in kernel.cpus:
            idle = Task(mem, self.namespaces, 0, f"swapper/{cpu.number}", None, None)
            idle.struct.flags = PF_KTHREAD
            idle.struct.cpu = cpu.number
            idle.join(cgroup)
            self.by_address[idle.address] = idle
            self.queues.append(Runqueue(mem, cpu, idle))
            cpu.current = idle.address
        # who waits for words of memory, and for which bits of a wake-up (futex(2))
        self.futexes: dict[tuple[int, int] | None, list[tuple[Task, int]]] = {}
        self.init = self._add(1, "init", None, None)
        self.init.new_mm(["/sbin/init"])
        self._next_pid = FIRST_PID
        self._hub: greenlet | None = None
        # the task that was made last
        self.newest: Task = self.init

    def current(self, cpu: Cpu) -> Task:
        """Return the task that a CPU runs: what ``current`` is in the kernel."""
        return self.queues[cpu.number].current

    def running_cpu(self) -> Cpu:
        """Return the CPU whose task runs just now; the first one when none does."""
        queue = self._running_queue()
        return queue.cpu if queue is not None else self.kernel.cpus[0]

    def is_running(self, task: Task) -> bool:
        """Whether it is this task that does what happens just now, and no interrupt."""
        thread = self._threads.get(task)
        return thread is not None and thread.run is getcurrent()

    def cpu_of(self, task: Task) -> Cpu:
        """Return the CPU that a task runs on."""
        return self._threads[task].queue.cpu

    def greenlet_of(self, task: Task) -> greenlet | None:
        """Return what a task runs in; None before it runs and when it has exited."""
        thread = self._threads.get(task)
        return thread.run if thread is not None else None

    def preempted(self, task: Task) -> bool:
        """Whether a task waits for a CPU that it lost in user space."""
        thread = self._threads.get(task)
        return thread is not None and thread.in_user and thread.queue.current is not task

    # kernel_clone, wake_up_new_task
    def spawn(
        self,
        comm: str,
        main: Main,
        *,
        parent: Task | None = None,
        leader: Task | None = None,
        args: Sequence[str] = (),
        uid: int | None = None,
        gid: int | None = None,
        cpu: int | None = None,
        cgroup: Cgroup | None = None,
    ) -> Task:
        """Start a task that runs ``main``, whose result is its exit status.

        ``leader`` makes it a thread of that process. Without ``uid`` it is who its parent (by default init) is. With
        ``cpu`` it runs there only, otherwise where there are the fewest.
        """
        parent = (leader.parent if leader is not None else parent) or self.init
        task = self.create(comm, main, parent=parent, leader=leader, cpu=cpu, cgroup=cgroup)
        if leader is not None:
            task.share_mm(leader)
        else:
            task.new_mm(args or [comm])
        task.cred.become(
            parent.cred.uid if uid is None else uid, (parent.cred.gid if uid is None else uid) if gid is None else gid
        )
        task.struct.exit_signal = SIGCHLD
        if parent is self.init and leader is None:
            # as a shell starts it
            task.sig.group.pgid = task.sig.group.sid = task.pid
        waker = self._running_queue() or self._threads[task].queue
        self.trace(waker.cpu, "task_newtask", task.address, SIGCHLD)
        self.trace(waker.cpu, "sched_process_fork", parent.address, task.address)
        self.kernel.functions.wake_up_new_task(waker.cpu, task.address)
        return task

    def create(
        self,
        comm: str,
        main: Main,
        *,
        parent: Task,
        leader: Task | None = None,
        cpu: int | None = None,
        cgroup: Cgroup | None = None,
    ) -> Task:
        """Return a new task that does not run yet, without memory and with the ids of root."""
        task = self.newest = self._add(self._next_pid, comm, parent, leader)
        self._next_pid += 1
        if cgroup is not None:
            task.join(cgroup)
        queue = self.queues[cpu] if cpu is not None else min(self.queues, key=self._load)
        task.struct.cpu = task.struct.recent_used_cpu = queue.cpu.number
        task.struct.nr_cpus_allowed = len(self.queues) if cpu is None else 1
        now_ns = queue.cpu.now_ns
        task.struct.start_time = task.struct.start_boottime = now_ns
        entity = Entity(task, self.slice_ns)
        self._threads[task] = _Thread(greenlet(lambda: self._main(task, main)), queue, entity, pinned=cpu is not None)
        return task

    def discard(self, task: Task) -> None:
        """Forget a task that was made and shall not run."""
        del self._threads[task]
        task.alive = False
        self.release(task)

    def runtime_ns(self, task: Task) -> int:
        """Return how long a task has run."""
        thread = self._threads.get(task)
        return thread.entity.runtime_ns if thread is not None else 0

    def child_exits(self, task: Task) -> WaitQueue:
        """Return who waits for the children of a process."""
        return self._child_exits.setdefault(task, WaitQueue())

    def wake_up(self, task: Task, waker: Cpu) -> bool:
        """Make a waiting task ready (wake_up_process); False when it was not waiting."""
        return bool(self.kernel.functions.try_to_wake_up(waker, task.address, TASK_NORMAL, 0))

    def wake_up_all(self, queue: WaitQueue, waker: Cpu) -> int:
        """Wake everybody who waits in a queue; return how many."""
        return sum(self.wake_up(task, waker) for task in queue.take())

    def wait(
        self, queue: WaitQueue | None, *, timeout_ns: int | None = None, state: int = TaskState.INTERRUPTIBLE
    ) -> bool:
        """Let the current task wait until it is woken or time is over; False when time was over.

        To be called from a task. Whoever waits for a condition calls it in a loop.
        """
        rq = self._running_queue()
        if rq is None:
            raise InternalError("nobody runs who could wait")
        task, thread = rq.current, self._threads[rq.current]
        if queue is not None:
            queue.add(task)
        thread.timed_out = False
        task.struct.state = state
        if timeout_ns is not None:
            thread.timer = self.hrtimers.sleeper(task)
            self.hrtimers.on_wakeup[thread.timer] = lambda: self._time_is_over(task, thread, queue)
            self.kernel.functions.hrtimer_start_range_ns(rq.cpu, thread.timer, timeout_ns, 0, HRTIMER_MODE_REL)
        self.kernel.functions.schedule(rq.cpu)
        if thread.timer:
            self.hrtimers.on_wakeup.pop(thread.timer, None)
            self.kernel.functions.hrtimer_try_to_cancel(rq.cpu, thread.timer)
            thread.timer = 0
        return not thread.timed_out

    def advance(self) -> None:
        """Let the clock catch up with what the current task's CPU was charged; to be called from a task."""
        rq = self._running_queue()
        if rq is not None and (rq.cpu.elapsed_ps >= 1000 or rq.need_resched):
            rq.busy, rq.in_user = True, False
            self._switch_to_hub()

    def compute(self, duration_ns: int) -> None:
        """Let the current task need so much time of its CPU in user space, where it can lose it to others."""
        rq = self._running_queue()
        if rq is None:
            raise InternalError("nobody runs who could compute")
        rq.cpu.charge(duration_ns * 1000)
        rq.busy = rq.in_user = True
        self._switch_to_hub()

    # ---- what functions of the kernel do (tracing.sched_functions) ---------------------------------------------------

    def activate(self, task: Task, waker: Cpu) -> Runqueue:
        """Put a task on the queue of its CPU; whoever runs there may have to go (wakeup_preempt)."""
        thread = self._threads[task]
        queue = thread.queue
        task.struct.state = TaskState.RUNNING
        queue.add(task, thread.entity)
        if queue.is_idle:
            self._call_at(queue, waker, self._idle_looks)
        return queue

    def wakeup_preempt(self, queue: Runqueue, task: Task, waker: Cpu) -> None:
        """Let a task that was woken have the CPU when the one that runs has had its slice and more time than it."""
        if queue.is_idle or not queue.slice_used(self.slice_ns):
            return
        current = queue.entities.get(queue.current)
        if current is not None and queue.entities[task].vruntime_ns <= current.vruntime_ns:
            self.resched(queue, waker)

    def resched(self, queue: Runqueue, waker: Cpu) -> None:
        """Let a CPU look for somebody else as soon as it can (resched_curr)."""
        queue.need_resched = True
        if queue.in_user and queue.burning is not None:
            self._call_at(queue, waker, self._interrupted)

    def runtime(self, queue: Runqueue) -> None:
        """Account for what the current task of a CPU has run."""
        queue.update_curr(lambda task, ran_ns: self.trace(queue.cpu, "sched_stat_runtime", task.address, ran_ns))

    def thread_queue(self, task: Task) -> Runqueue | None:
        """Return the queue of a task that waits or runs, None for tasks that cannot be woken."""
        thread = self._threads.get(task)
        return thread.queue if thread is not None else None

    @stands_for("__schedule")
    def schedule(self, cpu: Cpu) -> None:
        """Give a CPU to who is next: ``schedule()`` of whoever runs there."""
        rq, functions = self.queues[cpu.number], self.kernel.functions
        prev, state = rq.current, rq.current.struct.state
        rq.need_resched = False
        thread = self._threads.get(prev)
        own = thread is not None and thread.run is getcurrent()
        sleeps = thread is not None and bool(state)
        if sleeps:
            functions.dequeue_task_fair(cpu, rq.address, prev.address, DEQUEUE_SLEEP)
        elif thread is not None:
            rq.put(prev)
        found = functions.pick_next_task_fair(cpu, rq.address, prev.address, 0)
        following = self.by_address[found] if found else rq.idle
        if following is prev:
            rq.run(prev) if prev is not rq.idle else None
            return
        if following is rq.idle:
            functions.put_prev_task_fair(cpu, rq.address, prev.address, following.address)
        switches = prev.struct
        if sleeps:
            switches.nvcsw += 1
        else:
            switches.nivcsw += 1
        functions.psi_task_switch(cpu, prev.address, following.address, int(sleeps))
        self.trace(cpu, "sched_switch", 0, prev.address, following.address, state)
        rq.run(following)
        cpu.current, cpu.user = following.address, following.user
        if own and prev.alive:
            self._switch_to_hub()

    # ---- the clock ---------------------------------------------------------------------------------------------------

    def _call_at(self, queue: Runqueue, waker: Cpu, call: Callable[[Runqueue], None]) -> None:
        self.kernel.clock.call_in(waker.elapsed_ps // 1000, lambda: call(queue))

    @stands_for(*IDLE_SWITCH)
    def _idle_looks(self, rq: Runqueue) -> None:
        # an idle CPU looks for work (do_idle)
        if rq.is_idle and not rq.busy and rq.ready:
            self.trace(rq.cpu, "cpu_idle", PWR_EVENT_EXIT, rq.cpu.number)
            self.schedule(rq.cpu)
            self._dispatch(rq)

    def _dispatch(self, rq: Runqueue) -> None:
        # the clock catches up with what the switch took, then the current task goes on
        elapsed_ns = rq.cpu.take_elapsed_ns()
        rq.busy = True
        if rq.is_idle:
            self.trace(rq.cpu, "cpu_idle", IDLE_STATE, rq.cpu.number)
            self.kernel.clock.call_in(elapsed_ns, lambda: self._idle(rq))
            return
        thread = self._threads[rq.current]
        rq.left_ns, rq.in_user = thread.left_ns + elapsed_ns, thread.in_user
        thread.left_ns, thread.in_user = 0, False
        self._burn(rq)

    def _idle(self, rq: Runqueue) -> None:
        rq.busy = False
        if not rq.ready:
            self._pull(rq)
        self._idle_looks(rq)

    def _pull(self, rq: Runqueue) -> None:
        # sched_balance_newidle: take over who waits elsewhere and is in user space, or has not begun
        for other in self.queues:
            if other is rq or other.is_idle:
                continue
            for task in other.ready:
                thread = self._threads[task]
                if (thread.in_user or not thread.run) and not thread.pinned:
                    self._migrate(task, thread, rq)
                    return

    def _migrate(self, task: Task, thread: _Thread, rq: Runqueue) -> None:
        # detach_task, set_task_cpu
        self.trace(rq.cpu, "sched_migrate_task", task.address, rq.cpu.number)
        thread.queue.remove(task)
        thread.queue = rq
        thread.entity.struct.nr_migrations += 1
        task.struct.cpu = rq.cpu.number
        # time is counted from what each queue has given at least
        thread.entity.vruntime_ns = rq.min_vruntime_ns
        rq.add(task, thread.entity)

    def _burn(self, rq: Runqueue) -> None:
        # let time pass for the work of the current task, up to the next tick
        clock = self.kernel.clock
        rq.burn_start_ns = clock.now_ns
        tick_ns = (clock.now_ns // TICK_NS + 1) * TICK_NS
        if clock.now_ns + rq.left_ns <= tick_ns:
            rq.burning = clock.call_in(rq.left_ns, lambda: self._burnt(rq))
        else:
            rq.burning = clock.call_at(tick_ns, lambda: self._tick(rq))

    def _burnt(self, rq: Runqueue) -> None:
        rq.left_ns, rq.burning, rq.in_user = 0, None, False
        if rq.need_resched and rq.ready:
            self._leave_kernel(rq)
        else:
            rq.need_resched = False
            self._resume(rq)

    def _spent(self, rq: Runqueue) -> None:
        rq.left_ns -= self.kernel.clock.now_ns - rq.burn_start_ns
        rq.burning = None

    def _tick(self, rq: Runqueue) -> None:
        self._spent(rq)
        self.hrtimers.tick(rq.cpu, rq.in_user)
        if rq.ready and rq.slice_used(self.slice_ns):
            rq.need_resched = True
        rq.left_ns += rq.cpu.take_elapsed_ns()
        if rq.need_resched and rq.in_user:
            self._leave_interrupt(rq)
        else:
            self._burn(rq)

    def _interrupted(self, rq: Runqueue) -> None:
        # reschedule_interrupt: somebody was woken who has had less
        if rq.need_resched and rq.in_user and rq.burning is not None:
            rq.burning.cancel()
            self._spent(rq)
            self._leave_interrupt(rq)

    @stands_for("irqentry_exit_to_user_mode", "asm_sysvec_apic_timer_interrupt")
    def _leave_interrupt(self, rq: Runqueue) -> None:
        self._give_way(rq, rq.left_ns, in_user=True)

    @stands_for("exit_to_user_mode_loop", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")
    def _leave_kernel(self, rq: Runqueue) -> None:
        self._give_way(rq, 0, in_user=True)

    def _give_way(self, rq: Runqueue, left_ns: int, *, in_user: bool) -> None:
        # schedule() on the way to user space
        thread = self._threads[rq.current]
        thread.left_ns, thread.in_user = left_ns, in_user
        rq.left_ns, rq.in_user = 0, False
        self.kernel.functions.schedule(rq.cpu)
        self._dispatch(rq)

    def _resume(self, rq: Runqueue) -> None:
        # run the current task until it waits, exits or lets time pass
        rq.busy = False
        task = rq.current
        thread = self._threads[task]
        outer, self._hub = self._hub, getcurrent()
        thread.run.parent = self._hub
        before, rq.cpu.scratch[IN_TASK] = rq.cpu.scratch.get(IN_TASK), True
        try:
            thread.run.switch()
        finally:
            self._hub = outer
            rq.cpu.scratch[IN_TASK] = before
        if not task.alive:
            del self._threads[task]
            self._reap(task)
        if rq.busy and rq.current is task:
            rq.left_ns = rq.cpu.take_elapsed_ns()
            self._burn(rq)
        else:
            self._dispatch(rq)

    def _running_queue(self) -> Runqueue | None:
        # the run queue whose task's greenlet this is
        here = getcurrent()
        for queue in self.queues:
            thread = self._threads.get(queue.current)
            if thread is not None and thread.run is here:
                return queue
        return None

    def _switch_to_hub(self) -> None:
        if self._hub is None:
            raise InternalError("a task runs outside the scheduler")
        self._hub.switch()

    def _load(self, queue: Runqueue) -> int:
        return sum(thread.queue is queue for thread in self._threads.values())

    def _time_is_over(self, task: Task, thread: _Thread, queue: WaitQueue | None) -> None:
        thread.timed_out = True
        if queue is not None:
            queue.remove(task)
        self.kernel.functions.wake_up_process(thread.queue.cpu, task.address)

    # ---- birth and death ---------------------------------------------------------------------------------------------

    def _add(self, pid: int, comm: str, parent: Task | None, leader: Task | None) -> Task:
        task = Task(self.kernel.mem, self.namespaces, pid, comm, parent, leader)
        task.on_memory = lambda user: self.on_memory(user)
        self.tasks[pid] = self.by_address[task.address] = task
        above = leader or parent
        task.join(above.cgroup if above is not None else self._cgroup)
        if parent is not None and leader is None:
            parent.children.append(task)
        return task

    def _main(self, task: Task, main: Main) -> None:
        with suppress(TaskExit):
            self._end(task, (main(task) & 0xFF) << 8)
        self._dead(task)

    @stands_for("__x64_sys_exit_group", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")
    def _end(self, task: Task, code: int) -> None:
        self.kernel.functions.do_group_exit(self.cpu_of(task), code)

    @stands_for("do_exit", "do_group_exit", "__x64_sys_exit_group", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")
    def _dead(self, task: Task) -> None:
        queue = self._threads[task].queue
        self.runtime(queue)
        self.kernel.functions.do_task_dead(queue.cpu)

    def _reap(self, task: Task) -> None:
        # what nobody waits for goes: threads, and processes whose parents do not want to know
        leader = task.leader
        if task is not leader and not task.released:
            self.release(task)
        if leader.autoreap and leader.is_empty and not leader.released and leader.pid in self.tasks:
            self.release(leader)

    def release(self, task: Task) -> None:
        """Forget a task that has ended, and give its memory back (release_task)."""
        self._child_exits.pop(task, None)
        task.struct.exit_state = TaskState.EXIT_DEAD
        if task in task.parent.children:
            task.parent.children.remove(task)
        self.tasks.pop(task.pid, None)
        self.by_address.pop(task.address, None)
        self.hrtimers.forget(task)
        self.on_release(task)
        task.release()
