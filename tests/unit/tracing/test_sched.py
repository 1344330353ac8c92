"""Tasks run, wait, wake and exit in virtual time; the order of events is that of Linux."""

from types import SimpleNamespace

import pytest

from ebpfsim.clock import Clock
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.memory import Memory
from tracing.sched import FIRST_PID, Scheduler, WaitQueue
from tracing.task import Task


class Machine:
    def __init__(self, cpus: int = 1) -> None:
        self.mem, self.clock = Memory(), Clock()
        self.cpus = [Cpu(number, self.clock, self.mem) for number in range(cpus)]
        self.events: list[tuple[object, ...]] = []
        kernel = SimpleNamespace(mem=self.mem, clock=self.clock, cpus=self.cpus)
        self.sched = Scheduler(kernel, self._trace)

    def _trace(self, cpu: Cpu, name: str, *args: int) -> None:
        tasks = self.sched.by_address
        shown = [tasks[arg].comm if arg in tasks else arg for arg in args]
        self.events.append((cpu.now_ns, name, *shown))

    def work(self, task: Task, ns: int) -> None:
        self.sched.cpu_of(task).charge(ns * 1000)
        self.sched.advance()


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
    assert machine.events == [
        (0, "sched_process_fork", "init", "sleep"),
        (0, "sched_wakeup_new", "sleep"),
        (0, "sched_switch", 0, "swapper/0", "sleep", 0),
        (100, "sched_switch", 0, "sleep", "swapper/0", 1),
        (1100, "sched_waking", "sleep"),
        (1100, "sched_wakeup", "sleep"),
        (1100, "sched_switch", 0, "swapper/0", "sleep", 0),
        (1100, "sched_process_exit", "sleep", 1),
        (1100, "sched_switch", 0, "sleep", "swapper/0", 0x80),
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
        assert machine.sched.wait_child(task) == (started.pid, 7 << 8)
        codes.append((machine.clock.now_ns, machine.sched.wait_child(task)))
        return 0

    machine.sched.spawn("parent", parent, uid=33)
    machine.clock.run()
    assert codes == [(40, None)]
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
