"""Tools of Debian's libbpf-tools that watch files and processes: unchanged objects see what a workload does, no more.

Attached as the tools' user space does; what a record holds is that of the tools' headers (bcc, libbpf-tools/*.h).
The workload is that of recorded outputs of these tools on Linux 6.12, as far as it is about files and processes.
"""

import os
from collections.abc import Callable
from pathlib import Path
from struct import calcsize, unpack_from
from typing import Any

import pytest
from call_paths import Call, Watched

from ebpfsim.loader import Object
from tracing.task import Task

FOLDER = Path(os.environ.get("EBPFSIM_WILD", Path(__file__).parents[2] / "build" / "wild"))

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no objects: make wild")

AT_FDCWD, O_RDWR, O_CREAT, O_WRONLY, O_TRUNC = -100, 2, 0o100, 1, 0o1000
SIGKILL, SIGUSR1, SIGTERM = 9, 10, 15
MS_NOSUID, MS_NODEV = 2, 4
HANDLER = (0x40_2000).to_bytes(8, "little") + bytes(24)
PAGE = b"x" * 4096


class Tool:
    """A tool on a host, and a workload that it watches."""

    def __init__(self, name: str, only: Callable[[str], bool] = lambda _name: True, **rodata: int) -> None:
        self.machine = Watched()
        self.host = self.machine.host
        self.object: Object = self.host.open(str(FOLDER / f"libbpf-tools_{name}.o"))
        for member, value in rodata.items():
            self.object.rodata[member] = value
        programs = [program for program in self.object.programs if only(program)]
        self.object.load(only=programs)
        self.object.attach()
        self.events = self.host.perf_buffer(self.object.maps["events"]) if self.is_perf else None

    @property
    def is_perf(self) -> bool:
        return "events" in self.object.maps and self.object.maps["events"].key_size == 4

    def run(self, what: Callable[["Workload"], object], uid: int = 0) -> None:
        """Let a task do something, and everything go on until nothing happens any more."""
        self.machine.run(lambda task, call: what(Workload(self.machine, task, call)), uid=uid)

    def records(self, layout: str) -> list[tuple[Any, ...]]:
        """Return what the tool wrote, as a structure; texts end at their NUL."""
        if self.events is not None:
            data = [sample.data for sample in self.events.consume()]
        else:
            ring = self.machine.kernel.fds.lookup(self.object.maps["events"].fd)
            data = [bytes(record) for record in ring.consume()]
        rows = [unpack_from(layout, record.ljust(calcsize(layout), b"\0")) for record in data]
        return [tuple(_text(value) for value in row) for row in rows]

    def counts(self, name: str) -> list[tuple[Any, dict[str, Any]]]:
        """Return the elements of a hash table, by the types that the object says they have."""
        return list(self.object.maps[name].items())


def _text(value: Any) -> Any:
    return value.partition(b"\0")[0].decode() if isinstance(value, bytes) else value


class Workload:
    """What a task does: ``call`` makes system calls, ``child`` a process that waits, ``run`` one with a program."""

    def __init__(self, machine: Watched, task: Task, call: Call) -> None:
        self.machine, self.task, self.call = machine, task, call

    def child(self, what: Callable[["Workload"], object]) -> int:
        """Make a process; return its number."""

        def main(task: Task) -> int:
            do = self.machine.kernel.syscalls.call

            def call(name: str, *args: int | bytes | str) -> int:
                texts = (arg.encode() + b"\0" if isinstance(arg, str) else arg for arg in args)
                answer: int = do(task, name, *(task.user.alloc(1, a) if isinstance(a, bytes) else a for a in texts))
                return answer

            result = what(Workload(self.machine, task, call))
            return result if isinstance(result, int) and result >= 0 else 0

        self.task.program = main
        return self.call("fork")

    def words(self, *texts: str) -> int:
        """Return an array of pointers to texts."""
        user = self.task.user
        assert user is not None
        addresses = [*(user.alloc(1, text.encode() + b"\0") for text in texts), 0]
        return user.alloc(1, b"".join(address.to_bytes(8, "little") for address in addresses))

    def run(self, path: str, *args: str, status: int = 0) -> int:
        """Make a process that executes a file, and wait for it."""

        def main(child: "Workload") -> int:
            failed = child.call("execve", path, child.words(path, *args), child.words())
            return 127 if failed else status

        pid = self.child(main)
        self.call("wait4", pid, 0, 0, 0)
        return pid

    def nap(self, milliseconds: int) -> None:
        """Sleep."""
        self.call("nanosleep", (0).to_bytes(8, "little") + (milliseconds * 1_000_000).to_bytes(8, "little"), 0)


