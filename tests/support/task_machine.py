"""A kernel with tasks, files and system calls, and nothing else."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ebpfsim.clock import Clock
from ebpfsim.costs import load_profile
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from ebpfsim.rng import Rng
from tracing import hrtimer, irq, sched_functions
from tracing.fs import bound
from tracing.functions import KernelFunctions
from tracing.lsm import add_security_hooks
from tracing.paths import add_paths
from tracing.rooms import FUNCTION_ROOMS, SYSCALL_ROOMS
from tracing.sched import Scheduler
from tracing.syscalls import Syscalls
from tracing.task import Task
from tracing.vfs import Vfs


class Machine:
    """``run`` lets a task make calls; ``calls`` are the kernel functions that were called, in order."""

    def __init__(self) -> None:
        self.mem, self.clock = Memory(), Clock()
        cpus = [Cpu(0, self.clock, self.mem)]
        self.kernel: Any = SimpleNamespace(mem=self.mem, clock=self.clock, cpus=cpus, costs=load_profile("skx3"))
        self.kernel.walks = {}
        self.kernel.name, self.kernel.rng = "host", Rng(1)
        self.kernel.trace = lambda cpu, name, *args: self.events.append(name)
        self.events: list[str] = []
        self.calls: list[str] = []
        self.vfs = self.kernel.vfs = Vfs(self.mem)
        self.sched = self.kernel.sched = Scheduler(self.kernel)
        functions = self.kernel.functions = KernelFunctions()
        for module in (*FUNCTION_ROOMS, sched_functions, hrtimer, irq):
            functions.add(bound(module, self.kernel))
        add_security_hooks(functions, self.mem)
        add_paths(functions, self.kernel)
        self.syscalls = Syscalls(self.kernel, SYSCALL_ROOMS)
        functions.add(SimpleNamespace(**self.syscalls.entries))

    def run(self, what: Callable[[Task, Callable[..., int]], None], *, uid: int = 0) -> None:
        """Run a task; ``what`` gets it and a function that makes system calls, whose texts are put in its memory."""

        def main(task: Task) -> int:
            def call(name: str, *args: int | str) -> int:
                return self.syscalls.call(task, name, *(self.text(task, arg) for arg in args))

            what(task, call)
            return 0

        self.sched.spawn("test", main, uid=uid)
        self.clock.run()

    def text(self, task: Task, value: int | str) -> int:
        """Return where a text is in a task's memory; numbers are themselves."""
        assert task.user is not None
        return task.user.alloc(1, value.encode() + b"\0") if isinstance(value, str) else value

    def watch(self) -> None:
        """Write down every call from now on."""
        functions = self.kernel.functions
        for name in list(functions.names()):
            self._watch(name, getattr(functions, name))
        for prefix, make in list(functions._makers.items()):
            functions.make(prefix, lambda name, make=make: self._watched(name, make(name)))

    def _watched(self, name: str, function: Any) -> Any:
        if function is None:
            return None

        def call(*args: int) -> int:
            self.calls.append(name)
            return int(function(*args))

        return call

    def _watch(self, name: str, function: Any) -> None:
        def call(*args: int) -> Any:
            self.calls.append(name)
            return function(*args)

        self.kernel.functions.__dict__[name] = call
