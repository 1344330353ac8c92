"""perf_event_open(2) and ioctl(2) on what it gives, as tasks call them (recorded on Linux 6.12)."""

from collections.abc import Callable

import pytest
from call_paths import Watched

from ebpfsim.errnos import Errno
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from tracing.task import Task
from tracing.trace_events import event_id

ENABLE, DISABLE, SET_BPF, IOC_ID = 0x2400, 0x2401, 0x4004_2408, 0x8008_2407
SOFTWARE, TRACEPOINT, KPROBE = 1, 2, 8
Call = Callable[..., int]


def attr(kind: int, config: int, *, period: int = 0, size: int = 136, flags: int = 0, config1: int = 0) -> bytes:
    data = bytearray(136)
    rows = ((0, 4, kind), (4, 4, size), (8, 8, config), (16, 8, period), (40, 8, flags), (56, 8, config1))
    for at, length, value in rows:
        data[at : at + length] = value.to_bytes(length, "little")
    return bytes(data)


def run(what: Callable[[Task, Call], object], *, uid: int = 0) -> Watched:
    machine = Watched()
    machine.run(what, uid=uid)
    return machine


def answers(*calls: tuple[int | bytes | str, ...], uid: int = 0) -> list[int]:
    found = []
    run(lambda _task, call: found.extend(call(*each) for each in calls), uid=uid)
    return found


def opened(data: bytes, pid: int = 0, cpu: int = -1, group: int = -1, flags: int = 8) -> tuple[int | bytes | str, ...]:
    return ("perf_event_open", data, pid, cpu, group, flags)


def test_a_clock_counts_while_it_is_enabled() -> None:
    found = []

    def main(task: Task, call: Call) -> None:
        fd = call(*opened(attr(SOFTWARE, 0, flags=1), -1, 0))
        user = task.user
        assert user is not None
        room = user.alloc(8)
        for request in (ENABLE, DISABLE):
            call("read", fd, room, 8)
            found.append(int.from_bytes(user.read(room, 8), "little"))
            call("ioctl", fd, request, 0)
            call("nanosleep", bytes(8) + (1000).to_bytes(8, "little"), 0)
        call("close", fd)

    run(main)
    assert found[0] == 0
    assert found[1] >= 1000


@pytest.mark.parametrize(
    ("calls", "errnos"),
    [
        ([opened(attr(77, 0))], [Errno.ENOENT]),
        ([opened(attr(SOFTWARE, 0), -1, -1)], [Errno.EINVAL]),
        ([opened(attr(SOFTWARE, 0), 0, 7)], [Errno.EINVAL]),
        ([opened(attr(SOFTWARE, 0), 4711)], [Errno.ESRCH]),
        ([opened(attr(SOFTWARE, 0, size=8))], [Errno.E2BIG]),
        ([opened(attr(SOFTWARE, 0), flags=16)], [Errno.EINVAL]),
        ([opened(attr(SOFTWARE, 0), group=99)], [Errno.EBADF]),
        ([("perf_event_open", 8, 0, -1, -1, 0)], [Errno.EFAULT]),
        ([opened(attr(TRACEPOINT, 0xFFFF), -1, 0)], [Errno.ENOENT]),
    ],
)
def test_refusals(calls: list[tuple[int | bytes | str, ...]], errnos: list[Errno]) -> None:
    assert answers(*calls) == [-errno for errno in errnos]


def test_without_capabilities_the_kernel_is_out_of_sight() -> None:
    exclude_kernel = 1 << 5
    found = answers(opened(attr(SOFTWARE, 0)), opened(attr(SOFTWARE, 0, flags=exclude_kernel)), uid=7)
    assert found == [-Errno.EACCES, 3]
    assert answers(opened(attr(SOFTWARE, 9, flags=exclude_kernel), -1, 0), uid=7) == [-Errno.EACCES]


def test_requests() -> None:
    calls = [
        opened(attr(SOFTWARE, 9)), ("ioctl", 3, 0x1234, 0), ("ioctl", 3, SET_BPF, 99), ("ioctl", 3, SET_BPF, 3),
        ("ioctl", 3, IOC_ID, 8), ("read", 3, bytes(4), 4), ("close", 3),
    ]  # fmt: skip
    wanted = [3, -Errno.ENOTTY, -Errno.EBADF, -Errno.EINVAL, -Errno.EFAULT, -Errno.ENOSPC, 0]
    assert answers(*calls) == wanted


@pytest.mark.parametrize("closes", [True, False])
def test_a_program_on_a_tracepoint_runs_until_the_event_goes(closes: bool) -> None:
    machine = Watched()
    fd = machine.host.bpf.prog_load(ProgType.TRACEPOINT, encode(assemble("r0 = 0; exit"))).fd
    prog = machine.kernel.fds.lookup(fd)

    def main(task: Task, call: Call) -> None:
        prog.get()
        own = task.files.install(prog)
        event = call(*opened(attr(TRACEPOINT, event_id("syscalls", "sys_enter_getppid") or 0), -1, 0))
        assert call("ioctl", event, SET_BPF, own) == 0
        assert call("ioctl", event, SET_BPF, own) == -Errno.EEXIST
        assert call("ioctl", event, ENABLE, 0) == 0
        call("getppid")
        if closes:
            call("close", event)
        call("getppid")

    machine.run(main)
    runs = [run for run in machine.kernel.recorder.runs if run.prog_id == prog.id]
    assert len(runs) == (1 if closes else 2)


def test_a_probe_of_a_function() -> None:
    machine = Watched()
    fd = machine.host.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit"))).fd
    prog = machine.kernel.fds.lookup(fd)

    def main(task: Task, call: Call) -> None:
        assert task.user is not None
        names = [task.user.alloc(32, name) for name in (b"ksys_setsid", b"no_such_function")]
        prog.get()
        own = task.files.install(prog)
        assert call(*opened(attr(KPROBE, 0, config1=names[1]), -1, 0)) == -Errno.ENOENT
        event = call(*opened(attr(KPROBE, 0, config1=names[0]), -1, 0))
        assert call("ioctl", event, SET_BPF, own) == 0
        call("setsid")

    machine.run(main)
    assert [run.prog_id for run in machine.kernel.recorder.runs] == [prog.id]
