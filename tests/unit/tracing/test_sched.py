"""Tasks run, wait, wake and exit in virtual time; the order of events is that of Linux."""

import pytest
from sched_machine import SchedMachine as Machine

from ebpfsim.btf.view import place
from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError
from tracing.runqueue import TICK_NS
from tracing.sched import FIRST_PID, WaitQueue
from tracing.task import Task


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_task_uses_time(machine: Machine) -> None:
    seen = []

    def main(task: Task) -> int:
        seen.append((machine.clock.now_ns, task.pid, task.comm))
        machine.work(task, 500)
        seen.append((machine.clock.now_ns, task.pid, machine.sched.current(machine.cpus[0]).comm))
        return 3

    machine.sched.spawn("curl", main, uid=1000)
    machine.clock.run()
    assert seen == [(0, FIRST_PID, "curl"), (500, FIRST_PID, "curl")]
    assert machine.sched.tasks.keys() == {1}


def test_events_of_a_life(machine: Machine) -> None:
    # facts/call-paths: sched_process_fork, sched_wakeup_new, sched_switch, ..., sched_process_exit, sched_switch; a
    # task that was woken shows sched_waking, then sched_wakeup
    def main(task: Task) -> int:
        machine.work(task, 100)
        machine.sched.wait(None, timeout_ns=1000)
        return 0

    machine.sched.spawn("sleep", main)
    machine.clock.run()
    sleeper, now = machine.sched.hrtimers, machine.events[10][3]
    assert not sleeper.on_wakeup
    # its parent is told: SIGCHLD, which init ignores
    assert [event[2:3] + event[4:] for event in machine.named("signal_generate")] == [(17, "init", 1, 1)]
    assert [event for event in machine.events if event[1] != "signal_generate"] == [
        (0, "task_newtask", "sleep", 17),
        (0, "sched_process_fork", "init", "sleep"),
        (0, "sched_wakeup_new", "sleep"),
        (0, "cpu_idle", 0xFFFF_FFFF, 0),
        (0, "sched_switch", 0, "swapper/0", "sleep", 0),
        (100, "hrtimer_start", machine.events[5][2], 1, 0),
        (100, "sched_stat_runtime", "sleep", 100),
        (100, "sched_switch", 0, "sleep", "swapper/0", 1),
        (100, "cpu_idle", 1, 0),
        (1100, "local_timer_entry", 0xEC),
        (1100, "hrtimer_expire_entry", machine.events[5][2], now),
        (1100, "sched_waking", "sleep"),
        (1100, "sched_wakeup", "sleep"),
        (1100, "hrtimer_expire_exit", machine.events[5][2]),
        (1100, "local_timer_exit", 0xEC),
        (1100, "cpu_idle", 0xFFFF_FFFF, 0),
        (1100, "sched_switch", 0, "swapper/0", "sleep", 0),
        (1100, "sched_process_exit", "sleep", 1),
        (1100, "sched_switch", 0, "sleep", "swapper/0", 0x80),
        (1100, "cpu_idle", 1, 0),
    ]


def test_two_tasks_share_a_cpu_and_wake_each_other(machine: Machine) -> None:
    queue, order = WaitQueue(), []

    def consumer(task: Task) -> int:
        woken = machine.sched.wait(queue)
        order.append((machine.clock.now_ns, "consumer", woken))
        return 0

    def producer(task: Task) -> int:
        machine.work(task, 50)
        machine.cpus[0].charge(7_000)
        machine.sched.wake_up_all(queue, machine.cpus[0])
        order.append((machine.clock.now_ns, "producer", True))
        machine.work(task, 20)
        return 0

    machine.sched.spawn("consumer", consumer)
    machine.sched.spawn("producer", producer)
    machine.clock.run()
    # the consumer gets the CPU when the producer is done: 50 + 7 + 20
    assert order == [(50, "producer", True), (77, "consumer", True)]


