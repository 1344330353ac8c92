"""The engine's front: a program in, a callable out; runs have the results, counts and faults of ``ebpfsim.vm.interp``.

Unless the program is verified, and always in debug mode, machine code asks the page table of the simulated RAM before
every access, and faults as the interpreter does. Verified programs go without: they stay inside the RAM because
addresses are cut to 32 bits, and inside their objects because the verifier has proved it.

Functions that call each other without end are stopped when so many are entered as ``ebpfsim.vm.state`` allows. Plain
code, which is of verified programs, has the size of the native stack as its limit.
"""

import platform
import sys
import warnings
from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import NamedTuple

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, InternalError, KernelError, KernelOops
from ebpfsim.isa.alu import M64, s64
from ebpfsim.isa.table import Form, find
from ebpfsim.jit import entry as entry_code
from ebpfsim.jit import layout
from ebpfsim.jit.compile import Image, compile_image
from ebpfsim.jit.emit import AUX, stand_in_of
from ebpfsim.jit.image import ExecutableMemoryError
from ebpfsim.jit.native import Record, native
from ebpfsim.jit.program import prog_of
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Ran, Run, Runtime
from ebpfsim.vm import interp
from ebpfsim.vm.mem_ops import fault
from ebpfsim.vm.objects import object_fault
from ebpfsim.vm.oops import explain
from ebpfsim.vm.state import CALLBACK_DEPTH

__all__ = [
    "ENGINES",
    "Counts",
    "Entry",
    "NativeRun",
    "compile_for",
    "compile_prog",
    "entry",
    "entry_of",
    "execute",
    "unavailable",
]

