"""What the schema cannot see of tasks: their steps, the files that they find, and what is expected of them."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Protocol

from ebpfsim.errnos import Errno
from ebpfsim.kernel import SYSCALL_MODULES
from ebpfsim.scenario.document import Key
from ebpfsim.scenario.schema import EventBlock, ExpectBlock, FileBlock, HostBlock, ScenarioModel, TaskBlock
from ebpfsim.scenario.source import shown
from ebpfsim.task_steps import FORKS, Calls, child_names, forked, step_problems
from tracing.syscalls import syscall_table
from tracing.vfs import INITIAL_TREE

__all__ = ["check_expected_task", "check_files", "check_task", "step_names"]

Path = tuple[Key, ...]
COMMON_ERRNOS = ("EPERM", "ENOENT", "EACCES", "EBADF", "EINVAL", "EEXIST", "ENOTDIR", "EISDIR")


class Check(Protocol):
    """What gathers the errors of a scenario."""

    model: ScenarioModel
    tasks: dict[str, TaskBlock]

    def wrong(self, path: Path, problem: str, hint: str = "", *, key: bool = False) -> None:
        """Tell that something is wrong at a place."""

    def unknown(self, path: Path, what: str, name: object, known: Iterable[str], *, key: bool = False) -> None:
        """Tell that a name leads nowhere."""

    def not_modelled(self, path: Path, feature: str, *, key: bool = False) -> None:
        """Tell that ebpfsim has not what Linux has."""

    def host_name(self, path: Path, name: str | None) -> HostBlock | None:
        """Return the host of that name."""


@cache
def system_calls() -> Calls:
    """Return the system calls that tasks can make."""
    return syscall_table(SYSCALL_MODULES)


def check_files(check: Check, path: Path, files: Mapping[str, FileBlock]) -> None:
    """Look at the ``files`` of a host: directories hold nothing, and no file is a directory of another."""
    plain = {f"/{name}" for name in INITIAL_TREE if not name.endswith("/")}
    plain |= {name for name in files if not name.endswith("/")}
    for name, block in files.items():
        if name.endswith("/") and block.content is not None:
            check.wrong((*path, name), f"directory '{name}' has content", "leave out the '/' at its end")
        parts = name.strip("/").split("/")
        above = ["/" + "/".join(parts[:count]) for count in range(1, len(parts))]
        for parent in [*above, *([name.rstrip("/")] if name.endswith("/") else [])]:
            if parent in plain:
                check.wrong((*path, name), f"'{parent}' is a file, not a directory", key=True)


def check_task(check: Check, path: Path, event: EventBlock) -> None:
    """Look at a ``task`` event."""
    task = event.task
    assert task is not None
    here = (*path, "task")
    key = "id" if task.id else "name"
    if task.key in check.tasks:
        hint = "" if task.id else "an 'id' of its own for this one"
        check.wrong((*here, key), f"there is a task '{task.key}' already", hint)
    check.tasks.setdefault(task.key, task)
    host = check.model.hosts.get(str(event.host))
    cpus = (host.cpus if host is not None else None) or check.model.kernel.cpus or 1
    if host is not None and task.cpu is not None and task.cpu >= cpus:
        check.wrong((*here, "cpu"), f"host '{event.host}' has no CPU {task.cpu}", f"0 to {cpus - 1}")
    if not task.steps:
        check.wrong((*here, "steps"), f"task '{task.key}' does nothing", "{openat: [/etc/passwd, O_RDONLY]}")
    named: list[str] = []
    for index, step in enumerate(task.steps):
        for problem in step_problems(step, system_calls(), named):
            place = (*here, "steps", index, *problem.path)
            if problem.feature:
                check.not_modelled(place, problem.feature, key=problem.key)
            else:
                check.wrong(place, problem.problem, problem.hint, key=problem.key)
        if isinstance(step, dict) and isinstance(step.get("as"), str):
            named.append(step["as"])
    _check_children(check, (*here, "steps"), task)


def _check_children(check: Check, path: Path, task: TaskBlock) -> None:
    # tasks that a task makes are there for expectations, too
    rows = [(index, step, forked(step)) for index, step in enumerate(task.steps)]
    children = [(index, step, steps) for index, step, steps in rows if steps is not None]
    ids = [str(step.get("id") or "") if isinstance(step, dict) else "" for _, step, _ in children]
    for name, (index, step, steps) in zip(child_names(task.key, ids), children, strict=True):
        if name in check.tasks:
            given = isinstance(step, dict) and "id" in step
            place = (*path, index, "id") if given else (*path, index)
            check.wrong(place, f"there is a task '{name}' already", "an 'id' of its own for this one")
            continue
        check.tasks[name] = child = task.model_copy(update={"id": name, "steps": steps})
        if steps and isinstance(step, dict):
            _check_children(check, (*path, index, next(key for key in FORKS if key in step)), child)


def check_expected_task(check: Check, path: Path, expect: ExpectBlock) -> None:
    """Look at a ``task`` expectation."""
    task = check.tasks.get(str(expect.task))
    if task is None:
        check.unknown((*path, "task"), "task", expect.task, check.tasks)
    elif expect.step is not None:
        names = step_names(task)
        if isinstance(expect.step, str) and expect.step not in names:
            check.unknown((*path, "step"), f"step of task '{task.key}':", expect.step, names)
        elif isinstance(expect.step, int) and not 0 <= expect.step < len(task.steps):
            count = f"{len(task.steps)} step{'s' if len(task.steps) != 1 else ''}"
            problem = f"task '{task.key}' has {count}, no step {expect.step}"
            check.wrong((*path, "step"), problem, f"0 to {len(task.steps) - 1}, or what is behind 'as'")
    if expect.errno is not None and expect.errno not in Errno.__members__:
        check.unknown((*path, "errno"), "errno", expect.errno, dict.fromkeys((*COMMON_ERRNOS, *Errno.__members__)))
    for name in ("errno", "result"):
        if getattr(expect, name) is not None and expect.step is None:
            check.wrong((*path, name), f"'{name}' needs 'step'", "step: 0 for the first one", key=True)
    if expect.errno is not None and expect.result is not None:
        check.wrong((*path, "result"), "'errno' and 'result' say the same", "one of them", key=True)
    if expect.step is not None and expect.errno is None and expect.result is None:
        check.wrong((*path, "step"), f"nothing is expected of step {shown(expect.step)}", "errno: EPERM, or result: 0")


def step_names(task: TaskBlock) -> dict[str, int]:
    """Return the numbers of steps by what is behind their ``as``; the last one of a name counts."""
    rows = enumerate(task.steps)
    return {step["as"]: index for index, step in rows if isinstance(step, dict) and isinstance(step.get("as"), str)}
