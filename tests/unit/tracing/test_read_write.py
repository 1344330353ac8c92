"""read(2) and write(2) as POSIX has them."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno

AT_FDCWD = -100
O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND = 0, 1, 2, 0o100, 0o1000, 0o2000
SEEK_SET, SEEK_CUR, SEEK_END = range(3)


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.vfs.add("srv/file", b"0123456789")
    return machine


def data(machine: Machine) -> bytes:
    inode = machine.vfs.lookup("/srv/file").inode
    assert inode is not None
    assert inode.i_size == len(inode.data)
    return bytes(inode.data)


def test_reads_go_on_where_they_ended(machine: Machine) -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        fd = call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0)
        buf = task.user.alloc(64)
        for size in (4, 4, 4, 4):
            count = call("read", fd, buf, size)
            answers.append((count, task.user.read(buf, count)))
        answers.append(call("lseek", fd, -3, SEEK_END))
        answers.append(call("read", fd, buf, 64))
        answers.append(call("pread64", fd, buf, 2, 5))
        answers.append(task.user.read(buf, 2))
        answers.append(call("lseek", fd, 0, SEEK_CUR))

    machine.run(main)
    assert answers == [(4, b"0123"), (4, b"4567"), (2, b"89"), (0, b""), 7, 3, 2, b"56", 10]


def test_writes(machine: Machine) -> None:
    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        text = task.user.alloc(64, b"abcdef")
        fd = call("openat", AT_FDCWD, "/srv/file", O_RDWR, 0)
        assert call("write", fd, text, 3) == 3
        assert call("lseek", fd, 12, SEEK_SET) == 12
        assert call("write", fd, text, 1) == 1
        assert call("close", fd) == 0
        assert data(machine) == b"abc3456789\0\0a"
        fd = call("openat", AT_FDCWD, "/srv/file", O_WRONLY | O_APPEND, 0)
        assert call("write", fd, text, 2) == 2
        assert data(machine)[-3:] == b"aab"
        assert call("pwrite64", fd, text, 1, 0) == 1
        fd = call("openat", AT_FDCWD, "/srv/file", O_WRONLY | O_TRUNC, 0)
        assert data(machine) == b""
        seen.append(fd)

    seen: list[int] = []
    machine.run(main)
    assert seen == [4]


@pytest.mark.parametrize(
    ("flags", "name", "args", "errno"),
    [(O_WRONLY, "read", (3, "buffer", 4), Errno.EBADF), (O_RDONLY, "write", (3, "buffer", 4), Errno.EBADF),
     (O_RDWR, "read", (9, "buffer", 4), Errno.EBADF), (O_RDWR, "read", (3, 0x10, 4), Errno.EFAULT),
     (O_RDWR, "write", (3, 0x10, 4), Errno.EFAULT), (O_RDWR, "close", (9,), Errno.EBADF),
     (O_RDWR, "lseek", (3, -1, SEEK_SET), Errno.EINVAL), (O_RDWR, "lseek", (3, 0, 9), Errno.EINVAL),
     (O_RDWR, "pread64", (3, "buffer", 4, -1), Errno.EINVAL)],
)  # fmt: skip
def test_refusals(machine: Machine, flags: int, name: str, args: tuple[int | str, ...], errno: Errno) -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        call("openat", AT_FDCWD, "/srv/file", flags, 0)
        answers.append(call(name, *args))

    machine.run(main)
    assert answers == [-errno]


def test_directories_are_not_read(machine: Machine) -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        answers.append(call("read", call("openat", AT_FDCWD, "/srv", O_RDONLY, 0), "buffer", 4))

    machine.run(main)
    assert answers == [-Errno.EISDIR]


def test_nothing_is_left_when_a_task_ends(machine: Machine) -> None:
    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        for _ in range(3):
            call("openat", AT_FDCWD, "/srv/file", O_RDWR, 0)
        call("openat", AT_FDCWD, "/tmp/none", O_RDONLY, 0)

    machine.run(main)
    before = machine.mem.allocated_bytes
    objects = len(machine.vfs.by_address)
    machine.run(main)
    machine.run(main)
    assert machine.mem.allocated_bytes == before
    assert len(machine.vfs.by_address) == objects
