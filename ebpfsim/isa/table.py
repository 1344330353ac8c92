"""THE instruction table: one row per operation, its encoding, its text, its meaning.

Encoding, text, interpreter, JIT and verifier go by row: ``form`` names the shape of the operation (what it does with
its fields), ``op`` the function in ``ebpfsim.isa.alu`` that it applies (in arenas: the row that it is otherwise),
``text`` the spelling of the verifier's log (``print_bpf_insn``, kernel/bpf/disasm.c, v6.18), ``llvm`` further spellings
that LLVM's assembler knows. A test fails when a row misses one of its consumers.

Rows are told apart by ``code`` and, where one code stands for several operations, by the value of ``off``, ``imm`` or
``src``. Fields that are neither that nor operands are reserved and must be zero. Sources: RFC 9669, sections 3 to 5 and
its appendix for the groups; include/uapi/linux/bpf.h and ``___bpf_prog_run`` in kernel/bpf/core.c, v6.18.

::

    code of arithmetic and jumps        code of loads and stores
    +----------+---+-------+            +----------+------+-------+
    | op (4)   | X | class |            | mode (3) | size | class |
    +----------+---+-------+            +----------+------+-------+
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

from ebpfsim.isa.insn import Insn

__all__ = ["BY_CODE", "BY_NAME", "TABLE", "Form", "Group", "Row", "find", "insn_len", "nonzero_reserved"]


class Form(Enum):
    """What an operation does with its fields."""

    ALU_IMM = "dst = op(dst, imm)"
    ALU_REG = "dst = op(dst, src)"
    ALU_UNARY = "dst = op(dst)"
    MOVSX = "dst = op(src)"
    ADDR_SPACE_CAST = "dst = src, in another address space"
    PERCPU_ADDR = "dst = src, on this CPU"
    LDX = "dst = mem[src + off]"
    LDSX = "dst = sign-extended mem[src + off]"
    PROBE_LDX = "dst = mem[src + off], or 0 when that faults"
    PROBE_LDSX = "dst = sign-extended mem[src + off], or 0 when that faults"
    ST = "mem[dst + off] = imm"
    STX = "mem[dst + off] = src"
    ATOMIC = "mem[dst + off] = op(mem, src)"
    ATOMIC_FETCH = "src, mem[dst + off] = mem, op(mem, src)"
    XCHG = "src, mem[dst + off] = mem, src"
    CMPXCHG = "r0, mem[dst + off] = mem, src if mem == r0 else mem"
    LOAD_ACQUIRE = "dst = mem[src + off], ordered"
    STORE_RELEASE = "mem[dst + off] = src, ordered"
    ARENA = "as the row op, at the arena's place for (u32)address; 0 or nothing when that faults"
    NOSPEC = "speculation barrier"
    LD_IMM64 = "dst = imm of two slots"
    LD_ABS = "r0 = packet[imm]"
    LD_IND = "r0 = packet[src + imm]"
    JMP_IMM = "pc += off if op(dst, imm)"
    JMP_REG = "pc += off if op(dst, src)"
    JA = "pc += off"
    JA32 = "pc += imm"
    MAY_GOTO = "pc += off when the loop's credit is spent"
    CALL_HELPER = "r0 = helper imm (r1..r5)"
    CALL_LOCAL = "r0 = function at pc + imm (r1..r5)"
    CALL_KFUNC = "r0 = kernel function with BTF id imm (r1..r5)"
    CALL_REG = "r0 = helper dst (r1..r5)"
    EXIT = "return r0"


class Group(Enum):
    """Conformance groups of RFC 9669, section 2.4, and what Linux has beyond it."""

    BASE32 = "base32"
    BASE64 = "base64"
    DIVMUL32 = "divmul32"
    DIVMUL64 = "divmul64"
    ATOMIC32 = "atomic32"
    ATOMIC64 = "atomic64"
    PACKET = "packet"
    LINUX = "linux"  # user space may load it into Linux, RFC 9669 does not have it
    LLVM = "llvm"  # LLVM emits it, Linux refuses it
    INTERNAL = "internal"  # only the verifier's rewriting makes it


@dataclass(frozen=True, slots=True)
class Row:
    """One operation.

    ``operands`` names the fields that the programmer chooses; ``off``, ``imm`` and ``src`` are the values that tell the
    row from others of the same code, or None. ``bits`` is the operand width, ``size`` the bytes of a memory access (0:
    none), ``cpu`` the lowest -mcpu of clang that emits it.
    """

    name: str
    code: int
    form: Form
    op: str
    bits: int
    operands: frozenset[str]
    text: str
    group: Group
    size: int = 0
    off: int | None = None
    imm: int | None = None
    src: int | None = None
    llvm: tuple[str, ...] = ()
    cpu: int = 1

    @property
    def reserved(self) -> tuple[str, ...]:
        """The fields that must be zero; Linux lets ``off`` of exit pass."""
        fixed = {name for name in ("off", "imm", "src") if getattr(self, name) is not None}
        return tuple(name for name in ("dst", "src", "off", "imm") if name not in self.operands | fixed)

    @property
    def loadable(self) -> bool:
        """True when Linux takes it from user space."""
        return self.group not in (Group.LLVM, Group.INTERNAL)

    def matches(self, insn: Insn) -> bool:
        """Tell whether a slot with this row's code is this operation; reserved fields do not matter."""
        return (
            (self.off is None or self.off == insn.off)
            and (self.imm is None or self.imm == insn.imm)
            and (self.src is None or self.src == insn.src)
        )

    def insn(self, *, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> Insn:
        """Return the slot for operands; the fields that select this row are filled in."""
        return Insn(
            self.code,
            dst,
            src if self.src is None else self.src,
            off if self.off is None else self.off,
            imm if self.imm is None else self.imm,
        )


# classes, sources, modes and sizes (RFC 9669, sections 3.1, 4 and 5; internal modes: include/linux/filter.h)
LD, LDX, ST, STX, ALU, JMP, JMP32, ALU64 = range(8)
K, X = 0x00, 0x08
IMM, ABS, IND, MEM, MEMSX, ATOMIC = 0x00, 0x20, 0x40, 0x60, 0x80, 0xC0
PROBE_MEM, PROBE_MEMSX, NOSPEC = 0x20, 0x40, 0xC0
PROBE_MEM32, PROBE_MEM32SX, PROBE_ATOMIC = 0xA0, 0xC0, 0xE0
MODE = 0xE0
SIZES = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}
FETCH = 0x01


