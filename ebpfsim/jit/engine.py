"""The engine's front: a program in, a callable out; runs have the results, counts and faults of ``ebpfsim.vm.interp``.

Unless the program is verified, and always in debug mode, machine code asks the page table of the simulated RAM before
every access, and faults as the interpreter does. Verified programs go without: they stay inside the RAM because
addresses are cut to 32 bits, and inside their objects because the verifier has proved it.

Functions that call each other without end, and without stack frames, are stopped by the size of the native stack,
where the interpreter goes by Python's recursion limit; no verified program does that.
"""

import platform
import sys
import warnings
from collections.abc import Callable
from functools import cache
from struct import Struct

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, InternalError, KernelError, KernelOops
from ebpfsim.isa.alu import M64, s64, u32
from ebpfsim.isa.table import Form, find
from ebpfsim.jit import layout
from ebpfsim.jit.compile import Image, compile_image
from ebpfsim.jit.emit import AUX, stand_in_of
from ebpfsim.jit.image import ExecutableMemoryError
from ebpfsim.jit.native import Record, native
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Run, Runtime
from ebpfsim.vm import interp
from ebpfsim.vm.mem_ops import fault
from ebpfsim.vm.objects import object_fault
from ebpfsim.vm.oops import explain

__all__ = ["ENGINES", "NativeRun", "compile_for", "compile_prog", "execute", "unavailable"]

ENGINES = ("auto", "interp", "jit")
_READS = (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
FULL_ARENA = 1 << 32
_ARGS = Struct("<5Q")


def _words(data: bytes) -> memoryview:
    return memoryview(data).cast("Q")


_NO_REGS = _words(bytes(8 * layout.W_LEFT))
_START, _NOW = Struct("<10Q"), Struct("<4Q")


class NativeRun(Run):
    """One run of a program as machine code. ``progs`` are the programs that took part, by the number of their image."""

    __slots__ = ("_flushed_at", "_insn_ps", "_record", "progs")

    def __init__(self, image: Image, prog: Prog, ctx: int, cpu: Cpu, record: Record) -> None:
        super().__init__(image.kernel, prog, ctx, cpu)
        budget = image.kernel.config.insn_budget
        self.progs = {image.number: prog}
        self._insn_ps = image.insn_ps
        self._flushed_at = budget
        self._record = record
        record.words[: layout.W_LEFT] = _NO_REGS
        record.words[1] = ctx
        # from W_LEFT to W_PROG, in their order
        _START.pack_into(
            *(record.memory, 8 * layout.W_LEFT, budget, record.own_address, 0, cpu.stack_top, cpu.stack_base),
            *(image.functions[0], 0, 0, 0, image.number),
        )
        _NOW.pack_into(
            *(record.memory, 8 * layout.W_CPU, cpu.number, self.kernel.clock.now_ns, cpu.elapsed_ps, budget),
        )

    def resume(self) -> None:
        """Tell machine code what has been charged so far; to be called before it goes on."""
        words = self._record.words
        words[layout.W_ELAPSED] = self.cpu.elapsed_ps
        words[layout.W_FLUSHED_AT] = self._flushed_at

    def flush(self) -> None:
        """Charge the instructions executed since the last flush, so that the CPU's clock is right."""
        words = self._record.words
        left = s64(words[layout.W_LEFT])
        done = self._flushed_at - left
        self._flushed_at = left
        self.insns += done
        cost_ps = done * self._insn_ps + words[layout.W_COST]
        words[layout.W_COST] = 0
        self.cost_ps += cost_ps
        self.cpu.elapsed_ps += cost_ps

    def call(self, address: int, r1: int = 0, r2: int = 0, r3: int = 0, r4: int = 0, r5: int = 0) -> int:
        """Run a callback of the current program, by the address of its first instruction, and return its R0."""
        image = self.prog.image
        slot, rest = divmod(address - self.prog.image_addr, 8)
        function = image.functions.get(slot) if isinstance(image, Image) and not rest else None
        if function is None:
            raise KernelOops("callback is no function of the program", self.prog.name, address=address)
        words = self._record.words
        saved = words[: layout.W_AX + 1].tobytes()
        words[1:6] = _words(_ARGS.pack(r1 & M64, r2 & M64, r3 & M64, r4 & M64, r5 & M64))
        words[layout.W_ENTRY] = function
        self.resume()
        result = self.enter()
        words[: layout.W_AX + 1] = _words(saved)
        # what the callback executed counts before its caller goes on, which may read the time
        self.flush()
        return result

    def enter(self) -> int:
        """Run the function that the record names and return R0; KernelOops when it does not get to its end."""
        result = native().enter(self._record.address)
        if self._record.words[layout.W_STATUS]:
            raise self._oops()
        return result

    def _oops(self) -> KernelOops:
        words = self._record.words
        status, address = words[layout.W_STATUS], words[layout.W_FAULT_ADDRESS]
        prog = self.progs[words[layout.W_PROG]]
        image = prog.image
        assert isinstance(image, Image)
        slot = image.slot_at(words[layout.W_FAULT_PC])
        if status == layout.RUNAWAY:
            budget = self.kernel.config.insn_budget
            return KernelOops(f"runaway: more than {budget} instructions", prog.name, slot)
        if status == layout.STACK_OVERFLOW:
            below_zero = address >= (1 << 64) - image.frames[slot]
            return KernelOops("stack overflow", prog.name, slot, address - (below_zero << 64))
        if status == layout.TOO_DEEP:
            return KernelOops("function calls without end", prog.name)
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


def compile_prog(prog: Prog, kernel: Runtime, *, checked: bool = True) -> Callable[[int, Cpu], int]:
    """Return what runs a program: the address of its context and a CPU in, R0 (u32) out.

    Raises NotModelled and DecodeError as the interpreter does. ``checked`` may be False for verified programs.
    """
    prog.image = compile_image(prog, kernel, checked=checked or kernel.mem.size < FULL_ARENA)

    def run(ctx: int, cpu: Cpu) -> int:
        return execute(prog, ctx, cpu).retval

    return run


def execute(prog: Prog, ctx: int, cpu: Cpu) -> Run:
    """Run a compiled program, of whichever engine, and return its activation with its counts."""
    image = prog.image
    if not isinstance(image, Image):
        return interp.execute(prog, ctx, cpu)
    frame = cpu.stack_top
    record = image.records.take()
    run = NativeRun(image, prog, ctx, cpu, record)
    record.run = run
    arena = native().arena
    arena.running += 1
    try:
        run.r0 = run.enter()
    except KernelOops as oops:
        explain(oops, run.progs[record.words[layout.W_PROG]], record.words[: layout.W_AX].tolist())
        if run.mem.objects is not None:
            run.mem.objects.unwind(cpu.stack_base, frame)
        raise
    except RecursionError:
        raise KernelOops("function calls without end", run.prog.name) from None
    finally:
        arena.running -= 1
        cpu.stack_top = frame
        run.flush()
        run.prog = run.progs[record.words[layout.W_PROG]]
        record.run = None
        image.records.free.append(record)
    run.retval = u32(run.r0)
    return run


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
