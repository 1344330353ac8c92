"""Arguments of calls about signals: sigaction(2), sigprocmask(2), sigaltstack(2), kill(2)."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno


@pytest.mark.parametrize(
    ("call", "result"),
    [(("rt_sigaction", 9, "x" * 31, 0, 8), -Errno.EINVAL), (("rt_sigaction", 0, 0, 0, 8), -Errno.EINVAL),
     (("rt_sigaction", 65, 0, 0, 8), -Errno.EINVAL), (("rt_sigaction", 9, 0, 0, 8), 0),
     (("rt_sigaction", 10, 0x10, 0, 8), -Errno.EFAULT), (("rt_sigaction", 10, 0, 0x10, 8), -Errno.EFAULT),
     (("rt_sigaction", 10, 0, 0, 4), -Errno.EINVAL), (("rt_sigprocmask", 7, "x" * 8, 0, 8), -Errno.EINVAL),
     (("rt_sigprocmask", 0, 0x10, 0, 8), -Errno.EFAULT), (("rt_sigprocmask", 0, 0, 0, 16), -Errno.EINVAL),
     (("rt_sigpending", 0x10, 8), -Errno.EFAULT), (("rt_sigpending", 0, 16), -Errno.EINVAL),
     (("tkill", 0, 10), -Errno.EINVAL), (("tkill", 77, 10), -Errno.ESRCH), (("tgkill", 1, 77, 0), -Errno.ESRCH),
     (("tgkill", 0, 1, 0), -Errno.EINVAL), (("sigaltstack", 0x10, 0), -Errno.EFAULT), (("sigaltstack", 0, 0), 0),
     (("rt_sigsuspend", 0x10, 8), -Errno.EFAULT)],
)  # fmt: skip
def test_answers(call: tuple[object, ...], result: int) -> None:
    machine, answers = Machine(), []
    machine.run(lambda _task, do: answers.append(do(*call)))
    assert answers == [result]


def test_what_was_said_is_said_again() -> None:
    machine, seen = Machine(), []

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        # handler, flags, restorer, mask
        words = (0x402000, 0x14000000, 0x403000, 1 << 14)
        action = b"".join(word.to_bytes(8, "little") for word in words)
        new, old = user.alloc(32, action), user.alloc(32)
        call("rt_sigaction", 10, new, 0, 8)  # type: ignore[operator]
        call("rt_sigaction", 10, 0, old, 8)  # type: ignore[operator]
        seen.append(user.read(old, 32) == action)
        # SIGKILL and SIGSTOP cannot be blocked
        everything = user.alloc(8, b"\xff" * 8)
        call("rt_sigprocmask", 2, everything, 0, 8)  # type: ignore[operator]
        call("rt_sigprocmask", 0, 0, old, 8)  # type: ignore[operator]
        seen.append(int.from_bytes(user.read(old, 8), "little") ^ (1 << 64) - 1)

    machine.run(main)
    assert seen == [True, 1 << 8 | 1 << 18]