ENGINES = ("auto", "interp", "jit")
_READS = (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
FULL_ARENA = 1 << 32
_ARGS = Struct("<5Q")


def _words(data: bytes) -> memoryview:
    return memoryview(data).cast("Q")


class NativeRun(Run):
    """A run of a program as machine code, for helpers in Python, while it lasts.

    ``progs`` are the programs that took part, by the number of their image.
    """

    __slots__ = ("_budget", "_first", "_flushed_at", "_insn_ps", "_number", "_record", "progs")

    def __init__(self, image: Image, prog: Prog, cpu: Cpu, record: Record) -> None:
        super().__init__(image.kernel, prog, 0, cpu)
        self._first: dict[int, Prog] = {}
        self._budget = image.kernel.config.insn_budget
        self._insn_ps = image.insn_ps
        self._record = record
        self.begin(prog, image.number, 0)

    def begin(self, prog: Prog, number: int, ctx: int) -> None:
        """Be the activation that has just begun: entries have one of these for all their runs."""
        self.ctx, self.prog, self._number = ctx, prog, number
        self.insns = self.cost_ps = self.tail_calls = 0
        self._flushed_at = self._budget
        if len(self._first) != 1:
            self._first = {number: prog}
        self.progs = self._first

    def arrive(self) -> None:
        """Learn what program calls out, and which programs tail calls led through."""
        words = self._record.words
        count, number = words[layout.W_TAIL_CALLS], words[layout.W_PROG]
        if count == self.tail_calls and number == self._number:
            return
        hops = words[layout.W_HOPS + self.tail_calls : layout.W_HOPS + count]
        self.progs = self.progs | {hop: prog_of(hop) for hop in hops}
        self.tail_calls, self._number = count, number
        self.prog = self.progs[number]

    def resume(self) -> None:
        """Tell machine code what has been charged so far; to be called before it goes on."""
        words = self._record.words
        words[layout.W_ELAPSED] = self.cpu.elapsed_ps
        words[layout.W_FLUSHED_AT] = self._flushed_at & M64

    def flush(self) -> None:
        """Charge the instructions executed since the last flush, so that the CPU's clock is right."""
        self.settle(0)

    def settle(self, cost_ps: int) -> None:
        """Flush, then charge: what every call of a helper begins with."""
        words = self._record.words
        left = s64(words[layout.W_LEFT])
        done = self._flushed_at - left
        self._flushed_at = left
        self.insns += done
        cost_ps += done * self._insn_ps + words[layout.W_COST]
        words[layout.W_COST] = 0
        self.cost_ps += cost_ps
        self.cpu.elapsed_ps += cost_ps

    def call(self, address: int, r1: int = 0, r2: int = 0, r3: int = 0, r4: int = 0, r5: int = 0) -> int:
        """Run a callback of the current program, by the address of its first instruction, and return its R0."""
        image = self.prog.compiled
        slot, rest = divmod(address - self.prog.image_addr, 8)
        function = image.functions.get(slot) if isinstance(image, Image) and not rest else None
        if function is None:
            raise KernelOops("callback is no function of the program", self.prog.name, address=address)
        words = self._record.words
        saved = words[: layout.W_AX + 1].tobytes()
        words[1:6] = _words(_ARGS.pack(r1 & M64, r2 & M64, r3 & M64, r4 & M64, r5 & M64))
        words[layout.W_ENTRY] = function
        number, prog, depth = words[layout.W_PROG], self.prog, words[layout.W_DEPTH]
        words[layout.W_DEPTH] = max(depth - CALLBACK_DEPTH, 0)
        self.resume()
        result = self.enter()
        words[layout.W_DEPTH] = depth
        words[: layout.W_AX + 1] = _words(saved)
        # a tail call inside went to another program; here this one goes on
        words[layout.W_PROG], self.prog = number, prog
        # what the callback executed counts before its caller goes on, which may read the time
        self.flush()
        return result

    def call_prog(self, prog: Prog, registers: tuple[int, ...]) -> int:
        """Run another program in the place of a function of the current one, with R1 to R5, and return its R0."""
        image, words = prog.compiled, self._record.words
        if not isinstance(image, Image):
            raise InternalError(f"program '{prog.name}' is no machine code")
        before, number = self._number, words[layout.W_PROG]
        self.progs = self.progs | {image.number: prog}
        words[layout.W_PROG] = self._number = image.number
        try:
            return super().call_prog(prog, registers)
        finally:
            words[layout.W_PROG], self._number = number, before

    def enter(self) -> int:
        """Run the function that the record names and return R0; KernelOops when it does not get to its end."""
        result: int = native().enter(self._record.address)
        if self._record.words[layout.W_STATUS]:
            raise self.oops()
        return result

    def oops(self) -> KernelOops:
        """Return what the record's status says."""
        # a callback may have gone to another program
        self.arrive()
        words = self._record.words
        status, address = words[layout.W_STATUS], words[layout.W_FAULT_ADDRESS]
        prog = self.prog
        image = prog.compiled
        assert isinstance(image, Image)
        slot = image.slot_at(words[layout.W_FAULT_PC])
        if status == layout.RUNAWAY:
            budget = self.kernel.config.insn_budget
            return KernelOops(f"runaway: more than {budget} instructions", prog.name, slot)
        if status == layout.STACK_OVERFLOW:
            below_zero = address >= (1 << 64) - image.frames[slot]
            return KernelOops("stack overflow", prog.name, slot, address - (below_zero << 64))
        if status == layout.TOO_DEEP:
            return KernelOops("function calls without end", prog.name, slot)
        insn = prog.insns[slot]
        row = find(insn)
        if status == layout.OBJECT and row is not None:
            strict, place = not prog.verified_insns, (prog.name, slot)
            return object_fault(self.mem.track(), row, insn, words[: AUX + 1].tolist(), place, strict=strict)
        if status != layout.ACCESS or row is None:
            raise InternalError(f"machine code of program '{prog.name}' ended with status {status}")
        if AUX in (insn.dst, insn.src):
            other = stand_in_of(insn)
            words[other], words[AUX] = words[AUX], words[other]
        return fault(self.mem, "read" if row.form in _READS else "write", address, row.size, (prog.name, slot))


class Counts(NamedTuple):
    """Runs, and what they came to."""

    runs: int
    insns: int
    cost_ps: int
    tail_calls: int


class Entry:
    """A program on a CPU: ``run(ctx)`` runs it, with the address of its context in R1, and returns R0 as a u32.

    Nothing is made for a run but the returned number, and an activation where a helper in Python is called. The cost is
    charged to the CPU. ``take`` returns what the runs came to since it was last called.
    """

    __slots__ = ("_activation", "_arena", "_taken", "block", "cpu", "image", "prog", "record", "run", "spare", "words")

    def __init__(self, prog: Prog, image: Image, cpu: Cpu) -> None:
        self.prog, self.image, self.cpu = prog, image, cpu
        self.record = record = image.records.take()
        record.begin = self._begin
        record.words[layout.W_CPU] = cpu.number
        record.words[layout.W_STACK_BASE] = cpu.stack_base
        numbers = {
            entry_code.B_RECORD: record.address,
            entry_code.B_FUNCTION: image.functions[0],
            entry_code.B_NUMBER: image.number,
            entry_code.B_BUDGET: image.kernel.config.insn_budget,
            entry_code.B_INSN_PS: image.insn_ps,
        }
        objects: dict[int, object] = {
            entry_code.B_CPU: cpu,
            entry_code.B_CLOCK: image.kernel.clock,
            entry_code.B_RECORD_OBJECT: record,
            entry_code.B_FINISH: self._finish,
            entry_code.B_SLOW: self._slow,
        }
        self.block = entry_code.Block(numbers, objects)
        self.words = self.block.words
        self.run = self.block.enter
        self._arena = native().arena
        self._taken = Counts(0, 0, 0, 0)
        self._activation = NativeRun(image, prog, cpu, record)
        self.spare: Entry | None = None

    @property
    def busy(self) -> bool:
        """Whether a run of this entry is under way."""
        return bool(self.record.words[layout.W_RSP])

    def idle(self) -> "Entry":
        """Return this entry, or one like it while a run of this one is under way."""
        found = self
        while found.busy:
            if found.spare is None:
                found.spare = Entry(self.prog, self.image, self.cpu)
            found = found.spare
        return found

    def take(self) -> Counts:
        """Return what has been executed since the last call."""
        now, last = Counts._make(_ALL(self.words, _ALL_AT)), self._taken
        self._taken = now
        return Counts._make(new - old for new, old in zip(now, last, strict=True))

    def ran(self) -> Ran:
        """Return what the last run came to."""
        return _Ran._make(_LAST(self.words, _LAST_AT))

    def _slow(self, ctx: int) -> int:
        # a run inside a run of the same program on the same CPU; it counts here
        other = self.idle()
        retval = other.run(ctx)
        mine, words = self.words, other.words
        mine[entry_code.B_R0 : entry_code.B_ALL_RUNS] = words[entry_code.B_R0 : entry_code.B_ALL_RUNS]
        for number, count in enumerate(other.take()):
            mine[entry_code.B_ALL_RUNS + number] += count
        return retval

    def _begin(self, record: Record) -> NativeRun:
        # a helper in Python is called, or the run did not get to its end
        words = record.words
        words[layout.W_BEGUN] = 1
        self.cpu.elapsed_ps = words[layout.W_ELAPSED]
        self._arena.running += 1
        run = self._activation
        run.begin(self.prog, self.image.number, words[layout.W_CTX])
        return run

    def _finish(self, record: Record, error: BaseException | None = None) -> None:
        words = record.words
        if error is not None or words[layout.W_STATUS]:
            self._give_up(record.run, error)
        # native code counts what has been executed since the last helper
        self._arena.running -= 1
        self.cpu.stack_top = words[layout.W_START_TOP]
        words[layout.W_BEGUN] = 0
        del record.run

    def _give_up(self, run: NativeRun, error: BaseException | None) -> None:
        words, block = self.record.words, self.words
        try:
            run.arrive()
            self._fail(run, error or run.oops())
        finally:
            self._arena.running -= 1
            self.cpu.stack_top = words[layout.W_START_TOP]
            run.flush()
            run.resume()
            block[entry_code.B_TAIL_CALLS] = run.tail_calls
            block[entry_code.B_ALL_TAIL_CALLS] += run.tail_calls
            block[entry_code.B_ALL_RUNS] += 1
            block[entry_code.B_ALL_INSNS] += run.insns
            block[entry_code.B_ALL_COST] += run.cost_ps
            words[layout.W_BEGUN] = 0
            del self.record.run

    def _fail(self, run: NativeRun, error: BaseException) -> None:
        words = self.record.words
        if isinstance(error, RecursionError):
            raise KernelOops("function calls without end", run.prog.name) from None
        if isinstance(error, KernelOops):
            image = run.prog.compiled
            if isinstance(image, Image):
                if error.insn_idx < 0 and words[layout.W_STATUS] == layout.RAISED:
                    error.insn_idx = image.slot_at(words[layout.W_FAULT_PC])
                image.give_frame_pointer(error.insn_idx, words)
            explain(error, run.prog, words[: layout.W_AX].tolist())
            if run.mem.objects is not None:
                run.mem.objects.unwind(self.cpu.stack_base, words[layout.W_START_TOP])
        raise error


class _Ran(NamedTuple):
    r0: int
    retval: int
    insns: int
    cost_ps: int
    tail_calls: int


_LAST, _LAST_AT = Struct("<5Q").unpack_from, 8 * entry_code.B_R0
_ALL, _ALL_AT = Struct("<4Q").unpack_from, 8 * entry_code.B_ALL_RUNS
_new = tuple.__new__


class _Entries:
    """The entries of a program by CPU; ``run(ctx, cpu)`` finds the one to take."""

    def __init__(self, prog: Prog, image: Image) -> None:
        self.prog, self.image = prog, image
        self.by_cpu: dict[Cpu, Entry] = {}
        self._chain = entry_code.Chain(self._slow)
        self.run = self._chain.run

    def of(self, cpu: Cpu) -> Entry:
        """Return the entry of a CPU, made when it is first asked for."""
        found = self.by_cpu.get(cpu)
        if found is None:
            found = self.by_cpu[cpu] = Entry(self.prog, self.image, cpu)
            self._chain.add(found.block)
        return found

    def _slow(self, ctx: int, cpu: Cpu) -> int:
        return self.of(cpu).run(ctx)


def compile_prog(prog: Prog, kernel: Runtime, *, checked: bool = True) -> Callable[[int, Cpu], int]:
    """Return what runs a program: the address of its context and a CPU in, R0 (u32) out.

    Raises NotModelled and DecodeError as the interpreter does. ``checked`` may be False for verified programs.
    """
    image = compile_image(prog, kernel, checked=checked or kernel.mem.size < FULL_ARENA)
    prog.image = image
    prog.entries = entries = _Entries(prog, image)
    return entries.run


def entry(prog: Prog, cpu: Cpu) -> Entry:
    """Return the way into the machine code of a program on a CPU; InternalError where it has none."""
    if not isinstance(prog.compiled, Image) or not isinstance(prog.entries, _Entries):
        raise InternalError(f"program '{prog.name}' is no machine code")
    return prog.entries.of(cpu)


def entry_of(prog: Prog, cpu: Cpu) -> Entry | None:
    """Return an entry that is not in use, or None for a program that runs otherwise than by its machine code."""
    entries = prog.entries
    if not isinstance(entries, _Entries) or prog.run is not entries.run:
        return None
    return entries.of(cpu).idle()


def execute(prog: Prog, ctx: int, cpu: Cpu) -> Ran:
    """Run a compiled program, of whichever engine, and return what that came to."""
    if prog.image.__class__ is not Image:
        return interp.execute(prog, ctx, cpu)
    assert isinstance(prog.entries, _Entries)
    found = prog.entries.by_cpu.get(cpu) or prog.entries.of(cpu)
    found.run(ctx)
    return _new(_Ran, _LAST(found.words, _LAST_AT))


def compile_for(prog: Prog, kernel: Runtime) -> Callable[[int, Cpu], int]:
    """Compile a verified program by the engine that the kernel's configuration names (``KernelConfig.engine``).

    Where this machine cannot run machine code the interpreter serves, and a warning says so once.
    """
    engine = kernel.config.engine
    if engine not in ENGINES:
        raise InputError("", f"unknown engine '{engine}'", f"one of {', '.join(ENGINES)}")
    if engine == "interp" or not _jit_serves():
        return interp.compile_prog(prog, kernel)
    try:
        return compile_prog(prog, kernel, checked=kernel.config.debug)
    except ExecutableMemoryError as error:
        raise KernelError("prog_load", Errno.ENOMEM, str(error)) from None


def unavailable() -> str:
    """Return why this machine cannot run machine code, or nothing."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        return f"there is no JIT for {platform.machine()} on {sys.platform}"
    if platform.python_implementation() != "CPython":
        return f"there is no JIT under {platform.python_implementation()}"
    try:
        native()
    except ExecutableMemoryError as error:
        return str(error)
    return ""


@cache
def _jit_serves() -> bool:
    reason = unavailable()
    if reason:
        warnings.warn(f"programs run in the interpreter, which is slower: {reason}", RuntimeWarning, stacklevel=2)
    return not reason
