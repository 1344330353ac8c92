"""Extended attributes of files in memory (answers of Linux 6.18)."""

from collections.abc import Callable

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno
from tracing.task import Task

CREATE, REPLACE = 1, 2
FILE = "/tmp/f"
Call = Callable[..., int]


def answers(*calls: tuple[int | bytes | str, ...], uid: int = 0) -> list[int]:
    machine, found = Watched(), []
    machine.kernel.vfs.add(FILE, b"text", uid=uid)
    machine.run(lambda _task, call: found.extend(call(*each) for each in calls), uid=uid)
    return found


def test_what_was_set_is_there() -> None:
    machine, seen = Watched(), []
    machine.kernel.vfs.add(FILE, b"text")
    machine.kernel.vfs.add("/tmp/d/")

    def main(task: Task, call: Call) -> None:
        user = task.user
        assert user is not None
        room = user.alloc(64)
        assert call("setxattr", FILE, "user.a", b"one", 3, 0) == 0
        call("symlink", "f", "/tmp/s")
        assert call("setxattr", "/tmp/s", "user.b", b"", 0, 0) == 0
        fd = call("openat", -100, FILE, 0, 0)
        seen.append(call("fgetxattr", fd, "user.a", room, 64))
        seen.append(user.read(room, 3))
        seen.append(call("getxattr", FILE, "user.b", room, 64))
        seen.append(call("listxattr", FILE, room, 64))
        seen.append(user.read(room, 14))
        seen.append(call("lgetxattr", "/tmp/s", "user.a", room, 64))
        seen.append(call("fremovexattr", fd, "user.a"))
        seen.append(call("flistxattr", fd, 0, 0))

    machine.run(main)
    assert seen == [3, b"one", 0, 14, b"user.a\0user.b\0", -Errno.ENODATA, 0, 7]


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        (("getxattr", FILE, "user.none", bytes(8), 8), Errno.ENODATA),
        (("getxattr", FILE, "user.set", bytes(8), 2), Errno.ERANGE),
        (("listxattr", FILE, bytes(8), 2), Errno.ERANGE),
        (("setxattr", FILE, "user.set", b"x", 1, CREATE), Errno.EEXIST),
        (("setxattr", FILE, "user.none", b"x", 1, REPLACE), Errno.ENODATA),
        (("setxattr", FILE, "user.none", b"x", 1, 8), Errno.EINVAL),
        (("setxattr", FILE, "other", b"x", 1, 0), Errno.EOPNOTSUPP),
        (("setxattr", FILE, "user." + 300 * "x", b"x", 1, 0), Errno.ERANGE),
        (("setxattr", FILE, "user.none", 8, 1, 0), Errno.EFAULT),
        (("setxattr", FILE, 8, b"x", 1, 0), Errno.EFAULT),
        (("removexattr", FILE, "user.none"), Errno.ENODATA),
        (("removexattr", "/tmp/none", "user.none"), Errno.ENOENT),
        (("fgetxattr", 77, "user.none", bytes(8), 8), Errno.EBADF),
        (("setxattr", FILE, "user.big", 8, 1 << 20, 0), Errno.E2BIG),
    ],
)
def test_refusals(call: tuple[int | bytes | str, ...], errno: Errno) -> None:
    assert answers(("setxattr", FILE, "user.set", b"value", 5, 0), call) == [0, -errno]


def test_who_may() -> None:
    calls = [
        ("setxattr", FILE, "trusted.x", b"x", 1, 0), ("getxattr", FILE, "trusted.x", bytes(8), 8),
        ("setxattr", FILE, "user.x", b"x", 1, 0), ("lremovexattr", FILE, "user.x"),
    ]  # fmt: skip
    assert answers(*calls, uid=7) == [-Errno.EPERM, -Errno.ENODATA, 0, 0]
    assert answers(*calls) == [0, 1, 0, 0]
