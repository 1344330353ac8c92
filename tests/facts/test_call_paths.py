"""The order of functions and security hooks in what tasks do: that of recordings of Linux 6.12 (``recordings``).

Paths are as in the recordings: the root is a file system with functions of its own, what is tested is on a tmpfs below.
"""

import difflib
from collections.abc import Sequence

import pytest
from call_paths import Watched, compared, steps

Steps = Sequence[Sequence[int | str | bytes]]

AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
O_RDONLY, O_RDWR, O_CREAT, O_DIRECTORY = 0, 2, 0o100, 0o200000
ROOM = bytes(4096)
PRIVATE_ANON, FIXED, AREA = 0x22, 0x10, 0x1000_0000
PIPE: Steps = [("pipe2", ROOM, 0)]
HANDLER = (0x40_2000).to_bytes(8, "little") + bytes(24)
OPEN: Steps = [("openat", AT_FDCWD, "/tmp/d/f", O_RDWR, 0)]


def word(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "little")


# what is done before, with 10 ms for the clock of files to go on, and what is compared
SCENARIOS: dict[str, tuple[Steps, Steps]] = {
    "file_access": ([], [("access", "/tmp/d/f", 4)]),
    "file_chmod_chown": ([], [("chmod", "/tmp/d/e/g", 0o600), ("chown", "/tmp/d/e/g", 1, 1)]),
    "file_close_tmpfs": (OPEN, [("close", 3)]),
    "file_fcntl_dup": (OPEN, [("dup", 3), ("fcntl", 3, 3, 0), ("close", 4)]),
    "file_fstat": (OPEN, [("newfstatat", 3, "", ROOM, AT_EMPTY_PATH)]),
    "file_fsync": (OPEN, [("fsync", 3)]),
    "file_getdents": (
        [],
        [("openat", AT_FDCWD, "/tmp/d/three", O_DIRECTORY, 0), ("getdents64", 3, ROOM, 4096), ("close", 3)],
    ),
    "file_link": ([], [("link", "/tmp/d/e/g", "/tmp/d/e/h")]),
    "file_lseek": (OPEN, [("lseek", 3, 0, 0)]),
    "file_mkdir": ([], [("mkdir", "/tmp/d/new", 0o755)]),
    "file_openat_create_tmpfs": ([("chdir", "/tmp/d")], [("openat", AT_FDCWD, "new", O_CREAT | O_RDWR, 0o644)]),
    "file_openat_existing_tmpfs": ([], [("openat", AT_FDCWD, "/tmp/d/f", O_RDONLY, 0)]),
    "file_openat_missing": ([], [("openat", AT_FDCWD, "/tmp/d/none", O_RDONLY, 0)]),
    "file_read_seq_tmpfs": ([*OPEN, ("read", 3, ROOM, 10), ("lseek", 3, 0, 0)], [("read", 3, ROOM, 10)]),
    "file_read_tmpfs": ([*OPEN, ("write", 3, b"more", 4)], [("pread64", 3, ROOM, 10, 0)]),
    "file_rename": ([], [("rename", "/tmp/d/f", "/tmp/d/e/f2")]),
    "file_rmdir": ([("mkdir", "/tmp/d/new", 0o755)], [("rmdir", "/tmp/d/new")]),
    "file_stat": ([], [("newfstatat", AT_FDCWD, "/tmp/d/f", ROOM, 0)]),
    "file_stat_missing": ([], [("newfstatat", AT_FDCWD, "/tmp/d/none", ROOM, 0)]),
    "file_statx": ([], [("statx", AT_FDCWD, "/tmp/d/f", 0, 0x7FF, ROOM)]),
    "file_symlink_readlink": ([], [("symlink", "g", "/tmp/d/e/s"), ("readlink", "/tmp/d/e/s", ROOM, 64)]),
    "file_truncate": ([("chmod", "/tmp/d/e/t", 0o444)], [("truncate", "/tmp/d/e/t", 4)]),
    "file_unlink": ([("link", "/tmp/d/e/g", "/tmp/d/e/h")], [("unlink", "/tmp/d/e/g")]),
    "epoll_create_ctl": (PIPE, [("epoll_create1", 0), ("epoll_ctl", 5, 1, 3, word(1, 12)), ("close", 5)]),
    "eventfd": (
        [],
        [("eventfd2", 0, 0), ("write", 3, word(5), 8), ("read", 3, ROOM, 8), ("close", 3)],
    ),
    "mm_mmap_anon": ([], [("mmap", 0, 8192, 3, PRIVATE_ANON, -1, 0)]),
    "mm_mprotect": (
        [("mmap", AREA, 8192, 3, FIXED | PRIVATE_ANON, -1, 0), ("getrandom", AREA, 8, 0)],
        [("mprotect", AREA, 4096, 1)],
    ),
    "pipe_close": (PIPE, [("close", 3), ("close", 4)]),
    "pipe_create": (PIPE, [("pipe2", ROOM, 0)]),
    "pipe_read": ([*PIPE, ("write", 4, b"hello", 5)], [("read", 3, ROOM, 5)]),
    "pipe_write": (PIPE, [("write", 4, b"hello", 5)]),
    "poll_pipe": (PIPE, [("poll", word(4, 4) + word(4, 4), 1, 0)]),
    "proc_getpid_getppid": ([], [("getpid",), ("getppid",), ("gettid",), ("getuid",)]),
    "proc_kill_nonexist": ([], [("kill", 999999, 15)]),
    "proc_kill_self_handled": ([], [("rt_sigaction", 10, HANDLER, 0, 8), ("getpid",), ("kill", 1000, 10)]),
    "proc_prctl_name": ([], [("prctl", 15, "renamed", 0, 0, 0)]),
    "proc_setuid0": ([], [("setuid", 0)]),
    "proc_unshare_uts": ([], [("unshare", 0x400_0000)]),
    "proc_wait4_zombie": ([("fork",)], [("wait4", 1001, 0, 0, 0)]),
    "file_write_tmpfs": (
        [("openat", AT_FDCWD, "/tmp/d/new", O_CREAT | O_RDWR, 0o644)], [("write", 3, b"hello", 5)],
    ),
}  # fmt: skip


def watched() -> Watched:
    """Return a host with the files of the scenarios."""
    machine = Watched()
    vfs = machine.kernel.vfs
    vfs.add("/tmp/d/f", b"0123456789")
    vfs.add("/tmp/d/e/g", b"x" * 5000)
    vfs.add("/tmp/d/e/t", b"0123456789")
    for name in "abc":
        vfs.add(f"/tmp/d/three/{name}")
    return machine


@pytest.mark.parametrize("recording", SCENARIOS)
def test_the_order_of_calls_is_the_recorded_one(recording: str) -> None:
    before, during = SCENARIOS[recording]
    machine = watched()

    def main(task: object, call: object) -> None:
        steps(before)(task, call)  # type: ignore[arg-type]
        machine.kernel.sched.wait(None, timeout_ns=10_000_000)
        machine.watch()
        steps(during)(task, call)  # type: ignore[arg-type]
        machine.stop()

    machine.run(main)
    ours, recorded = compared(machine, recording)
    assert ours == recorded, "\n".join(difflib.unified_diff(recorded, ours, "Linux", "ebpfsim", lineterm="", n=2))
    assert len(recorded) >= 4
