"""What a task's calls go through, beside what Linux 6.12 was recorded to go through (``recordings``).

A scenario is the steps of a recording: what is done before, and what is watched. Calls of functions and tracepoints are
written down in their order and compared with the recording, both restricted to what the other can have.
"""

from collections.abc import Callable, Sequence
from typing import Any

from recordings import known, trees

import ebpfsim
from ebpfsim.task_steps import Room
from tracing.task import Task

Call = Callable[..., int]
What = Callable[[Task, Call], object]


class Watched:
    """A host with one CPU. ``calls`` are functions of the kernel in order, once ``watch`` was called."""

    def __init__(self) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.host = self.sim.host("h", cpus=1)
        self.kernel: Any = self.host.kernel
        self.calls: list[str] = []
        self.fired: list[str] = []
        self.watching = False
        # the functions that are written down, None for all
        self.only: frozenset[str] | None = None

    def spawn(self, what: What, *, comm: str = "test", uid: int = 0) -> Task:
        """Let a task begin, whose texts and bytes are put in its memory."""

        def main(task: Task) -> int:
            room = Room(task)

            def call(name: str, *args: int | bytes | str) -> int:
                words = [room.text(arg) if isinstance(arg, str) else arg for arg in args]
                words = [room.put(arg) if isinstance(arg, bytes) else arg for arg in words]
                answer: int = self.kernel.syscalls.call(task, name, *words)
                return answer

            what(task, call)
            return 0

        task: Task = self.kernel.sched.spawn(comm, main, uid=uid)
        return task

    def run(self, what: What, *, uid: int = 0) -> None:
        """Let a task begin, and everything go on until nothing happens any more."""
        self.spawn(what, uid=uid)
        self.sim.run()

    def watch(self) -> None:
        """Write down every call of a kernel function and every tracepoint from now on."""
        functions = self.kernel.functions
        if not self.watching:
            for name in list(functions.names()) if self.only is None else sorted(self.only & set(functions.names())):
                functions.__dict__[name] = self._watched(name, getattr(functions, name))
            for prefix, make in list(functions._makers.items()):
                functions.make(prefix, lambda name, make=make: self._watched(name, make(name)))
        self.watching = True

    def stop(self) -> None:
        """Write nothing down any more."""
        self.watching = False

    def _watched(self, name: str, function: Any) -> Any:
        if function is None:
            return None

        def call(*args: int) -> Any:
            if self.watching:
                self.calls.append(name)
            return function(*args)

        return call

    def modelled(self) -> frozenset[str]:
        """Return the recorded functions that the kernel has."""
        return (frozenset(self.kernel.functions.names()) | frozenset(self.calls)) & known()


def compared(watched: Watched, recording: str) -> tuple[list[str], list[str]]:
    """Return our calls and the recorded ones, those of functions that both could have."""
    modelled = watched.modelled()
    ours = [name for name in watched.calls if name in modelled]
    return ours, [name for name in trees()[recording] if name in modelled]


def steps(calls: Sequence[Sequence[int | bytes | str]]) -> What:
    """Return a task that makes calls one after the other."""

    def what(_task: Task, call: Call) -> None:
        for name, *args in calls:
            call(name, *args)

    return what
