"""High resolution timers (kernel/time/hrtimer.c, v6.18): what fires, in the order of facts recorded on Linux 6.12."""

from sched_machine import SchedMachine

from tracing.runqueue import TICK_NS

TIMER_EVENTS = ("hrtimer_start", "hrtimer_expire_entry", "hrtimer_expire_exit", "hrtimer_cancel", "sched_waking")


def test_who_is_woken_first_cancels_its_timer() -> None:
    machine = SchedMachine()

    def sleeper(task) -> int:
        assert machine.sched.wait(None, timeout_ns=1_000_000)
        return 0

    def waker(task) -> int:
        machine.work(task, 300)
        machine.sched.wake_up(sleeping, machine.cpus[0])
        return 0

    sleeping = machine.sched.spawn("sleeper", sleeper)
    machine.sched.spawn("waker", waker)
    machine.clock.run()
    # nothing was left to expire
    assert machine.clock.now_ns == 300
    assert [event[1] for event in machine.named(*TIMER_EVENTS)] == ["hrtimer_start", "sched_waking", "hrtimer_cancel"]


def test_the_timer_is_a_sleeper_of_the_task() -> None:
    machine = SchedMachine()
    seen = []

    def main(task) -> int:
        machine.sched.wait(None, timeout_ns=500)
        seen.append(task.address)
        return 0

    machine.sched.spawn("a", main)
    machine.clock.run(until_ns=100)
    timer = machine.named("hrtimer_start")[0][2]
    mem = machine.mem
    # struct hrtimer_sleeper: timer.node.expires, task
    assert (mem.load(timer + 24, 8), mem.load(timer + 64, 8)) == (500, machine.sched.tasks[1000].address)
    machine.clock.run()
    assert machine.named("hrtimer_expire_entry")[0][0] == 500


def test_the_tick_comes_while_a_cpu_is_busy() -> None:
    machine = SchedMachine()

    def main(task) -> int:
        machine.sched.wait(None, timeout_ns=10 * TICK_NS)
        machine.sched.compute(2 * TICK_NS + 5)
        return 0

    machine.sched.spawn("a", main)
    machine.clock.run()
    # of the sleep, and two ticks
    assert [event[0] for event in machine.named("hrtimer_expire_entry")] == [10 * TICK_NS, 11 * TICK_NS, 12 * TICK_NS]
