"""Kernel text that is generated at run time: images in RAM, their addresses and names (kernel/bpf/core.c, v6.18).

An image lies in simulated RAM, where its bytes can be read; the kernel knows it by an address in the area of modules,
near enough to the kernel's own functions for calls of 32 bits. What was replaced may still be run by somebody: it is
freed once the clock has gone on by a grace period.
"""

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.clock import Clock
from ebpfsim.errors import InternalError
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.progs.prog import Prog
from ebpfsim.verifier.ksym import KERNEL_TEXT

__all__ = ["KernelText", "TextImage", "function_address", "prog_text_address", "text_address"]

MODULES_VADDR = 0xFFFF_FFFF_C000_0000  # arch/x86/include/asm/pgtable_64_types.h
MODULES_BYTES = 0x3E00_0000
FUNCTION_BYTES = 16
GRACE_NS = 10_000_000  # a grace period of RCU tasks; Linux' depends on what all tasks do


class TextKernel(Protocol):
    """What generated text needs of a kernel."""

    mem: Memory
    clock: Clock


def text_address(ram: int) -> int:
    """Return the kernel's address of generated code that lies at an address of the RAM."""
    return MODULES_VADDR + (ram - KERNEL_BASE) % MODULES_BYTES


def prog_text_address(prog: Prog) -> int:
    """Return the address of a program's image, as other images call it."""
    return text_address(prog.image_addr)


@cache
def function_address(name: str) -> int:
    """Return the address of a function of the kernel; InternalError when the kernel has none of that name."""
    found = vmlinux().find(name, Kind.FUNC)
    if found is None:
        raise InternalError(f"the kernel has no function {name}()")
    return KERNEL_TEXT + FUNCTION_BYTES * found


@dataclass(eq=False, slots=True)
class TextImage:
    """Code with a name: ``ram`` is where its bytes are, ``address`` where the kernel has it.

    ``charge`` is what it counts against the limit of memory for machine code (bpf_jit_charge_modmem).
    """

    name: str
    ram: int
    size: int
    charge: int = 0

    @property
    def address(self) -> int:
        """The kernel's address of the first byte."""
        return text_address(self.ram)


class KernelText:
    """The generated images of one kernel. ``images`` are those in use, by name.

    ``charged`` is how many bytes they count, ``charged_most`` how many they did at most; whoever may attach is not held
    to the limit (net.core.bpf_jit_limit).
    """

    def __init__(self, kernel: TextKernel) -> None:
        self.kernel = kernel
        self.images: dict[str, TextImage] = {}
        self.allocated = 0
        self.freed = 0
        self.charged = self.charged_most = 0
        self._retired: deque[tuple[int, TextImage]] = deque()

    @property
    def nr_retired(self) -> int:
        """How many images wait for the end of their grace period."""
        return len(self._retired)

    def reserve(self, name: str, size: int) -> TextImage:
        """Return room for an image of at most ``size`` bytes."""
        self.reclaim()
        self.allocated += 1
        return TextImage(name, self.kernel.mem.alloc(size, what=name), size)

    def publish(self, image: TextImage, code: bytes, *, charge: int | None = None) -> None:
        """Write an image's code and give it its name; it counts its bytes, or ``charge``."""
        if len(code) > image.size:
            raise InternalError(f"{image.name}: {len(code)} bytes of code in room for {image.size}")
        self.kernel.mem.write(image.ram, code)
        image.size = len(code)
        image.charge = image.size if charge is None else charge
        self.charged += image.charge
        self.charged_most = max(self.charged_most, self.charged)
        self.images[image.name] = image

    def code(self, image: TextImage) -> bytes:
        """Return the bytes of an image."""
        return self.kernel.mem.read(image.ram, image.size)

    def retire(self, image: TextImage) -> None:
        """Free an image when its grace period is over."""
        if self.images.get(image.name) is image:
            del self.images[image.name]
        self._retired.append((self.kernel.clock.now_ns + GRACE_NS, image))

    def reclaim(self) -> None:
        """Free what nobody can run any more."""
        now_ns = self.kernel.clock.now_ns
        while self._retired and self._retired[0][0] <= now_ns:
            _, image = self._retired.popleft()
            self.kernel.mem.free(image.ram)
            self.charged -= image.charge
            self.freed += 1
