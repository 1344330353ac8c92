"""Calling a program from a hook: ``bpf_prog_run`` of include/linux/filter.h, v6.18, with its run statistics."""

from collections.abc import Callable

from ebpfsim.cpu import Cpu
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Ran, Runtime

__all__ = ["Execute", "bpf_prog_run"]

# (program, context address, CPU) -> what the run came to, its cost charged to the CPU
Execute = Callable[[Prog, int, Cpu], Ran]


def bpf_prog_run(kernel: Runtime, prog: Prog, ctx: int, cpu: Cpu, execute: Execute, call_ps: int = 0) -> Ran:
    """Run a program whose call (dispatcher, trampoline, indirect) costs ``call_ps`` picoseconds.

    While run statistics are on, the program counts the run and its time, the call included, and row ``stats`` of the
    cost profile is charged for reading the clock twice. A tail call counts for the program that was called first.
    """
    start_ns = cpu.now_ns
    cpu.charge(call_ps)
    run = execute(prog, ctx, cpu)
    if kernel.stats_enabled:
        prog.stats.run_cnt += 1
        prog.stats.run_time_ns += cpu.now_ns - start_ns
        cpu.charge(kernel.costs.ps("stats"))
    return run
