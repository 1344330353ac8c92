"""Paths and permissions: errnos of open(2) and path_resolution(7)."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno

AT_FDCWD = -100
O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY = (
    0,
    1,
    2,
    0o100,
    0o200,
    0o1000,
    0o2000,
    0o200000,
)


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.vfs.add("srv/data/file", b"0123456789")
    machine.vfs.add("srv/private", b"x", mode=0o600, uid=1)
    machine.vfs.add("srv/closed/file", b"x")
    closed = machine.vfs.lookup("srv/closed").inode
    assert closed is not None
    closed.i_mode = 0o040700
    return machine


# errors of open(2)
@pytest.mark.parametrize(
    ("path", "flags", "uid", "errno"),
    [("/srv/data/file", O_RDONLY, 1000, 0), ("/srv/data/file", O_WRONLY, 1000, Errno.EACCES),
     ("/srv/data/file", O_WRONLY, 0, 0), ("/srv/private", O_RDONLY, 1000, Errno.EACCES),
     ("/srv/private", O_RDONLY, 1, 0), ("/srv/closed/file", O_RDONLY, 1000, Errno.EACCES),
     ("/srv/none", O_RDONLY, 0, Errno.ENOENT), ("/none/file", O_RDONLY, 0, Errno.ENOENT),
     ("/srv/data/file/x", O_RDONLY, 0, Errno.ENOTDIR), ("/srv/data", O_WRONLY, 0, Errno.EISDIR),
     ("/srv/data", O_RDONLY, 0, 0), ("/srv/data/file", O_DIRECTORY, 0, Errno.ENOTDIR),
     ("/srv/data/file", O_CREAT | O_EXCL, 0, Errno.EEXIST), ("/srv/new", O_CREAT, 1000, Errno.EACCES),
     ("", O_RDONLY, 0, Errno.ENOENT), ("/" + "n" * 256, O_RDONLY, 0, Errno.ENAMETOOLONG),
     ("/" + "d/" * 2100, O_RDONLY, 0, Errno.ENAMETOOLONG), ("/srv/../srv/./data//file", O_RDONLY, 0, 0),
     ("srv/data/file", O_RDONLY, 0, 0), ("/", O_RDONLY, 0, 0), ("/..", O_RDONLY, 0, 0)],
)  # fmt: skip
def test_open(machine: Machine, path: str, flags: int, uid: int, errno: int) -> None:
    answers: list[int] = []
    machine.run(lambda _task, call: answers.append(call("openat", AT_FDCWD, path, flags, 0o644)), uid=uid)
    assert answers == [-errno if errno else 3]


def test_a_bad_pointer_is_efault(machine: Machine) -> None:
    answers: list[int] = []
    machine.run(lambda _task, call: answers.append(call("openat", AT_FDCWD, 0x1234, 0, 0)))
    assert answers == [-Errno.EFAULT]


def test_new_files_belong_to_their_maker(machine: Machine) -> None:
    machine.run(lambda _task, call: call("openat", AT_FDCWD, "/tmp/new", O_CREAT | O_WRONLY, 0o666) and None, uid=1000)
    inode = machine.vfs.lookup("/tmp/new").inode
    assert inode is not None
    assert (inode.i_mode, inode.i_uid, inode.i_gid) == (0o100644, 1000, 1000)  # umask 022


def test_symbolic_links(machine: Machine) -> None:
    vfs, answers = machine.vfs, []
    vfs.create(vfs.lookup("srv"), "link", 0o120777, 0, 0, b"data/file")
    vfs.create(vfs.lookup("srv"), "loop", 0o120777, 0, 0, b"loop")
    vfs.create(vfs.lookup("srv"), "abs", 0o120777, 0, 0, b"/srv/data")

    def main(task: object, call: object) -> None:
        for path, flags in (("/srv/link", 0), ("/srv/loop", 0), ("/srv/abs/file", 0), ("/srv/link", 0o400000)):
            answers.append(call("openat", AT_FDCWD, path, flags, 0))  # type: ignore[operator]

    machine.run(main)
    assert answers == [3, -Errno.ELOOP, 4, -Errno.ELOOP]


def test_relative_to_a_directory(machine: Machine) -> None:
    answers = []

    def main(task: object, call: object) -> None:
        fd = call("openat", AT_FDCWD, "/srv/data", O_DIRECTORY, 0)  # type: ignore[operator]
        file = call("openat", fd, "file", 0, 0)  # type: ignore[operator]
        answers.extend([fd, file, call("openat", file, "x", 0, 0), call("openat", 77, "x", 0, 0)])  # type: ignore[operator]
        answers.append(call("chdir", "/srv"))  # type: ignore[operator]
        answers.append(call("openat", AT_FDCWD, "data/file", 0, 0))  # type: ignore[operator]

    machine.run(main)
    assert answers == [3, 4, -Errno.ENOTDIR, -Errno.EBADF, 0, 5]
