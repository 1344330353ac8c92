"""References of names and inodes: nothing is left, nothing goes too early."""

import pytest
from task_machine import Machine

from tracing.dcache import now_at

AT_FDCWD, O_RDWR_CREAT = -100, 0o102
CALLS = [
    [("openat", AT_FDCWD, "/tmp/a", O_RDWR_CREAT, 0o644), ("close", 3), ("unlink", "/tmp/a")],
    [("openat", AT_FDCWD, "/tmp/a", O_RDWR_CREAT, 0o644), ("unlink", "/tmp/a"), ("write", 3, "text", 4)],
    [("mkdir", "/tmp/d", 0o755), ("chdir", "/tmp/d"), ("rmdir", "/tmp/d"), ("chdir", "/")],
    [("symlink", "x" * 60, "/tmp/s"), ("newstat", "/tmp/s", 0), ("unlink", "/tmp/s")],
    [("mkdir", "/tmp/d", 0o755), ("rename", "/tmp/d", "/tmp/e"), ("openat", AT_FDCWD, "/tmp/e/..", 0, 0),
     ("rmdir", "/tmp/e")],
    [("openat", AT_FDCWD, "/tmp/a", O_RDWR_CREAT, 0o644), ("link", "/tmp/a", "/tmp/b"), ("rename", "/tmp/a", "/tmp/b"),
     ("unlink", "/tmp/b"), ("unlink", "/tmp/a"), ("dup", 3), ("close", 3)],
    [("openat", AT_FDCWD, "/tmp/none/x", 0, 0), ("openat", AT_FDCWD, "/etc/none", 0, 0), ("newlstat", "/none", 0)],
]  # fmt: skip


@pytest.mark.parametrize("calls", CALLS)
def test_nothing_is_left(calls: list[tuple[object, ...]]) -> None:
    machine = Machine()
    # what is made once
    machine.run(lambda _task, call: call("newstat", "/", 0))
    before = sorted(machine.vfs.by_address)

    def main(_task: object, call: object) -> None:
        for name, *args in calls:
            call(name, *args)  # type: ignore[operator]

    machine.run(main)
    assert sorted(machine.vfs.by_address) == before
    assert not machine.kernel.walks
    assert all(
        dentry.opens == 0 for dentry in machine.vfs.walk() if dentry.mounted is None and dentry.sb.root is not dentry
    )


def test_times_of_files_are_those_of_ticks() -> None:
    machine = Machine()
    cpu = machine.kernel.cpus[0]
    machine.clock.call_in(9_999_999, lambda: None)
    machine.clock.run()
    # HZ is 250; the boot is at 2025-12-01 00:00:00 UTC
    assert now_at(cpu) == (1764547200, 8_000_000)
