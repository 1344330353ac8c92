"""Random system calls of five tasks, with arguments that make sense and such that make none.

No exception escapes, every call ends in a result or an errno, nothing is left when the tasks have ended, and a replay
is the same.
"""

import hashlib
from random import Random
from typing import Any

import pytest
from call_paths import Watched

from tracing.task import Task

# calls that end the task, or wait for what may never come, are made with care
LAST = ("exit", "exit_group")
SLOW = ("pause", "rt_sigsuspend", "wait4", "waitid")
PATHS = (
    *(
        "/",
        "/tmp",
        "/tmp/a",
        "/tmp/b",
        "/tmp/d",
        "/tmp/d/x",
        "/tmp/d/..",
        "a",
        "b/",
        "",
        ".",
        "..",
        "/etc/passwd",
        "/none",
    ),
    *("/tmp/l", "/tmp/l/x", "/dev/null", "/dev/zero", "/bin/sh", "/proc", "/tmp/" + "n" * 300, "/tmp/d/../a"),
)
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 64, 100, 255, 256, 4095, 4096, 8192, 65536, 0x1000_0000, 1 << 31, 1 << 32)
WILD = (
    -1,
    -2,
    -100,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    0xFFFF_FFFF,
    0x7FFF_FFFF,
    0xDEAD_BEEF,
    0xFFFF_8880_0000_0000,
)
NAMED = ("pathname", "filename", "path", "oldname", "newname", "dev_name", "dir_name", "name", "type")
FLAGS = (0, 1, 2, 0o100, 0o102, 0o200, 0o2000, 0o4000, 0o40000, 0o200000, 0o2000000, 0x200, 0x400, 0x1000)
POINTERS = (
    *(
        "buf",
        "statbuf",
        "buffer",
        "act",
        "oact",
        "nset",
        "oset",
        "uset",
        "rqtp",
        "rmtp",
        "argv",
        "envp",
        "vec",
        "stat_addr",
    ),
    *(
        "infop",
        "fildes",
        "ufds",
        "event",
        "events",
        "tvp",
        "inp",
        "outp",
        "exp",
        "uattr",
        "new_rlim",
        "old_rlim",
        "how",
        "tp",
    ),
)
ERRNO_END = 4096


class Script:
    """The calls of one task: which, with what, and what came of them."""

    def __init__(self, machine: Watched, seed: int, count: int) -> None:
        self.machine, self.random, self.count = machine, Random(seed), count
        self.answers: list[tuple[str, int]] = []
        self.names = sorted(set(machine.kernel.syscalls.table) - {*LAST, *SLOW, "futex", "pidfd_open"} - SOCKETS)

    def run(self, task: Task, depth: int = 0) -> int:
        """Make the calls."""
        assert task.user is not None
        random, calls = self.random, self.machine.kernel.syscalls
        user = task.user
        room = user.alloc(8192, random.randbytes(512))
        for _ in range(self.count):
            if task.user is not user:
                # a new program has no memory of the old one
                user = task.user
                room = user.alloc(8192, random.randbytes(512))
            name = random.choice(self.names)
            args = [self.argument(task, room, arg) for arg in calls.table[name].args]
            if name in ("fork", "vfork", "clone", "clone3"):
                if depth or random.random() < 0.7:
                    continue
                task.program = lambda child: self.few(child)
            if name in ("kill", "tkill", "tgkill") and random.random() < 0.9:
                args = [task.pid] * (len(args) - 1) + [random.choice((0, 10, 12, 17, 18, 28))]
            if name in ("nanosleep", "clock_nanosleep", "poll", "ppoll", "select", "epoll_wait", "epoll_pwait"):
                args = self.short(task, name, args, room)
            answer = calls.call(task, name, *args)
            self.answers.append((name, answer))
            self.machine.kernel.sched.advance()
        return 0

    def few(self, child: Task) -> int:
        """Let a child make some calls."""
        Script(self.machine, self.random.randrange(1 << 30), 5).run(child, 1)
        return 0

    def short(self, task: Task, name: str, args: list[int], room: int) -> list[int]:
        """Let a call that waits not wait for long."""
        assert task.user is not None
        task.user.write(room + 4096, (0).to_bytes(8, "little") + (1000).to_bytes(8, "little"))
        at = {
            "nanosleep": 0,
            "clock_nanosleep": 2,
            "poll": 2,
            "ppoll": 2,
            "select": 4,
            "epoll_wait": 3,
            "epoll_pwait": 3,
        }[name]
        args[at] = 0 if name in ("poll", "epoll_wait", "epoll_pwait") else room + 4096
        if name == "clock_nanosleep":
            args[1] = 0
        if name in ("nanosleep", "clock_nanosleep"):
            args[at + 1] = 0
        return args

    def argument(self, task: Task, room: int, name: str) -> int:
        """Return a value of an argument."""
        random = self.random
        assert task.user is not None
        if random.random() < 0.08:
            return random.choice(WILD)
        if name in NAMED and random.random() < 0.9:
            at = room + 512 + 512 * random.randrange(6)
            task.user.write(at, random.choice(PATHS).encode() + b"\0")
            return at
        if name in POINTERS and random.random() < 0.9:
            return room + random.randrange(64) * 8
        if name in ("fd", "oldfd", "newfd", "fildes", "epfd"):
            return random.randrange(10)
        if name in ("dfd", "olddfd", "newdfd"):
            return random.choice((-100, -100, 3, 4, 99))
        if "flags" in name or name == "flag":
            return random.choice(FLAGS)
        if name in ("mode", "prot", "how", "option", "cmd", "op", "whence"):
            return random.choice((0, 1, 2, 3, 4, 7, 0o644, 0o755))
        if name in ("count", "len", "size", "length", "bufsiz", "vlen", "nfds", "n", "maxevents"):
            return random.choice((0, 1, 8, 16, 100, 4096))
        return random.choice(NUMBERS)


