"""CPUs with tasks, and nothing else."""

from types import SimpleNamespace
from typing import Any

from ebpfsim.clock import Clock
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from tracing import hrtimer, irq, sched_functions
from tracing.fs import bound
from tracing.functions import KernelFunctions
from tracing.lsm import add_security_hooks
from tracing.paths import add_paths
from tracing.rooms import FUNCTION_ROOMS
from tracing.sched import Scheduler
from tracing.task import Task
from tracing.vfs import Vfs


class SchedMachine:
    """``events`` are the tracepoints that fired: when, which, with the names of tasks for their addresses."""

    def __init__(self, cpus: int = 1) -> None:
        self.mem, self.clock = Memory(), Clock()
        self.cpus = [Cpu(number, self.clock, self.mem) for number in range(cpus)]
        self.events: list[tuple[Any, ...]] = []
        self.kernel: Any = SimpleNamespace(mem=self.mem, clock=self.clock, cpus=self.cpus)
        self.sched = self.kernel.sched = Scheduler(self.kernel, self._trace)
        self.kernel.trace = self._trace
        self.kernel.functions = KernelFunctions()
        self.kernel.vfs, self.kernel.walks = Vfs(self.mem), {}
        functions = self.kernel.functions
        for module in (*FUNCTION_ROOMS, sched_functions, hrtimer, irq):
            functions.add(bound(module, self.kernel))
        add_security_hooks(functions, self.mem)
        add_paths(functions, self.kernel)

    def _trace(self, cpu: Cpu, name: str, *args: int) -> None:
        tasks = self.sched.by_address
        shown = [tasks[arg].comm if arg in tasks else arg for arg in args]
        self.events.append((cpu.now_ns, name, *shown))

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        """Return the events of these names."""
        return [event for event in self.events if event[1] in names]

    def work(self, task: Task, ns: int) -> None:
        """Let a task need time in the kernel."""
        self.sched.cpu_of(task).charge(ns * 1000)
        self.sched.advance()
