"""New processes and threads: what they have of their parent (fork(2), vfork(2), clone(2))."""

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno

SIGCHLD, CLONE_VM, CLONE_SIGHAND, CLONE_THREAD, CLONE_FILES = 17, 0x100, 0x800, 0x10000, 0x400


def test_a_copy_of_memory_and_descriptors() -> None:
    machine, seen = Watched(), {}

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        place = user.alloc(16, b"before")
        fd = call("openat", -100, "/etc/hostname", 0, 0)  # type: ignore[operator]

        def child(other: object) -> int:
            do = machine.kernel.syscalls.call
            seen["child"] = (do(other, "getppid"), other.user.read(place, 6), other.cred.uid, other.comm)  # type: ignore[attr-defined]
            other.user.write(place, b"child!")  # type: ignore[attr-defined]
            # the position is that of both
            seen["read"] = do(other, "read", fd, place, 2)
            do(other, "close", fd)
            return 5

        task.program = child  # type: ignore[attr-defined]
        pid = call("fork")  # type: ignore[operator]
        status = user.alloc(4)
        seen["wait"] = call("wait4", pid, status, 0, 0) == pid  # type: ignore[operator]
        seen["parent"] = (user.read(place, 6), user.read(status, 4)[1], call("lseek", fd, 0, 1))  # type: ignore[operator]

    machine.run(main, uid=33)
    assert seen == {"child": (1000, b"before", 33, "test"), "read": 2, "wait": True, "parent": (b"before", 5, 2)}
    assert machine.kernel.sched.tasks.keys() == {1}


def test_threads_share() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        def thread(other: object) -> int:
            seen.append((other.tgid == task.tgid, other.user is task.user, other.files is task.files))  # type: ignore[attr-defined]
            machine.kernel.syscalls.call(other, "exit", 0)
            return 0

        task.program = thread  # type: ignore[attr-defined]
        call("clone", CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FILES, 0, 0, 0, 0)  # type: ignore[operator]
        machine.kernel.sched.wait(None, timeout_ns=1000)
        # threads are no children
        seen.append(call("wait4", -1, 0, 0, 0))  # type: ignore[operator]

    machine.run(main)
    assert seen == [(True, True, True), -Errno.ECHILD]
    assert machine.kernel.sched.tasks.keys() == {1}


def test_vfork_waits_for_the_child() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        def child(other: object) -> int:
            machine.kernel.sched.wait(None, timeout_ns=5000)
            seen.append("child")
            return 0

        task.program = child  # type: ignore[attr-defined]
        call("vfork")  # type: ignore[operator]
        seen.append("parent")

    machine.run(main)
    assert seen == ["child", "parent"]


@pytest.mark.parametrize(
    ("flags", "result"),
    [(CLONE_THREAD | SIGCHLD, -Errno.EINVAL), (CLONE_SIGHAND, -Errno.EINVAL), (0x20000000, -Errno.EPERM)],
)
def test_refusals(flags: int, result: int) -> None:
    machine, answers = Watched(), []
    machine.run(lambda _task, call: answers.append(call("clone", flags, 0, 0, 0, 0)), uid=1000)
    assert answers == [result]


def test_a_security_module_refuses() -> None:
    machine, answers = Watched(), []
    machine.kernel.functions.security_task_alloc  # noqa: B018 - made when it is asked for
    machine.kernel.functions.__dict__["security_task_alloc"] = lambda _cpu, _task, _flags: -Errno.EPERM
    machine.run(lambda _task, call: answers.append(call("fork")))
    assert answers == [-Errno.EPERM]
    assert machine.kernel.sched.tasks.keys() == {1}
