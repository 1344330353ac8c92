"""System calls of names: descriptors of directories, flags, paths that cannot be read."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno

AT_FDCWD, O_DIRECTORY = -100, 0o200000
# calls with a path, with what stands behind it
CALLS = {
    "mkdirat": (0o755,), "mknodat": (0o100644, 0), "unlinkat": (0,), "fchmodat": (0o600,), "fchownat": (1, 1, 0),
    "faccessat": (4,), "openat": (0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_paths_relative_to_a_directory(name: str) -> None:
    machine, answers = Machine(), []
    machine.vfs.add("tmp/d/file", b"x")
    path = "new" if name in ("mkdirat", "mknodat") else "file"

    def main(_task: object, call: object) -> None:
        fd = call("openat", AT_FDCWD, "/tmp/d", O_DIRECTORY, 0)  # type: ignore[operator]
        answers.append(call(name, fd, path, *CALLS[name]))  # type: ignore[operator]
        answers.append(call(name, 77, path, *CALLS[name]))  # type: ignore[operator]
        answers.append(call(name, fd, 0x10, *CALLS[name]))  # type: ignore[operator]

    machine.run(main)
    assert answers == [4 if name == "openat" else 0, -Errno.EBADF, -Errno.EFAULT]


@pytest.mark.parametrize("name", ["renameat", "linkat", "symlinkat"])
def test_two_paths(name: str) -> None:
    machine, answers = Machine(), []
    machine.vfs.add("tmp/d/file", b"x")

    def main(_task: object, call: object) -> None:
        fd = call("openat", AT_FDCWD, "/tmp/d", O_DIRECTORY, 0)  # type: ignore[operator]
        old = ["file"] if name == "symlinkat" else [fd, "file"]
        tail = [0] if name == "linkat" else []
        answers.append(call(name, *old, fd, "new", *tail))  # type: ignore[operator]
        answers.append(call(name, *old, fd, 0x10, *tail))  # type: ignore[operator]

    machine.run(main)
    assert answers == [0, -Errno.EFAULT]
    assert "new" in machine.vfs.lookup("/tmp/d").children


def test_flags_that_nobody_knows() -> None:
    machine, answers = Machine(), []
    machine.run(lambda _task, call: answers.append(call("unlinkat", AT_FDCWD, "/x", 1)))
    assert answers == [-Errno.EINVAL]
