"""The end of processes, and waiting for it: wait4(2), waitid(2), exit_group(2)."""

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno

WNOHANG, WEXITED, WNOWAIT = 1, 4, 0x01000000


def test_what_is_told_of_a_child() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        room = user.alloc(64)
        task.program = lambda _child: 7  # type: ignore[attr-defined]
        pid = call("fork")  # type: ignore[operator]
        seen.append(call("wait4", -1, room, WNOHANG, 0))  # type: ignore[operator]
        # struct siginfo: signo, errno, code, pid at 16... of waitid
        seen.append(call("waitid", 1, pid, room, WEXITED | WNOWAIT, 0))  # type: ignore[operator]
        words = [int.from_bytes(user.read(room + at, 4), "little") for at in (0, 8, 16, 24)]
        seen.append([words[0], words[1], words[2] == pid, words[3]])
        seen.append(call("wait4", pid + 1, room, 0, 0))  # type: ignore[operator]
        seen.append(call("wait4", pid, room, 0, 0) == pid)  # type: ignore[operator]
        seen.append(call("wait4", pid, room, 0, 0))  # type: ignore[operator]

    machine.run(main)
    # CLD_EXITED is 1
    assert seen == [0, 0, [17, 1, True, 7], -Errno.ECHILD, True, -Errno.ECHILD]


def test_all_threads_end() -> None:
    machine, seen = Watched(), []
    flags = 0x100 | 0x800 | 0x10000

    def main(task: object, call: object) -> None:
        def process(child: object) -> int:
            do = machine.kernel.syscalls.call
            child.program = lambda thread: do(thread, "pause")  # type: ignore[attr-defined]
            do(child, "clone", flags, 0, 0, 0, 0)
            machine.kernel.sched.wait(None, timeout_ns=1000)
            do(child, "exit_group", 3)
            return 0

        task.program = process  # type: ignore[attr-defined]
        room = task.user.alloc(4)  # type: ignore[attr-defined]
        call("fork")  # type: ignore[operator]
        call("wait4", -1, room, 0, 0)  # type: ignore[operator]
        seen.append(task.user.read(room, 4)[1])  # type: ignore[attr-defined]

    machine.run(main)
    assert seen == [3]
    assert machine.kernel.sched.tasks.keys() == {1}


def test_nobody_waits_when_the_signal_is_ignored() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        call("rt_sigaction", 17, (1).to_bytes(8, "little") + bytes(24), 0, 8)  # type: ignore[operator]
        task.program = lambda _child: 0  # type: ignore[attr-defined]
        call("fork")  # type: ignore[operator]
        seen.append(call("wait4", -1, 0, 0, 0))  # type: ignore[operator]

    machine.run(main)
    assert seen == [-Errno.ECHILD]


@pytest.mark.parametrize(
    ("call", "result"),
    [(("wait4", -1, 0, 0, 0), -Errno.ECHILD), (("wait4", -1, 0, 0x100, 0), -Errno.EINVAL),
     (("waitid", 0, 0, 0, 0, 0), -Errno.EINVAL), (("waitid", 7, 0, 0, WEXITED, 0), -Errno.EINVAL),
     (("waitid", 0, 0, 0, WEXITED, 0), -Errno.ECHILD)],
)  # fmt: skip
def test_refusals(call: tuple[object, ...], result: int) -> None:
    machine, answers = Watched(), []
    machine.run(lambda _task, do: answers.append(do(*call)))
    assert answers == [result]


def test_files_that_are_open_are_closed() -> None:
    machine = Watched()

    def main(_task: object, call: object) -> None:
        call("openat", -100, "/tmp/x", 0o102, 0o644)  # type: ignore[operator]
        call("unlink", "/tmp/x")  # type: ignore[operator]

    machine.run(lambda _task, call: call("getpid"))
    before = len(machine.kernel.vfs.by_address)
    machine.run(main)
    assert len(machine.kernel.vfs.by_address) == before
