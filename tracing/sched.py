"""Tasks on CPUs: who runs, who waits, who wakes whom (kernel/sched/core.c, kernel/fork.c and kernel/exit.c, v6.18).

A task is a Python function that runs in a greenlet of its own, so that a function of the kernel can wait deep in its
calls and go on where it was, as on Linux. What a task does takes no time of the clock until it calls ``advance`` (each
of its steps ends so), waits, or exits; then the clock catches up with what its CPU was charged.

Differs: a CPU runs its tasks in the order in which they became ready; there are no time slices, priorities or
migrations. A task stays on the CPU that had the fewest when it began. What interrupts do on a CPU does not delay the
task on it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from greenlet import getcurrent, greenlet

from ebpfsim.clock import Clock, Timer
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.memory import Memory
from hooks.cgroup import Cgroup
from tracing.task import PF_EXITING, PF_KTHREAD, Namespaces, Task, TaskState

__all__ = ["FIRST_PID", "SchedTrace", "Scheduler", "TaskExit", "WaitQueue"]

FIRST_PID = 1000  # of the tasks that scenarios start; those below belong to a system that started before them

# a tracepoint's name and its arguments, fired on a CPU
SchedTrace = Callable[..., None]
Main = Callable[[Task], int]


class TaskExit(BaseException):
    """Ends the task that raises it, from wherever in the kernel it is; ``code`` is ``task->exit_code``."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class _Runqueue:
    # struct rq
    __slots__ = ("busy", "cpu", "current", "idle", "ready")

    def __init__(self, cpu: Cpu, idle: Task) -> None:
        self.cpu = cpu
        self.idle = idle
        self.current = idle
        self.ready: deque[Task] = deque()
        # the current task's work is done up to an instant that the clock has not reached
        self.busy = False


