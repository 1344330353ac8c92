"""What files are: answers of stat(2), access(2), readlink(2), statfs(2), working directories."""

from struct import unpack_from

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


def test_stat_says_what_the_inode_is(machine: Machine) -> None:
    found: list[bytes] = []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(256)  # type: ignore[attr-defined]
        assert call("newstat", "/tmp/data/file", room) == 0  # type: ignore[operator]
        found.append(task.user.read(room, 144))  # type: ignore[attr-defined]
        assert call("statx", AT_FDCWD, "/tmp/data/file", 0, 0x7FF, room) == 0  # type: ignore[operator]
        found.append(task.user.read(room, 256))  # type: ignore[attr-defined]
        fd = call("openat", AT_FDCWD, "/tmp/data/file", 0, 0)  # type: ignore[operator]
        assert call("newfstatat", fd, "", room, AT_EMPTY_PATH) == 0  # type: ignore[operator]
        found.append(task.user.read(room, 144))  # type: ignore[attr-defined]

    machine.run(main)
    inode = machine.vfs.lookup("/tmp/data/file").inode
    assert inode is not None
    # struct stat (arch/x86/include/uapi/asm/stat.h)
    ino, nlink, mode, uid, gid, size = unpack_from("<8xQQIII4x8xQ", found[0])
    assert (ino, nlink, mode, uid, gid, size) == (inode.i_ino, 1, 0o100640, 7, 8, 10)
    # struct statx (include/uapi/linux/stat.h)
    assert unpack_from("<16xIIIH2xQQ", found[1]) == (1, 7, 8, 0o100640, inode.i_ino, 10)
    assert found[2] == found[0]


@pytest.mark.parametrize(
    ("call", "uid", "result"),
    [
        (("newstat", "/none", 0), 0, -Errno.ENOENT),
        (("newstat", "/tmp/data/file", 0x10), 0, -Errno.EFAULT),
        (("newfstat", 77, 0), 0, -Errno.EBADF),
        (("access", "/tmp/data/file", 4), 7, 0),
        (("access", "/tmp/data/file", 4), 9, -Errno.EACCES),
        (("access", "/tmp/data/file", 1), 0, -Errno.EACCES),
        (("access", "/tmp/data/file", 8), 0, -Errno.EINVAL),
        (("access", "/tmp/data", 7), 0, 0),
        (("readlink", "/tmp/data/file", 0, 64), 0, -Errno.EINVAL),
        (("readlink", "/x", 0, 0), 0, -Errno.EINVAL),
        (("statfs", "/none", 0), 0, -Errno.ENOENT),
        (("fchdir", 77), 0, -Errno.EBADF),
        (("chdir", "/tmp/data/file"), 0, -Errno.ENOTDIR),
        (("getcwd", 0, 1), 0, -Errno.ERANGE),
    ],
)
def test_answers(machine: Machine, call: tuple[object, ...], uid: int, result: int) -> None:
    assert results(machine, call, uid=uid) == [result]


def test_the_working_directory(machine: Machine) -> None:
    seen: list[bytes] = []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(64)  # type: ignore[attr-defined]
        assert call("chdir", "/tmp/data") == 0  # type: ignore[operator]
        assert call("getcwd", room, 64) == len("/tmp/data") + 1  # type: ignore[operator]
        seen.append(task.user.read_string(room, 64))  # type: ignore[attr-defined]
        assert call("newstat", "file", room) == 0  # type: ignore[operator]

    machine.run(main)
    assert seen == [b"/tmp/data"]


def test_statfs_names_the_file_system(machine: Machine) -> None:
    kinds: list[int] = []

    def main(task: object, call: object) -> None:
        room = task.user.alloc(128)  # type: ignore[attr-defined]
        for path in ("/tmp", "/proc", "/sys/fs/bpf"):
            assert call("statfs", path, room) == 0  # type: ignore[operator]
            kinds.append(int.from_bytes(task.user.read(room, 8), "little"))  # type: ignore[attr-defined]

    machine.run(main)
    # include/uapi/linux/magic.h
    assert kinds == [0x01021994, 0x9FA0, 0xCAFE4A11]