def test_two_cpus_run_side_by_side() -> None:
    machine = Machine(cpus=2)
    ends = []

    def main(task: Task) -> int:
        machine.work(task, 100)
        ends.append((machine.clock.now_ns, task.comm, task.struct.cpu))
        return 0

    for name in ("a", "b", "c"):
        machine.sched.spawn(name, main)
    machine.clock.run()
    assert ends == [(100, "a", 0), (100, "b", 1), (200, "c", 0)]


def test_time_is_over(machine: Machine) -> None:
    queue, answers = WaitQueue(), []

    def main(task: Task) -> int:
        answers.append((machine.sched.wait(queue, timeout_ns=30), machine.clock.now_ns, len(queue)))
        return 0

    machine.sched.spawn("a", main)
    machine.clock.run()
    assert answers == [(False, 30, 0)]


def test_parents_wait_for_children(machine: Machine) -> None:
    codes = []

    def child(task: Task) -> int:
        machine.work(task, 40)
        return 7

    def parent(task: Task) -> int:
        started = machine.sched.spawn("child", child, parent=task)
        assert machine.mem.load(started.struct.member_address("real_parent"), 8) == task.address
        assert started.cred.uid == 33
        # wait(2): the status is in the second byte
        status, wait4 = task.user.alloc(4), machine.kernel.functions.kernel_wait4  # type: ignore[union-attr]
        assert wait4(machine.cpus[0], -1, status, 0, 0) == started.pid
        assert task.user.read(status, 4) == (7 << 8).to_bytes(4, "little")  # type: ignore[union-attr]
        codes.append((machine.clock.now_ns, wait4(machine.cpus[0], -1, status, 0, 0)))
        return 0

    machine.sched.spawn("parent", parent, uid=33)
    machine.clock.run()
    assert codes == [(40, -Errno.ECHILD)]
    assert machine.sched.tasks.keys() == {1}


def test_orphans_go_to_init(machine: Machine) -> None:
    def child(task: Task) -> int:
        machine.work(task, 1000)
        assert task.parent is machine.sched.init
        assert task.struct.real_parent_ptr == machine.sched.init.address
        return 0

    def parent(task: Task) -> int:
        machine.sched.spawn("child", child, parent=task)
        return 0

    machine.sched.spawn("parent", parent)
    machine.clock.run()
    assert machine.sched.tasks.keys() == {1}


def test_nothing_is_left(machine: Machine) -> None:
    machine.sched.spawn("warm", lambda task: 0)
    machine.clock.run()
    before = machine.mem.allocated_bytes
    for number in range(5):
        machine.sched.spawn(f"t{number}", lambda task: task.pid % 2)
    machine.clock.run()
    assert machine.mem.allocated_bytes == before


def test_mistakes_of_a_task_reach_the_caller(machine: Machine) -> None:
    def main(task: Task) -> int:
        machine.work(task, 5)
        raise ValueError("in a task")

    machine.sched.spawn("a", main)
    with pytest.raises(ValueError, match="in a task"):
        machine.clock.run()


def test_only_tasks_wait(machine: Machine) -> None:
    with pytest.raises(InternalError, match="nobody runs"):
        machine.sched.wait(None, timeout_ns=1)


def test_tasks_share_a_cpu_by_time_slices(machine: Machine) -> None:
    # a task has 0.7 ms at least (one CPU), and who decides is the tick, every 4 ms (CONFIG_HZ=250)
    def main(task: Task) -> int:
        machine.sched.compute(3 * TICK_NS)
        return 0

    for name in ("a", "b"):
        machine.sched.spawn(name, main)
    machine.clock.run()
    switches = [(at, before, after, state) for at, _, _, before, after, state in machine.named("sched_switch")]
    assert switches == [
        (0, "swapper/0", "a", 0),
        (1 * TICK_NS, "a", "b", 0),
        (2 * TICK_NS, "b", "a", 0),
        (3 * TICK_NS, "a", "b", 0),
        (4 * TICK_NS, "b", "a", 0),
        (5 * TICK_NS, "a", "b", 0x80),
        (6 * TICK_NS, "b", "swapper/0", 0x80),
    ]
    ran: dict[str, int] = {}
    for _, _, name, ns in machine.named("sched_stat_runtime"):
        ran[name] = ran.get(name, 0) + ns
    assert ran == {"a": 3 * TICK_NS, "b": 3 * TICK_NS}


