"""/proc/sys: what Linux 6.18 answered about net.ipv4.ip_default_ttl, in a network namespace of its own."""

from collections.abc import Iterator
from typing import Any

import pytest
from cgroup_filters import Tasks

from ebpfsim.errnos import Errno

TTL = "/proc/sys/net/ipv4/ip_default_ttl"
O_WRONLY, O_RDWR = 1, 2
# written, what write() returns, what the file says then
WRITES = [
    ("65\n", 3, "65\n"), ("65", 2, "65\n"), ("  66 \n", 6, "66\n"), ("abc\n", -22, "64\n"), ("0\n", -22, "64\n"),
    ("256\n", -22, "64\n"), ("", 0, "64\n"), ("65 66\n", 6, "65\n"), ("0x41\n", 5, "65\n"), ("-5\n", -22, "64\n"),
    ("65\0\n", -22, "64\n"), ("99999999999\n", -22, "64\n"),
]  # fmt: skip


@pytest.fixture(scope="module")
def tasks() -> Tasks:
    return Tasks()


@pytest.mark.parametrize(("text", "ret", "after"), WRITES)
def test_numbers_that_are_written(tasks: Tasks, text: str, ret: int, after: str) -> None:
    def steps(tasks: Tasks) -> Iterator[Any]:
        tasks.write(tasks.open(TTL, O_WRONLY), "64\n")
        yield tasks.write(tasks.open(TTL, O_WRONLY), text)
        yield tasks.read(tasks.open(TTL), 100)

    assert tasks.plain(steps) == [ret, after]
    assert tasks.host.kernel.net.sysctls["net.ipv4.ip_default_ttl"] == int(after)


def test_places_in_the_file(tasks: Tasks) -> None:
    def steps(tasks: Tasks) -> Iterator[Any]:
        fd = tasks.open(TTL, O_RDWR)
        # one that writes stays at the beginning, one that has read does not write any more
        yield [tasks.write(fd, "64\n"), tasks.call("lseek", fd, 0, 1), tasks.write(fd, "67\n"), tasks.read(fd, 1)]
        yield [tasks.call("lseek", fd, 0, 1), tasks.read(fd, 9), tasks.write(fd, "68\n"), tasks.call("lseek", fd, 0, 1)]
        yield tasks.read(tasks.open(TTL), 9)

    assert tasks.plain(steps) == [[3, 0, 3, "6"], [1, "", 3, 4], "67\n"]


def test_what_is_there(tasks: Tasks) -> None:
    def steps(tasks: Tasks) -> Iterator[Any]:
        for name in ("net/ipv4/ip_forward", "net/ipv4/nope", "net/ipv4", "net"):
            yield tasks.open(f"/proc/sys/{name}") > 0 or "none"
        yield tasks.open("/proc/sys/net/ipv4/ip_forward/x")

    assert tasks.plain(steps) == [True, "none", True, True, -Errno.ENOTDIR]


def test_folders_are_listed(tasks: Tasks) -> None:
    def steps(tasks: Tasks) -> Iterator[Any]:
        fd, buffer = tasks.open("/proc/sys/net"), tasks.room.put(bytes(1024))
        size = tasks.call("getdents64", fd, buffer, 1024)
        yield bytes(tasks.task.user.read(buffer, size))

    (names,) = tasks.plain(steps)
    assert b"core\0" in names
    assert b"ipv4\0" in names


def test_others_may_only_read(tasks: Tasks) -> None:
    def steps(tasks: Tasks) -> Iterator[Any]:
        yield tasks.read(tasks.open(TTL), 100)
        yield tasks.open(TTL, O_WRONLY)

    assert tasks.plain(steps, uid=1000)[1] == -Errno.EACCES
