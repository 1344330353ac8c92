"""Descriptors, as open(2) and close(2) have them."""

import pytest
from task_machine import Machine

from ebpfsim.errnos import Errno

AT_FDCWD = -100
O_RDONLY = 0


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.vfs.add("srv/file", b"0123456789")
    return machine


def test_the_lowest_free_descriptor_is_taken(machine: Machine) -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        fds = [call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0) for _ in range(3)]
        answers.extend(fds)
        call("close", fds[1])
        answers.append(call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0))
        # a path that is not there leaves no hole
        answers.append(call("openat", AT_FDCWD, "/none", O_RDONLY, 0))
        answers.append(call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0))
        call("close", 0)
        answers.append(call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0))

    machine.run(main)
    assert answers == [3, 4, 5, 4, -Errno.ENOENT, 6, 0]


def test_the_limit_of_descriptors(machine: Machine) -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        # RLIMIT_NOFILE is 1024, of which three are open
        answers.extend(call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0) for _ in range(1022))

    machine.run(main)
    assert answers[1020] == 1023
    assert answers[1021] == -Errno.EMFILE


def test_a_security_module_refuses(machine: Machine) -> None:
    answers = []

    def refuse(_cpu: object, _file: int) -> int:
        return -Errno.EPERM

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0)
        slots = machine.kernel.functions.__dict__
        before, slots["bpf_lsm_file_open"] = slots["bpf_lsm_file_open"], refuse
        answers.append(call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0))
        slots["bpf_lsm_file_open"] = before
        answers.append(call("openat", AT_FDCWD, "/srv/file", O_RDONLY, 0))

    machine.run(main)
    assert answers == [-Errno.EPERM, 4]