def test_a_task_that_was_woken_interrupts_one_that_had_more(machine: Machine) -> None:
    def sleeper(task: Task) -> int:
        machine.sched.wait(None, timeout_ns=1_000_000)
        return 0

    def worker(task: Task) -> int:
        machine.sched.compute(3_000_000)
        return 0

    machine.sched.spawn("sleeper", sleeper)
    machine.sched.spawn("worker", worker)
    machine.clock.run()
    switches = [event[:1] + event[3:] for event in machine.named("sched_switch")]
    assert switches == [
        (0, "swapper/0", "sleeper", 0),
        (0, "sleeper", "worker", 1),
        # it has run for its slice by then
        (1_000_000, "worker", "sleeper", 0),
        (1_000_000, "sleeper", "worker", 0x80),
        (3_000_000, "worker", "swapper/0", 0x80),
    ]


def test_before_its_slice_is_over_a_task_is_not_interrupted(machine: Machine) -> None:
    def sleeper(task: Task) -> int:
        machine.sched.wait(None, timeout_ns=500_000)
        return 0

    def worker(task: Task) -> int:
        machine.sched.compute(3_000_000)
        return 0

    machine.sched.spawn("sleeper", sleeper)
    machine.sched.spawn("worker", worker)
    machine.clock.run()
    assert [event[0] for event in machine.named("sched_switch")] == [0, 0, 3_000_000, 3_000_000]


def test_an_idle_cpu_takes_over_who_waits() -> None:
    machine = Machine(cpus=2)

    def main(task: Task) -> int:
        # the longer a name, the longer it takes
        machine.sched.compute(len(task.comm) * 3_000_000)
        return 0

    for name in ("aaaa", "bb", "ccc"):
        machine.sched.spawn(name, main)
    machine.clock.run()
    # aaaa and ccc share CPU 0, and aaaa lost it at 4 ms when bb ends on CPU 1
    assert machine.named("sched_migrate_task") == [(6_000_000, "sched_migrate_task", "aaaa", 1)]
    exits = [(event[0], event[2]) for event in machine.named("sched_process_exit")]
    assert exits == [(6_000_000, "bb"), (13_000_000, "ccc"), (14_000_000, "aaaa")]


def test_a_task_that_has_its_cpu_stays_there() -> None:
    machine = Machine(cpus=2)

    def main(task: Task) -> int:
        machine.sched.compute(9_000_000)
        return 0

    for name in ("a", "b"):
        machine.sched.spawn(name, main, cpu=0)
    machine.sched.spawn("c", lambda task: 0, cpu=1)
    machine.clock.run()
    assert machine.named("sched_migrate_task") == []


def test_yield_lets_others_run(machine: Machine) -> None:
    order = []

    def main(task: Task) -> int:
        for _ in range(2):
            order.append(task.comm)
            machine.kernel.functions.do_sched_yield(machine.sched.cpu_of(task))
        return 0

    for name in ("a", "b"):
        machine.sched.spawn(name, main)
    machine.clock.run()
    assert order == ["a", "b", "a", "b"]


def test_run_queues_in_memory(machine: Machine) -> None:
    seen = []

    def main(task: Task) -> int:
        rq = machine.sched.queues[0]
        address = machine.mem.load(task.struct.member_address("se") + place("sched_entity", "cfs_rq")[0], 8)
        assert address == rq.cfs_address
        seen.append((machine.mem.load(address + place("cfs_rq", "nr_queued")[0], 4), rq.struct.curr == task.address))
        return 0

    for name in ("a", "b", "c"):
        machine.sched.spawn(name, main)
    machine.clock.run()
    assert seen == [(3, True), (2, True), (1, True)]
