"""/proc as tasks walk, list, read and follow it. What Linux 6.18 does was seen on one."""

import os
from typing import Any

import pytest
from proc_files import ProcTasks

from ebpfsim.errnos import Errno
from tracing.proc_base import Shown

AT_FDCWD = -100


@pytest.fixture(scope="module")
def tasks() -> ProcTasks:
    return ProcTasks()


def test_the_top_has_tasks_by_number_at_its_end(tasks: ProcTasks) -> None:
    pid, names = tasks.see(lambda tasks: (tasks.task.pid, tasks.names("")))
    assert names[:4] == ["net", "sys", "stat", "mounts"]
    assert names[names.index("self") :] == ["self", "thread-self", "1", str(pid)]


def test_names_of_oneself(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        links = [tasks.link("self"), tasks.link("thread-self")]
        return tasks.task.pid, links, tasks.names("self/task"), tasks.text("thread-self/comm")

    pid, links, threads, comm = tasks.see(look)
    assert (links, threads, comm) == ([str(pid), f"{pid}/task/{pid}"], [str(pid)], "test\n")


def test_names_come_and_go_with_their_tasks(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        task = tasks.kernel.sched.spawn("child", lambda _task: 0, parent=tasks.task)
        fd = tasks.open(f"/proc/{task.pid}/stat")
        before = tasks.read(fd, 12), tasks.text(f"{task.pid}/comm"), str(task.pid) in tasks.names("")
        assert tasks.call("wait4", task.pid, 0, 0, 0) == task.pid
        after = tasks.read(fd, 100), tasks.text(f"{task.pid}/comm"), str(task.pid) in tasks.names("")
        tasks.call("lseek", fd, 0, 0)
        return task.pid, before, after, tasks.read(fd, 100), tasks.call("close", fd)

    pid, before, after, again, closed = tasks.see(look)
    assert before == (f"{pid} (child) "[:12], "child\n", True)
    # what was made before is still read; a new beginning is of nobody
    assert (after[1:], again, closed) == ((-Errno.ENOENT, False), -Errno.ESRCH, 0)


def test_descriptors_are_links(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        fd, pair = tasks.open("/etc/hostname"), tasks.room.put(bytes(8))
        tasks.call("pipe2", pair, 0)
        end = int.from_bytes(tasks.task.user.read(pair, 4), "little")
        socket = tasks.call("socket", 1, 1, 0)
        listed = tasks.names("self/fd")
        links = [tasks.link(f"self/fd/{each}") for each in (fd, end, socket, 77)]
        again = tasks.text(f"self/fd/{fd}")
        tasks.call("close", fd)
        return fd, listed, links, again, tasks.link(f"self/fd/{fd}")

    _, listed, links, again, after = tasks.see(look)
    # the folder itself is open while it is read
    assert listed == [str(each) for each in range(int(listed[-1]) + 1)]
    assert links[0] == "/etc/hostname"
    assert links[1].startswith("pipe:[")
    assert links[2].startswith("socket:[")
    assert links[3] == after == -Errno.ENOENT
    assert again == "host\n"


def test_links_lead_to_files_whatever_their_paths(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        tasks.call("mkdir", b"/tmp/here\0", 0o755)
        tasks.call("chdir", b"/tmp/here\0")
        made = tasks.call("openat", AT_FDCWD, b"a\0", os.O_CREAT | os.O_RDWR, 0o644)
        tasks.write(made, "text")
        tasks.call("unlink", b"/tmp/here/a\0")
        return tasks.link("self/cwd"), tasks.link(f"self/fd/{made}"), tasks.text(f"self/fd/{made}"), tasks.link("net")

    assert tasks.see(look) == ("/tmp/here", "/tmp/here/a (deleted)", "text", "self/net")


def test_others_see_only_what_everybody_may(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        paths = ("1/fd", "1/fd/0", "1/maps")
        refused = [tasks.text(path) for path in paths] + [tasks.link(f"1/{name}") for name in ("exe", "cwd", "root")]
        return refused, tasks.text("1/comm"), tasks.link("self/root"), tasks.text("self/maps") != ""

    assert tasks.see(look, uid=1000) == ([-Errno.EACCES] * 6, "init\n", "/", True)


def test_places(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        fd = tasks.open("/proc/self/comm")
        moves = [tasks.call("lseek", fd, *move) for move in ((2, 0), (1, 1), (-9, 1), (0, 2))]
        return moves, tasks.read(fd, 9), tasks.read(fd, 9)

    # Linux 6.18: SEEK_END is EINVAL
    assert tasks.see(look) == ([2, 3, -Errno.EINVAL, -Errno.EINVAL], "t\n", "")


def test_names_are_the_kernels(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        comm = b"/proc/self/comm\0"
        return [
            *(tasks.call("unlink", comm), tasks.call("rmdir", b"/proc/self/fd\0"), tasks.call("chmod", comm, 0o600)),
            *(tasks.call("mkdir", b"/proc/x\0", 0o755), tasks.open("/proc/new", os.O_CREAT | os.O_WRONLY)),
            *(tasks.call("symlink", b"a\0", b"/proc/self/x\0"), tasks.call("rename", comm, b"/tmp/c\0")),
            *(tasks.open("/proc/self", os.O_NOFOLLOW), tasks.open("/proc/self/comm/"), tasks.text("self/comm")),
        ]

    refused = [-Errno.EPERM] * 3 + [-Errno.ENOENT] * 3
    # as a program saw it on Linux 6.18
    assert tasks.see(look) == [*refused, -Errno.EXDEV, -Errno.ELOOP, -Errno.ENOTDIR, "test\n"]


def test_writing(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        paths = ("uptime", "self/stat", "1/comm")
        results = [tasks.write(tasks.open(f"/proc/{path}", os.O_RDWR), "x") for path in paths]
        return (
            results,
            tasks.write(tasks.open("/proc/self/comm", os.O_WRONLY | os.O_TRUNC), "a name that is long"),
            tasks.task.comm,
        )

    errors = [-Errno.EIO, -Errno.EINVAL, -Errno.EINVAL]
    assert tasks.see(look) == (errors, 19, "a name that is ")


def test_reads_are_of_whole_records_that_fit_a_page() -> None:
    # Linux 6.18 gave 3931, 4060, 4066, 4088 bytes of maps: as many lines as fit 4096 bytes with something left
    shown = Shown(["x" * 99 + "\n"] * 100)
    assert [len(shown.piece(position, 1 << 16)) for position in (0, 4000, 9990, 10_000)] == [4000, 4000, 10, 0]
    assert shown.piece(95, 10) == b"xxxx\nxxxxx"
    # one record that is longer comes as a whole
    assert len(Shown(["y" * 9000, "z"]).piece(0, 1 << 16)) == 9000
