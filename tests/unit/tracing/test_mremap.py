"""mremap(2), madvise(2), mlock(2), msync(2), mincore(2) (answers of Linux 6.18)."""

from collections.abc import Callable

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno
from tracing.task import Task

AREA, OTHER, ANON, FIXED, PAGE = 0x1000_0000, 0x2000_0000, 0x22, 0x10, 4096
MAYMOVE, TO = 1, 2
Call = Callable[..., int]


def run(what: Callable[[Task, Call], object]) -> None:
    machine = Watched()
    machine.kernel.vfs.add("/tmp/f", b"from the file")
    machine.run(what)


def mapped(call: Call, pages: int = 2) -> None:
    assert call("mmap", AREA, pages * PAGE, 3, FIXED | ANON, -1, 0) == AREA


def test_what_is_moved_keeps_what_it_holds() -> None:
    def main(task: Task, call: Call) -> None:
        user = task.user
        assert user is not None
        mapped(call)
        user.write(AREA + PAGE - 2, b"over")
        assert call("mremap", AREA, 2 * PAGE, 3 * PAGE, MAYMOVE | TO, OTHER) == OTHER
        assert user.is_free(AREA, AREA + 2 * PAGE)
        assert user.read(OTHER + PAGE - 2, 4) == b"over"
        user.write(OTHER + 3 * PAGE - 1, b"x")
        assert call("munmap", OTHER, 3 * PAGE) == 0

    run(main)


def test_growing_and_shrinking() -> None:
    def main(task: Task, call: Call) -> None:
        user = task.user
        assert user is not None
        mapped(call)
        assert call("mremap", AREA, 2 * PAGE, 4 * PAGE, 0, 0) == AREA
        user.write(AREA + 4 * PAGE - 1, b"x")
        assert call("mremap", AREA, 4 * PAGE, PAGE, 0, 0) == AREA
        assert user.is_free(AREA + PAGE, AREA + 4 * PAGE)
        call("mmap", AREA + PAGE, PAGE, 3, FIXED | ANON, -1, 0)
        # no room to grow
        assert call("mremap", AREA, PAGE, 2 * PAGE, 0, 0) == -Errno.ENOMEM
        assert call("mremap", AREA, PAGE, 2 * PAGE, MAYMOVE, 0) not in (AREA, -Errno.ENOMEM)

    run(main)


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        (("mremap", AREA + 1, PAGE, PAGE, 0, 0), Errno.EINVAL),
        (("mremap", AREA, PAGE, 0, 0, 0), Errno.EINVAL),
        (("mremap", AREA, PAGE, PAGE, TO, OTHER), Errno.EINVAL),
        (("mremap", AREA, PAGE, PAGE, MAYMOVE | TO, AREA), Errno.EINVAL),
        (("mremap", OTHER, PAGE, 2 * PAGE, 0, 0), Errno.EFAULT),
        (("mremap", AREA, 9 * PAGE, 10 * PAGE, 0, 0), Errno.EFAULT),
        (("madvise", AREA + 1, PAGE, 0), Errno.EINVAL),
        (("madvise", AREA, PAGE, 99), Errno.EINVAL),
        (("madvise", AREA, 9 * PAGE, 4), Errno.ENOMEM),
        (("mlock", OTHER, PAGE), Errno.ENOMEM),
        (("munlock", OTHER, PAGE), Errno.ENOMEM),
        (("msync", AREA, PAGE, 5), Errno.EINVAL),
        (("msync", OTHER, PAGE, 4), Errno.ENOMEM),
        (("mincore", AREA + 1, PAGE, bytes(8)), Errno.EINVAL),
        (("mincore", OTHER, PAGE, bytes(8)), Errno.ENOMEM),
        (("mincore", AREA, PAGE, 8), Errno.EFAULT),
    ],
)
def test_refusals(call: tuple[int | bytes | str, ...], errno: Errno) -> None:
    found = []

    def main(_task: Task, do: Call) -> None:
        mapped(do)
        found.append(do(*call))

    run(main)
    assert found == [-errno]


def test_pages_that_are_not_needed_come_again() -> None:
    def main(task: Task, call: Call) -> None:
        user = task.user
        assert user is not None
        mapped(call)
        user.write(AREA, b"text")
        room = user.alloc(8)
        call("mincore", AREA, 2 * PAGE, room)
        assert user.read(room, 2) == b"\1\0"
        assert call("madvise", AREA, PAGE, 4) == 0
        call("mincore", AREA, 2 * PAGE, room)
        assert user.read(room, 2) == b"\0\0"
        assert user.read(AREA, 4) == bytes(4)

    run(main)


def test_locked_pages_are_there() -> None:
    def main(task: Task, call: Call) -> None:
        user = task.user
        assert user is not None
        mapped(call)
        assert call("mlock", AREA + 5, PAGE) == 0
        room = user.alloc(8)
        call("mincore", AREA, 2 * PAGE, room)
        assert user.read(room, 2) == b"\1\1"
        assert call("munlock", AREA, 2 * PAGE) == 0
        assert call("msync", AREA, 2 * PAGE, 4) == 0

    run(main)
