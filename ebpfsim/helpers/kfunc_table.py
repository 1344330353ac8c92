"""Kernel functions that programs can run, by name: all families together."""

from ebpfsim.helpers import arena, cpumask, dynptr, graph, iter_bits, iter_num, objects, strings, timer
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["KFUNC_HELPERS"]


def _nothing(_run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    # sections in which nothing may interfere: a simulated program is never interrupted
    return 0


def _irq_save(run: Run, flags: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    # RFLAGS with interrupts enabled
    run.mem.store(flags, 8, 0x246)
    return 0


KFUNC_HELPERS: dict[str, Helper] = {
    **iter_num.KFUNCS,
    **dynptr.KFUNCS,
    **arena.KFUNCS,
    **cpumask.KFUNCS,
    **objects.KFUNCS,
    **graph.KFUNCS,
    **iter_bits.KFUNCS,
    **strings.KFUNCS,
    **timer.KFUNCS,
    "bpf_rcu_read_lock": _nothing,
    "bpf_rcu_read_unlock": _nothing,
    "bpf_preempt_disable": _nothing,
    "bpf_preempt_enable": _nothing,
    "bpf_local_irq_save": _irq_save,
    "bpf_local_irq_restore": _nothing,
}
