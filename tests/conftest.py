"""Settings and fixtures that every test may use."""

import os
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from ebpfsim.cpu import Cpu
    from ebpfsim.isa.insn import Insn
    from ebpfsim.maps.map import Map
    from ebpfsim.progs.prog import Prog
    from ebpfsim.progs.runtime import Run

settings.register_profile(
    "ebpfsim", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ebpfsim")


def pytest_configure(config: pytest.Config) -> None:
    """Give the processes that tests start a place for compiled modules where Python was told to write none.

    Each of them would compile hundreds of modules else.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", "") and "PYTHONPYCACHEPREFIX" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="ebpfsim-pycache-", ignore_cleanup_errors=True)
        os.environ["PYTHONPYCACHEPREFIX"] = folder.name
        config.add_cleanup(folder.cleanup)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that ask this machine's kernel where bpf(2) is refused."""
    if not any(item.get_closest_marker("live") for item in items) or _bpf_allowed():
        return
    skip = pytest.mark.skip(reason="bpf(2) is not allowed here")
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(skip)


def _bpf_allowed() -> bool:
    # a map of one element: BPF_MAP_CREATE of an array, through the raw system call
    import ctypes
    import platform
    import struct

    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    attr = ctypes.create_string_buffer(struct.pack("<IIII", 2, 4, 8, 1) + bytes(112))
    fd = ctypes.CDLL(None).syscall(321, 0, attr, 72)
    if fd < 0:
        return False
    os.close(fd)
    return True


class Machine:
    """The least that runs programs: RAM, a clock, CPUs and the interpreter, with no verifier and no devices.

    ``run`` takes assembly, slots or a program made by ``prog`` and returns the activation.
    """

    def __init__(self, **config: object) -> None:
        from ebpfsim.clock import Clock
        from ebpfsim.config import KernelConfig
        from ebpfsim.costs import load_profile
        from ebpfsim.cpu import Cpu
        from ebpfsim.helpers import loop, misc, probe, time, trace
        from ebpfsim.memory import Memory
        from ebpfsim.recorder import Recorder
        from ebpfsim.rng import Rng

        self.name = "machine"
        self.config = KernelConfig(**config)  # type: ignore[arg-type]
        self.mem = Memory(1 << 28)
        if self.config.debug:
            self.mem.track()
        self.clock = Clock()
        self.rng = Rng(1)
        self.costs = load_profile(self.config.costs)
        self.cpus = [Cpu(number, self.clock, self.mem) for number in range(self.config.cpus)]
        self.recorder = Recorder()
        self.helpers = loop.HELPERS | misc.HELPERS | probe.HELPERS | time.HELPERS | trace.HELPERS
        self.printed: list[bytes] = []
        self.maps: dict[int, Map] = {}
        self._image_addr = 0xFFFF_FFFF_C000_0000

    def map_at(self, address: int) -> "Map":
        from ebpfsim.errors import KernelOops

        if address not in self.maps:
            raise KernelOops("access to a map that does not exist", address=address)
        return self.maps[address]

    def trace_print(self, cpu: "Cpu", text: bytes) -> None:
        self.printed.append(text)

    def prog(self, code: "str | tuple[Insn, ...]", name: str = "test", frame: int | None = None) -> "Prog":
        """Return a compiled program; ``frame`` is the stack depth of its only function, else each has 512 bytes."""
        from ebpfsim.isa.asm import assemble
        from ebpfsim.progs.prog import Prog, Subprog
        from ebpfsim.uapi.bpf import AttachType, ProgType
        from ebpfsim.vm.interp import compile_prog

        insns = assemble(code) if isinstance(code, str) else code
        subprogs = () if frame is None else (Subprog(0, len(insns), name, frame),)
        prog = Prog(name, ProgType.XDP, AttachType.XDP, insns, subprogs, (), image_addr=self._image_addr)
        self._image_addr += 0x1000
        prog.run = compile_prog(prog, self)
        return prog

    def run(self, code: "str | tuple[Insn, ...] | Prog", ctx: int = 0, cpu: int = 0) -> "Run":
        """Run a program on a CPU; slots and text are compiled first."""
        from ebpfsim.vm.interp import execute

        return execute(self.prog(code) if isinstance(code, (str, tuple)) else code, ctx, self.cpus[cpu])


@pytest.fixture
def machine() -> Machine:
    """A machine of one CPU."""
    return Machine()


@pytest.fixture
def make_machine() -> type[Machine]:
    """The class, for machines with other settings."""
    return Machine
