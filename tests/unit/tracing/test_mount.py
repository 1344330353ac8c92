"""Mounting: errnos of mount(2) and umount(2), what is seen below."""

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno

MNT_DETACH = 2
TMPFS = ("mount", "src", "/tmp/m", "tmpfs", 0, "size=1m")


def run(*calls: tuple[object, ...], uid: int = 0) -> tuple[Watched, list[int]]:
    machine, seen = Watched(), []
    machine.kernel.vfs.add("/tmp/m/below", b"x")

    def main(_task: object, call: object) -> None:
        for name, *args in calls:
            seen.append(call(name, *args))  # type: ignore[operator]

    machine.run(main, uid=uid)
    return machine, seen


def test_what_is_mounted_hides_what_is_below() -> None:
    _, seen = run(
        *(TMPFS, ("access", "/tmp/m/below", 0), ("openat", -100, "/tmp/m/new", 0o102, 0o644)),
        *(("umount", "/tmp/m", 0), ("close", 3), ("umount", "/tmp/m", 0), ("access", "/tmp/m/below", 0)),
        ("umount", "/tmp/m", 0),
    )
    assert seen == [0, -Errno.ENOENT, 3, -Errno.EBUSY, 0, 0, 0, -Errno.EINVAL]


def test_nothing_is_left() -> None:
    machine, seen = run(("getpid",))
    before = len(machine.kernel.vfs.by_address), machine.kernel.mem.allocated_bytes
    machine, seen = run(TMPFS, ("mkdir", "/tmp/m/d", 0o755), ("umount", "/tmp/m", 0))
    assert seen == [0, 0, 0]
    assert len(machine.kernel.vfs.by_address) == before[0]
    assert not machine.kernel.vfs.leaving


@pytest.mark.parametrize(
    ("call", "uid", "result"),
    [(("mount", "x", "/tmp/m", "tmpfs", 0, 0), 1000, -Errno.EPERM),
     (("mount", "x", "/none", "tmpfs", 0, 0), 0, -Errno.ENOENT),
     (("mount", "x", "/tmp/m", "nofs", 0, 0), 0, -Errno.ENODEV),
     (("mount", "x", "/tmp/m/below", "tmpfs", 0, 0), 0, -Errno.ENOTDIR),
     (("mount", "x", "/tmp/m", 0, 0, 0), 0, -Errno.EINVAL),
     (("mount", 0x10, "/tmp/m", "tmpfs", 0, 0), 0, -Errno.EFAULT),
     (("umount", "/tmp/m", 0), 0, -Errno.EINVAL), (("umount", "/", 0), 0, -Errno.EINVAL),
     (("umount", "/tmp", 64), 0, -Errno.EINVAL), (("umount", "/tmp", 0), 1000, -Errno.EPERM)],
)  # fmt: skip
def test_answers(call: tuple[object, ...], uid: int, result: int) -> None:
    assert run(call, uid=uid)[1] == [result]


def test_detached_file_systems_stay_for_open_files() -> None:
    _, seen = run(
        *(TMPFS, ("openat", -100, "/tmp/m/new", 0o102, 0o644), ("umount", "/tmp/m", MNT_DETACH)),
        ("write", 3, b"data", 4),
    )
    assert seen == [0, 3, 0, 4]