def files(w: Workload) -> None:
    """Write and read a file, make another one, and ask for those that are not there."""
    w.call("mkdir", "/tmp/wl", 0o755)
    w.call("chdir", "/tmp/wl")
    fd = w.call("openat", AT_FDCWD, "/tmp/wl/a", O_CREAT | O_RDWR, 0o644)
    for _ in range(10):
        w.call("write", fd, PAGE, 4096)
    w.call("lseek", fd, 0, 0)
    for _ in range(10):
        w.call("read", fd, PAGE, 4096)
    w.call("fsync", fd)
    w.call("close", fd)
    w.call("close", w.call("openat", AT_FDCWD, "b", O_CREAT | O_WRONLY | O_TRUNC, 0o600))
    w.call("openat", AT_FDCWD, "/tmp/wl/missing", 0, 0)
    w.call("newfstatat", AT_FDCWD, "/tmp/wl/a", bytes(144), 0)
    w.call("newfstatat", AT_FDCWD, "/tmp/wl/nostat", bytes(144), 0)


def programs(w: Workload) -> None:
    """Execute files that are there and one that is not; a process that is killed, and one that ends with 7."""
    for word in ("one", "two", "three"):
        w.run("/bin/true", word)
    w.run("/bin/false", "x", status=1)
    w.run("/bin/nosuch", "y")
    pid = w.child(lambda child: child.call("pause"))
    w.nap(20)
    w.call("kill", pid, SIGKILL)
    w.call("wait4", pid, 0, 0, 0)
    w.call("wait4", w.child(lambda _child: 7), 0, 0, 0)


def signals(w: Workload) -> None:
    """Signals to itself, to a child, and to nobody."""
    w.call("rt_sigaction", SIGUSR1, HANDLER, 0, 8)
    w.call("kill", w.task.pid, SIGUSR1)
    pid = w.child(lambda child: child.call("pause"))
    w.nap(20)
    w.call("kill", pid, SIGTERM)
    w.call("wait4", pid, 0, 0, 0)
    w.call("kill", 999999, SIGTERM)


def test_execsnoop() -> None:
    # struct event: pid, ppid, uid, retval, args_count, args_size, comm, args
    tool = Tool("execsnoop")
    tool.run(programs)
    rows = tool.records("<6i16s64s")
    # execsnoop.txt of the recordings: failures are left out; there the words of the arguments could not be read
    assert [(row[6], row[3], row[4], row[7]) for row in rows] == [
        *[("true", 0, 2, "/bin/true")] * 3, ("false", 0, 2, "/bin/false"),
    ]  # fmt: skip
    assert all(row[1] == 1000 for row in rows)
    assert [row[0] for row in rows] == [1001, 1002, 1003, 1004]


def test_execsnoop_with_failures() -> None:
    tool = Tool("execsnoop", ignore_failed=0)
    tool.run(lambda w: w.run("/bin/nosuch", "y"))
    assert [(row[3], row[6]) for row in tool.records("<6i16s64s")] == [(-2, "test")]


def test_opensnoop() -> None:
    # struct event: ts, pid, uid, ret, flags, callers[2], comm, fname
    tool = Tool("opensnoop")
    tool.run(files, uid=0)
    rows = [(row[1], row[3], row[8]) for row in tool.records("<QiIii2Q16s255s")]
    # opensnoop.txt: FD and ERR of the result
    assert [(path, result) for _, result, path in rows] == [("/tmp/wl/a", 3), ("b", 3), ("/tmp/wl/missing", -2)]
    assert {pid for pid, _, _ in rows} == {1000}


