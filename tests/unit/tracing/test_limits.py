"""What processes may use and have used: limits, priorities, CPUs, groups, capabilities (answers of Linux 6.18)."""

from collections.abc import Callable

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno
from tracing.task import Task

Call = Callable[..., int]


def word(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "little")


def answers(*calls: tuple[int | bytes | str, ...], uid: int = 0) -> list[int]:
    machine, found = Watched(), []
    machine.run(lambda _task, call: found.extend(call(*each) for each in calls), uid=uid)
    return found


def read(what: Callable[[Task, Call], object]) -> None:
    Watched().run(what)


def test_limits() -> None:
    seen = []

    def main(task: Task, call: Call) -> None:
        assert task.user is not None
        room = task.user.alloc(16)
        assert call("setrlimit", 7, word(100) + word(200)) == 0
        call("getrlimit", 7, room)
        seen.append(task.user.read(room, 16))

    read(main)
    assert seen == [word(100) + word(200)]
    assert answers(("setrlimit", 7, word(5) + word(4)), ("setrlimit", 99, word(1) * 2), ("setrlimit", 7, 8)) == [
        -Errno.EINVAL, -Errno.EINVAL, -Errno.EFAULT,
    ]  # fmt: skip
    assert answers(("setrlimit", 7, word(1) + word(1 << 40)), uid=7) == [-Errno.EPERM]


def test_priorities() -> None:
    # getpriority() is 20 - nice
    calls = [("getpriority", 0, 0), ("setpriority", 0, 0, 5), ("getpriority", 0, 0), ("setpriority", 0, 0, 100)]
    assert answers(*calls, ("getpriority", 0, 0), ("getpriority", 9, 0), ("setpriority", 0, 4711, 0)) == [
        20, 0, 15, 0, 1, -Errno.EINVAL, -Errno.ESRCH,
    ]  # fmt: skip
    # nobody but who may gets a better one
    assert answers(("setpriority", 0, 0, 3), ("setpriority", 0, 0, 2), ("setpriority", 0, 1, 2), uid=7) == [
        0, -Errno.EACCES, -Errno.EPERM,
    ]  # fmt: skip


def test_affinity() -> None:
    get, put = "sched_getaffinity", "sched_setaffinity"
    calls = [
        (get, 0, 8, bytes(8)), (get, 0, 3, bytes(8)), (put, 0, 8, word(1)), (put, 0, 8, word(2)),
        (put, 4711, 8, word(1)), (put, 0, 8, 8),
    ]  # fmt: skip
    assert answers(*calls) == [8, -Errno.EINVAL, 0, -Errno.EINVAL, -Errno.ESRCH, -Errno.EFAULT]


def test_policies() -> None:
    calls = [
        ("sched_getscheduler", 0), ("sched_setscheduler", 0, 3, bytes(4)), ("sched_getscheduler", 0),
        ("sched_setscheduler", 0, 77, bytes(4)), ("sched_setscheduler", 0, 0, 0), ("sched_getparam", 0, bytes(4)),
        ("sched_getscheduler", 4711),
    ]  # fmt: skip
    assert answers(*calls) == [0, 0, 3, -Errno.EINVAL, -Errno.EINVAL, 0, -Errno.ESRCH]


def test_what_was_used() -> None:
    seen = []

    def main(task: Task, call: Call) -> None:
        assert task.user is not None
        room = task.user.alloc(256)
        call("nanosleep", word(0) + word(1000), 0)
        assert call("getrusage", 0, room) == 0
        usage = task.user.read(room, 16)
        seen.append(int.from_bytes(usage[:8], "little"))
        assert call("sysinfo", room) == 0
        seen.append(int.from_bytes(task.user.read(room + 32, 8), "little"))
        assert call("times", room) >= 0
        seen.append(call("getrusage", 7, room))

    read(main)
    assert seen == [0, 4 << 30, -Errno.EINVAL]


def test_groups() -> None:
    seen = []

    def main(task: Task, call: Call) -> None:
        assert task.user is not None
        room = task.user.alloc(16)
        seen.append(call("setgroups", 2, word(9, 4) + word(7, 4)))
        seen.append(call("getgroups", 0, 0))
        seen.append(call("getgroups", 2, room))
        seen.append(task.user.read(room, 8))
        seen.append(call("getgroups", 1, room))

    read(main)
    assert seen == [0, 2, 2, word(7, 4) + word(9, 4), -Errno.EINVAL]
    assert answers(("setgroups", 0, 0), uid=7) == [-Errno.EPERM]


def test_capabilities() -> None:
    seen = []

    def main(task: Task, call: Call) -> None:
        assert task.user is not None
        header, room = word(0x2008_0522, 4) + bytes(4), task.user.alloc(24)
        call("capget", header, room)
        data = task.user.read(room, 24)
        seen.append(int.from_bytes(data[:4], "little") | int.from_bytes(data[12:16], "little") << 32)
        # all but CAP_CHOWN, and it does not come back
        less = word(0xFFFF_FFFE, 4) * 2 + bytes(4) + word(0x1FF, 4) * 2 + bytes(4)
        seen.append(call("capset", header, less))
        seen.append(task.cred.cap_effective)
        seen.append(call("capset", header, data))
        seen.append(call("capset", word(1, 4) + bytes(4), data))

    read(main)
    every = (1 << 41) - 1
    assert seen == [every, 0, every - 1, -Errno.EPERM, -Errno.EINVAL]


@pytest.mark.parametrize(("asked", "wanted"), [((0xFFFF_FFFF,), 0), ((0x40000,), 0)])
def test_personality(asked: tuple[int, ...], wanted: int) -> None:
    assert answers(("personality", *asked), ("personality", 0xFFFF_FFFF)) == [wanted, asked[0] % 0xFFFF_FFFF]
