"""A CPU's clock runs ahead of the simulation's by the cost of the work in progress."""

from ebpfsim.clock import Clock
from ebpfsim.cpu import STACK_BYTES, Cpu
from ebpfsim.memory import Memory


def test_cost_adds_up_in_picoseconds() -> None:
    clock = Clock()
    cpu = Cpu(0, clock, Memory())
    clock.run(until_ns=100)
    for _ in range(10):
        cpu.charge(300)
    assert cpu.now_ns == 103
    assert cpu.take_elapsed_ns() == 3
    cpu.charge(700)
    assert cpu.take_elapsed_ns() == 0
    cpu.charge(300)
    assert cpu.take_elapsed_ns() == 1  # what was left over counts


def test_stack_has_guard_pages() -> None:
    mem = Memory()
    cpu = Cpu(0, Clock(), mem)
    assert cpu.stack_top - cpu.stack_base == STACK_BYTES
    assert mem.mapped(cpu.stack_base, STACK_BYTES)
    assert not mem.mapped(cpu.stack_base - 1, 1)
    assert not mem.mapped(cpu.stack_top, 1)