def _ops(names: str) -> frozenset[str]:
    return frozenset(names.split())


DST_IMM, DST_SRC, DST = _ops("dst imm"), _ops("dst src"), _ops("dst")
DST_SRC_OFF, DST_OFF_IMM = _ops("dst src off"), _ops("dst off imm")

# fmt: off
# name, symbol, code, groups of the 32- and 64-bit operation, off
_BINARY = (
    ("add",  "+=",   0x00, Group.BASE32,   Group.BASE64,   None),
    ("sub",  "-=",   0x10, Group.BASE32,   Group.BASE64,   None),
    ("mul",  "*=",   0x20, Group.DIVMUL32, Group.DIVMUL64, None),
    ("sdiv", "s/=",  0x30, Group.DIVMUL32, Group.DIVMUL64, 1),
    ("div",  "/=",   0x30, Group.DIVMUL32, Group.DIVMUL64, None),
    ("or",   "|=",   0x40, Group.BASE32,   Group.BASE64,   None),
    ("and",  "&=",   0x50, Group.BASE32,   Group.BASE64,   None),
    ("lsh",  "<<=",  0x60, Group.BASE32,   Group.BASE64,   None),
    ("rsh",  ">>=",  0x70, Group.BASE32,   Group.BASE64,   None),
    ("smod", "s%=",  0x90, Group.DIVMUL32, Group.DIVMUL64, 1),
    ("mod",  "%=",   0x90, Group.DIVMUL32, Group.DIVMUL64, None),
    ("xor",  "^=",   0xA0, Group.BASE32,   Group.BASE64,   None),
    ("mov",  "=",    0xB0, Group.BASE32,   Group.BASE64,   None),
    ("arsh", "s>>=", 0xC0, Group.BASE32,   Group.BASE64,   None),
)
# name, symbol, code, lowest -mcpu of the 64-bit form
_JUMPS = (
    ("jeq",  "==",  0x10, 1),
    ("jgt",  ">",   0x20, 1),
    ("jge",  ">=",  0x30, 1),
    ("jset", "&",   0x40, 1),
    ("jne",  "!=",  0x50, 1),
    ("jsgt", "s>",  0x60, 1),
    ("jsge", "s>=", 0x70, 1),
    ("jlt",  "<",   0xA0, 2),
    ("jle",  "<=",  0xB0, 2),
    ("jslt", "s<",  0xC0, 2),
    ("jsle", "s<=", 0xD0, 2),
)
# name, symbol, imm
_ATOMICS = (("add", "+=", 0x00), ("or", "|=", 0x40), ("and", "&=", 0x50), ("xor", "^=", 0xA0))
_XCHG, _CMPXCHG, _LOAD_ACQ, _STORE_REL = 0xE0 | FETCH, 0xF0 | FETCH, 0x100, 0x110
# src of BPF_LD_IMM64 (include/uapi/linux/bpf.h, BPF_PSEUDO_*): name, how the assembler writes the value
_LD_IMM64 = (
    (0, "",              "{imm64} ll"),
    (1, ".map_fd",       "map[fd:{imm}] ll"),
    (2, ".map_value",    "map[fd:{imm}][0]+{imm_hi} ll"),
    (3, ".btf_id",       "btf[id:{imm}] ll"),
    (4, ".func",         "subprog[{imm:+d}] ll"),
    (5, ".map_idx",      "map[idx:{imm}] ll"),
    (6, ".map_idx_value", "map[idx:{imm}][0]+{imm_hi} ll"),
)


