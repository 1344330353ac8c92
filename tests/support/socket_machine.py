"""A host with tasks that make sockets, between others on one wire."""

from collections.abc import Callable
from typing import Any

import ebpfsim
from ebpfsim.task_steps import Room
from tracing.task import Task

AF_INET, SOCK_DGRAM = 2, 2
MSG_DONTWAIT = 0x40
Call = Callable[..., int]


def sockaddr(address: str, port: int, family: int = AF_INET) -> bytes:
    """Return ``struct sockaddr_in``."""
    packed = bytes(int(part) for part in address.split("."))
    return family.to_bytes(2, "little") + port.to_bytes(2, "big") + packed + bytes(8)


class SocketMachine:
    """``run`` lets a task make calls whose bytes are put in its memory; ``calls`` are kernel functions in order."""

    def __init__(self) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.kernel: Any = self.sim.host("h").kernel
        self.calls: list[str] = []

    def start(self, what: Callable[[Task, Call], object], *, uid: int = 0) -> None:
        """Let a task begin."""

        def main(task: Task) -> int:
            room = Room(task)

            def call(name: str, *args: int | bytes) -> int:
                words = (room.put(arg) if isinstance(arg, bytes) else arg for arg in args)
                answer: int = self.kernel.syscalls.call(task, name, *words)
                return answer

            what(task, call)
            return 0

        self.kernel.sched.spawn("test", main, uid=uid)

    def run(self, what: Callable[[Task, Call], object], *, uid: int = 0) -> None:
        """Let a task begin, and everything go on until nothing happens any more."""
        self.start(what, uid=uid)
        self.sim.run()

    def watch(self) -> None:
        """Write down every call of a kernel function from now on."""
        functions = self.kernel.functions
        for name in list(functions.names()):
            functions.__dict__[name] = self._watched(name, getattr(functions, name))
        for prefix, make in list(functions._makers.items()):
            functions.make(prefix, lambda name, make=make: self._watched(name, make(name)))
        functions.__dict__["watched"] = True

    def _watched(self, name: str, function: Any) -> Any:
        if function is None:
            return None

        def call(*args: int) -> Any:
            self.calls.append(name)
            return function(*args)

        return call
