"""Native routines: work of the simulated kernel as machine code, written in eBPF assembly.

A routine is what programs call in place of a helper in Python. Its text is compiled by the emitters of the JIT for code
that the verifier has proved; nothing of it is counted. Text and state are all it needs: what both it and Python work on
lies in simulated RAM. So a map that wants to be fast keeps its state there, and says in a few dozen lines of assembly
what its methods in Python say::

    lookup = routine(f'''
        r3 = *(u32 *)(r2 + 0)
        r0 = 0
        if r3 >= {max_entries} goto out
        ...
        out: exit
    ''')

How one is written:

- It gets R1 to R5 and returns R0. Registers that it writes are saved and restored by the compiler, all but R0. There is
  no stack frame: R10 and the auxiliary register are refused.
- ``call name`` calls a function of the text, behind the main one, by the same rules; a function is the code from its
  label to the next function, and lies behind every jump that does not stay inside. ``call bpf_get_smp_processor_id``
  gives the number of the CPU. No other helper can be called.
- R0 == ``ASK_PYTHON`` (1) says that this call is none for the routine: nothing has been changed, and the helper in
  Python has to serve it. Results of helpers are addresses, 0 or negative; so 1 is free.
- R0 == ``OTHER_COST`` (2) says 0, at the call's other cost (an update that replaces, for instance).
- Numbers of a map or a shape are folded into the text. Equal texts are compiled once; the code lives as long as
  somebody holds the routine.

Who calls: ``ebpfsim.jit.inline`` has the table of helpers and maps that have routines (``RoutineCall``); Python calls a
routine through ``bind``.
"""

from collections.abc import Callable
from struct import Struct
from weakref import WeakValueDictionary

from ebpfsim.errors import InternalError
from ebpfsim.isa.alu import M64, u32, u64
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Form, Row, find, insn_len
from ebpfsim.jit import layout
from ebpfsim.jit.emit import COMPARISONS, EMITTERS, emit, emit_comparison
from ebpfsim.jit.encoder import RAX, RET, Code, insn, mov_imm, pop, push
from ebpfsim.jit.image import code_arena
from ebpfsim.jit.layout import REGS, word
from ebpfsim.jit.native import native, record_pool
from ebpfsim.jit.rotate import INSNS, rotations
from ebpfsim.memory import Memory
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.compile import ENDS

__all__ = ["ASK_INSTEAD", "ASK_PYTHON", "OTHER_COST", "Routine", "routine"]

ASK_PYTHON, OTHER_COST = 1, 2
# in place of ASK_PYTHON where 1 is a result
ASK_INSTEAD = -1
_FRAME, _AUX = 10, 11
_CPU = HELPER_IDS["bpf_get_smp_processor_id"]
_JUMPS = (Form.JMP_IMM, Form.JMP_REG, Form.JA, Form.JA32)
# rows that write a register other than ``dst``: the source, R0, or none
_WRITES_SRC = (Form.ATOMIC_FETCH, Form.XCHG)
_WRITES_R0 = (Form.CMPXCHG, Form.CALL_LOCAL, Form.CALL_HELPER)
_WRITES_NONE = (Form.ST, Form.STX, Form.STORE_RELEASE, Form.ATOMIC, Form.NOSPEC, Form.EXIT, *_JUMPS)

# from a record's R0 to its stack: what a call from Python sets
_ARGS, _ENTRY, _CPU_WORD = Struct("<5Q"), Struct("<6Q"), Struct("<Q")


class Routine:
    """The machine code of a routine: ``address`` is where to call it."""

    __slots__ = ("__weakref__", "address", "size", "text")

    def __init__(self, text: str) -> None:
        native()
        self.text = text
        code = _compile(assemble(text))
        self.size = len(code)
        self.address = code_arena().place(code)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            code_arena().retire(self.address, self.size, ())

    def bind(self, mem: Memory) -> Callable[..., int]:
        """Return what runs the routine on a simulated RAM: R1 to R5 in, and a CPU; R0 (u64) out."""
        record = record_pool(mem).take()
        words, memory, record_address, enter = record.words, record.memory, record.address, native().enter
        entry, cpu_at = self.address, 8 * layout.W_CPU

        def call(r1: int = 0, r2: int = 0, r3: int = 0, r4: int = 0, r5: int = 0, cpu: int = 0) -> int:
            _ARGS.pack_into(memory, 8, r1 & M64, r2 & M64, r3 & M64, r4 & M64, r5 & M64)
            _CPU_WORD.pack_into(memory, cpu_at, cpu)
            words[layout.W_ENTRY] = entry
            result: int = enter(record_address)
            return result

        call.__dict__["routine"] = self
        return call


