"""What a running program and its helpers see: the kernel around them, and their own activation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.costs import CostProfile
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.maps.map import Map
from ebpfsim.memory import Memory
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import Recorder
from ebpfsim.rng import Rng

__all__ = ["Helper", "Ran", "Run", "Runtime"]


class Runtime(Protocol):
    """The parts of a simulated kernel that core code uses."""

    name: str
    config: KernelConfig
    mem: Memory
    clock: Clock
    rng: Rng
    costs: CostProfile
    cpus: list[Cpu]
    recorder: Recorder
    helpers: Mapping[int, "Helper"]

    @property
    def stats_enabled(self) -> bool:
        """Whether run statistics are kept (``bpf_stats_enabled_key``)."""
        ...

    def map_at(self, address: int) -> Map:
        """Return the map whose ``struct bpf_map`` is at that address; KernelOops when there is none."""
        ...

    def run_callback(self, prog: Prog, address: int, cpu: Cpu, args: Sequence[int]) -> int:
        """Run a function of a program, by the address of its first instruction, and return its R0."""
        ...

    def trace_print(self, cpu: Cpu, text: bytes) -> None:
        """Append a line to the trace pipe."""
        ...


class Ran(Protocol):
    """What a run came to."""

    @property
    def r0(self) -> int:
        """All of R0."""
        ...

    @property
    def retval(self) -> int:
        """R0 as the kernel reads it, a u32."""
        ...

    @property
    def insns(self) -> int:
        """Instructions executed."""
        ...

    @property
    def cost_ps(self) -> int:
        """Picoseconds charged."""
        ...

    @property
    def tail_calls(self) -> int:
        """Tail calls that were taken."""
        ...


class Run:
    """One activation of a program on a CPU.

    ``prog`` changes with a tail call. ``insns`` and ``cost_ps`` count what was executed, up to the last call of a
    helper; ``r0`` is all of R0 and ``retval`` R0 as the kernel reads it (u32), once the program is through.
    """

    __slots__ = ("cost_ps", "cpu", "ctx", "insns", "kernel", "mem", "prog", "r0", "retval", "tail_calls")

    def __init__(self, kernel: Runtime, prog: Prog, ctx: int, cpu: Cpu) -> None:
        self.kernel = kernel
        self.mem = kernel.mem
        self.prog = prog
        self.ctx = ctx
        self.cpu = cpu
        self.insns = 0
        self.cost_ps = 0
        self.tail_calls = 0
        self.r0 = 0
        self.retval = 0

    def charge(self, cost_ps: int) -> None:
        """Add picoseconds to the cost of this activation and to the time used on its CPU."""
        self.cost_ps += cost_ps
        self.cpu.elapsed_ps += cost_ps

    def flush(self) -> None:
        """Charge the instructions executed since the last flush; engines do."""

    def settle(self, cost_ps: int) -> None:
        """Flush, then charge: what a call of a helper begins with."""
        self.flush()
        self.charge(cost_ps)

    def call(self, address: int, r1: int = 0, r2: int = 0, r3: int = 0, r4: int = 0, r5: int = 0) -> int:
        """Run a callback of the current program, by the address of its first instruction, and return its R0."""
        raise InternalError(f"callback {address:#x} outside an engine")

    def call_prog(self, prog: Prog, registers: tuple[int, ...]) -> int:
        """Run another program in the place of a function of the current one, with R1 to R5, and return its R0."""
        before, self.prog = self.prog, prog
        try:
            return self.call(prog.image_addr, *registers)
        finally:
            self.prog = before


# A helper takes the activation and R1..R5 as unsigned 64-bit numbers and returns R0, of which 64 bits count:
# a negative errno may be returned as a negative int.
Helper = Callable[[Run, int, int, int, int, int], int]
