"""Arenas: every row on both engines against the same access elsewhere, at the edges of pages and of the arena."""

from typing import Any

import pytest

from ebpfsim.errors import KernelOops, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, TABLE, Form, Row
from ebpfsim.jit.engine import compile_prog as compile_jit
from ebpfsim.jit.engine import execute, unavailable
from ebpfsim.maps.arena import ArenaMap
from ebpfsim.maps.map import MapAttr
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.vm.interp import compile_prog as compile_interp

ROWS = [row for row in TABLE if row.form is Form.ARENA]
LOADS = (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
# the low half of the start is not 0 where user space chose it so
STARTS = (1 << 44, (1 << 44) + (7 << 20))
PAGES = 4
M32, M64 = (1 << 32) - 1, (1 << 64) - 1
ENGINES = ["interp", "hot", "jit"]


def wide(reg: int, value: int) -> list[Insn]:
    low, high = (((half & M32) ^ 1 << 31) - (1 << 31) for half in (value, value >> 32))
    return [Insn(0x18, reg, 0, 0, low), Insn(0, imm=high)]


class World:
    """A machine with an arena whose pages 0, 1 and 3 exist; ``run`` gives the registers after an instruction."""

    def __init__(self, make_machine: Any, engine: str, start: int) -> None:
        self.machine = make_machine()
        if engine == "jit" and unavailable():
            pytest.skip(unavailable())
        self.compile = compile_jit if engine == "jit" else compile_interp
        attr = MapAttr(MapType.ARENA, 0, 0, PAGES, map_extra=start)
        self.arena = ArenaMap(attr, self.machine.mem, 1)
        for page in (0, 1, 3):
            assert self.arena.alloc_pages(start + page * PAGE_SIZE, 1)
            self.machine.mem.write(self.arena.base + page * PAGE_SIZE, bytes(n % 251 for n in range(PAGE_SIZE)))
        self.out = self.machine.mem.alloc(128)

    def run(self, insns: list[Insn], maps: bool = True) -> list[int]:
        code = [*insns, *wide(11, self.out)]
        code += [Insn(0x7B, 11, reg, 8 * reg) for reg in range(10)]
        code += assemble("r0 = 0; exit")
        prog = Prog("test", ProgType.XDP, AttachType.XDP, tuple(code), (), (self.arena,) if maps else ())
        prog.run = self.compile(prog, self.machine)
        execute(prog, 0, self.machine.cpus[0])
        return [self.machine.mem.load(self.out + 8 * reg, 8) for reg in range(10)]

    def memory(self) -> bytes:
        base = self.arena.base
        return b"".join(bytes(self.machine.mem.read(base + page * PAGE_SIZE, PAGE_SIZE)) for page in (0, 1, 3))


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest, make_machine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("ebpfsim.vm.hot.HEAT", 1 if request.param == "hot" else 0)
    monkeypatch.setattr("ebpfsim.vm.hot.RARE", 0)
    return lambda start=STARTS[0]: World(make_machine, request.param, start)


def registers(pointer: int, dst: int, src: int, base: str) -> list[Insn]:
    code = [insn for reg in range(10) for insn in wide(reg, 0x1111_2222_3333_4444 * (reg + 1) & M64)]
    return [*code, *wide(dst if base == "dst" else src, pointer)]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_does_in_arenas_what_it_does_elsewhere(row: Row, start: int, world: Any) -> None:
    plain = BY_NAME[row.op]
    base = "src" if plain.form in LOADS else "dst"
    for dst, src in ((1, 2), (6, 3), (3, 8), (4, 4), (0, 5)):
        if dst == src and base == "dst" and plain.form not in (Form.ST, Form.STX):
            continue  # an atomic whose operand is its address: the addresses differ
        for place, off, upper in ((0, 0, start & ~M32), (PAGE_SIZE + 1, -1, 0), (PAGE_SIZE - 2, 0, 0x7777 << 32)):
            fields = {"dst": dst, "src": src, "off": off, "imm": -7}
            slot, other = (r.insn(**{name: fields[name] for name in row.operands}) for r in (row, plain))
            inside, outside = world(start), world(start)
            pointer = upper | (start + place & M32)
            got = inside.run([*registers(pointer, dst, src, base), slot])
            expected = outside.run([*registers(outside.arena.base + place, dst, src, base), other])
            reg = dst if base == "dst" else src
            for number in range(10):
                same = got[number] == expected[number]
                assert same or (number == reg and got[reg] == pointer), (number, hex(got[number]))
            if not (dst == src and plain.form is Form.STX):
                assert inside.memory() == outside.memory()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_where_no_page_is_loads_give_0_and_stores_do_nothing(row: Row, world: Any) -> None:
    plain = BY_NAME[row.op]
    load = plain.form in LOADS
    inside = world()
    before = inside.memory()
    first = 2 * PAGE_SIZE
    # wholly in a page that is not there, partly, behind the arena, before it
    places = [(first, 0), (first, 5), (PAGES * PAGE_SIZE, 0), (0, -1), (M32, 0)]
    if row.size > 1:
        places += [(first - row.size + 1, 0), (first, -1)]
    for place, off in places:
        fields = {"dst": 6, "src": 3, "off": off, "imm": 5}
        slot = row.insn(**{name: fields[name] for name in row.operands})
        pointer = STARTS[0] + place & M64
        got = inside.run([*registers(pointer, 6, 3, "src" if load else "dst"), slot])
        for number in range(10):
            old = 0x1111_2222_3333_4444 * (number + 1) & M64
            base = number == (3 if load else 6)
            assert got[number] == (0 if load and number == 6 else pointer if base else old), (place, off, number)
    assert inside.memory() == before


def test_casts(world: Any) -> None:
    # BPF_ADDR_SPACE_CAST as the verifier leaves it to the JIT of x86: 0 stays 0
    inside = world()
    to_user, to_kernel = (BY_NAME["addr_space_cast"].insn(dst=6, src=3, imm=imm) for imm in (1 << 16, 1))
    for value, user in (
        (STARTS[0] + 5, STARTS[0] + 5),
        (5, STARTS[0] + 5),
        (0x77 << 32, 0),
        (0, 0),
        (M64, STARTS[0] | M32),
    ):
        assert inside.run([*wide(3, value), to_user])[6] == user
        assert inside.run([*wide(3, value), to_kernel])[6] == value & M32
    with pytest.raises(NotModelled, match="address space cast 0x20001"):
        inside.run([BY_NAME["addr_space_cast"].insn(dst=6, src=3, imm=0x20001)])


def test_an_access_needs_an_arena(world: Any) -> None:
    with pytest.raises(NotModelled, match=r"'ldx.u32' in an arena by a program that has none"):
        world().run([BY_NAME["arena_ldx.u32"].insn(dst=1, src=2)], maps=False)


@pytest.mark.parametrize("engine", ["interp", "jit"])
@pytest.mark.parametrize(
    ("page", "off", "bug"),
    [
        (2, 0, "arena-use-of-no-page"),
        (1, PAGE_SIZE - 4, "arena-use-of-no-page"),  # the second half
        (PAGES, 0, "arena-out-of-bounds"),
        (0, -8, "arena-out-of-bounds"),
    ],
)
@pytest.mark.parametrize("row", [row for row in ROWS if row.size == 8], ids=lambda row: row.name)
def test_debug_mode_tells_where_no_page_is(
    make_machine: Any, engine: str, page: int, off: int, bug: str, row: Row
) -> None:
    world = World(lambda: make_machine(debug=True), engine, STARTS[0])
    load = BY_NAME[row.op].form in LOADS
    fields = {"src" if load else "dst": 1, "dst" if load else "src": 2}
    slot = row.insn(**{name: value for name, value in fields.items() if name in row.operands})
    address = STARTS[0] + page * PAGE_SIZE + off
    with pytest.raises(KernelOops) as error:
        world.run([*wide(1, address), *wide(2, 1), slot])
    kind = "read" if load else "write"
    assert (error.value.reason, error.value.insn_idx) == (f"{bug}: {kind} of 8 bytes", 4)
    # only the low half of a pointer counts
    assert error.value.address == STARTS[0] + (address - STARTS[0] & M32)
