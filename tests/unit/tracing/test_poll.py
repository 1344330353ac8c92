"""Waiting for several files: poll(2), select(2), epoll(7), eventfd(2)."""

from struct import pack, unpack

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno

POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 4, 8, 0x10, 0x20
EPOLLET, EPOLLONESHOT = 1 << 31, 1 << 30
EVENT = pack("<IQ", 1, 0)


def test_what_poll_says() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        call("pipe2", bytes(8), 0)  # type: ignore[operator]
        room = user.alloc(40, b"".join(pack("<ihh", fd, POLLIN | POLLOUT, 0) for fd in (3, 4, 77, -1)))

        def look() -> list[int]:
            call("poll", room, 4, 0)  # type: ignore[operator]
            return [unpack("<ihh", user.read(room + 8 * index, 8))[2] for index in range(4)]

        seen.append(look())
        call("write", 4, b"x", 1)  # type: ignore[operator]
        seen.append(look())
        call("close", 3)  # type: ignore[operator]
        seen.append(look())

    machine.run(main)
    assert seen == [
        [0, POLLOUT, POLLNVAL, 0],
        [POLLIN, POLLOUT, POLLNVAL, 0],
        [POLLNVAL, POLLOUT | POLLERR, POLLNVAL, 0],
    ]


def test_time_is_over_or_somebody_comes() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        clock = machine.kernel.clock
        room = task.user.alloc(8, pack("<ihh", 3, POLLIN, 0))  # type: ignore[attr-defined]
        call("eventfd2", 0, 0)  # type: ignore[operator]
        before = clock.now_ns
        seen.append((call("poll", room, 1, 5), (clock.now_ns - before) // 1_000_000))  # type: ignore[operator]

        def child(other: object) -> int:
            one = other.user.alloc(8, pack("<Q", 1))  # type: ignore[attr-defined]
            return int(machine.kernel.syscalls.call(other, "write", 3, one, 8)) * 0

        task.program = child  # type: ignore[attr-defined]
        call("fork")  # type: ignore[operator]
        seen.append((call("poll", room, 1, -1), unpack("<ihh", task.user.read(room, 8))[2]))  # type: ignore[operator,attr-defined]

    machine.run(main)
    assert seen == [(0, 5), (1, POLLIN)]


def test_select() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        call("pipe2", bytes(8), 0)  # type: ignore[operator]
        sets = user.alloc(16, pack("<QQ", 1 << 3, 1 << 4))
        nothing = user.alloc(16)
        seen.append(call("select", 5, sets, sets + 8, 0, nothing))  # type: ignore[operator]
        seen.append(unpack("<QQ", user.read(sets, 16)))
        user.write(sets, pack("<Q", 1 << 9))
        seen.append(call("select", 10, sets, 0, 0, nothing))  # type: ignore[operator]

    machine.run(main)
    assert seen == [1, (0, 1 << 4), -Errno.EBADF]


@pytest.mark.parametrize(("flags", "again"), [(0, 1), (EPOLLET, 0), (EPOLLONESHOT, 0)])
def test_epoll(flags: int, again: int) -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        call("pipe2", bytes(8), 0)  # type: ignore[operator]
        epoll = call("epoll_create1", 0)  # type: ignore[operator]
        room = user.alloc(64)
        seen.append(call("epoll_ctl", epoll, 1, 3, pack("<IQ", POLLIN | flags, 42)))  # type: ignore[operator]
        seen.append(call("epoll_wait", epoll, room, 4, 0))  # type: ignore[operator]
        call("write", 4, b"x", 1)  # type: ignore[operator]
        seen.append(call("epoll_wait", epoll, room, 4, -1))  # type: ignore[operator]
        seen.append(unpack("<IQ", user.read(room, 12)))
        seen.append(call("epoll_wait", epoll, room, 4, 0))  # type: ignore[operator]
        # a file that goes is watched no more
        call("close", 3)  # type: ignore[operator]
        seen.append(call("epoll_ctl", epoll, 2, 3, 0))  # type: ignore[operator]

    machine.run(main)
    assert seen == [0, 0, 1, (POLLIN, 42), again, -Errno.EBADF]
    assert not machine.kernel.walks


def test_counters() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(8)  # type: ignore[attr-defined]
        call("eventfd2", 3, 0o4000 | 1)  # type: ignore[operator]
        for _ in range(4):
            # a semaphore counts down by one
            seen.append(call("read", 3, room, 8))  # type: ignore[operator]
        seen.append(call("write", 3, pack("<Q", (1 << 64) - 1), 8))  # type: ignore[operator]
        seen.append(call("write", 3, pack("<Q", (1 << 64) - 2), 8))  # type: ignore[operator]
        seen.append(call("write", 3, pack("<Q", 1), 8))  # type: ignore[operator]
        seen.append(call("read", 3, room, 4))  # type: ignore[operator]

    machine.run(main)
    assert seen == [8, 8, 8, -Errno.EAGAIN, -Errno.EINVAL, 8, -Errno.EAGAIN, -Errno.EINVAL]


@pytest.mark.parametrize(
    ("call", "result"),
    [(("epoll_ctl", 3, 1, 0, EVENT), -Errno.EPERM), (("epoll_ctl", 3, 1, 77, EVENT), -Errno.EBADF),
     (("epoll_ctl", 3, 1, 3, EVENT), -Errno.EPERM), (("epoll_ctl", 3, 3, 4, EVENT), -Errno.ENOENT),
     (("epoll_ctl", 3, 9, 4, EVENT), -Errno.EINVAL), (("epoll_wait", 3, 0, 0, 0), -Errno.EINVAL),
     (("epoll_wait", 4, 0, 1, 0), -Errno.EINVAL), (("epoll_create", 0), -Errno.EINVAL),
     (("poll", 0x10, 1, 0), -Errno.EFAULT),
     (("poll", 0, 2000, 0), -Errno.EINVAL), (("eventfd2", 0, 4), -Errno.EINVAL)],
)  # fmt: skip
def test_refusals(call: tuple[object, ...], result: int) -> None:
    machine, seen = Watched(), []

    def main(_task: object, do: object) -> None:
        do("epoll_create1", 0)  # type: ignore[operator]
        do("eventfd2", 0, 0)  # type: ignore[operator]
        seen.append(do(*call))  # type: ignore[operator]

    machine.run(main)
    assert seen == [result]
