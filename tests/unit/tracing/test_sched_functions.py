"""Who calls whom in the scheduler, as recorded on Linux 6.12 (facts: sched_nanosleep, pipe_blocking_read_wakeup)."""

from types import SimpleNamespace

from sched_machine import SchedMachine


def watched(machine: SchedMachine) -> list[str]:
    calls: list[str] = []
    functions = machine.kernel.functions
    for name in list(functions.names()):
        function = getattr(functions, name)

        def call(*args: int, name: str = name, function=function) -> int:
            calls.append(name)
            return function(*args)

        functions.__dict__[name] = call
    return calls


SLEEP = ["schedule", "dequeue_task_fair", "dequeue_entities", "pick_next_task_fair", "pick_task_fair"]
WAKE = [
    *("try_to_wake_up", "ttwu_queue_wakelist", "ttwu_do_activate", "enqueue_task", "enqueue_task_fair"),
    *("psi_task_change", "wakeup_preempt", "check_preempt_wakeup_fair"),
]


def test_to_sleep_with_nobody_else() -> None:
    machine, seen = SchedMachine(), SimpleNamespace(calls=[])

    def main(task) -> int:
        calls = watched(machine)
        machine.sched.wait(None, timeout_ns=100)
        seen.calls = calls[: calls.index("hrtimer_interrupt")]
        return 0

    machine.sched.spawn("a", main)
    machine.clock.run()
    assert seen.calls == ["hrtimer_start_range_ns", *SLEEP, "put_prev_task_fair", "psi_task_switch"]


def test_to_wake_one_while_running() -> None:
    machine, seen = SchedMachine(), SimpleNamespace(calls=[])

    def reader(task) -> int:
        machine.sched.wait(None)
        return 0

    def writer(task) -> int:
        machine.work(task, 100)
        calls = watched(machine)
        machine.sched.wake_up(reading, machine.cpus[0])
        seen.wake = list(calls)
        calls.clear()
        machine.sched.wait(None, timeout_ns=100)
        seen.calls = calls[: calls.index("psi_task_switch") + 1]
        return 0

    reading = machine.sched.spawn("reader", reader)
    machine.sched.spawn("writer", writer)
    machine.clock.run()
    assert seen.wake == WAKE
    # another task follows, not the idle one
    assert seen.calls == ["hrtimer_start_range_ns", *SLEEP, "psi_task_switch"]


def test_only_who_waits_is_woken() -> None:
    machine, answers = SchedMachine(), []

    def main(task) -> int:
        functions, cpu = machine.kernel.functions, machine.cpus[0]
        answers.extend(functions.try_to_wake_up(cpu, address, 3, 0) for address in (task.address, 0))
        return 0

    machine.sched.spawn("a", main)
    machine.clock.run()
    assert answers == [0, 0]
