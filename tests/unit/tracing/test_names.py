"""Names that are made, moved and removed: errnos of mkdir(2), rename(2), link(2), unlink(2), rmdir(2), symlink(2)."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno

AT_FDCWD = -100


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.vfs.add("tmp/d/file", b"0123456789")
    machine.vfs.add("tmp/d/full/file", b"x")
    machine.vfs.add("tmp/d/empty/")
    machine.vfs.add("root/file", b"r")
    return machine


@pytest.mark.parametrize(
    ("call", "uid", "result"),
    [(("mkdir", "/tmp/d/new", 0o755), 0, 0), (("mkdir", "/tmp/d/new/", 0o755), 0, 0),
     (("mkdir", "/tmp/d/file", 0o755), 0, -Errno.EEXIST), (("mkdir", "/", 0o755), 0, -Errno.EEXIST),
     (("mkdir", "/tmp/none/new", 0o755), 0, -Errno.ENOENT), (("mkdir", "/tmp/d/new", 0o755), 9, -Errno.EACCES),
     (("rmdir", "/tmp/d/empty"), 0, 0), (("rmdir", "/tmp/d/full"), 0, -Errno.ENOTEMPTY),
     (("rmdir", "/tmp/d/file"), 0, -Errno.ENOTDIR), (("rmdir", "/tmp"), 0, -Errno.EBUSY),
     (("rmdir", "/tmp/d/empty/."), 0, -Errno.EINVAL), (("rmdir", "/tmp/d/empty/.."), 0, -Errno.ENOTEMPTY),
     (("unlink", "/tmp/d/file"), 0, 0), (("unlink", "/tmp/d/none"), 0, -Errno.ENOENT),
     (("unlink", "/tmp/d/empty"), 0, -Errno.EISDIR), (("unlink", "/tmp/d/file"), 9, -Errno.EACCES),
     (("unlink", "/tmp/d/file/"), 0, -Errno.ENOTDIR), (("rename", "/tmp/d/file", "/tmp/d/other"), 0, 0),
     (("rename", "/tmp/d/file", "/tmp/d/full/file"), 0, 0), (("rename", "/tmp/d/none", "/tmp/d/x"), 0, -Errno.ENOENT),
     (("rename", "/tmp/d", "/tmp/d/full/x"), 0, -Errno.EINVAL), (("rename", "/tmp/d/file", "/root/x"), 0, -Errno.EXDEV),
     (("rename", "/tmp/d/file", "/tmp/d/empty"), 0, -Errno.EISDIR),
     (("rename", "/tmp/d/empty", "/tmp/d/full"), 0, -Errno.ENOTEMPTY),
     (("rename", "/tmp/d/empty", "/tmp/d/file"), 0, -Errno.ENOTDIR), (("rename", "/tmp/d/file", "/"), 0, -Errno.EXDEV),
     (("renameat2", AT_FDCWD, "/tmp/d/file", AT_FDCWD, "/tmp/d/full", 1), 0, -Errno.EEXIST),
     (("renameat2", AT_FDCWD, "/tmp/d/file", AT_FDCWD, "/tmp/d/full", 3), 0, -Errno.EINVAL),
     (("renameat2", AT_FDCWD, "/tmp/d/file", AT_FDCWD, "/tmp/d/full", 2), 0, 0),
     (("link", "/tmp/d/file", "/tmp/d/two"), 0, 0), (("link", "/tmp/d/empty", "/tmp/d/two"), 0, -Errno.EPERM),
     (("link", "/tmp/d/file", "/root/two"), 0, -Errno.EXDEV),
     (("link", "/tmp/d/file", "/tmp/d/empty"), 0, -Errno.EEXIST),
     (("symlink", "file", "/tmp/d/s"), 0, 0), (("symlink", "", "/tmp/d/s"), 0, -Errno.ENOENT),
     (("symlink", "x", "/tmp/d/file"), 0, -Errno.EEXIST), (("mknod", "/tmp/d/p", 0o010644, 0), 9, -Errno.EACCES),
     (("mknod", "/tmp/d/p", 0o010644, 0), 0, 0), (("mknod", "/tmp/d/p", 0o040644, 0), 0, -Errno.EPERM),
     (("mknod", "/tmp/p", 0o020644, 1), 9, -Errno.EPERM), (("unlinkat", AT_FDCWD, "/tmp/d/empty", 0x200), 0, 0)],
)  # fmt: skip
def test_answers(machine: Machine, call: tuple[object, ...], uid: int, result: int) -> None:
    answers: list[int] = []
    machine.run(lambda _task, do: answers.append(do(*call)), uid=uid)
    assert answers == [result]


def test_what_became_of_the_names(machine: Machine) -> None:
    def main(_task: object, call: object) -> None:
        for step in (
            ("link", "/tmp/d/file", "/tmp/d/two"),
            ("rename", "/tmp/d/two", "/tmp/d/full/moved"),
            ("renameat2", AT_FDCWD, "/tmp/d/full/file", AT_FDCWD, "/tmp/d/file", 2),
        ):
            assert call(*step) == 0  # type: ignore[operator]

    machine.run(main)
    vfs = machine.vfs
    moved, here = vfs.lookup("/tmp/d/full/moved").inode, vfs.lookup("/tmp/d/file").inode
    assert moved is not None
    assert here is not None
    assert moved.i_nlink == 2
    assert (bytes(moved.data), bytes(here.data)) == (b"0123456789", b"x")
    assert vfs.lookup("/tmp/d/full/file").inode is moved


def test_a_removed_file_can_still_be_read(machine: Machine) -> None:
    answers: list[object] = []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(16)  # type: ignore[attr-defined]
        fd = call("openat", AT_FDCWD, "/tmp/d/file", 0, 0)  # type: ignore[operator]
        answers.append(call("unlink", "/tmp/d/file"))  # type: ignore[operator]
        answers.append(call("openat", AT_FDCWD, "/tmp/d/file", 0, 0))  # type: ignore[operator]
        answers.append(call("read", fd, room, 16))  # type: ignore[operator]

    machine.run(main)
    assert answers == [0, -Errno.ENOENT, 10]
