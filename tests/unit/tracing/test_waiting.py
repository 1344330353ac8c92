"""Queues of tasks that wait for files: who is woken, by which functions."""

from call_paths import Watched

from tracing.waiting import WaitHead, wait_for, wake


def test_those_who_wait_are_woken_by_the_functions_of_their_entries() -> None:
    machine, seen = Watched(), []
    kernel = machine.kernel
    head = WaitHead(kernel.mem, kernel.walks)

    def sleeper(task: object, _call: object) -> None:
        seen.append(wait_for(kernel, task, [head]))  # type: ignore[arg-type]

    def waker(_task: object, _call: object) -> None:
        kernel.sched.wait(None, timeout_ns=1000)
        machine.watch()
        wake(kernel, kernel.cpus[0], head)
        machine.stop()

    machine.spawn(sleeper)
    machine.spawn(waker)
    machine.sim.run()
    assert seen == [True]
    # pipe_blocking_read_wakeup of the recordings
    assert machine.calls[:5] == [
        *("__wake_up_sync_key", "__wake_up_common", "autoremove_wake_function", "default_wake_function"),
        "try_to_wake_up",
    ]
    head.free()
    assert not kernel.walks


def test_time_is_over() -> None:
    machine, seen = Watched(), []
    head = WaitHead(machine.kernel.mem, machine.kernel.walks)
    machine.run(lambda task, _call: seen.append((wait_for(machine.kernel, task, [head], 500), len(head.queue))))
    assert seen == [(False, 0)]