SOCKETS = {
    *(
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "accept4",
        "sendto",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "shutdown",
    ),
    *(
        "setsockopt",
        "getsockopt",
        "getsockname",
        "getpeername",
        "socketpair",
        "sendmmsg",
        "recvmmsg",
        "perf_event_open",
    ),
}


def play(seed: int, count: int) -> tuple[str, list[tuple[str, int]], dict[str, Any]]:
    """Run five tasks; return a digest of all answers, the answers, and what is left."""
    machine = Watched()
    kernel = machine.kernel
    kernel.vfs.add("/tmp/d/x", b"x")
    kernel.vfs.create(kernel.vfs.lookup("/tmp"), "l", 0o120777, 0, 0, b"d")
    machine.run(lambda _task, call: call("getpid"))
    scripts = [Script(machine, seed * 10 + index, count // 5) for index in range(5)]
    for index, script in enumerate(scripts):
        kernel.sched.spawn(f"task{index}", script.run, uid=(0, 1000, 1001, 0, 1000)[index])
    machine.sim.run("3600s")

    def end(task: Task) -> int:
        """Kill whoever waits for what never comes, as both ends of a pipe of its own."""
        for pid in sorted(kernel.sched.tasks):
            if pid not in (1, task.pid):
                kernel.syscalls.call(task, "kill", pid, 9)
        return 0

    kernel.sched.spawn("end", end, uid=0)
    machine.sim.run("3700s")
    answers = [answer for script in scripts for answer in script.answers]
    left = {
        "tasks": sorted(kernel.sched.tasks), "walks": len(kernel.walks), "fifos": len(kernel.vfs.fifos),
        "files": sum(type(obj).__name__ == "File" for obj in kernel.vfs.by_address.values()),
    }  # fmt: skip
    return hashlib.sha256(repr(answers).encode()).hexdigest(), answers, left


def check(seed: int, count: int) -> None:
    digest, answers, left = play(seed, count)
    assert len(answers) > count // 20
    assert all(isinstance(answer, int) and -(1 << 63) <= answer < 1 << 63 for _, answer in answers)
    # nothing that user space never sees
    assert not [row for row in answers if -600 < row[1] <= -512]
    assert left["walks"] == 0
    assert left["tasks"] == [1]
    assert left["files"] == 0
    assert play(seed, count)[0] == digest


@pytest.mark.parametrize("seed", range(3))
def test_random_calls(seed: int) -> None:
    check(seed, 500)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 150))
def test_many_random_calls(seed: int) -> None:
    check(seed, 2000)
