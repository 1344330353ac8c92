"""preadv(2), fallocate(2), advice, sync(2), flock(2), memfds (answers of Linux 6.18)."""

from collections.abc import Callable

from call_paths import Watched

from ebpfsim.errnos import Errno
from tracing.task import Task

RDWR, SH, EX, NB, UN = 2, 1, 2, 4, 8
Call = Callable[..., int]


def run(what: Callable[[Task, Call], object]) -> Watched:
    machine = Watched()
    machine.kernel.vfs.add("/tmp/f", b"0123456789")
    machine.run(what)
    return machine


def answers(*calls: tuple[int | bytes | str, ...]) -> list[int]:
    found = []

    def main(_task: Task, call: Call) -> None:
        call("openat", -100, "/tmp/f", RDWR, 0)
        call("pipe2", bytes(8), 0)
        found.extend(call(*each) for each in calls)

    run(main)
    return found


def test_pieces_at_a_place() -> None:
    seen = []

    def main(task: Task, call: Call) -> None:
        user = task.user
        assert user is not None
        call("openat", -100, "/tmp/f", RDWR, 0)
        first, second = user.alloc(8, b"AB"), user.alloc(8, b"CD")
        vec = b"".join(word.to_bytes(8, "little") for word in (first, 2, second, 2))
        seen.append(call("pwritev", 3, vec, 2, 4, 0))
        seen.append(call("preadv", 3, vec, 2, 3, 0))
        seen.append(user.read(first, 2) + user.read(second, 2))
        seen.append(call("lseek", 3, 0, 1))

    run(main)
    assert seen == [4, 4, b"3ABC", 0]
    assert answers(("preadv", 4, bytes(16), 1, 0, 0), ("preadv", 3, bytes(16), 1, -1, 0)) == [
        -Errno.ESPIPE,
        -Errno.EINVAL,
    ]


def test_room_of_files() -> None:
    sizes = []

    def main(_task: Task, call: Call) -> None:
        call("openat", -100, "/tmp/f", RDWR, 0)
        for mode, offset, length in ((1, 0, 100), (0, 5, 20), (3, 2, 3)):
            assert call("fallocate", 3, mode, offset, length) == 0
            sizes.append(call("lseek", 3, 0, 2))

    machine = run(main)
    assert sizes == [10, 25, 25]
    assert bytes(machine.kernel.vfs.lookup("/tmp/f").inode.data) == b"01\0\0\x0056789" + bytes(15)
    calls = [
        ("fallocate", 3, 2, 0, 1), ("fallocate", 3, 0, 0, 0), ("fallocate", 3, 8, 0, 1), ("fallocate", 4, 0, 0, 1),
        ("fallocate", 5, 0, 0, 1), ("fallocate", 77, 0, 0, 1),
    ]  # fmt: skip
    names = (Errno.EOPNOTSUPP, Errno.EINVAL, Errno.EOPNOTSUPP, Errno.EBADF, Errno.ESPIPE, Errno.EBADF)
    assert answers(*calls) == [-name for name in names]


def test_advice_and_writing_back() -> None:
    calls = [
        ("fadvise64", 3, 0, 0, 3), ("fadvise64", 3, 0, 0, 9), ("fadvise64", 4, 0, 0, 3), ("fadvise64", 77, 0, 0, 3),
        ("readahead", 3, 0, 10), ("readahead", 5, 0, 10), ("sync",), ("syncfs", 3), ("syncfs", 77),
    ]  # fmt: skip
    names = (0, Errno.EINVAL, Errno.ESPIPE, Errno.EBADF, 0, Errno.EBADF, 0, 0, Errno.EBADF)
    assert answers(*calls) == [-name for name in names]


def test_locks_belong_to_open_files() -> None:
    def opens(count: int) -> list[tuple[int | bytes | str, ...]]:
        return [("openat", -100, "/tmp/f", RDWR, 0)] * count

    calls = [
        *opens(2), ("flock", 3, EX), ("flock", 6, EX | NB), ("flock", 6, SH | NB), ("flock", 3, SH),
        ("flock", 6, SH | NB), ("flock", 7, EX | NB), ("flock", 3, UN), ("close", 6), ("flock", 7, EX | NB),
        ("flock", 7, 3), ("flock", 77, EX),
    ]  # fmt: skip
    again, invalid, bad = -Errno.EAGAIN, -Errno.EINVAL, -Errno.EBADF
    assert answers(*calls)[2:] == [0, again, again, 0, 0, again, 0, 0, 0, invalid, bad]


def test_who_waits_for_a_lock_gets_it() -> None:
    seen = []
    machine = Watched()
    machine.kernel.vfs.add("/tmp/f", b"x")

    def main(task: Task, call: Call) -> None:
        call("openat", -100, "/tmp/f", RDWR, 0)
        call("flock", 3, EX)

        def child(other: Task) -> int:
            do = machine.kernel.syscalls.call
            path = other.user.alloc(16, b"/tmp/f")  # type: ignore[union-attr]
            fd = do(other, "openat", -100, path, RDWR, 0)
            seen.append(do(other, "flock", fd, EX))
            seen.append("child")
            return 0

        task.program = child
        pid = call("fork")
        call("nanosleep", bytes(8) + (5_000_000).to_bytes(8, "little"), 0)
        seen.append("parent")
        call("flock", 3, UN)
        call("wait4", pid, 0, 0, 0)

    machine.run(main)
    assert seen == ["parent", 0, "child"]


def test_a_file_without_a_name() -> None:
    seen = []

    def main(task: Task, call: Call) -> None:
        user = task.user
        assert user is not None
        fd = call("memfd_create", "name", 1)
        seen.append(call("write", fd, b"text", 4))
        room = user.alloc(8)
        seen.append(call("pread64", fd, room, 8, 0))
        seen.append(user.read(room, 4))
        seen.append(call("close", fd))
        seen.append(call("memfd_create", "name", 1 << 20))
        seen.append(call("memfd_create", 8, 0))

    run(main)
    assert seen == [4, 4, b"text", 0, -Errno.EINVAL, -Errno.EFAULT]
