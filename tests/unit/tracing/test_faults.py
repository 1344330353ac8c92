"""Page faults: who meets them, what they tell, and what is EFAULT or SIGSEGV instead (recorded on Linux 6.12)."""

from collections.abc import Callable

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno
from tracing.faults import touch
from tracing.task import Task

AREA, ANON, FIXED, SHARED, PRIVATE, O_RDWR = 0x1000_0000, 0x22, 0x10, 1, 2, 2
READ, WRITE, USER, PROT = 0, 2, 4, 1
Call = Callable[..., int]


class Faults:
    """What the two tracepoints told: addresses and error codes."""

    def __init__(self) -> None:
        self.machine = Watched()
        self.seen: list[tuple[str, int, int]] = []
        for name in ("page_fault_user", "page_fault_kernel"):
            self.machine.kernel.tracepoints.get(name).add_probe(
                lambda _cpu, address, _regs, code, name=name: self.seen.append((name, address, code))
            )
        self.machine.kernel.vfs.add("/tmp/f", b"0123456789")

    def run(self, what: Callable[[Task, Call], object]) -> None:
        self.machine.run(what)

    def touch(self, task: Task, address: int, *, write: bool = True) -> bool:
        return touch(self.machine.kernel, task, address, write=write)


@pytest.fixture
def faults() -> Faults:
    return Faults()


def anonymous(call: Call, prot: int = 3, flags: int = ANON, size: int = 8192) -> None:
    call("mmap", AREA, size, prot, FIXED | flags, -1, 0)


def test_the_first_write_and_no_other(faults: Faults) -> None:
    def main(task: Task, call: Call) -> None:
        anonymous(call)
        faults.touch(task, AREA + 8)
        faults.touch(task, AREA + 16)
        faults.touch(task, AREA + 4096)

    faults.run(main)
    assert faults.seen == [("page_fault_user", address, USER | WRITE) for address in (AREA + 8, AREA + 4096)]


def test_a_page_that_was_read_is_written(faults: Faults) -> None:
    def main(task: Task, call: Call) -> None:
        anonymous(call)
        faults.touch(task, AREA, write=False)
        faults.touch(task, AREA)

    faults.run(main)
    codes = [code for _, _, code in faults.seen]
    assert codes == [USER, USER | WRITE | PROT]


def test_shared_pages_of_files_that_were_read_can_be_written(faults: Faults) -> None:
    # "A shared mapping of a tmpfs page that was first read is already writable"
    def main(task: Task, call: Call) -> None:
        call("openat", -100, "/tmp/f", O_RDWR, 0)
        call("mmap", AREA, 4096, 3, FIXED | SHARED, 3, 0)
        faults.touch(task, AREA, write=False)
        faults.touch(task, AREA)

    faults.run(main)
    assert [code for _, _, code in faults.seen] == [USER]


def test_system_calls_let_pages_come(faults: Faults) -> None:
    results = []

    def main(task: Task, call: Call) -> None:
        anonymous(call)
        call("openat", -100, "/tmp/f", O_RDWR, 0)
        results.append(call("read", 3, AREA, 10))
        results.append(task.user.read(AREA, 4))  # type: ignore[union-attr]

    faults.run(main)
    assert results == [10, b"0123"]
    assert faults.seen == [("page_fault_kernel", AREA, WRITE)]


def test_efault_where_nothing_is(faults: Faults) -> None:
    results = []

    def main(_task: Task, call: Call) -> None:
        results.append(call("pipe2", 0x3000_0000, 0))

    faults.run(main)
    assert results == [-Errno.EFAULT]
    assert set(faults.seen) == {("page_fault_kernel", 0x3000_0000, WRITE)}


@pytest.mark.parametrize("mapped", [False, True])
def test_sigsegv(faults: Faults, mapped: bool) -> None:
    ended = []

    def child(task: Task) -> int:
        if mapped:
            faults.machine.kernel.syscalls.call(task, "mmap", AREA, 4096, 1, FIXED | ANON, -1, 0)
        faults.touch(task, AREA)
        return 0

    def main(task: Task, call: Call) -> None:
        task.program = child
        status = task.user.alloc(4)  # type: ignore[union-attr]
        call("wait4", call("fork"), status, 0, 0)
        ended.append(task.user.read(status, 1)[0])  # type: ignore[union-attr]

    faults.run(main)
    # no core was written
    assert ended == [11]
    assert faults.seen == [("page_fault_user", AREA, USER | WRITE)]


def test_parent_and_child_share_until_one_writes(faults: Faults) -> None:
    def main(task: Task, call: Call) -> None:
        anonymous(call)
        faults.touch(task, AREA)

        def child(other: Task) -> int:
            faults.touch(other, AREA)
            return 0

        task.program = child
        call("wait4", call("fork"), 0, 0, 0)
        faults.touch(task, AREA)
        faults.touch(task, AREA)

    faults.run(main)
    assert [code for _, _, code in faults.seen] == [USER | WRITE, *[USER | WRITE | PROT] * 2]


def test_who_may_not_sleep_lets_no_page_come(faults: Faults) -> None:
    from ebpfsim.memory.user import UserFault

    def main(task: Task, call: Call) -> None:
        anonymous(call)
        user = task.user
        assert user is not None
        with pytest.raises(UserFault):
            user.peek(AREA, 4)
        assert user.read(AREA, 4) == bytes(4)
        assert user.peek(AREA, 4) == bytes(4)

    faults.run(main)
    assert faults.seen == [("page_fault_kernel", AREA, READ)] * 2
