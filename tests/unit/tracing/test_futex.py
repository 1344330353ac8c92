"""Waiting for words of memory (futex(2), answers of Linux 6.18)."""

from collections.abc import Callable

from call_paths import Watched

from ebpfsim.errnos import Errno
from tracing.task import Task

WAIT, WAKE, WAIT_BITSET, WAKE_BITSET, PRIVATE = 0, 1, 9, 10, 128
CLONE = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000
AREA, FIXED, ANON, SHARED = 0x1000_0000, 0x10, 0x20, 1
Call = Callable[..., int]


def run(what: Callable[[Task, Call, Watched], object]) -> None:
    machine = Watched()
    machine.run(lambda task, call: what(task, call, machine))
    assert not machine.kernel.sched.futexes


def test_refusals() -> None:
    found = []

    def main(_task: Task, call: Call, _machine: Watched) -> None:
        value = (5).to_bytes(4, "little")
        calls = [
            (value, WAIT | PRIVATE, 4, 0, 0, 0), (value, WAKE | PRIVATE, 1, 0, 0, 0), (0x1001, WAIT, 0, 0, 0, 0),
            (0x1000, WAIT, 0, 0, 0, 0), (value, 77, 0, 0, 0, 0), (value, WAIT_BITSET, 5, 0, 0, 0),
            (value, WAIT, 5, 8, 0, 0), (value, WAIT, 5, bytes(8) + (10**9).to_bytes(8, "little"), 0, 0),
        ]  # fmt: skip
        found.extend(call("futex", *each) for each in calls)

    run(main)
    names = (Errno.EAGAIN, 0, Errno.EINVAL, Errno.EFAULT, Errno.ENOSYS, Errno.EINVAL, Errno.EFAULT, Errno.EINVAL)
    assert found == [-name for name in names]


def test_time_is_over() -> None:
    found = []

    def main(_task: Task, call: Call, machine: Watched) -> None:
        before = machine.kernel.clock.now_ns
        timeout = bytes(8) + (2_000_000).to_bytes(8, "little")
        found.append(call("futex", bytes(4), WAIT | PRIVATE, 0, timeout, 0, 0))
        found.append(machine.kernel.clock.now_ns - before >= 2_000_000)

    run(main)
    assert found == [-Errno.ETIMEDOUT, True]


def test_threads_wake_each_other() -> None:
    found = []

    def main(task: Task, call: Call, machine: Watched) -> None:
        assert task.user is not None
        word = task.user.alloc(4)

        def thread(other: Task) -> int:
            do = machine.kernel.syscalls.call
            found.append(("waited", do(other, "futex", word, WAIT | PRIVATE, 0, 0, 0, 0)))
            do(other, "exit", 0)
            return 0

        for _ in range(2):
            task.program = thread
            call("clone", CLONE, 0, 0, 0, 0)
        machine.kernel.sched.wait(None, timeout_ns=1000)
        found.append(("woke", call("futex", word, WAKE | PRIVATE, 1, 0, 0, 0)))
        machine.kernel.sched.wait(None, timeout_ns=1000)
        found.append(("woke", call("futex", word, WAKE | PRIVATE, 5, 0, 0, 0)))
        machine.kernel.sched.wait(None, timeout_ns=1000)

    run(main)
    assert found == [("woke", 1), ("waited", 0), ("woke", 1), ("waited", 0)]


def test_processes_share_words_of_shared_memory_only() -> None:
    found = []

    def main(task: Task, call: Call, machine: Watched) -> None:
        call("mmap", AREA, 4096, 3, FIXED | ANON | SHARED, -1, 0)

        def child(other: Task) -> int:
            do = machine.kernel.syscalls.call
            timeout = other.user.alloc(16, bytes(8) + (5_000_000).to_bytes(8, "little"))  # type: ignore[union-attr]
            found.append(do(other, "futex", AREA, WAIT, 0, 0, 0, 0))
            found.append(do(other, "futex", AREA, WAIT | PRIVATE, 0, timeout, 0, 0))
            return 0

        task.program = child
        pid = call("fork")
        for flags in (0, PRIVATE):
            machine.kernel.sched.wait(None, timeout_ns=1_000_000)
            found.append(call("futex", AREA, WAKE | flags, 1, 0, 0, 0))
        call("wait4", pid, 0, 0, 0)

    run(main)
    assert found == [1, 0, 0, -Errno.ETIMEDOUT]


def test_bits_choose_who_is_woken() -> None:
    found = []

    def main(task: Task, call: Call, machine: Watched) -> None:
        assert task.user is not None
        word = task.user.alloc(4)

        def thread(other: Task) -> int:
            do = machine.kernel.syscalls.call
            do(other, "futex", word, WAIT_BITSET | PRIVATE, 0, 0, 0, 2)
            do(other, "exit", 0)
            return 0

        task.program = thread
        call("clone", CLONE, 0, 0, 0, 0)
        machine.kernel.sched.wait(None, timeout_ns=1000)
        found.extend(call("futex", word, WAKE_BITSET | PRIVATE, 1, 0, 0, bits) for bits in (0, 1, 3))
        machine.kernel.sched.wait(None, timeout_ns=1000)

    run(main)
    assert found == [-Errno.EINVAL, 0, 1]