def _widths() -> Iterator[tuple[int, int, int, str]]:
    yield 64, ALU64, JMP, "r"
    yield 32, ALU, JMP32, "w"


def _alu_rows() -> Iterator[Row]:
    for bits, cls, _, reg in _widths():
        for name, symbol, code, group32, group64, off in _BINARY:
            group = group64 if bits == 64 else group32
            cpu = 4 if off else 3 if bits == 32 else 1
            left = f"{reg}{{dst}} {symbol}"
            op = f"{name}{bits}"
            yield Row(f"{op}.imm", code | K | cls, Form.ALU_IMM, op, bits, DST_IMM, f"{left} {{imm}}", group, 0, off,
                      cpu=cpu)
            if name == "mov":
                yield from _movsx_rows(bits, cls, reg, group)
            text = f"{left} {reg}{{src}}"
            yield Row(f"{op}.reg", code | X | cls, Form.ALU_REG, op, bits, DST_SRC, text, group, 0, off, cpu=cpu)
        neg = f"{reg}{{dst}} = -{reg}{{dst}}"
        group = Group.BASE64 if bits == 64 else Group.BASE32
        yield Row(f"neg{bits}", 0x80 | K | cls, Form.ALU_UNARY, f"neg{bits}", bits, DST, neg, group,
                  cpu=3 if bits == 32 else 1)
    for name, code, cpu in (("le", 0xD0 | ALU, 1), ("be", 0xD8 | ALU, 1), ("bswap", 0xD0 | ALU64, 4)):
        for width in (16, 32, 64):
            text = f"r{{dst}} = {name}{width} r{{dst}}"
            group = Group.BASE64 if width == 64 else Group.BASE32
            op = f"{name}{width}"
            yield Row(op, code, Form.ALU_UNARY, op, 64, DST, text, group, imm=width, cpu=cpu)


