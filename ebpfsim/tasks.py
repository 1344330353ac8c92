"""Tasks as users hold them: ``host.spawn()`` starts one, its steps are system calls, ``results`` what they came to."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from ebpfsim.errors import InputError
from ebpfsim.suggest import did_you_mean
from ebpfsim.task_steps import FORKS, Room, Step, StepResult, Value, arguments, parse_step, user_arguments
from tracing.sched import WaitQueue
from tracing.signals import exit_to_user
from tracing.task import Task

if TYPE_CHECKING:
    from ebpfsim.kernel import Kernel

__all__ = ["ChildTask", "HostTask"]

COMPUTE = "compute"  # a step that is no system call


class ChildTask:
    """A task that another one makes by fork(2): it does its steps and exits.

    ``results`` has one entry for each step that has ended, ``children`` the tasks that its steps make, by the step.
    """

    def __init__(self, kernel: "Kernel", name: str, steps: Sequence[Step]) -> None:
        self._kernel = kernel
        self.name, self.host = name, kernel.name
        self.steps = list(steps)
        self.results: list[StepResult] = []
        self.children: dict[int, ChildTask] = {}
        self._named: dict[str, int] = {}
        # what a step is made in, for instance what gives errors a place
        self.around: Callable[[int], AbstractContextManager[None]] = lambda _step: nullcontext()
        self._task: Task | None = None
        for index, step in enumerate(self.steps):
            self._add_child(index, step)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def task(self) -> Task:
        """The task in the simulated kernel; InputError before it has started."""
        if self._task is None:
            raise InputError("", f"task '{self.name}' has not started")
        return self._task

    @property
    def pid(self) -> int:
        """Its number."""
        return self.task.pid

    @property
    def started(self) -> bool:
        """Whether its time has come."""
        return self._task is not None

    @property
    def running(self) -> bool:
        """Whether it has started and not exited."""
        return self._task is not None and self._task.alive

    @property
    def named(self) -> Mapping[str, int]:
        """Results of steps by the names that ``as`` gave them."""
        return self._named

    def _add_child(self, index: int, step: Step) -> None:
        if step.call in FORKS:
            name = step.id or f"{self.name}-{len(self.children) + 1}"
            self.children[index] = ChildTask(self._kernel, name, step.steps)

    def _begin(self, named: Mapping[str, int], task: Task) -> int:
        # in the new task, which knows what its parent knew
        self._task, self._named = task, dict(named)
        return self._main(task)

    def _main(self, task: Task) -> int:
        for index, step in enumerate(self.steps):
            with self.around(index):
                self._do(task, index, step)
        return 0

    def _do(self, task: Task, index: int, step: Step) -> None:
        kernel = self._kernel
        cpu = kernel.sched.cpu_of(task)
        start_ns = cpu.now_ns
        room = Room(task)
        if index in self.children:
            task.program = partial(self.children[index]._begin, self._named)
        retval = self._call(task, step, room)
        # where it was refused
        task.program = None
        cpu = kernel.sched.cpu_of(task)
        room.release()
        if step.name:
            self._named[step.name] = retval
        self.results.append(StepResult(index, step.call, retval, start_ns, cpu.now_ns))
        kernel.sched.advance()

    def _call(self, task: Task, step: Step, room: Room) -> int:
        kernel = self._kernel
        user = user_arguments(step, room, self._named)
        if user is not None:
            names, words = user
            if step.call == "call":
                path, function = names
                return kernel.uprobes.call(task, path, function, words, step.returns, step.takes_ns)
            path, provider, name = names
            return kernel.uprobes.usdt(task, path, provider, name, words)
        name, args = arguments(step, room, self._named, self._ifindex)
        if name == COMPUTE:
            kernel.sched.compute(args[0])
            return 0
        return kernel.syscalls.call(task, name, *args)

    def _ifindex(self, name: str) -> int:
        devices = self._kernel.current_net.devices
        if name not in devices:
            raise InputError("", f"no device '{name}'{did_you_mean(name, devices)}")
        return devices[name].ifindex


class HostTask(ChildTask):
    """A task of a host, which nobody forks.

    With steps it runs them and exits; without, it waits for ``Host.syscall`` until ``exit``.
    """

    def __init__(
        self,
        kernel: "Kernel",
        name: str,
        steps: Sequence[object] | None,
        *,
        uid: int = 0,
        gid: int | None = None,
        cpu: int | None = None,
        start_ns: int = 0,
        cgroup: str = "",
        stack: Sequence[int] = (),
    ) -> None:
        calls = kernel.syscalls.table
        super().__init__(kernel, name, [parse_step(step, calls) for step in steps or ()])
        self._waiting: deque[Step] | None = None if steps is not None else deque()
        self._work = WaitQueue()
        self._over = False

        def start() -> None:
            group = kernel.cgroups.mkdir(cgroup) if cgroup else None
            self._task = kernel.sched.spawn(name, self._main, uid=uid, gid=gid, cpu=cpu, cgroup=group)
            if stack:
                self._task.declare_stack(stack)

        if start_ns > kernel.clock.now_ns:
            kernel.clock.call_at(start_ns, start)
        else:
            start()

    def call(self, name: str, *args: Value) -> int:
        """Make one system call now and return its result; the simulation goes on until it has ended."""
        if self._waiting is None or not self.running:
            why = "runs steps of its own" if self.running else "has exited"
            raise InputError("", f"task '{self.name}' {why}")
        step = parse_step({name: list(args)}, self._kernel.syscalls.table)
        self._waiting.append(step)
        before = len(self.results)
        self._wake()
        while len(self.results) == before and self.running:
            if not self._kernel.clock.step():
                raise InputError("", f"{name}() of task '{self.name}' waits for something that does not happen")
        return self.results[-1].retval if len(self.results) > before else 0

    def exit(self) -> None:
        """Let a task that waits for calls end."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._kernel.sched.wake_up_all(self._work, self._kernel.cpus[0])

    def _main(self, task: Task) -> int:
        super()._main(task)
        while self._waiting is not None and not self._over:
            if self._waiting:
                step = self._waiting.popleft()
                self._add_child(len(self.results), step)
                self._do(task, len(self.results), step)
            else:
                self._kernel.sched.wait(self._work)
                self._work.remove(task)
                exit_to_user(self._kernel, task, 0)
        return 0
