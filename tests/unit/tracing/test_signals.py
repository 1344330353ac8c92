"""Signals between tasks: who gets them, what they do (kill(2), signal(7), wait(2))."""

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno

HANDLER = (0x40_2000).to_bytes(8, "little") + bytes(24)
IGNORE = (1).to_bytes(8, "little") + bytes(24)


def child_of(machine: Watched, task: object, program: object) -> int:
    """Let a task make a process that runs ``program``."""
    task.program = program  # type: ignore[attr-defined]
    return int(machine.kernel.syscalls.call(task, "fork"))


@pytest.mark.parametrize(("signal", "status"), [(15, 15), (9, 9), (10, 10), (11, 11)])
def test_a_signal_ends_a_process_that_waits(signal: int, status: int) -> None:
    machine, answers = Watched(), []

    def main(task: object, call: object) -> None:
        pid = child_of(machine, task, lambda child: machine.kernel.syscalls.call(child, "pause"))
        machine.kernel.sched.wait(None, timeout_ns=1000)
        room = task.user.alloc(4)  # type: ignore[attr-defined]
        answers.append(call("kill", pid, signal))  # type: ignore[operator]
        answers.append(call("wait4", -1, room, 0, 0) == pid)  # type: ignore[operator]
        answers.append(int.from_bytes(task.user.read(room, 4), "little"))  # type: ignore[attr-defined]

    machine.run(main)
    assert answers == [0, True, status]
    assert machine.kernel.sched.tasks.keys() == {1}


def test_a_handler_interrupts_calls() -> None:
    machine, answers = Watched(), []

    def main(task: object, call: object) -> None:
        def child(other: object) -> int:
            do = machine.kernel.syscalls.call
            room = other.user.alloc(64, HANDLER)  # type: ignore[attr-defined]
            do(other, "rt_sigaction", 10, room, 0, 8)
            answers.append(do(other, "pause"))
            long_time = other.user.alloc(16, (100).to_bytes(16, "little"))  # type: ignore[attr-defined]
            answers.append(do(other, "nanosleep", long_time, room + 32))
            # what was left: almost 100 seconds
            answers.append(int.from_bytes(other.user.read(room + 32, 8), "little"))  # type: ignore[attr-defined]
            return 0

        pid = child_of(machine, task, child)
        for _ in range(2):
            machine.kernel.sched.wait(None, timeout_ns=1000)
            call("kill", pid, 10)  # type: ignore[operator]
        call("wait4", pid, 0, 0, 0)  # type: ignore[operator]

    machine.run(main)
    assert answers == [-Errno.EINTR, -Errno.EINTR, 99]


def test_blocked_and_ignored_signals_wait_or_go() -> None:
    machine, answers = Watched(), []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(8)  # type: ignore[attr-defined]
        call("rt_sigprocmask", 0, (1 << 9 | 1 << 14).to_bytes(8, "little"), 0, 8)  # type: ignore[operator]
        call("kill", task.pid, 10)  # type: ignore[operator,attr-defined]
        call("rt_sigpending", room, 8)  # type: ignore[operator]
        answers.append(int.from_bytes(task.user.read(room, 8), "little"))  # type: ignore[attr-defined]
        # to ignore a signal forgets the one that waits
        call("rt_sigaction", 10, IGNORE, 0, 8)  # type: ignore[operator]
        call("rt_sigpending", room, 8)  # type: ignore[operator]
        answers.append(int.from_bytes(task.user.read(room, 8), "little"))  # type: ignore[attr-defined]
        call("tgkill", task.pid, task.pid, 15)  # type: ignore[operator,attr-defined]
        answers.append(call("rt_sigtimedwait", (1 << 14).to_bytes(8, "little"), 0, 0, 8))  # type: ignore[operator]

    machine.run(main)
    assert answers == [1 << 9, 0, 15]


@pytest.mark.parametrize(
    ("uid", "pid", "signal", "result"),
    [(0, 999999, 15, -Errno.ESRCH), (1000, 1, 15, -Errno.EPERM), (0, 1, 0, 0), (0, 1, 15, 0), (0, 1, 65, -Errno.EINVAL),
     (1000, 0, 0, 0), (0, -999999, 0, -Errno.ESRCH), (0, -(1 << 31), 0, -Errno.ESRCH)],
)  # fmt: skip
def test_permissions(uid: int, pid: int, signal: int, result: int) -> None:
    machine, answers = Watched(), []
    machine.run(lambda _task, call: answers.append(call("kill", pid, signal)), uid=uid)
    assert answers == [result]


def test_a_stopped_process_goes_on() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        def child(other: object) -> int:
            machine.kernel.syscalls.call(other, "getpid")
            seen.append("child")
            return 3

        pid = child_of(machine, task, child)
        call("kill", pid, 19)  # type: ignore[operator]
        machine.kernel.sched.wait(None, timeout_ns=10_000)
        seen.append("parent")
        call("kill", pid, 18)  # type: ignore[operator]
        room = task.user.alloc(4)  # type: ignore[attr-defined]
        call("wait4", pid, room, 0, 0)  # type: ignore[operator]
        seen.append(task.user.read(room, 4)[1])  # type: ignore[attr-defined]

    machine.run(main)
    assert seen == ["parent", "child", 3]
