"""Functions of a program that the kernel calls by itself: what a timer or a work queue runs.

They run in the interpreter whatever the engine is: results and costs are the same.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from ebpfsim.cpu import Cpu
from ebpfsim.errors import KernelOops
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.vm.compile import Unit
from ebpfsim.vm.state import Activation, Image

__all__ = ["Callbacks"]


class Callbacks:
    """The callbacks of a kernel's programs, made ready when they are first called."""

    def __init__(self, kernel: Runtime) -> None:
        self._kernel = kernel
        self._images: WeakKeyDictionary[Prog, Image] = WeakKeyDictionary()

    def run(self, prog: Prog, address: int, cpu: Cpu, args: Sequence[int]) -> int:
        """Run the function at an address of a program on a CPU and return its R0; KernelOops."""
        activation, frame = _Callback(self, self.image(prog), cpu), cpu.stack_top
        try:
            return activation.call(address, *args)
        except KernelOops:
            cpu.stack_top = frame
            raise

    def image(self, prog: Prog) -> Image:
        """Return a program in the interpreter's blocks."""
        image = self._images.get(prog)
        if image is None:
            image = self._images[prog] = Image(prog, self._kernel, Unit(prog, self._kernel).compile())
        return image


class _Callback(Activation):
    __slots__ = ("_callbacks",)

    def __init__(self, callbacks: Callbacks, image: Image, cpu: Cpu) -> None:
        super().__init__(image, 0, cpu)
        self._callbacks = callbacks

    def image_of(self, prog: Prog) -> object:
        return self._callbacks.image(prog)