class _Thread:
    # what the scheduler keeps of a task
    __slots__ = ("code", "queue", "run", "timed_out", "timer")

    def __init__(self, run: greenlet, queue: _Runqueue) -> None:
        self.run = run
        self.queue = queue
        self.timer: Timer | None = None
        self.timed_out = False
        self.code = 0


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
        self.trace: SchedTrace = trace or (lambda cpu, name, *args: None)
        mem = kernel.mem
        self.namespaces = Namespaces(mem)
        self.tasks: dict[int, Task] = {}
        self.by_address: dict[int, Task] = {}
        self._threads: dict[Task, _Thread] = {}
        self._child_exits: dict[Task, WaitQueue] = {}
        self._queues: list[_Runqueue] = []
        for cpu in kernel.cpus:
            idle = Task(mem, self.namespaces, 0, f"swapper/{cpu.number}", None, None)
            idle.struct.flags = PF_KTHREAD
            idle.struct.cpu = cpu.number
            idle.join(cgroup)
            self.by_address[idle.address] = idle
            self._queues.append(_Runqueue(cpu, idle))
            cpu.current = idle.address
        self.init = self._add(1, "init", None, None)
        self.init.new_mm(["/sbin/init"])
        self._next_pid = FIRST_PID
        self._hub: greenlet | None = None

    def current(self, cpu: Cpu) -> Task:
        """Return the task that a CPU runs: what ``current`` is in the kernel."""
        return self._queues[cpu.number].current

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

        ``leader`` makes it a thread of that process. Without ``uid`` it is who its parent (by default init) is.
        """
        parent = (leader.parent if leader is not None else parent) or self.init
        task = self._add(self._next_pid, comm, parent, leader)
        self._next_pid += 1
        if cgroup is not None:
            task.join(cgroup)
        if leader is not None:
            task.share_mm(leader)
        else:
            task.new_mm(args or [comm])
        task.cred.become(
            parent.cred.uid if uid is None else uid, (parent.cred.gid if uid is None else uid) if gid is None else gid
        )
        queue = self._queues[cpu] if cpu is not None else min(self._queues, key=self._load)
        task.struct.cpu = task.struct.recent_used_cpu = queue.cpu.number
        task.struct.nr_cpus_allowed = len(self._queues)
        now_ns = queue.cpu.now_ns
        task.struct.start_time = task.struct.start_boottime = now_ns
        self._threads[task] = _Thread(greenlet(lambda: self._main(task, main)), queue)
        waker = self._running_queue() or queue
        self.trace(waker.cpu, "sched_process_fork", parent.address, task.address)
        self.trace(waker.cpu, "sched_wakeup_new", task.address)
        self._enqueue(task, waker.cpu)
        return task

    def wake_up(self, task: Task, waker: Cpu) -> bool:
        """Make a waiting task ready (try_to_wake_up); False when it was not waiting."""
        thread = self._threads.get(task)
        if thread is None or task.struct.state == TaskState.RUNNING:
            return False
        self.trace(waker, "sched_waking", task.address)
        if thread.timer is not None:
            thread.timer.cancel()
            thread.timer = None
        task.struct.state = TaskState.RUNNING
        self.trace(waker, "sched_wakeup", task.address)
        self._enqueue(task, waker)
        return True

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
            thread.timer = self.kernel.clock.call_in(
                rq.cpu.elapsed_ps // 1000 + timeout_ns, lambda: self._time_is_over(task, thread, queue)
            )
        task.struct.nvcsw += 1
        self._switch_to_hub()
        return not thread.timed_out

    def advance(self) -> None:
        """Let the clock catch up with what the current task's CPU was charged; to be called from a task."""
        rq = self._running_queue()
        if rq is not None and rq.cpu.elapsed_ps >= 1000:
            rq.busy = True
            self._switch_to_hub()

    def wait_child(self, task: Task) -> tuple[int, int] | None:
        """Return pid and exit code of a child that has exited, as soon as there is one; None without children."""
        while task.children:
            for child in task.children:
                if child.struct.exit_state == TaskState.EXIT_ZOMBIE:
                    ended = child.pid, child.struct.exit_code
                    self._release(child)
                    return ended
            self.wait(self._child_exits.setdefault(task, WaitQueue()))
        return None

    def _add(self, pid: int, comm: str, parent: Task | None, leader: Task | None) -> Task:
        task = Task(self.kernel.mem, self.namespaces, pid, comm, parent, leader)
        self.tasks[pid] = self.by_address[task.address] = task
        above = leader or parent
        task.join(above.cgroup if above is not None else self._cgroup)
        if parent is not None and leader is None:
            parent.children.append(task)
        return task

    def _load(self, queue: _Runqueue) -> int:
        return sum(thread.queue is queue for thread in self._threads.values())

    def _enqueue(self, task: Task, waker: Cpu) -> None:
        queue = self._threads[task].queue
        queue.ready.append(task)
        self.kernel.clock.call_in(waker.elapsed_ps // 1000, lambda: self._schedule(queue))

    def _running_queue(self) -> _Runqueue | None:
        # the run queue whose task's greenlet this is
        here = getcurrent()
        for queue in self._queues:
            thread = self._threads.get(queue.current)
            if thread is not None and thread.run is here:
                return queue
        return None

    def _switch_to_hub(self) -> None:
        if self._hub is None:
            raise InternalError("a task runs outside the scheduler")
        self._hub.switch()

    def _schedule(self, queue: _Runqueue) -> None:
        # an idle CPU looks for work
        if queue.current is queue.idle and queue.ready and not queue.busy:
            self._switch(queue, queue.ready.popleft(), 0)
            self._resume(queue)

    def _switch(self, queue: _Runqueue, task: Task, prev_state: int) -> None:
        prev = queue.current
        if task is not prev:
            self.trace(queue.cpu, "sched_switch", 0, prev.address, task.address, prev_state)
            queue.current = task
            queue.cpu.current = task.address
            queue.cpu.user = task.user

    def _resume(self, queue: _Runqueue) -> None:
        # run the current task until it waits, exits or lets time pass
        queue.busy = False
        task = queue.current
        outer, self._hub = self._hub, getcurrent()
        run = self._threads[task].run
        run.parent = self._hub
        try:
            run.switch()
        finally:
            self._hub = outer
        thread = self._threads.get(task)
        if queue.busy:
            self.kernel.clock.call_in(queue.cpu.take_elapsed_ns(), lambda: self._resume(queue))
            return
        exited = thread is not None and not task.alive
        state = TaskState.DEAD if exited else task.struct.state
        if exited:
            task.struct.exit_state = TaskState.EXIT_ZOMBIE
            self._exit_notify(task, queue.cpu)
        self._switch(queue, queue.ready.popleft() if queue.ready else queue.idle, state)
        if exited:
            del self._threads[task]
            # init waits for everything; a thread goes without being waited for
            if task.parent is self.init or task.leader is not task:
                self._release(task)
        elapsed_ns = queue.cpu.take_elapsed_ns()
        if queue.current is queue.idle:
            queue.busy = True
            self.kernel.clock.call_in(elapsed_ns, lambda: self._idle(queue))
        else:
            self.kernel.clock.call_in(elapsed_ns, lambda: self._resume(queue))

    def _idle(self, queue: _Runqueue) -> None:
        queue.busy = False
        self._schedule(queue)

    def _time_is_over(self, task: Task, thread: _Thread, queue: WaitQueue | None) -> None:
        thread.timed_out = True
        thread.timer = None
        if queue is not None:
            queue.remove(task)
        self.wake_up(task, thread.queue.cpu)

    # do_exit
    def _main(self, task: Task, main: Main) -> None:
        thread = self._threads[task]
        try:
            thread.code = (main(task) & 0xFF) << 8
        except TaskExit as end:
            thread.code = end.code
        task.struct.flags |= PF_EXITING
        task.struct.exit_code = thread.code
        self.trace(thread.queue.cpu, "sched_process_exit", task.address, task.leader is task)
        if task.leader is task:
            task.files.close_all()
        task.alive = False

    # exit_notify, forget_original_parent
    def _exit_notify(self, task: Task, cpu: Cpu) -> None:
        for child in task.children:
            child.parent = self.init
            child.struct.real_parent_ptr = child.struct.parent_ptr = self.init.address
            self.init.children.append(child)
        for child in [child for child in task.children if child.struct.exit_state == TaskState.EXIT_ZOMBIE]:
            self._release(child)
        task.children = []
        self._child_exits.pop(task, None)
        waiting = self._child_exits.get(task.parent)
        if waiting is not None and task.leader is task:
            self.wake_up_all(waiting, cpu)

    def _release(self, task: Task) -> None:
        task.struct.exit_state = TaskState.EXIT_DEAD
        if task in task.parent.children:
            task.parent.children.remove(task)
        self.tasks.pop(task.pid, None)
        self.by_address.pop(task.address, None)
        self.on_release(task)
        task.release()
