"""Programs of control groups on /proc/sys: what Linux 6.12 answered about net.ipv4.ip_default_ttl, which was 64."""

from collections.abc import Iterator
from typing import Any

import pytest
from cgroup_filters import Tasks

from ebpfsim.errnos import Errno
from ebpfsim.uapi.bpf import AttachType

TTL = "/proc/sys/net/ipv4/ip_default_ttl"
O_WRONLY = 1
IF_WRITE = "r2 = *(u32 *)(r1 + 0); r0 = 1; if r2 == 0 goto out; "
NEW_77 = "r3 = 0x0a3737; *(u64 *)(r10 - 8) = r3; r2 = r10; r2 += -8; r3 = 3; call bpf_sysctl_set_new_value; "
# program, what read() gives, what a write of 65 gives, what the file says then
RECORDED = [
    ("r0 = 0; exit", -Errno.EPERM, -Errno.EPERM, "64\n"),
    ("r0 = 1; exit", "64\n", 3, "65\n"),
    ("r1 = -13; call bpf_set_retval; r0 = 0; exit", -Errno.EACCES, -Errno.EACCES, "64\n"),
    (IF_WRITE + "r0 = 0; out: exit", "64\n", -Errno.EPERM, "64\n"),
    (IF_WRITE + NEW_77 + "out: r0 = 1; exit", "64\n", 3, "77\n"),
]


@pytest.fixture(scope="module")
def tasks() -> Tasks:
    return Tasks()


def reset(tasks: Tasks) -> None:
    tasks.host.kernel.net.sysctls["net.ipv4.ip_default_ttl"] = 64


@pytest.mark.parametrize(("code", "read", "write", "after"), RECORDED)
def test_reads_and_writes(tasks: Tasks, code: str, read: str | int, write: int, after: str) -> None:
    def steps(tasks: Tasks) -> Iterator[Any]:
        yield tasks.read(tasks.open(TTL), 4096)
        yield tasks.write(tasks.open(TTL, O_WRONLY), "65\n")

    reset(tasks)
    assert tasks.run(AttachType.CGROUP_SYSCTL, code, steps) == [read, write]
    assert tasks.plain(lambda tasks: iter([tasks.read(tasks.open(TTL), 9)])) == [after]


ZERO = "".join(f"*(u64 *)(r10 - {at}) = r7; " for at in range(64, 0, -8))
BUFFER = f"r6 = r1; r7 = 0; {ZERO}r1 = r6; r2 = r10; r2 += -64; "
E2BIG, INVALID = -Errno.E2BIG, -Errno.EINVAL


def told(call: str, size: int, byte: int | None = None) -> str:
    """A program whose refusal tells a helper's result, or 300 and a byte of what it wrote, as a negative number."""
    if byte is None:
        return f"{BUFFER}r3 = {size}; {call}; r1 = r0; if r0 s< 0 goto out; r1 = 0; r1 -= r0; out: " + SAY
    return f"{BUFFER}r3 = {size}; {call}; r2 = *(u8 *)(r10 - {64 - byte}); r2 += 300; r1 = 0; r1 -= r2; " + SAY


SAY = "call bpf_set_retval; r0 = 0; exit"
NAME, BASE = "r4 = 0; call bpf_sysctl_get_name", "r4 = 1; call bpf_sysctl_get_name"
CURRENT, NEW = "call bpf_sysctl_get_current_value", "call bpf_sysctl_get_new_value"


@pytest.mark.parametrize(
    ("code", "read", "write"),
    [
        (told(NAME, 64), -len("net/ipv4/ip_default_ttl"), -len("net/ipv4/ip_default_ttl")),
        (told(NAME, 64, 3), -300 - ord("/"), -300 - ord("/")),
        (told(BASE, 64), -len("ip_default_ttl"), -len("ip_default_ttl")),
        (told(NAME, 4), E2BIG, E2BIG),
        (told(NAME, 4, 2), -300 - ord("t"), -300 - ord("t")),
        (told(NAME, 4, 3), -300, -300),
        (told("r4 = 2; call bpf_sysctl_get_name", 64), -23, -23),
        (told(CURRENT, 64), -3, -3),
        (told(CURRENT, 64, 2), -300 - ord("\n"), -300 - ord("\n")),
        (told(CURRENT, 2), E2BIG, E2BIG),
        (told(CURRENT, 2, 1), -300, -300),
        (told(NEW, 64), INVALID, -3),
        (told(NEW, 64, 1), -300, -300 - ord("5")),
        (told(NEW, 2), INVALID, E2BIG),
    ],
)
def test_helpers(tasks: Tasks, code: str, read: int, write: int) -> None:
    def steps(tasks: Tasks) -> Iterator[Any]:
        yield tasks.read(tasks.open(TTL), 4096)
        yield tasks.write(tasks.open(TTL, O_WRONLY), "65\n")

    reset(tasks)
    assert tasks.run(AttachType.CGROUP_SYSCTL, code, steps) == [read, write]


def test_programs_move_the_place_where_reading_begins(tasks: Tasks) -> None:
    def steps(tasks: Tasks) -> Iterator[Any]:
        yield tasks.read(tasks.open(TTL), 4096)

    reset(tasks)
    code = "r2 = 1; *(u32 *)(r1 + 4) = r2; r0 = 1; exit"
    # proc_dointvec() gives nothing but at the beginning
    assert tasks.run(AttachType.CGROUP_SYSCTL, code, steps) == [""]