def _movsx_rows(bits: int, cls: int, reg: str, group: Group) -> Iterator[Row]:
    code = 0xB0 | X | cls
    for width in (8, 16, 32):
        if width < bits:
            text = f"{reg}{{dst}} = (s{width}){reg}{{src}}"
            op = f"movsx{width}_{bits}"
            yield Row(op, code, Form.MOVSX, op, bits, DST_SRC, text, group, off=width, cpu=4)
    if bits == 64:
        # imm holds the two address spaces; off is BPF_ADDR_SPACE_CAST and BPF_ADDR_PERCPU of include/linux/filter.h
        cast = "r{dst} = addr_space_cast(r{src}, {imm_hi16}, {imm_lo16})"
        yield Row("addr_space_cast", code, Form.ADDR_SPACE_CAST, "", 64, _ops("dst src imm"), cast, Group.LINUX, off=1,
                  cpu=4)
        percpu = "r{dst} = &(void __percpu *)(r{src})"
        yield Row("percpu_addr", code, Form.PERCPU_ADDR, "", 64, DST_SRC, percpu, Group.INTERNAL, off=-1)


def _memory_rows() -> Iterator[Row]:
    for size, bits in SIZES.items():
        width = size * 8
        group = Group.BASE64 if size == 8 else Group.BASE32
        # LLVM names the 32-bit half of the register in the forms of up to 4 bytes
        half = "w" if size < 8 else "r"
        load = f"r{{dst}} = *(u{width} *)(r{{src}} {{off:+d}})"
        store = f"*(u{width} *)(r{{dst}} {{off:+d}}) ="
        yield Row(f"ldx.u{width}", LDX | MEM | bits, Form.LDX, "", 64, DST_SRC_OFF, load, group, size,
                  llvm=(f"{half}{load[1:]}",))
        yield Row(f"st.u{width}", ST | MEM | bits, Form.ST, "", 64, DST_OFF_IMM, f"{store} {{imm}}", group, size, cpu=4)
        yield Row(f"stx.u{width}", STX | MEM | bits, Form.STX, "", 64, DST_SRC_OFF, f"{store} r{{src}}", group, size,
                  llvm=(f"{store} {half}{{src}}",))
        probe = load.replace("*(", "probe_mem *(", 1)
        yield Row(f"probe_ldx.u{width}", LDX | PROBE_MEM | bits, Form.PROBE_LDX, "", 64, DST_SRC_OFF, probe,
                  Group.INTERNAL, size)
        if size < 8:
            signed = f"r{{dst}} = *(s{width} *)(r{{src}} {{off:+d}})"
            # the appendix of RFC 9669 has the 32-bit one in base64: it needs a wider register
            group = Group.BASE64 if size == 4 else Group.BASE32
            yield Row(f"ldsx.s{width}", LDX | MEMSX | bits, Form.LDSX, f"movsx{width}_64", 64, DST_SRC_OFF, signed,
                      group, size, cpu=4)
            probe = signed.replace("*(", "probe_mem *(", 1)
            yield Row(f"probe_ldsx.s{width}", LDX | PROBE_MEMSX | bits, Form.PROBE_LDSX, f"movsx{width}_64", 64,
                      DST_SRC_OFF, probe, Group.INTERNAL, size)
    yield Row("nospec", ST | NOSPEC, Form.NOSPEC, "", 64, frozenset(), "nospec", Group.INTERNAL)


