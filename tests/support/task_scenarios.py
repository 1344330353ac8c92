"""What tasks do in 241 scenarios that Linux 6.12 was recorded with, and the model as a second machine to do it.

tests/data/task_scenarios_6.12.json.xz has the steps of each scenario (before, and while it was watched) and what the
task and its children called: functions and security hooks of function_graph, and tracepoints as ``@NAME``. Left out are
interrupts, the scheduler's inside, page allocation, locks and accounting, and what differs by how many areas a program
has. ``@sys_enter_NAME`` stands for both tracepoints of system calls.
"""

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

from call_paths import Watched
from recordings import known

from ebpfsim.errors import NotModelled
from tracing.faults import touch
from tracing.task import Task

DATA = Path(__file__).resolve().parents[1] / "data" / "task_scenarios_6.12.json.xz"
FILES = {
    "/tmp/d/f": (b"0123456789", 0o644), "/tmp/d/e/g": (bytes(5000), 0o644), "/tmp/d/three/a": (b"", 0o644),
    "/tmp/d/three/b": (b"", 0o644), "/tmp/d/three/c": (b"", 0o644), "/tmp/d/true": (b"\x7fELF", 0o755),
    "/tmp/d/script": (b"#!/tmp/d/true\n", 0o755), "/tmp/m/": (b"", 0o755),
}  # fmt: skip
S_NOSEC = 1 << 12
MILLISECOND = 1_000_000


@cache
def recorded() -> dict[str, Any]:
    """Return the file."""
    found: dict[str, Any] = json.loads(lzma.decompress(DATA.read_bytes()))
    return found


@cache
def names_known() -> frozenset[str]:
    """Return all functions that any recording has."""
    return known() | {name for name in recorded()["names"] if not name.startswith("@")}


@cache
def modelled() -> tuple[frozenset[str], frozenset[str]]:
    """Return the functions and security hooks that the model has, and its tracepoints."""
    machine = Watched()
    kernel, hooks = machine.kernel, set()
    for name in recorded()["names"]:
        if name.startswith("security_"):
            try:
                getattr(kernel.functions, name)
            except NotModelled:
                continue
            hooks.add(name)
    calls = {f"@sys_{way}_{name}" for name in kernel.syscalls.table for way in ("enter", "exit")}
    return frozenset(kernel.functions.names()) | hooks, frozenset(
        f"@{name}" for name in kernel.tracepoints.fired
    ) | calls


class Player(Watched):
    """A machine that does the steps of a scenario, and writes down who called what."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[int, str]] = []
        self.child = 0
        for path, (data, mode) in FILES.items():
            inode = self.kernel.vfs.add(path, data, mode=mode).inode
            if data:
                # they were written before
                inode.i_flags |= S_NOSEC
        self.numbers = {row.nr: name for name, row in self.kernel.syscalls.table.items()}

    def _note(self, name: str) -> None:
        if self.watching:
            self.log.append((self.kernel.sched.queues[0].current.pid, name))

    def _watched(self, name: str, function: Any) -> Any:
        if function is None:
            return None

        def call(*args: int) -> Any:
            self._note(name)
            return function(*args)

        return call

    def watch(self) -> None:
        """Write down functions and tracepoints from now on."""
        super().watch()
        for name in sorted(self.kernel.tracepoints.fired):
            self.kernel.tracepoints.get(name).add_probe(self._probe(name))

    def _probe(self, name: str) -> Any:
        def probe(_cpu: Any, *args: int) -> None:
            if name not in ("sys_enter", "sys_exit"):
                self._note(f"@{name}")
                return
            number = args[1] if name == "sys_enter" else self.kernel.mem.load(args[0] + 120, 8)
            self._note(f"@{name}_{self.numbers[number]}")

        return probe

    def play(self, scenario: str) -> None:
        """Do all steps of a scenario."""
        steps = recorded()["scenarios"][scenario]

        def main(task: Task) -> int:
            self._do(task, steps["before"])
            self.kernel.sched.wait(None, timeout_ns=10 * MILLISECOND)
            self.watch()
            self._do(task, steps["during"])
            self.stop()
            return 0

        self.kernel.sched.spawn("test", main, uid=0)
        self.sim.run()

    def _do(self, task: Task, steps: list[Any]) -> None:
        call = self.kernel.syscalls.call
        for step in steps:
            if isinstance(step, list):
                call(task, step[0], *(self._value(task, value) for value in step[1:]))
            elif "sleep" in step:
                self.kernel.sched.wait(None, timeout_ns=step["sleep"] * MILLISECOND)
            elif "touch" in step:
                if touch(self.kernel, task, step["touch"], write=step["write"]) and step["write"]:
                    assert task.user is not None
                    task.user.write(step["touch"], b"\1")
            else:
                task.program = lambda other, step=step: self._block(other, step)
                self.child = call(task, step["call"][0], *step["call"][1:])

    def _block(self, task: Task, step: dict[str, Any]) -> int:
        self._do(task, step["steps"])
        if step["block"] == "T":
            self.kernel.syscalls.call(task, "exit", 0)
        return 0

    def _value(self, task: Task, value: Any) -> int:
        user = task.user
        assert user is not None
        if isinstance(value, int):
            return value
        if value == "<child>":
            return self.child
        if value == "<self>":
            return task.pid
        if isinstance(value, str):
            return user.alloc(1, value.encode() + b"\0")
        if "bytes" in value:
            return user.alloc(1, bytes.fromhex(value["bytes"]))
        texts = [user.alloc(1, text.encode() + b"\0") for text in value["words"]]
        return user.alloc(8, b"".join(address.to_bytes(8, "little") for address in [*texts, 0]))


def compared(scenario: str) -> tuple[list[list[str]], list[list[str]]]:
    """Return our calls and those of Linux, task by task, of functions that both could have."""
    player = Player()
    player.play(scenario)
    data = recorded()
    functions, events = modelled()
    everything, entry = data["names"], data["scenarios"][scenario]
    steps = json.dumps(entry)
    areas = set(data["vmas"]) if '"block"' in steps or "exec" in scenario else set()
    faults = "touch" in steps or "268435456" in steps or "536870912" in steps or "efault" in scenario
    left_out, no_events = set(data["left_out"]) | areas, tuple(data["events_left_out"])

    def wanted(name: str) -> bool:
        if name in left_out or name.startswith(no_events) or (name.startswith("@page_fault") and not faults):
            return False
        return name in events if name.startswith("@") else name in names_known()

    ours: dict[int, list[str]] = {}
    for pid, name in player.log:
        if pid:
            ours.setdefault(pid, [])
            if wanted(name):
                ours[pid].append(name)
    called = {name for _, name in player.log}
    theirs = []
    for row in entry["calls"]:
        names = (everything[number] for number in row)
        theirs.append([name for name in names if wanted(name) and (name in functions | events or name in called)])
    return [calls for calls in ours.values() if calls][: len(theirs)], theirs
