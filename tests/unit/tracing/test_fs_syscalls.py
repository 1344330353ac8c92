"""System calls of files: numbers of bits and signs of their arguments, as their manual pages have them."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno

U32 = 1 << 32


@pytest.mark.parametrize(
    ("name", "args", "result"),
    # descriptors and flags are 32 bits, what is above them is not looked at; AT_FDCWD is an int
    [("openat", (-100 & 0xFFFF_FFFF, "/srv/file", U32, 0), 3), ("open", ("/srv/file", U32 | 2, 0), 3),
     ("creat", ("/tmp/new", 0o600), 3), ("close", (U32 | 9,), -Errno.EBADF), ("read", (U32 | 9, 0, 0), -Errno.EBADF),
     ("chdir", ("/srv",), 0), ("chdir", ("/srv/file",), -Errno.ENOTDIR), ("chdir", ("/none",), -Errno.ENOENT),
     ("chdir", (0x10,), -Errno.EFAULT)],
)  # fmt: skip
def test_calls(name: str, args: tuple[int | str, ...], result: int) -> None:
    machine, answers = Machine(), []
    machine.vfs.add("srv/file", b"0123456789")
    machine.run(lambda _task, call: answers.append(call(name, *args)))
    assert answers == [result]


def test_creat_truncates() -> None:
    machine = Machine()
    machine.vfs.add("srv/file", b"0123456789")
    machine.run(lambda _task, call: call("creat", "/srv/file", 0o600) and None)
    inode = machine.vfs.lookup("/srv/file").inode
    assert inode is not None
    assert bytes(inode.data) == b""
    assert inode.i_mode == 0o100644  # of the file that was there
