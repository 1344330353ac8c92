"""Room for the contexts that trampolines and probes make: on the CPU's BPF stack, below what is in use."""

from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory

__all__ = ["pop_frame", "push_frame"]


def push_frame(mem: Memory, cpu: Cpu, size: int) -> int:
    """Return the address of ``size`` bytes, a multiple of 16, until ``pop_frame``.

    Debug mode has them elsewhere, as an object of their own.
    """
    if mem.objects is not None:
        return mem.alloc(size, what="the context of a probe")
    cpu.stack_top -= size
    return cpu.stack_top


def pop_frame(mem: Memory, cpu: Cpu, address: int, size: int) -> None:
    """Give up the room that was taken last."""
    if mem.objects is not None:
        mem.free(address)
    else:
        cpu.stack_top += size
