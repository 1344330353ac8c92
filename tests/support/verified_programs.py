"""Random XDP programs that the verifier accepts, for comparing engines with each other and with Linux.

A program is a row of parts, each of which leaves things as it found them: r6 the context, r7 the packet of which
``PACKET_SEEN`` bytes are known, all other registers and eight slots of the stack hold numbers. In the end all numbers
go into the packet. Maps are named by their place in ``MAPS`` until ``bind`` puts descriptors in.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import FUNC_STATIC, INT_SIGNED, Func, FuncProto, Int
from ebpfsim.isa.alu import s32
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, TABLE, Form, Group, Row
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_NO_PREALLOC, BPF_F_ZERO_SEED
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["MAPS", "ROWS", "Generator", "MapSpec", "Program", "bind", "btf", "packet"]


class MapSpec(NamedTuple):
    """A map that programs use."""

    type: MapType
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0


ARRAY, PERCPU, HASH, SPARSE, LRU, PERCPU_HASH, LRU_PERCPU, PROGS, RING, QUEUE, STACK, DATA = range(12)
# the order of keys does not depend on chance
MAPS = (
    MapSpec(MapType.ARRAY, 4, 16, 4),
    MapSpec(MapType.PERCPU_ARRAY, 4, 16, 4),
    MapSpec(MapType.HASH, 8, 16, 5, BPF_F_ZERO_SEED),
    MapSpec(MapType.HASH, 8, 16, 5, BPF_F_ZERO_SEED | BPF_F_NO_PREALLOC),
    MapSpec(MapType.LRU_HASH, 8, 16, 5, BPF_F_ZERO_SEED),
    MapSpec(MapType.PERCPU_HASH, 8, 16, 5, BPF_F_ZERO_SEED),
    MapSpec(MapType.LRU_PERCPU_HASH, 8, 16, 5, BPF_F_ZERO_SEED),
    MapSpec(MapType.PROG_ARRAY, 4, 4, 5),
    MapSpec(MapType.RINGBUF, 0, 0, 4096),
    MapSpec(MapType.QUEUE, 0, 8, 4),
    MapSpec(MapType.STACK, 0, 8, 4),
    MapSpec(MapType.ARRAY, 4, 64, 1),
)
VALUE_MAPS = (ARRAY, PERCPU, HASH, SPARSE, LRU, PERCPU_HASH, LRU_PERCPU)

CTX, PACKET, FRAME = 6, 7, 10
SCALARS = (0, 1, 2, 3, 4, 5, 8, 9)
PACKET_SEEN = 96
PACKET_MIN, PACKET_MAX = 100, 300
SLOTS = 8  # of the stack that hold numbers, from r10 - 8 down
KEY_AT, VALUE_AT = -72, -96  # what calls of helpers point to
FRAME_BYTES = 104
INTERESTING = (0, 1, 2, 7, 31, 32, 63, 64, 127, 128, 255, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
_REGISTER_ROWS = (Form.ALU_IMM, Form.ALU_REG, Form.ALU_UNARY, Form.MOVSX)
_LOADS = (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
_ATOMICS = (Form.ATOMIC, Form.ATOMIC_FETCH, Form.XCHG, Form.CMPXCHG)
_MEMORY_ROWS = (*_LOADS, Form.ST, Form.STX, Form.STORE_RELEASE, *_ATOMICS)
_PACKET_ROWS = (Form.LDX, Form.LDSX, Form.ST, Form.STX)  # others may not go to packets

_LOADABLE = [row for row in TABLE if row.loadable and row.group is not Group.INTERNAL]
ALU_ROWS = [row for row in _LOADABLE if row.form in _REGISTER_ROWS]
MEMORY_ROWS = [row for row in _LOADABLE if row.form in _MEMORY_ROWS]
PACKET_ROWS = [row for row in MEMORY_ROWS if row.form in _PACKET_ROWS]
JUMP_ROWS = [row for row in _LOADABLE if row.form in (Form.JMP_IMM, Form.JMP_REG)]
_NAMED = (
    *("ld_imm64", "ld_imm64.map_fd", "ld_imm64.map_value", "ld_imm64.func", "ja", "ja32", "may_goto", "call"),
    *("call.local", "exit"),
)
# all rows but packet loads (not for XDP), arenas, kernel functions, other ways to name maps
ROWS = [*ALU_ROWS, *MEMORY_ROWS, *JUMP_ROWS, *(BY_NAME[name] for name in _NAMED if name in BY_NAME)]

FIRST_FUNCTION = 3  # id of the first function in ``btf``
MAX_FUNCTIONS = 64

# stands for functions of a program until they have a place
_SUBPROG = 0x1000


def _named(name: str, **fields: int) -> Insn:
    return BY_NAME[name].insn(**fields)


def _mov(dst: int, src: int) -> Insn:
    return _named("mov64.reg", dst=dst, src=src)


def _set(dst: int, imm: int) -> Insn:
    return _named("mov64.imm", dst=dst, imm=imm)


def _add(dst: int, imm: int) -> Insn:
    return _named("add64.imm", dst=dst, imm=imm)


def _load(dst: int, src: int, off: int) -> Insn:
    return _named("ldx.u64", dst=dst, src=src, off=off)


def _store(dst: int, src: int, off: int) -> Insn:
    return _named("stx.u64", dst=dst, src=src, off=off)


def _helper(name: str) -> Insn:
    return _named("call", imm=HELPER_IDS[f"bpf_{name}"])


def _map(dst: int, number: int) -> list[Insn]:
    return [Insn(0x18, dst, 1, 0, number), Insn(0)]


def _at(dst: int, off: int) -> list[Insn]:
    return [_mov(dst, FRAME), _add(dst, off)]


_EXIT = Insn(0x95)


@dataclass
class Program:
    """Slots with maps by their place in ``MAPS``; ``functions`` are the slots at which functions begin, after 0."""

    insns: tuple[Insn, ...]
    functions: tuple[int, ...]
    # what parts it has, for counting
    parts: list[str] = field(default_factory=list)

    @property
    def func_info(self) -> bytes:
        """What BPF_PROG_LOAD takes with the types of ``btf``."""
        starts = enumerate((0, *self.functions))
        return b"".join(Struct("<II").pack(start, FIRST_FUNCTION + number) for number, start in starts)


def btf() -> bytes:
    """Return BTF with functions, which programs that take the address of one must have."""
    functions = [Func(f"f{number}" if number else "program", 2, FUNC_STATIC) for number in range(MAX_FUNCTIONS)]
    return encode_types([Int("int", 4, 32, encoding=INT_SIGNED), FuncProto("", 1, ()), *functions])


def bind(program: Program, fds: list[int]) -> tuple[Insn, ...]:
    """Return the slots with the descriptors of maps."""
    return tuple(
        insn._replace(imm=fds[insn.imm]) if insn.code == 0x18 and insn.src in (1, 2) else insn for insn in program.insns
    )


def packet(rng: random.Random) -> bytes:
    """Return a packet of random numbers, among them interesting ones."""
    size = rng.randrange(PACKET_MIN, PACKET_MAX)
    words = [rng.choice((rng.getrandbits(64), rng.getrandbits(32), rng.choice(INTERESTING))) for _ in range(40)]
    signed = [rng.choice((word, -word & (1 << 64) - 1)) for word in words]
    return Struct("<40Q").pack(*signed)[:size]


class Generator:
    """Programs from a seed. ``live`` ones do nothing whose result Linux may choose (clocks, random numbers)."""

    def __init__(self, rng: random.Random, *, live: bool) -> None:
        self.rng, self.live = rng, live
        self.functions: list[list[Insn]] = []
        self.parts: list[str] = []

    def program(self) -> Program:
        """Return the next program."""
        self.functions, self.parts = [], []
        main = [*self.start(), *self.many(self.rng.randrange(2, 11)), *self.end()]
        insns, starts = list(main), []
        for function in self.functions:
            starts.append(len(insns))
            insns += function
        for at, insn in enumerate(insns):
            if insn.imm >= _SUBPROG and (
                insn == _named("call.local", imm=insn.imm) or (insn.code, insn.src) == (0x18, 4)
            ):
                insns[at] = insn._replace(imm=starts[insn.imm - _SUBPROG] - at - 1)
        return Program(tuple(insns), tuple(starts), self.parts)

    # ---- the frame of a program ---------------------------------------------------------------------------------

    def start(self) -> list[Insn]:
        """Find the packet; fill registers and stack from it."""
        fill = [step for slot in range(SLOTS) for step in (_load(0, PACKET, 8 * slot), _store(FRAME, 0, -8 * slot - 8))]
        numbers = [_load(reg, PACKET, self.rng.randrange(PACKET_SEEN - 7)) for reg in SCALARS]
        return [_mov(CTX, 1), *self.find_packet(), *fill, *numbers]

    def find_packet(self) -> list[Insn]:
        """Let r7 be the packet, or leave; r1 and r2 are lost."""
        return [
            _named("ldx.u32", dst=PACKET, src=CTX),
            _named("ldx.u32", dst=1, src=CTX, off=4),
            _mov(2, PACKET),
            _add(2, PACKET_SEEN),
            _named("jle64.reg", dst=2, src=1, off=2),
            _set(0, self.rng.randrange(5)),
            _EXIT,
        ]

    def end(self) -> list[Insn]:
        """Put all numbers into the packet and return one of them."""
        return [*(_store(PACKET, reg, 8 * at) for at, reg in enumerate(SCALARS)), _EXIT]

    def again(self) -> list[Insn]:
        """Give r1 to r5 numbers after a call."""
        rng = self.rng
        return [
            rng.choice(
                (_load(reg, PACKET, rng.randrange(PACKET_SEEN - 7)), _load(reg, FRAME, -8 * rng.randrange(1, 9)))
            )
            for reg in range(1, 6)
        ]

    # ---- parts --------------------------------------------------------------------------------------------------

    def many(self, count: int) -> Iterable[Insn]:
        """Yield the slots of some parts."""
        for _ in range(count):
            roll = self.rng.random()
            if roll < 0.45:
                yield from self.plain_ones(self.rng.randrange(1, 10))
                continue
            part = self.rng.choice(_PARTS)
            self.parts.append(part.__name__)
            yield from part(self)

    def plain_ones(self, count: int, keep: int = -1) -> list[Insn]:
        """Return arithmetic and accesses to memory that leave a register alone."""
        return [insn for _ in range(count) for insn in self.plain(keep)]

    def plain(self, keep: int = -1) -> list[Insn]:
        """Return arithmetic or an access to memory."""
        rng = self.rng
        roll = rng.random()
        scalars = [reg for reg in SCALARS if reg != keep]
        if roll < 0.05:
            value = rng.choice((rng.getrandbits(64), rng.getrandbits(32)))
            return [Insn(0x18, rng.choice(scalars), 0, 0, s32(value)), Insn(0, imm=s32(value >> 32))]
        if roll < 0.55:
            return [self.slot(rng.choice(ALU_ROWS), scalars)]
        if roll < 0.8:
            row = rng.choice(MEMORY_ROWS)
            return self.slots(row, scalars, FRAME, -row.size * rng.randrange(1, 8 * SLOTS // row.size + 1))
        row = rng.choice(PACKET_ROWS)
        return [self.slot(row, scalars, PACKET, rng.randrange(PACKET_SEEN + 1 - row.size))]

    def slots(self, row: Row, scalars: list[int], base: int, off: int) -> list[Insn]:
        """Return an access to memory, whatever Linux makes of it.

        Linux 6.18 leaves the upper half of R0 as it was where a 32-bit compare-and-exchange finds its value equal, and
        the verifier did not come by again at the 64-bit read of R0 because it had pruned that path. RFC 9669 has it
        zero.
        """
        access = self.slot(row, scalars, base, off)
        spoils = self.live and row.form is Form.CMPXCHG and row.bits == 32
        return [access, _named("mov32.reg", dst=0, src=0)] if spoils else [access]

    def slot(self, row: Row, scalars: list[int], base: int = -1, off: int = 0) -> Insn:
        """Return an instruction of a row, with memory at ``base + off``."""
        rng = self.rng
        if row.form is Form.CMPXCHG and 0 not in scalars:
            row = BY_NAME["ldx.u64"]
        fields = {"dst": rng.choice(scalars), "src": rng.choice(scalars), "imm": self.imm(row)}
        if base >= 0:
            fields["off"] = off
            fields["src" if row.form in _LOADS else "dst"] = base
        return row.insn(**{name: value for name, value in fields.items() if name in row.operands})

    def imm(self, row: Row) -> int:
        """Return a constant that the verifier takes."""
        rng = self.rng
        if row.op.startswith(("lsh", "rsh", "arsh")):
            return rng.randrange(row.bits)
        value = s32(rng.choice([*INTERESTING, rng.getrandbits(32)]) * rng.choice((1, -1)))
        return value or 3 if "div" in row.op or "mod" in row.op else value

    def branch(self) -> list[Insn]:
        """A conditional jump over something, or into it."""
        rng = self.rng
        body = self.plain_ones(rng.randrange(1, 6))
        jump = self.slot(rng.choice(JUMP_ROWS), list(SCALARS))
        if rng.random() < 0.6:
            return [jump._replace(off=len(body)), *body]
        over = rng.choice((_named("ja", off=len(body)), _named("ja32", imm=len(body))))
        return [jump._replace(off=1), over, *body]

    def loop(self) -> list[Insn]:
        """A loop of a known number of rounds."""
        rng = self.rng
        counter = rng.choice(SCALARS)
        body = self.plain_ones(rng.randrange(1, 5), keep=counter)
        rounds = rng.randrange(1, 4)
        if rng.random() < 0.5:
            back = _named("jne64.imm", dst=counter, imm=0, off=-len(body) - 2)
            return [_set(counter, rounds), *body, _add(counter, -1), back]
        leave = len(body) + 3
        jump_back = rng.choice((_named("ja", off=-leave - 1), _named("ja32", imm=-leave - 1)))
        return [
            _set(counter, rounds),
            _named("may_goto", off=leave),
            _named("jeq64.imm", dst=counter, imm=0, off=leave - 1),
            _add(counter, -1),
            *body,
            jump_back,
        ]

    def key(self, number: int) -> list[Insn]:
        """Put a key on the stack, mostly one that may exist."""
        rng = self.rng
        if MAPS[number].key_size == 4:
            return [_named("st.u32", dst=FRAME, off=KEY_AT, imm=rng.randrange(6))]
        source = rng.choice((8, 9))
        return rng.choice(
            (
                [_named("st.u64", dst=FRAME, off=KEY_AT, imm=rng.randrange(8))],
                [_mov(1, source), _named("and64.imm", dst=1, imm=7), _store(FRAME, 1, KEY_AT)],
            )
        )

    def lookup(self) -> list[Insn]:
        """Look a value up and change it."""
        rng = self.rng
        number = rng.choice(VALUE_MAPS)
        found = self.on_memory(0, 16, writable=True)
        call = [*self.key(number), *_map(1, number), *_at(2, KEY_AT)]
        if number in (PERCPU, PERCPU_HASH, LRU_PERCPU) and rng.random() < 0.5:
            call += [_set(3, rng.choice((0, 0, 1, 77))), _helper("map_lookup_percpu_elem")]
        else:
            call.append(_helper("map_lookup_elem"))
        return [*call, *self.again(), _named("jeq64.imm", dst=0, imm=0, off=len(found)), *found]

    def on_memory(self, base: int, size: int, *, writable: bool) -> list[Insn]:
        """Work on memory that a register points to; the register gets a number in the end."""
        rng = self.rng
        rows = [row for row in MEMORY_ROWS if row.size <= size and row.form is not Form.CMPXCHG]
        if not writable:
            rows = [row for row in rows if row.form in _LOADS]
        scalars = [reg for reg in SCALARS if reg != base]
        body = []
        for _ in range(rng.randrange(1, 5)):
            row = rng.choice(rows)
            body.append(self.slot(row, scalars, base, row.size * rng.randrange(size // row.size)))
        return [*body, _set(base, rng.randrange(100))]

    def data(self) -> list[Insn]:
        """Work on the value of an array by its address."""
        off = 8 * self.rng.randrange(6)
        return [Insn(0x18, 3, 2, 0, DATA), Insn(0, imm=off), *self.on_memory(3, 16, writable=True)]

    def value(self) -> list[Insn]:
        """Put a value on the stack."""
        return [_store(FRAME, 8, VALUE_AT), _store(FRAME, 9, VALUE_AT + 8), _named("st.u64", dst=FRAME, off=-80, imm=5)]

    def update(self) -> list[Insn]:
        """Set an element."""
        number = self.rng.choice(VALUE_MAPS)
        arguments = [*_map(1, number), *_at(2, KEY_AT), *_at(3, VALUE_AT), _set(4, self.rng.choice((0, 0, 0, 1, 2, 3)))]
        return [*self.key(number), *self.value(), *arguments, _helper("map_update_elem"), *self.again()]

    def delete(self) -> list[Insn]:
        """Delete an element."""
        number = self.rng.choice(VALUE_MAPS)
        return [*self.key(number), *_map(1, number), *_at(2, KEY_AT), _helper("map_delete_elem"), *self.again()]

    def queue(self) -> list[Insn]:
        """Push, pop or peek."""
        rng = self.rng
        what = rng.choice(("map_push_elem", "map_pop_elem", "map_peek_elem"))
        flags = [_set(3, rng.choice((0, 0, 2)))] if what == "map_push_elem" else []
        arguments = [*_map(1, rng.choice((QUEUE, STACK))), *_at(2, -8), *flags]
        return [*arguments, _helper(what), *self.again()]

    def ring(self) -> list[Insn]:
        """Output a record, or reserve one and commit it."""
        rng = self.rng
        if rng.random() < 0.5:
            arguments = [*_map(1, RING), *_at(2, -64), _set(3, rng.randrange(1, 65)), _set(4, rng.choice((0, 1, 2, 3)))]
            return [*arguments, _helper("ringbuf_output"), *self.again()]
        size = rng.randrange(8, 60)
        record = [*self.on_memory(0, 8, writable=True)[:-1], _mov(1, 0), _set(2, rng.choice((0, 1, 2)))]
        commit = [*record, _helper(rng.choice(("ringbuf_submit", "ringbuf_discard")))]
        arguments = [*_map(1, RING), _set(2, size), _set(3, 0), _helper("ringbuf_reserve")]
        return [
            *arguments, *self.again(), _named("jeq64.imm", dst=0, imm=0, off=len(commit)), *commit, *self.again(),
            *_map(1, RING), _set(2, rng.randrange(5)), _helper("ringbuf_query"), *self.again(),
        ]  # fmt: skip

    def csum(self) -> list[Insn]:
        """Take a difference of checksums."""
        rng = self.rng
        sizes = [4 * rng.randrange(0, 17) for _ in range(2)]
        pointers = [
            step for reg, size in ((1, sizes[0]), (3, sizes[1])) for step in (_at(reg, -64) if size else [_set(reg, 0)])
        ]
        return [
            *pointers,
            _set(2, sizes[0]),
            _set(4, sizes[1]),
            _mov(5, rng.choice((8, 9))),
            _helper("csum_diff"),
            *self.again(),
        ]

    def xdp(self) -> list[Insn]:
        """Call a helper on the packet that leaves it where it is."""
        rng = self.rng
        if rng.random() < 0.3:
            return [_mov(1, CTX), _helper("xdp_get_buff_len"), *self.again()]
        name = rng.choice(("xdp_load_bytes", "xdp_store_bytes"))
        arguments = [_mov(1, CTX), _set(2, rng.randrange(310)), *_at(3, -64), _set(4, rng.randrange(1, 65))]
        return [*arguments, _helper(name), *self.again()]

    def adjust(self) -> list[Insn]:
        """Move the beginning, the end or the metadata of the packet."""
        rng = self.rng
        name, deltas = rng.choice(
            (
                ("xdp_adjust_head", (0, 8, -8, -20, 3, 255, -300)),
                ("xdp_adjust_tail", (0, -3, 16, 200, -90, -500)),
                ("xdp_adjust_meta", (0, -4, -32, -3, 4, -400)),
            )
        )
        return [_mov(1, CTX), _set(2, rng.choice(deltas)), _helper(name), *self.find_packet(), *self.again()]

    def numbers(self) -> list[Insn]:
        """Call a helper that takes nothing."""
        name = self.rng.choice(
            ("ktime_get_ns", "get_prandom_u32", "get_smp_processor_id", "ktime_get_boot_ns", "jiffies64")
        )
        after = [_set(0, 4)] if self.live else []
        return [_helper(name), *after, *self.again()]

    def probe(self) -> list[Insn]:
        """Read from where nothing is, or from the stack."""
        rng = self.rng
        source = rng.choice(([_set(3, 0)], [_set(3, 4096)], _at(3, -64)))
        return [*_at(1, -64), _set(2, rng.randrange(1, 33)), *source, _helper("probe_read_kernel"), *self.again()]

    def tail_call(self) -> list[Insn]:
        """Go to another program, if it is there."""
        index = self.rng.choice(([_set(3, self.rng.randrange(6))], [_mov(3, 8), _named("and64.imm", dst=3, imm=7)]))
        # the packet counts as lost
        return [
            _mov(1, CTX),
            *_map(2, PROGS),
            *index,
            _helper("tail_call"),
            *self.find_packet(),
            *self.again(),
            _set(0, 3),
        ]

    def call(self) -> list[Insn]:
        """Call a function with a number, a place on the stack and the context."""
        tail_calls = self.rng.random() < 0.3
        number = self.function(self.function_body(tail_calls=tail_calls))
        arguments = [_mov(1, self.rng.choice((8, 9))), *_at(2, -64), _mov(3, CTX)]
        again = [*self.find_packet(), *self.again()] if tail_calls else self.again()
        return [*arguments, _named("call.local", imm=_SUBPROG + number), *again]

    def function(self, body: list[Insn]) -> int:
        """Enter a function and return its number."""
        self.functions.append(body)
        return len(self.functions) - 1

    def function_body(self, *, tail_calls: bool = False, result: int | None = None) -> list[Insn]:
        """Return a function of (number, 64 bytes of its caller's stack, context)."""
        rng = self.rng
        # a callback has no context
        keep = [_mov(6, 2), _mov(7, 3) if result is None else _set(7, 0), _mov(8, 1)]
        fill = [
            _load(9, 6, 0),
            *(_mov(reg, 8) for reg in (0, 1, 2, 3, 4, 5)),
            _store(FRAME, 1, -8),
            _store(FRAME, 9, -16),
        ]
        body: list[Insn] = []
        for _ in range(rng.randrange(2, 12)):
            roll = rng.random()
            if roll < 0.6:
                body.append(self.slot(rng.choice(ALU_ROWS), list(SCALARS)))
            else:
                row = rng.choice(MEMORY_ROWS)
                base, room = rng.choice(((6, 64), (FRAME, 16)))
                at = row.size * rng.randrange(room // row.size)
                body += self.slots(row, list(SCALARS), base, at - (16 if base == FRAME else 0))
        if tail_calls:
            body += [_mov(1, 7), *_map(2, PROGS), _set(3, rng.randrange(6)), _helper("tail_call"), _set(0, 1)]
        elif rng.random() < 0.2 and len(self.functions) < 6 and result is None:
            number = self.function(self.function_body())
            body += [_mov(1, 9), _mov(2, 6), _mov(3, 7), _named("call.local", imm=_SUBPROG + number)]
        last = [] if result is None else [_named("and64.imm", dst=0, imm=result)]
        return [*keep, *fill, *body, *last, _EXIT]

    def callback(self) -> list[Insn]:
        """Run a function some times, or for every element of a map."""
        rng = self.rng
        if rng.random() < 0.5:
            # long callback(u32 index, void *ctx)
            number = self.function(self.function_body(result=1))
            arguments = [
                _set(1, rng.randrange(5)),
                Insn(0x18, 2, 4, 0, _SUBPROG + number),
                Insn(0),
                *_at(3, -64),
                _set(4, 0),
            ]
            return [*arguments, _helper("loop"), *self.again()]
        # long callback(map, key, value, ctx)
        body = [_mov(6, 4), _mov(7, 3), _load(8, 7, 0), _load(9, 6, 0), _add(8, 1), _store(7, 8, 0)]
        body += [
            _named("add64.reg", dst=9, src=8),
            _store(6, 9, 0),
            _mov(0, 9),
            _named("and64.imm", dst=0, imm=1),
            _EXIT,
        ]
        arguments = [*_map(1, rng.choice(VALUE_MAPS)), Insn(0x18, 2, 4, 0, _SUBPROG + self.function(body)), Insn(0)]
        return [*arguments, *_at(3, -64), _set(4, 0), _helper("for_each_map_elem"), *self.again()]


_PARTS: tuple[Callable[[Generator], list[Insn]], ...] = (
    *(Generator.branch, Generator.branch, Generator.loop, Generator.lookup, Generator.lookup, Generator.update),
    *(
        Generator.update,
        Generator.delete,
        Generator.data,
        Generator.queue,
        Generator.ring,
        Generator.csum,
        Generator.xdp,
    ),
    *(Generator.adjust, Generator.numbers, Generator.probe, Generator.tail_call, Generator.call, Generator.callback),
)
