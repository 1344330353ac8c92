"""System calls of a task: openat, read and close of a file. Figures are of CPU time; nothing is asserted."""

import time

import pytest

import ebpfsim
from tracing.task import Task

pytestmark = pytest.mark.bench

COUNT = 2_000
ROUNDS = 5


def test_open_read_close(capsys: pytest.CaptureFixture[str]) -> None:
    sim = ebpfsim.Simulation(seed=1)
    kernel = sim.host("server").kernel
    best: list[float] = []

    def main(task: Task) -> int:
        user, call = task.user, kernel.syscalls.call
        assert user is not None
        path, room = user.alloc(1, b"/etc/passwd\0"), user.alloc(4096)
        for _ in range(ROUNDS):
            start = time.process_time()
            for _ in range(COUNT):
                fd = call(task, "openat", -100, path, 0, 0)
                assert call(task, "read", fd, room, 100) > 0
                call(task, "close", fd)
            best.append(COUNT / (time.process_time() - start))
        return 0

    kernel.sched.spawn("reader", main)
    sim.run()
    with capsys.disabled():
        print(f"\n  {'openat + read + close':40} {max(best):12,.0f} times/s")
    assert len(best) == ROUNDS