def _atomic_rows() -> Iterator[Row]:
    for size, suffix, reg, group in ((4, "", "w", Group.ATOMIC32), (8, "64", "r", Group.ATOMIC64)):
        bits = size * 8
        code = STX | ATOMIC | SIZES[size]
        pointer = f"(u{bits} *)(r{{dst}} {{off:+d}})"
        llvm_args = f"(r{{dst}} {{off:+d}}, {reg}"
        for name, symbol, imm in _ATOMICS:
            lock = f"lock *{pointer} {symbol}"
            op = f"{name}{bits}"
            yield Row(f"atomic_{op}", code, Form.ATOMIC, op, bits, DST_SRC_OFF, f"{lock} r{{src}}", group, size,
                      imm=imm, llvm=(f"{lock} {reg}{{src}}",), cpu=1 if name == "add" else 3)
            fetch = f"{{src}} = atomic{suffix}_fetch_{name}({pointer},"
            llvm = f"{reg}{{src}} = atomic_fetch_{name}({pointer}, {reg}{{src}})"
            yield Row(f"atomic_fetch_{op}", code, Form.ATOMIC_FETCH, op, bits, DST_SRC_OFF, f"r{fetch} r{{src}})",
                      group, size, imm=imm | FETCH, llvm=(llvm,), cpu=3)
        text = f"r{{src}} = atomic{suffix}_xchg({pointer}, r{{src}})"
        llvm = f"{reg}{{src}} = xchg{'32_32' if size == 4 else '_64'}{llvm_args}{{src}})"
        yield Row(f"xchg{bits}", code, Form.XCHG, "", bits, DST_SRC_OFF, text, group, size, imm=_XCHG, llvm=(llvm,),
                  cpu=3)
        text = f"r0 = atomic{suffix}_cmpxchg({pointer}, r0, r{{src}})"
        llvm = f"{reg}0 = cmpxchg{'32_32' if size == 4 else '_64'}{llvm_args}0, {reg}{{src}})"
        yield Row(f"cmpxchg{bits}", code, Form.CMPXCHG, "", bits, DST_SRC_OFF, text, group, size, imm=_CMPXCHG,
                  llvm=(llvm,), cpu=3)
    for size in SIZES:
        code = STX | ATOMIC | SIZES[size]
        bits, reg = size * 8, "r" if size == 8 else "w"
        load = f"r{{dst}} = load_acquire((u{bits} *)(r{{src}} {{off:+d}}))"
        yield Row(f"load_acquire.u{bits}", code, Form.LOAD_ACQUIRE, "", bits, DST_SRC_OFF, load, Group.LINUX, size,
                  imm=_LOAD_ACQ, llvm=(f"{reg}{load[1:]}",), cpu=4)
        store = f"store_release((u{bits} *)(r{{dst}} {{off:+d}}), "
        yield Row(f"store_release.u{bits}", code, Form.STORE_RELEASE, "", bits, DST_SRC_OFF, f"{store}r{{src}})",
                  Group.LINUX, size, imm=_STORE_REL, llvm=(f"{store}{reg}{{src}})",), cpu=4)


def _load_rows() -> Iterator[Row]:
    code = LD | IMM | SIZES[8]
    for src, suffix, value in _LD_IMM64:
        yield Row(f"ld_imm64{suffix}", code, Form.LD_IMM64, "", 64, DST_IMM, "r{dst} = {imm64:#x}", Group.BASE64,
                  src=src, llvm=(f"r{{dst}} = {value}",))
    for size in (4, 2, 1):
        left = f"r0 = *(u{size * 8} *)"
        text = f"{left}skb[{{imm}}]"
        yield Row(f"ld_abs.u{size * 8}", LD | ABS | SIZES[size], Form.LD_ABS, "", 64, _ops("imm"), text, Group.PACKET,
                  size)
        yield Row(f"ld_ind.u{size * 8}", LD | IND | SIZES[size], Form.LD_IND, "", 64, _ops("src imm"),
                  f"{left}skb[r{{src}} + {{imm}}]", Group.PACKET, size, llvm=(f"{left}skb[r{{src}}]",))


