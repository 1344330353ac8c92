"""Changing what files are: chmod(2), chown(2), truncate(2), utimensat(2)."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno

AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.vfs.add("tmp/data/file", b"0123456789", mode=0o640, uid=7, gid=8)
    return machine


def results(machine: Machine, *calls: tuple[object, ...], uid: int = 0) -> list[int]:
    answers: list[int] = []

    def main(_task: object, call: object) -> None:
        for name, *args in calls:
            answers.append(call(name, *args))  # type: ignore[operator]

    machine.run(main, uid=uid)
    return answers


@pytest.mark.parametrize(
    ("call", "uid", "result"),
    [
        (("chmod", "/tmp/data/file", 0o600), 9, -Errno.EPERM),
        (("chmod", "/tmp/data/file", 0o600), 7, 0),
        (("chmod", "/none", 0o600), 0, -Errno.ENOENT),
        (("chown", "/tmp/data/file", 1, 1), 7, -Errno.EPERM),
        (("chown", "/tmp/data/file", -1, -1), 7, 0),
        (("fchown", 77, 0, 0), 0, -Errno.EBADF),
        (("truncate", "/tmp/data/file", 3), 7, 0),
        (("truncate", "/tmp/data/file", 3), 9, -Errno.EACCES),
        (("truncate", "/tmp/data", 3), 0, -Errno.EISDIR),
        (("truncate", "/tmp/data/file", -1), 0, -Errno.EINVAL),
        (("utimensat", AT_FDCWD, "/tmp/data/file", 0, 0), 7, 0),
        (("utimensat", AT_FDCWD, "/tmp/data/file", 0, 0), 9, -Errno.EACCES),
    ],
)
def test_answers(machine: Machine, call: tuple[object, ...], uid: int, result: int) -> None:
    assert results(machine, call, uid=uid) == [result]


def test_changes_are_kept(machine: Machine) -> None:
    calls = (
        *(("chmod", "/tmp/data/file", 0o4755), ("chown", "/tmp/data/file", 5, 6), ("truncate", "/tmp/data/file", 20)),
        ("umask", 0o77),
    )
    assert results(machine, *calls) == [0, 0, 0, 0o22]
    inode = machine.vfs.lookup("/tmp/data/file").inode
    assert inode is not None
    # chown takes the set-user-id bit away
    assert (inode.i_mode, inode.i_uid, inode.i_gid) == (0o100755, 5, 6)
    assert bytes(inode.data) == b"0123456789" + bytes(10)
    assert inode.i_size == 20