_ROUTINES: "WeakValueDictionary[str, Routine]" = WeakValueDictionary()


def routine(text: str) -> Routine:
    """Return the routine of a text (see above); ExecutableMemoryError where there is no machine code."""
    found = _ROUTINES.get(text)
    if found is None:
        found = _ROUTINES[text] = Routine(text)
    return found


def _compile(insns: tuple[Insn, ...]) -> Code:
    sites = _decode(insns)
    starts = sorted({0} | {_target(idx, row, slot) for idx, row, slot in sites if row.form is Form.CALL_LOCAL})
    code = Code()
    for start, end in zip(starts, [*starts[1:], len(insns)], strict=True):
        body = [site for site in sites if start <= site[0] < end]
        saved = sorted({written for _, row, slot in body for written in _written(row, slot)} - {0})
        code.label(("function", start))
        code.add(*(push(REGS[number]) for number in saved))
        turns = rotations(body, {_target(idx, row, slot) for idx, row, slot in body if row.form in _JUMPS})
        done = 0  # of what is in the code already
        for number, (idx, row, slot) in enumerate(body):
            code.label(idx)
            if idx in turns:
                code.add(turns[idx])
                done = number + INSNS
            if number < done:
                continue
            if row.form in _JUMPS and not start <= _target(idx, row, slot) < end:
                raise _bad(idx, "jump out of the function")
            _emit(code, idx, row, slot, insns, saved)
        if body[-1][1].form not in (Form.EXIT, Form.JA, Form.JA32):
            raise _bad(body[-1][0], "execution runs out of the function")
    return code


def _decode(insns: tuple[Insn, ...]) -> list[tuple[int, Row, Insn]]:
    sites, idx = [], 0
    while idx < len(insns):
        slot = insns[idx]
        row = find(slot)
        if row is None:
            raise _bad(idx, "no such instruction")
        if max(slot.dst, slot.src if "src" in row.operands else 0) >= _FRAME:
            raise _bad(idx, "a routine has R0 to R9 only")
        sites.append((idx, row, slot))
        idx += insn_len(slot)
    return sites


def _bad(idx: int, problem: str) -> InternalError:
    return InternalError(f"native routine, insn {idx}: {problem}")


def _target(idx: int, row: Row, slot: Insn) -> int:
    return idx + 1 + (slot.imm if row.form in (Form.JA32, Form.CALL_LOCAL) else slot.off)


def _written(row: Row, slot: Insn) -> tuple[int, ...]:
    if row.form in _WRITES_NONE:
        return ()
    if row.form in _WRITES_SRC:
        return (slot.src,)
    return (0,) if row.form in _WRITES_R0 else (slot.dst,)


def _emit(code: Code, idx: int, row: Row, slot: Insn, insns: tuple[Insn, ...], saved: list[int]) -> None:
    if row.name in EMITTERS:
        code.add(emit(row.name, slot, False))
    elif row.name == "ld_imm64":
        code.add(mov_imm(REGS[slot.dst], u64(insns[idx + 1].imm << 32 | u32(slot.imm))))
    elif row.form in (Form.JMP_IMM, Form.JMP_REG):
        code.add(emit_comparison(row.name, slot))
        code.jump_if(COMPARISONS[row.op.removesuffix(str(row.bits))], _target(idx, row, slot))
    elif row.form in (Form.JA, Form.JA32):
        code.jump(_target(idx, row, slot))
    elif row.form is Form.CALL_LOCAL:
        code.call(("function", _target(idx, row, slot)))
    elif row.form is Form.EXIT:
        code.add(*(pop(REGS[number]) for number in reversed(saved)), RET)
    elif row.form is Form.CALL_HELPER and slot.imm == _CPU:
        code.add(insn("mov_load", word(layout.W_CPU), RAX))
    else:
        assert row.form in ENDS or row.form is Form.LD_IMM64, row.name
        raise _bad(idx, f"{row.name} has no place in a routine")