def _jump_rows() -> Iterator[Row]:
    for bits, _, cls, reg in _widths():
        group = Group.BASE64 if bits == 64 else Group.BASE32
        for name, symbol, code, cpu in _JUMPS:
            left = f"if {reg}{{dst}} {symbol}"
            op = f"{name}{bits}"
            least = cpu if bits == 64 else 3
            text = f"{left} {{uimm:#x}} goto pc{{off:+d}}"
            yield Row(f"{op}.imm", code | K | cls, Form.JMP_IMM, op, bits, DST_OFF_IMM, text, group, cpu=least)
            text = f"{left} {reg}{{src}} goto pc{{off:+d}}"
            yield Row(f"{op}.reg", code | X | cls, Form.JMP_REG, op, bits, DST_SRC_OFF, text, group, cpu=least)
    base = Group.BASE32
    yield Row("ja", 0x00 | JMP, Form.JA, "", 64, _ops("off"), "goto pc{off:+d}", base)
    yield Row("ja32", 0x00 | JMP32, Form.JA32, "", 64, _ops("imm"), "gotol pc{imm:+d}", base, cpu=4)
    yield Row(
        "may_goto", 0xE0 | JMP, Form.MAY_GOTO, "", 64, _ops("off"), "may_goto pc{off:+d}", Group.LINUX, src=0, cpu=4
    )
    call = 0x80 | JMP
    yield Row("call", call, Form.CALL_HELPER, "", 64, _ops("imm"), "call {name}#{imm}", base, src=0)
    yield Row("call.local", call, Form.CALL_LOCAL, "", 64, _ops("imm"), "call pc{imm:+d}", base, src=1)
    yield Row("call.kfunc", call, Form.CALL_KFUNC, "", 64, _ops("imm off"), "call {name}#{imm}", base, src=2)
    yield Row("callx", call | X, Form.CALL_REG, "", 64, DST, "callx r{dst}", Group.LLVM, cpu=1)
    yield Row("exit", 0x90 | JMP, Form.EXIT, "", 64, frozenset(), "exit", base)

# fmt: on


# what an access becomes when the verifier finds a pointer into an arena (convert_ctx_accesses)
_ARENA_MODES = {
    **dict.fromkeys((Form.LDX, Form.ST, Form.STX), PROBE_MEM32),
    Form.LDSX: PROBE_MEM32SX,
    **dict.fromkeys((Form.ATOMIC, Form.ATOMIC_FETCH, Form.XCHG, Form.CMPXCHG), PROBE_ATOMIC),
    **dict.fromkeys((Form.LOAD_ACQUIRE, Form.STORE_RELEASE), PROBE_ATOMIC),
}


def _arena_rows(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        if row.form in _ARENA_MODES:
            yield replace(
                row,
                name=f"arena_{row.name}",
                code=row.code & ~MODE | _ARENA_MODES[row.form],
                form=Form.ARENA,
                op=row.name,
                text=f"arena {row.text}",
                group=Group.INTERNAL,
                llvm=(),
            )


_BASIC = (*_alu_rows(), *_memory_rows(), *_atomic_rows(), *_load_rows(), *_jump_rows())
TABLE: tuple[Row, ...] = (*_BASIC, *_arena_rows(_BASIC))

BY_NAME: dict[str, Row] = {row.name: row for row in TABLE}


def _by_code() -> dict[int, tuple[Row, ...]]:
    found: dict[int, list[Row]] = {}
    for row in TABLE:
        found.setdefault(row.code, []).append(row)
    return {code: tuple(rows) for code, rows in sorted(found.items())}


# rows that need a certain off, imm or src come before the one that takes any
BY_CODE: dict[int, tuple[Row, ...]] = _by_code()


def find(insn: Insn) -> Row | None:
    """Return the row of a slot, or None; reserved fields are not looked at (see ``nonzero_reserved``)."""
    for row in BY_CODE.get(insn.code, ()):
        if row.matches(insn):
            return row
    return None


def nonzero_reserved(insn: Insn, row: Row) -> tuple[str, ...]:
    """Return the names of the fields that must be zero in this row and are not."""
    return tuple(name for name in row.reserved if getattr(insn, name))


def insn_len(insn: Insn) -> int:
    """Return the slots that an instruction takes: 2 for a 64-bit immediate load, else 1."""
    return 2 if insn.code == LD | IMM | SIZES[8] else 1
