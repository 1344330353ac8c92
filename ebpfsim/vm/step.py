"""Running a program one instruction at a time: a hook before each one, and watches on registers and memory.

::

    stepper = Stepper(prog, kernel, lambda step: print(step))
    stepper.watch_register(0)
    stepper.watch_memory(address, 8)
    stepper.on_change = lambda change: print(change)
    run = stepper.run(ctx, cpu)

or, for runs that others make, packets and test runs::

    with host.step(prog, lambda step: print(step)):
        host.bpf.prog_test_run(fd, packet)

Every instruction counts: of functions, of callbacks that helpers call, and of programs that a tail call leads to. The
closures are those of the interpreter, in blocks of one instruction, so that results, counts and costs are the same. A
hook may change registers and memory, and ends the run by an exception of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self, cast

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError, InternalError
from ebpfsim.isa.alu import M64
from ebpfsim.isa.disasm import disasm
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Run, Runtime
from ebpfsim.vm.compile import Unit
from ebpfsim.vm.interp import run_image
from ebpfsim.vm.oops import source_line
from ebpfsim.vm.patch import Handler, patch_blocks
from ebpfsim.vm.state import RUN, Activation, Block, Image, State

__all__ = ["Change", "Step", "Stepper"]


class Step:
    """One instruction, about to be executed. ``run`` is the activation, ``state`` what its closures work on."""

    __slots__ = ("insn_idx", "prog", "run", "state")

    def __init__(self, prog: Prog, insn_idx: int, run: Run, state: State) -> None:
        self.prog, self.insn_idx, self.run, self.state = prog, insn_idx, run, state

    @property
    def insn(self) -> Insn:
        """The slot."""
        return self.prog.insns[self.insn_idx]

    @property
    def registers(self) -> tuple[int, ...]:
        """R0 to R10."""
        return tuple(self.state[:11])

    def set_register(self, number: int, value: int) -> None:
        """Change one of R0 to R10."""
        if not 0 <= number <= 10:
            raise InternalError(f"register r{number} does not exist")
        self.state[number] = value & M64

    @property
    def text(self) -> str:
        """The instruction in the spelling of the verifier's log."""
        return disasm(self.prog.insns, self.insn_idx)

    @property
    def line(self) -> str:
        """The place in the C source with its text, or nothing."""
        return source_line(self.prog, self.insn_idx)

    def __str__(self) -> str:
        return f"{self.prog.name}: {self.insn_idx}: {self.text}"


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch saw: ``what`` (``r3``, or the address and size) went from ``old`` to ``new`` by an instruction."""

    prog: str
    insn_idx: int
    what: str
    old: bytes | int
    new: bytes | int

    def __str__(self) -> str:
        old, new = (value.hex(" ") if isinstance(value, bytes) else f"{value:#x}" for value in (self.old, self.new))
        return f"{self.prog}: {self.insn_idx}: {self.what}: {old} -> {new}"


Hook = Callable[[Step], None]


def _ignore(_: object) -> None:
    pass


@dataclass
class _Watch:
    what: str
    read: Callable[[State], bytes | int]
    last: bytes | int = field(default=0)


class Stepper:
    """Runs a program with ``hook`` before each instruction, and ``on_change`` after one that a watch saw do something.

    Calling ``run`` again starts again, with the same watches.
    """

    def __init__(self, prog: Prog, kernel: Runtime, hook: Hook | None = None) -> None:
        self.prog = prog
        self.kernel = kernel
        self.hook = hook or _ignore
        self.on_change: Callable[[Change], None] = _ignore
        self.changes: list[Change] = []
        self._watches: list[_Watch] = []
        self._images: dict[Prog, _SteppedImage] = {}
        self._last: tuple[Prog, int] | None = None
        self._plain_run: Callable[[int, Cpu], int] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make every run of the program one in single steps, whoever asks for it, until ``stop``.

        A tail call of another program in machine code goes to the plain one.
        """
        prog = self.prog
        if prog.plain_image is not None:
            raise InputError("", f"program '{prog.name}' runs in single steps already")
        self._plain_run, prog.plain_image = prog.run, prog.image
        prog.image = self.image(prog)
        prog.run = lambda ctx, cpu: self.run(ctx, cpu).retval

    def stop(self) -> None:
        """Let the program run as before."""
        if self._plain_run is not None:
            self.prog.image, self.prog.plain_image = self.prog.plain_image, None
            self.prog.run, self._plain_run = self._plain_run, None

    def watch_register(self, number: int) -> None:
        """Report changes of one of R0 to R10."""
        if not 0 <= number <= 10:
            raise InternalError(f"register r{number} does not exist")
        self._watches.append(_Watch(f"r{number}", lambda state: int(state[number])))

    def watch_memory(self, address: int, size: int) -> None:
        """Report changes of some bytes of simulated memory, which have to be mapped."""
        mem = self.kernel.mem
        mem.offset(address, size)
        self._watches.append(_Watch(f"{size} bytes at {address:#x}", lambda _state: mem.read(address, size)))

    def run(self, ctx: int, cpu: Cpu) -> Run:
        """Run the program and return its activation; what it faults with passes through."""
        return run_image(self.activation(ctx, cpu))

    def activation(self, ctx: int, cpu: Cpu) -> "_SteppedActivation":
        """Return a run of the program, about to begin."""
        self._last = None
        self.changes = []
        activation = _SteppedActivation(self, ctx, cpu)
        for watch in self._watches:
            watch.last = watch.read(activation.state)
        return activation

    def image(self, prog: Prog) -> Image:
        """Return a program in blocks of one instruction that call the hook."""
        found = self._images.get(prog)
        if found is None or found.patches != prog.patches:
            found = self._images[prog] = _SteppedImage(self, prog)
        return found

    def before(self, prog: Prog, insn_idx: int, state: State) -> None:
        """Report what the last instruction changed, then call the hook; every block begins with this."""
        self.look(state)
        self.hook(Step(prog, insn_idx, state[RUN], state))
        for watch in self._watches:
            # what the hook did is not the program's doing
            watch.last = watch.read(state)
        self._last = prog, insn_idx

    def look(self, state: State) -> None:
        """Report what the last instruction changed."""
        if self._last is None:
            return
        for watch in self._watches:
            value = watch.read(state)
            if value != watch.last:
                change = Change(self._last[0].name, self._last[1], watch.what, watch.last, value)
                watch.last = value
                self.changes.append(change)
                self.on_change(change)


