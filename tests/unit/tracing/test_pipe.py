"""Pipes: waiting, atomic writes, ends that go (pipe(7), fifo(7))."""

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno

O_NONBLOCK, O_WRONLY = 0o4000, 1


def test_a_reader_waits_for_a_writer() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(64)  # type: ignore[attr-defined]
        call("pipe2", room, 0)  # type: ignore[operator]

        def child(other: object) -> int:
            do = machine.kernel.syscalls.call
            seen.append(do(other, "read", 3, room, 5))
            seen.append(other.user.read(room, 5))  # type: ignore[attr-defined]
            do(other, "close", 4)
            # the last writer has gone
            seen.append(do(other, "read", 3, room, 5))
            return 0

        task.program = child  # type: ignore[attr-defined]
        call("fork")  # type: ignore[operator]
        machine.kernel.sched.wait(None, timeout_ns=1000)
        seen.append("written")
        call("write", 4, b"hello", 5)  # type: ignore[operator]
        machine.kernel.sched.wait(None, timeout_ns=1000)
        call("close", 4)  # type: ignore[operator]
        call("wait4", -1, 0, 0, 0)  # type: ignore[operator]

    machine.run(main)
    assert seen == ["written", 5, b"hello", 0]
    assert not machine.kernel.walks


def test_full_and_empty_pipes_that_nobody_waits_for() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(70000)  # type: ignore[attr-defined]
        call("pipe2", room, O_NONBLOCK)  # type: ignore[operator]
        seen.append(call("read", 3, room, 1))  # type: ignore[operator]
        seen.append(call("write", 4, room, 70000))  # type: ignore[operator]
        seen.append(call("write", 4, room, 1))  # type: ignore[operator]
        seen.append(call("read", 3, room, 4000))  # type: ignore[operator]
        # what is not longer than a page is written as a whole
        seen.append(call("write", 4, room, 4096))  # type: ignore[operator]
        seen.append(call("write", 4, room, 5000))  # type: ignore[operator]

    machine.run(main)
    assert seen == [-Errno.EAGAIN, 65536, -Errno.EAGAIN, 4000, -Errno.EAGAIN, 4000]


def test_nobody_reads() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        ignore = (1).to_bytes(8, "little") + bytes(24)
        call("rt_sigaction", 13, ignore, 0, 8)  # type: ignore[operator]
        call("pipe2", bytes(8), 0)  # type: ignore[operator]
        call("close", 3)  # type: ignore[operator]
        seen.append(call("write", 4, b"x", 1))  # type: ignore[operator]
        call("rt_sigaction", 13, bytes(32), 0, 8)  # type: ignore[operator]
        call("write", 4, b"x", 1)  # type: ignore[operator]
        seen.append("still there")

    machine.run(main)
    # SIGPIPE ends the task
    assert seen == [-Errno.EPIPE]


@pytest.mark.parametrize(
    ("call", "result"),
    [(("pipe2", 0, 1), -Errno.EINVAL), (("pipe2", 0x10, 0), -Errno.EFAULT), (("lseek", 3, 0, 0), -Errno.ESPIPE),
     (("openat", -100, "/tmp/fifo", O_WRONLY | O_NONBLOCK, 0), -Errno.ENXIO)],
)  # fmt: skip
def test_refusals(call: tuple[object, ...], result: int) -> None:
    machine, seen = Watched(), []

    def main(_task: object, do: object) -> None:
        do("mknod", "/tmp/fifo", 0o010644, 0)  # type: ignore[operator]
        do("pipe", bytes(8))  # type: ignore[operator]
        seen.append(do(*call))  # type: ignore[operator]

    machine.run(main)
    assert seen == [result]


def test_a_pipe_with_a_name() -> None:
    machine, seen = Watched(), []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(16)  # type: ignore[attr-defined]
        call("mknod", "/tmp/fifo", 0o010644, 0)  # type: ignore[operator]
        path = task.user.alloc(16, b"/tmp/fifo")  # type: ignore[attr-defined]

        def child(other: object) -> int:
            do = machine.kernel.syscalls.call
            fd = do(other, "openat", -100, path, 1, 0)
            seen.append(("writer", fd))
            return int(do(other, "write", fd, path, 4)) * 0

        task.program = child  # type: ignore[attr-defined]
        call("fork")  # type: ignore[operator]
        fd = call("openat", -100, path, 0, 0)  # type: ignore[operator]
        seen.append(call("read", fd, room, 4))  # type: ignore[operator]
        seen.append(task.user.read(room, 4))  # type: ignore[attr-defined]

    machine.run(main)
    assert seen == [("writer", 3), 4, b"/tmp"]
