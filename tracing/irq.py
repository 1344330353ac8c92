"""Interrupts of devices, and the softirqs that the tick raises (kernel/irq/handle.c and kernel/softirq.c, v6.18).

A device's interrupt goes through the functions of its CPU and fires its tracepoints around what the driver does. What
it raises is run by who has the softirq; here that is the balancing of run queues, which the tick asks for.
"""

from collections.abc import Callable
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.cpu import Cpu
from tracing.frames import stands_for
from tracing.functions import kernel_function
from tracing.hrtimer import TIMER_INTERRUPT

__all__ = ["IRQ_FUNCTIONS", "IRQ_TRACEPOINTS", "SCHED_SOFTIRQ", "Irqs"]

IRQ_TRACEPOINTS = ("irq_handler_entry", "irq_handler_exit", "softirq_raise", "softirq_entry", "softirq_exit")
IRQ_FUNCTIONS = ("handle_edge_irq", "handle_irq_event", "__handle_irq_event_percpu")
IRQ_HANDLED = 1
FIRST_IRQ = 24  # those before belong to the machine's own devices
SCHED_SOFTIRQ = 7  # include/linux/interrupt.h
BALANCE_TICKS = 8  # 16 times as rare as on an idle CPU, whose interval is 2 ms: 32 ms


class _IrqAction(KernelStruct):
    struct_name = "irqaction"
    irq = Field()
    name = Field()


class _IrqDesc(KernelStruct):
    struct_name = "irq_desc"
    irq = Field("irq_data.irq")
    action = Field()


class Irqs:
    """The interrupts of one kernel's devices, by the name that /proc/interrupts shows."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._descs: dict[str, int] = {}
        # what the driver of the interrupt under way does, by its descriptor
        self.handlers: dict[int, Callable[[], None]] = {}

    @stands_for("__common_interrupt", "common_interrupt", "asm_common_interrupt")
    def interrupt(self, cpu: Cpu, name: str, handler: Callable[[], None]) -> None:
        """Let a device's interrupt come on a CPU; ``handler`` is what its driver does."""
        desc = self._desc(name)
        self.handlers[desc] = handler
        self._kernel.functions.handle_edge_irq(cpu, desc)

    def action(self, desc: int) -> tuple[int, int]:
        """Return the number of an interrupt and the address of its ``struct irqaction``."""
        found = _IrqDesc(self._kernel.mem, desc)
        return found.irq, found.action

    def _desc(self, name: str) -> int:
        found = self._descs.get(name)
        if found is None:
            mem = self._kernel.mem
            desc, action = _IrqDesc.alloc(mem), _IrqAction.alloc(mem)
            desc.irq = action.irq = FIRST_IRQ + len(self._descs)
            desc.action = action.address
            text = name.encode() + b"\0"
            action.name = mem.alloc(len(text))
            mem.write(action.name, text)
            found = self._descs[name] = desc.address
        return found


@kernel_function
def handle_edge_irq(k: Any, cpu: Cpu, desc: int) -> None:
    """Take an interrupt that comes as a message."""
    k.functions.handle_irq_event(cpu, desc)


@kernel_function
def handle_irq_event(k: Any, cpu: Cpu, desc: int) -> int:
    """Handle an interrupt."""
    ret: int = k.functions.__handle_irq_event_percpu(cpu, desc)
    return ret


@kernel_function
def __handle_irq_event_percpu(k: Any, cpu: Cpu, desc: int) -> int:
    """Let the driver handle its interrupt."""
    irq, action = k.irqs.action(desc)
    k.trace(cpu, "irq_handler_entry", irq, action)
    handler = k.irqs.handlers.pop(desc, None)
    if handler is not None:
        handler()
    k.trace(cpu, "irq_handler_exit", irq, action, IRQ_HANDLED)
    return IRQ_HANDLED


@stands_for("handle_softirqs", "__irq_exit_rcu", *TIMER_INTERRUPT[1:])
def balance_softirq(k: Any, cpu: Cpu) -> None:
    """Run the softirq that balances run queues, behind the interrupt that raised it."""
    k.trace(cpu, "softirq_entry", SCHED_SOFTIRQ)
    k.functions.sched_balance_softirq(cpu)
    k.trace(cpu, "softirq_exit", SCHED_SOFTIRQ)


@kernel_function
def sched_balance_softirq(_k: Any, _cpu: Cpu) -> None:
    """Look for tasks that another CPU could run; CPUs without work look for themselves."""


@kernel_function
def sched_balance_trigger(k: Any, cpu: Cpu, _rq: int) -> None:
    """Raise the softirq when it is time, on machines with several CPUs."""
    ticks = cpu.scratch.get("ticks", 0)
    assert isinstance(ticks, int)
    cpu.scratch["ticks"] = ticks + 1
    if len(k.cpus) > 1 and ticks % BALANCE_TICKS == 0:
        _raise(k, cpu)


@stands_for("raise_softirq")
def _raise(k: Any, cpu: Cpu) -> None:
    k.trace(cpu, "softirq_raise", SCHED_SOFTIRQ)
    k.sched.hrtimers.after.append(lambda: balance_softirq(k, cpu))