class _SteppedActivation(Activation):
    """An activation whose callbacks run step by step too."""

    def __init__(self, stepper: Stepper, ctx: int, cpu: Cpu) -> None:
        super().__init__(stepper.image(stepper.prog), ctx, cpu)
        self._stepper = stepper

    def image_of(self, prog: Prog) -> object:
        """Return the program in single steps."""
        return self._stepper.image(prog)

    def ended(self) -> None:
        """Report what the last instruction changed."""
        self._stepper.look(self.state)


class _SteppedImage(Image):
    """A program whose runs, whoever begins them, are in single steps."""

    __slots__ = ("_stepper", "patches")

    def __init__(self, stepper: Stepper, prog: Prog) -> None:
        super().__init__(prog, stepper.kernel, _SteppedUnit(stepper, prog).compile())
        self._stepper = stepper
        self.patches = dict(prog.patches)
        for start, handler in self.patches.items():
            patch_blocks(self, start, cast(Handler, handler))

    def activation(self, ctx: int, cpu: Cpu) -> Activation:
        """Return a run of the stepper's program."""
        return self._stepper.activation(ctx, cpu)


class _SteppedUnit(Unit):
    """A program on its way into blocks of one instruction."""

    def __init__(self, stepper: Stepper, prog: Prog) -> None:
        super().__init__(prog, stepper.kernel)
        self._stepper = stepper

    def block_starts(self) -> list[int]:
        """Return the slots of all instructions."""
        return sorted(self.sites)

    def fill(self, block: Block) -> None:
        """Compile an instruction, with the hook before it."""
        super().fill(block)
        stepper, prog, idx, ops = self._stepper, self.prog, block.insn_idx, block.ops

        def hook(state: State) -> None:
            stepper.before(prog, idx, state)

        block.ops = (hook, *ops)