def test_opensnoop_of_failures() -> None:
    tool = Tool("opensnoop", targ_failed=1)
    tool.run(files)
    assert [row[8] for row in tool.records("<QiIii2Q16s255s")] == ["/tmp/wl/missing"]


def test_exitsnoop() -> None:
    # struct event: start_time, exit_time, pid, tid, ppid, sig, exit_code, comm
    tool = Tool("exitsnoop")
    tool.run(programs)
    rows = tool.records("<QQIIIIi16s")
    assert [(row[2], row[5], row[6], row[7]) for row in rows] == [
        (1001, 0, 0, "true"), (1002, 0, 0, "true"), (1003, 0, 0, "true"), (1004, 0, 1, "false"), (1005, 0, 127, "test"),
        (1006, SIGKILL, 0, "test"), (1007, 0, 7, "test"), (1000, 0, 0, "test"),
    ]  # fmt: skip
    assert [row[4] for row in rows] == [*[1000] * 7, 1]
    killed = rows[5]
    # it lived as long as its parent slept
    assert 20_000_000 <= killed[1] - killed[0] < 21_000_000


def test_filelife() -> None:
    tool = Tool("filelife")

    def work(w: Workload) -> None:
        files(w)
        w.nap(300)
        w.call("unlink", "/tmp/wl/a")
        w.call("unlink", "/tmp/wl/b")

    tool.run(work)
    # vfs_unlink() has the name as its third argument since Linux 5.12. The tool of Debian 13 tells by a member of
    # struct renamedata that Linux 6.3 renamed, so it takes the second, the directory, of which nobody has told it.
    assert tool.records("<32s16sQi") == []
    # it has seen both files come
    assert len(tool.counts("start")) == 2


def test_filetop() -> None:
    # struct file_stat: reads, read_bytes, writes, write_bytes, pid, tid, filename, comm, type
    tool = Tool("filetop")
    tool.run(files)
    ((key, stat),) = tool.counts("entries")
    names = ("reads", "read_bytes", "writes", "write_bytes", "pid", "tid", "filename", "comm")
    assert [stat[name] for name in names] == [10, 40960, 10, 40960, 1000, 1000, "a", "test"]
    assert stat["type"] in (ord("R"), "R")
    assert key["pid"] == 1000


def test_killsnoop() -> None:
    # struct event of sigsnoop: pid, tpid, sig, ret, comm
    tool = Tool("sigsnoop", only=lambda name: name != "sig_trace")
    tool.run(lambda w: (programs(w), signals(w)))
    # killsnoop.txt: SIGKILL, SIGUSR1 to itself, SIGTERM to the child, SIGTERM to nobody: -3
    assert tool.records("<iiii16s") == [
        (1000, 1006, SIGKILL, 0, "test"), (1000, 1000, SIGUSR1, 0, "test"), (1000, 1008, SIGTERM, 0, "test"),
        (1000, 999999, SIGTERM, -3, "test"),
    ]  # fmt: skip


def test_sigsnoop_by_its_tracepoint() -> None:
    tool = Tool("sigsnoop", only=lambda name: name == "sig_trace")
    tool.run(signals)
    # that of the child's end is SIGCHLD to its parent
    assert [(row[0], row[1], row[2], row[3]) for row in tool.records("<iiii16s")] == [
        (1000, 1000, SIGUSR1, 0), (1000, 1001, SIGTERM, 0), (1001, 1000, 17, 0), (1000, 1, 17, 0),
    ]  # fmt: skip


def test_statsnoop() -> None:
    # struct event: ts_ns, pid, ret, comm, pathname
    tool = Tool("statsnoop")

    def work(w: Workload) -> None:
        files(w)
        w.call("newstat", "/etc/hosts", bytes(144))
        w.call("newlstat", "/none", bytes(144))
        w.call("statfs", "/tmp", bytes(120))
        w.call("statx", AT_FDCWD, "b", 0, 0x7FF, bytes(256))

    tool.run(work)
    assert [row[1:] for row in tool.records("<Qii16s255s")] == [
        (1000, 0, "test", "/tmp/wl/a"), (1000, -2, "test", "/tmp/wl/nostat"), (1000, 0, "test", "/etc/hosts"),
        (1000, -2, "test", "/none"), (1000, 0, "test", "/tmp"), (1000, 0, "test", "b"),
    ]  # fmt: skip


