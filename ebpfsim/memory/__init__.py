"""The simulated RAM: one flat arena per simulation, shared by its hosts, with a slab allocator on top."""

from ebpfsim.memory.arena import KERNEL_BASE, PAGE_SIZE, Arena
from ebpfsim.memory.slab import Memory

__all__ = ["KERNEL_BASE", "PAGE_SIZE", "Arena", "Memory"]
