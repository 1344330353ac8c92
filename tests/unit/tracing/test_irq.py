"""Interrupts of devices and softirqs (kernel/irq/handle.c, kernel/softirq.c, v6.18)."""

from types import SimpleNamespace
from typing import Any

import pytest
from sched_machine import SchedMachine

import ebpfsim
from tracing.irq import FIRST_IRQ, Irqs
from tracing.runqueue import TICK_NS


@pytest.fixture
def machine() -> Any:
    made = SchedMachine(cpus=2)
    made.kernel.irqs = Irqs(made.kernel)
    return made


def test_events_stand_around_the_handler(machine) -> None:
    cpu = machine.cpus[1]
    for name in ("eth0-0", "eth0-1", "eth0-0"):
        machine.kernel.irqs.interrupt(cpu, name, lambda: machine.events.append((0, "handler")))
    shown = [event[1:3] for event in machine.events]
    assert shown == [
        *(("irq_handler_entry", FIRST_IRQ), ("handler",), ("irq_handler_exit", FIRST_IRQ)),
        *(("irq_handler_entry", FIRST_IRQ + 1), ("handler",), ("irq_handler_exit", FIRST_IRQ + 1)),
        *(("irq_handler_entry", FIRST_IRQ), ("handler",), ("irq_handler_exit", FIRST_IRQ)),
    ]


def test_a_busy_cpu_balances_run_queues(machine) -> None:
    def main(task) -> int:
        machine.sched.compute(20 * TICK_NS)
        return 0

    machine.sched.spawn("a", main)
    machine.clock.run()
    times = [8 * n * TICK_NS + TICK_NS for n in range(3)]
    assert [event[0] for event in machine.named("softirq_raise")] == times
    around = machine.named("softirq_raise", "local_timer_exit", "softirq_entry", "softirq_exit")[:4]
    # the softirq runs when the interrupt is over
    assert [event[1] for event in around] == ["softirq_raise", "local_timer_exit", "softirq_entry", "softirq_exit"]


def test_a_machine_with_one_cpu_has_nothing_to_balance() -> None:
    machine = SchedMachine()
    machine.sched.spawn("a", lambda task: machine.sched.compute(20 * TICK_NS) or 0)
    machine.clock.run()
    assert machine.named("softirq_raise") == []


def test_a_card_interrupts() -> None:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"))
    seen: list[SimpleNamespace] = []

    def probe(cpu, irq: int, action: int, *_rest: int) -> None:
        name = b.kernel.mem.load(action + 80, 8)
        seen.append(SimpleNamespace(irq=irq, name=b.kernel.mem.read_string(name, 16)))

    b.kernel.tracepoints.get("irq_handler_entry").add_probe(probe)
    a.send("eth0", bytes(64), count=2, every="1ms")
    sim.run()
    # struct irqaction: name at 80
    assert [(one.irq, one.name) for one in seen] == [(FIRST_IRQ, b"eth0-0")] * 2


def test_the_softirq_of_a_card_runs_behind_its_interrupt() -> None:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"))
    seen: list[tuple[str, int]] = []
    names = ("irq_handler_entry", "irq_handler_exit", "softirq_raise", "softirq_entry", "softirq_exit")
    for name in names:
        b.kernel.tracepoints.get(name).add_probe(lambda cpu, *_args, name=name: seen.append((name, cpu.now_ns)))
    # frames that come while the first one is worked at are found by the same softirq
    a.send("eth0", bytes(64), count=5, every=100)
    sim.run()
    assert [name for name, _ in seen] == [
        "irq_handler_entry", "softirq_raise", "irq_handler_exit", "softirq_entry", "softirq_exit",
    ]  # fmt: skip
    times = [time for _, time in seen]
    assert times == sorted(times)