def test_syscount() -> None:
    # struct data_t: count, total_ns, comm; keys are numbers of system calls
    tool = Tool("syscount", only=lambda name: name == "sys_exit")
    tool.run(files)
    rows = {number: row["count"] for number, row in tool.counts("data")}
    # mkdir, chdir, openat, write, lseek, read, fsync, close, newfstatat (arch/x86/entry/syscalls/syscall_64.tbl)
    assert rows == {83: 1, 80: 1, 257: 3, 1: 10, 8: 1, 0: 10, 74: 1, 3: 2, 262: 2}


def test_syscount_with_times() -> None:
    tool = Tool("syscount", measure_latency=1)
    tool.run(lambda w: w.nap(20))
    rows = dict(tool.counts("data"))
    assert rows[35]["count"] == 1
    assert 20_000_000 <= rows[35]["total_ns"] < 20_100_000


@pytest.mark.parametrize("kind", ["fentry", "kprobe"])
def test_vfsstat(kind: str) -> None:
    tool = Tool("vfsstat", only=lambda name: name.startswith(kind))
    tool.run(files)
    # enum stat_types: READ, WRITE, FSYNC, OPEN, CREATE. Files of open(2) are made without vfs_create(), and fsync(2)
    # calls vfs_fsync_range() (file_fsync of the recordings)
    assert list(tool.object.bss["stats"]) == [10, 10, 0, 2, 0]


def test_mountsnoop() -> None:
    # struct event: delta, flags, pid, tid, mnt_ns, ret, comm, fs, src, dest, data, op
    tool = Tool("mountsnoop")

    def work(w: Workload) -> None:
        w.call("mkdir", "/tmp/wl", 0o755)
        w.call("mount", "wltmp", "/tmp/wl", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m")
        w.call("umount", "/tmp/wl", 0)
        w.call("umount", "/tmp/wl", 0)
        w.call("setuid", 1000)
        w.call("mount", "x", "/tmp/wl", "tmpfs", 0, "")

    tool.run(work)
    rows = tool.records("<QQIIIi16s8s4096s4096s512si")
    # mountsnoop.txt: the mount, its end, one too many (-EINVAL), and one without the right to (-EPERM)
    assert [(row[5], row[7], row[8], row[9], row[10], row[11]) for row in rows] == [
        (0, "tmpfs", "wltmp", "/tmp/wl", "size=1m", 0), (0, "", "", "/tmp/wl", "", 1), (-22, "", "", "/tmp/wl", "", 1),
        (-1, "tmpfs", "x", "/tmp/wl", "", 0),
    ]  # fmt: skip
    assert {row[4] for row in rows} == {0xEFFF_FFF8}


# what the tool would be told for tmpfs: functions by the name of the operation in its programs
TMPFS = {
    "file_read": "shmem_file_read_iter", "file_write": "shmem_file_write_iter", "file_open": "shmem_file_open",
    "file_sync": "noop_fsync", "getattr": "shmem_getattr",
}  # fmt: skip


def test_fsdist_of_files_in_memory() -> None:
    machine = Watched()
    tool: Object = machine.host.open(str(FOLDER / "libbpf-tools_fsdist.o"))
    tool.load(only=[name for name in tool.programs if name.endswith(("_entry", "_exit"))])
    for operation, function in TMPFS.items():
        machine.host.attach_kprobe(tool.programs[f"{operation}_entry"], function)
        machine.host.attach_kretprobe(tool.programs[f"{operation}_exit"], function)
    machine.run(lambda task, call: files(Workload(machine, task, call)))
    # enum fs_file_op: READ, WRITE, OPEN, FSYNC, GETATTR; two files are opened, one is looked at
    assert [sum(hist["slots"]) for hist in tool.bss["hists"]] == [10, 10, 2, 1, 1]
    assert len(tool.maps["starts"]) == 0
