"""Becoming somebody else: setuid(2), setreuid(2), setresuid(2), capabilities(7)."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno

CAP_SETUID = 1 << 7


@pytest.mark.parametrize(
    ("ids", "capable", "call", "result", "after"),
    [((0, 0, 0), True, ("setuid", 5), 0, (5, 5, 5)), ((5, 5, 0), False, ("setuid", 0), 0, (5, 0, 0)),
     ((5, 5, 5), False, ("setuid", 0), -Errno.EPERM, (5, 5, 5)), ((5, 6, 7), False, ("setuid", 7), 0, (5, 7, 7)),
     ((5, 6, 7), False, ("setreuid", 6, 5), 0, (6, 5, 5)),
     ((5, 5, 5), False, ("setreuid", -1, 6), -Errno.EPERM, (5,) * 3),
     ((5, 6, 7), False, ("setresuid", 7, 5, 6), 0, (7, 5, 6)),
     ((5, 6, 7), False, ("setresuid", -1, 8, -1), -Errno.EPERM, (5, 6, 7)),
     ((5, 5, 5), True, ("setresuid", 8, 9, 10), 0, (8, 9, 10)), ((5, 5, 5), True, ("setreuid", 8, -1), 0, (8, 5, 5))],
)  # fmt: skip
def test_users(
    ids: tuple[int, ...], capable: bool, call: tuple[object, ...], result: int, after: tuple[int, ...]
) -> None:
    machine, seen = Machine(), []

    def main(task: object, do: object) -> None:
        cred = task.cred  # type: ignore[attr-defined]
        cred.uid, cred.euid, cred.suid = ids
        cred.fsuid = cred.euid
        cred.cap_effective = cred.cap_permitted = CAP_SETUID if capable else 0
        seen.append(do(*call))  # type: ignore[operator]
        seen.append((cred.uid, cred.euid, cred.suid))
        assert cred.fsuid == cred.euid

    machine.run(main)
    # the saved id of setuid() without the capability stays
    wanted = (after[0], after[1], ids[2]) if call[0] == "setuid" and not capable and not result else after
    assert seen == [result, wanted]


def test_root_that_becomes_another_loses_its_capabilities() -> None:
    machine, seen = Machine(), []

    def main(task: object, do: object) -> None:
        seen.extend([do("setresuid", 5, 5, 0), task.cred.cap_effective])  # type: ignore[operator,attr-defined]
        seen.extend([do("setuid", 0), task.cred.cap_effective != 0])  # type: ignore[operator,attr-defined]
        seen.extend([do("setresuid", 5, 5, 5), task.cred.cap_permitted, do("setuid", 0)])  # type: ignore[operator,attr-defined]

    machine.run(main)
    assert seen == [0, 0, 0, True, 0, 0, -Errno.EPERM]


def test_groups_and_what_is_told() -> None:
    machine, seen = Machine(), []

    def main(task: object, do: object) -> None:
        room = task.user.alloc(12)  # type: ignore[attr-defined]
        seen.append(do("setresgid", 1, 2, 3))  # type: ignore[operator]
        seen.append(do("getresgid", room, room + 4, room + 8))  # type: ignore[operator]
        seen.append(tuple(task.user.read(room, 12)[::4]))  # type: ignore[attr-defined]
        seen.append(do("getresuid", 0x10, room, room))  # type: ignore[operator]
        seen.append(do("setgid", 9) or do("getegid"))  # type: ignore[operator]

    machine.run(main)
    assert seen == [0, 0, (1, 2, 3), -Errno.EFAULT, 9]
