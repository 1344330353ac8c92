"""Address spaces: mmap(2), munmap(2), mprotect(2), brk(2)."""

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno
from ebpfsim.memory.user import UserFault

FIXED, ANON, PRIVATE, SHARED = 0x10, 0x20, 2, 1
AT = 0x1000_0000


def run(what: object) -> None:
    Watched().run(what)  # type: ignore[arg-type]


def test_areas_come_go_and_change() -> None:
    seen = []

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        seen.append(call("mmap", AT, 0x4000, 3, PRIVATE | ANON | FIXED, -1, 0) == AT)  # type: ignore[operator]
        user.write(AT, b"x" * 0x4000)
        seen.append(call("munmap", AT + 0x1000, 0x1000))  # type: ignore[operator]
        seen.append((user.read(AT + 0xFFF, 1), user.read(AT + 0x2000, 1)))
        with pytest.raises(UserFault):
            user.read(AT + 0xFFF, 2)
        seen.append(call("mprotect", AT + 0x2000, 0x1000, 1))  # type: ignore[operator]
        with pytest.raises(UserFault):
            user.write(AT + 0x2000, b"y")
        # areas that touch are one to those who read
        assert user.read(AT + 0x2FFF, 2) == b"xx"
        seen.append(call("mprotect", AT, 0x4000, 1))  # type: ignore[operator]

    run(main)
    assert seen == [True, 0, (b"x", b"x"), 0, -Errno.ENOMEM]


def test_files_are_seen_in_memory() -> None:
    seen = []

    def main(task: object, call: object) -> None:
        fd = call("openat", -100, "/etc/hostname", 0, 0)  # type: ignore[operator]
        at = call("mmap", 0, 10, 1, PRIVATE, fd, 0)  # type: ignore[operator]
        seen.append(task.user.read(at, 6))  # type: ignore[attr-defined]
        seen.append(call("close", fd))  # type: ignore[operator]
        seen.append(task.user.read(at, 6))  # type: ignore[attr-defined]

    run(main)
    assert seen == [b"host\n\0", 0, b"host\n\0"]


def test_the_heap() -> None:
    seen = []

    def main(task: object, call: object) -> None:
        start = call("brk", 0)  # type: ignore[operator]
        seen.append(call("brk", start + 0x1800) - start)  # type: ignore[operator]
        task.user.write(start, b"heap")  # type: ignore[attr-defined]
        seen.append(call("brk", start + 0x10) - start)  # type: ignore[operator]
        seen.append(task.user.read(start, 4))  # type: ignore[attr-defined]
        seen.append(call("brk", 1 << 60) - start)  # type: ignore[operator]

    run(main)
    assert seen == [0x1800, 0x10, b"heap", 0x10]


@pytest.mark.parametrize(
    ("call", "result"),
    [(("mmap", 0, 0, 3, PRIVATE | ANON, -1, 0), -Errno.EINVAL), (("mmap", 0, 4096, 3, ANON, -1, 0), -Errno.EINVAL),
     (("mmap", 0, 4096, 3, PRIVATE, 77, 0), -Errno.EBADF), (("mmap", 0, 4096, 3, PRIVATE | ANON, -1, 1), -Errno.EINVAL),
     (("mmap", 0, 1 << 45, 3, PRIVATE | ANON, -1, 0), -Errno.ENOMEM),
     (("mmap", 0x1001, 4096, 3, PRIVATE | ANON | FIXED, -1, 0), -Errno.EINVAL),
     (("munmap", 1, 4096), -Errno.EINVAL), (("munmap", 0, 0), -Errno.EINVAL), (("munmap", AT, 4096), 0),
     (("mprotect", 1, 4096, 1), -Errno.EINVAL), (("mprotect", AT, 4096, 1), -Errno.ENOMEM),
     (("mprotect", AT, 0, 1), 0)],
)  # fmt: skip
def test_answers(call: tuple[object, ...], result: int) -> None:
    answers: list[int] = []
    run(lambda _task, do: answers.append(do(*call)))
    assert answers == [result]


def test_security_modules_are_asked() -> None:
    machine, answers = Watched(), []
    functions = machine.kernel.functions
    for name in ("security_mmap_file", "security_file_mprotect"):
        getattr(functions, name)
        functions.__dict__[name] = lambda _cpu, _a, _b, _c: -Errno.EACCES

    def main(_task: object, call: object) -> None:
        answers.append(call("mmap", 0, 4096, 3, PRIVATE | ANON, -1, 0))  # type: ignore[operator]

    machine.run(main)
    assert answers == [-Errno.EACCES]
