"""sendfile(2), splice(2), tee(2), copy_file_range(2) (answers of Linux 6.18)."""

from collections.abc import Callable

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno
from tracing.task import Task

RDWR, CREAT, APPEND, NONBLOCK = 2, 0o100, 0o2000, 0o4000
TEXT = bytes(range(256)) * 300
Call = Callable[..., int]


def run(what: Callable[[Task, Call], object]) -> Watched:
    machine = Watched()
    machine.kernel.vfs.add("/tmp/in", TEXT)
    machine.run(what)
    return machine


def files(call: Call, flags: int = 0) -> None:
    assert call("openat", -100, "/tmp/in", RDWR, 0) == 3
    assert call("openat", -100, "/tmp/out", RDWR | CREAT | flags, 0o644) == 4


def data(machine: Watched, path: str = "/tmp/out") -> bytes:
    return bytes(machine.kernel.vfs.lookup(path).inode.data)


def test_sendfile_moves_in_rounds() -> None:
    seen = []

    def main(_task: Task, call: Call) -> None:
        files(call)
        seen.append(call("sendfile64", 4, 3, 0, 1 << 20))
        seen.append(call("lseek", 3, 0, 1))
        seen.append(call("sendfile64", 4, 3, (5).to_bytes(8, "little"), 3))
        seen.append(call("lseek", 3, 0, 1))

    machine = run(main)
    assert seen == [len(TEXT), len(TEXT), 3, len(TEXT)]
    assert data(machine) == TEXT + TEXT[5:8]


def test_through_a_pipe() -> None:
    seen = []

    def main(task: Task, call: Call) -> None:
        files(call)
        user = task.user
        assert user is not None
        call("pipe2", bytes(8), NONBLOCK)
        call("pipe2", bytes(8), NONBLOCK)
        seen.append(call("splice", 3, (10).to_bytes(8, "little"), 6, 0, 5, 0))
        seen.append(call("tee", 5, 8, 5, 0))
        seen.append(call("splice", 5, 0, 4, 0, 100, 0))
        room = user.alloc(16)
        seen.append(call("read", 7, room, 16))
        seen.append(user.read(room, 5))
        seen.append(call("splice", 5, 0, 4, 0, 100, 0))
        seen.append(call("splice", 3, 0, 6, 0, 1 << 20, 0))

    machine = run(main)
    assert seen == [5, 5, 5, 5, TEXT[10:15], -Errno.EAGAIN, 65536]
    assert data(machine) == TEXT[10:15]


def test_parts_of_files_are_copied() -> None:
    seen = []

    def main(task: Task, call: Call) -> None:
        files(call)
        assert task.user is not None
        place = task.user.alloc(8, (100).to_bytes(8, "little"))
        seen.append(call("copy_file_range", 3, place, 4, 0, 50, 0))
        seen.append(int.from_bytes(task.user.read(place, 8), "little"))
        seen.append(call("lseek", 4, 0, 1))
        # over each other
        seen.append(call("copy_file_range", 3, bytes(8), 3, (10).to_bytes(8, "little"), 50, 0))

    machine = run(main)
    assert seen == [50, 150, 50, -Errno.EINVAL]
    assert data(machine) == TEXT[100:150]


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        (("sendfile64", 4, 77, 0, 10), Errno.EBADF),
        (("sendfile64", 77, 3, 0, 10), Errno.EBADF),
        (("sendfile64", 4, 3, 8, 10), Errno.EFAULT),
        (("sendfile64", 4, 5, 0, 10), Errno.EINVAL),
        (("splice", 3, 0, 4, 0, 10, 0), Errno.EINVAL),
        (("splice", 5, 8, 4, 0, 10, 0), Errno.ESPIPE),
        (("splice", 3, 0, 6, 0, 10, 99), Errno.EINVAL),
        (("splice", 77, 0, 6, 0, 10, 0), Errno.EBADF),
        (("splice", 6, 0, 4, 0, 10, 0), Errno.EBADF),
        (("tee", 3, 6, 10, 0), Errno.EINVAL),
        (("tee", 5, 77, 10, 0), Errno.EBADF),
        (("copy_file_range", 3, 0, 77, 0, 10, 0), Errno.EBADF),
        (("copy_file_range", 3, 0, 4, 0, 10, 1), Errno.EINVAL),
        (("copy_file_range", 3, 0, 6, 0, 10, 0), Errno.EINVAL),
    ],
)
def test_refusals(call: tuple[int | bytes, ...], errno: Errno) -> None:
    found = []

    def main(_task: Task, do: Call) -> None:
        files(do)
        do("pipe2", bytes(8), NONBLOCK)
        found.append(do(*call))

    run(main)
    assert found == [-errno]


def test_files_that_are_appended_to_take_no_splices() -> None:
    found = []

    def main(_task: Task, call: Call) -> None:
        files(call, APPEND)
        found.append(call("sendfile64", 4, 3, 0, 10))
        found.append(call("copy_file_range", 3, 0, 4, 0, 10, 0))

    run(main)
    assert found == [-Errno.EINVAL, -Errno.EBADF]
