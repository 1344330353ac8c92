"""Instructions as lines of Python: what the closures of ``alu_ops`` and ``mem_ops`` do, with registers as local names.

A ``Path`` is one way through the program while it is being written: which registers are in local names (``r3``), which
of them the state does not have yet, and which memory has been checked already. Expressions are those of
``ebpfsim.isa.alu``; only register numbers and constants go into them.

A line that looks an address up may fail, by IndexError: then the closures do the instruction again (``Point``), and
raise what there is to raise. Checks may therefore ask for more than an instruction needs: a block's accesses from one
register are checked together, at the first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ebpfsim.isa.alu import BINARY_TEXT, COMPARE_TEXT, NAMES, UNARY_TEXT, u64
from ebpfsim.isa.table import BY_NAME, Form
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.memory.arena import MAPPED, PAGE_SHIFT, PAGE_SIZE, U8, U16, U32, U64
from ebpfsim.vm.compile import Site
from ebpfsim.vm.state import LEFT, Block

__all__ = ["WRITERS", "Path", "Point", "Source", "condition", "names", "written"]

_BY_SIZE = {1: U8, 2: U16, 4: U32, 8: U64}
_SOURCE_BASED = (Form.LDX, Form.LDSX, Form.PROBE_LDX, Form.PROBE_LDSX, Form.LOAD_ACQUIRE)
_READS = (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
_WRITES_NOTHING = (Form.ST, Form.STX, Form.STORE_RELEASE, Form.ATOMIC, Form.NOSPEC)
INDENT = "    "


def names(mem: Memory) -> dict[str, object]:
    """Return the global names of the functions."""
    found: dict[str, object] = {**NAMES, "buf": mem.buf, "pages": mem.pages}
    for size, number in _BY_SIZE.items():
        found[f"load{size}"], found[f"store{size}"] = number.unpack_from, number.pack_into
    return found


def written(site: Site) -> int | None:
    """Return the register that an instruction of straight code writes, or None."""
    row = site.row if site.row.form is not Form.ARENA else BY_NAME[site.row.op]
    form = row.form
    if form in _WRITES_NOTHING:
        return None
    if form in (Form.ATOMIC_FETCH, Form.XCHG):
        return site.insn.src
    return 0 if form is Form.CMPXCHG else site.insn.dst


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes around a register's address, ``low`` to ``high`` (included), that are known to be mapped."""

    low: int
    high: int
    writable: bool

    def with_(self, low: int, high: int, writable: bool) -> "Window | None":
        """Return the window that has other bytes too, or None where that is more than two pages can hold."""
        low, high = min(self.low, low), max(self.high, high)
        return Window(low, high, self.writable or writable) if high - low < PAGE_SIZE else None


@dataclass(frozen=True, slots=True)
class Point:
    """Where the closures go on: instruction ``number`` of a block; ``used`` of the budget, registers not yet stored."""

    block: Block
    number: int
    used: int
    dirty: frozenset[int]


class Source:
    """The lines of a function. ``points`` is by number of line."""

    def __init__(self, first_line: int) -> None:
        self.first_line = first_line
        self.lines: list[str] = []
        self.points: dict[int, Point] = {}
        self.names: dict[str, object] = {}  # global ones, beside those of ``names``

    def add(self, depth: int, text: str) -> int:
        """Append a line and return its number."""
        self.lines.append(INDENT * depth + text)
        return self.first_line + len(self.lines) - 1


class Path:
    """One way through the program. ``used`` counts instructions since ``left`` was last read from the state."""

    def __init__(self, source: Source, depth: int, ahead: frozenset[int], dirty: frozenset[int]) -> None:
        self.source, self.depth = source, depth
        self.used = 0
        self.block: Block | None = None
        self.number = 0  # of the instruction in its block
        self.sites: list[Site] = []  # of the block
        self.loaded = set(ahead)
        self.dirty = set(dirty)
        self.stale: set[int] = set()  # registers that were local names until a call changed them
        self.missed: set[int] = set()  # registers that had to be loaded, shared by all paths of a function
        self.windows: dict[int, Window] = {}

    def branch(self) -> "Path":
        """Return a copy for the inside of an ``if``."""
        other = Path(self.source, self.depth + 1, frozenset(self.loaded), frozenset(self.dirty))
        other.used, other.block, other.number, other.sites = self.used, self.block, self.number, self.sites
        other.stale, other.missed, other.windows = set(self.stale), self.missed, dict(self.windows)
        return other

    def line(self, text: str) -> None:
        """Write a line."""
        self.source.add(self.depth, text)

    def guard(self, text: str) -> None:
        """Write a line that may raise IndexError."""
        assert self.block is not None
        point = Point(self.block, self.number, self.used, frozenset(self.dirty))
        self.source.points[self.source.add(self.depth, text)] = point

    def get(self, reg: int) -> str:
        """Return a register's name, which has its value from here on."""
        if reg not in self.loaded:
            self.line(f"r{reg} = state[{reg}]")
            self.loaded.add(reg)
            if reg not in self.stale:
                self.missed.add(reg)
        return f"r{reg}"

    def set(self, reg: int, text: str) -> None:
        """Write an assignment to a register."""
        self.line(f"r{reg} = {text}")
        self.loaded.add(reg)
        self.dirty.add(reg)
        self.windows.pop(reg, None)

    def store_state(self) -> None:
        """Bring the state up to date."""
        for reg in sorted(self.dirty):
            self.line(f"state[{reg}] = r{reg}")
        self.dirty.clear()
        self.line(f"state[{LEFT}] = left - {self.used}" if self.used else f"state[{LEFT}] = left")

    def forget(self, *registers: int) -> None:
        """Let registers be what the state has, and memory be what it is."""
        self.loaded.difference_update(registers)
        self.stale.update(registers)
        self.windows.clear()

    def offset(self, site: Site) -> str:
        """Write the check of an access, as far as it is needed; return the expression of its offset in the RAM."""
        base, off = _base(site), site.insn.off
        name = self.get(base)
        window = self.windows.get(base)
        if window is None:
            self.line(f"o{base} = {name} ^ {KERNEL_BASE}")
        if not _covers(window, off, off + site.row.size - 1, site.row.form not in _READS):
            self.windows[base] = self._check(base, window)
        return f"o{base} {off:+d}" if off else f"o{base}"

    def _check(self, base: int, known: Window | None) -> Window:
        # the first and the last byte of a window lie on pages that allow it, and no page is between them
        window = self._window(base)
        joined = known.with_(window.low, window.high, window.writable) if known else None
        if joined is None or known is None or (joined.writable and not known.writable):
            ends = sorted({window.low, window.high})
        else:
            ends = [end for end, old in ((joined.low, known.low), (joined.high, known.high)) if end != old]
            window = joined
        wanted = f"!= {MAPPED}" if window.writable else f"== {0}"
        failed = " or ".join(f"pages[o{base} {end:+d} >> {PAGE_SHIFT}] {wanted}" for end in ends)
        self.guard(f"if {failed}: raise IndexError")
        return window

    def _window(self, base: int) -> Window:
        # what this instruction and those behind it in the block access from the register as it is now
        window: Window | None = None
        for site in self.sites[self.number :]:
            if site.row.size and _base(site) == base and site.row.form not in (Form.PROBE_LDX, Form.PROBE_LDSX):
                low, high = site.insn.off, site.insn.off + site.row.size - 1
                writable = site.row.form not in _READS
                wider = window.with_(low, high, writable) if window else Window(low, high, writable)
                if wider is None:
                    break
                window = wider
            if written(site) == base:
                break
        assert window is not None
        return window


def _covers(window: Window | None, low: int, high: int, writable: bool) -> bool:
    return window is not None and window.low <= low and high <= window.high and (window.writable or not writable)


def _base(site: Site) -> int:
    return site.insn.src if site.row.form in _SOURCE_BASED else site.insn.dst


def _load(size: int, offset: str) -> str:
    return f"buf[{offset}]" if size == 1 else f"load{size}(buf, {offset})[0]"


def _store(path: Path, size: int, offset: str, value: str) -> None:
    path.line(f"buf[{offset}] = {value}" if size == 1 else f"store{size}(buf, {offset}, {value})")


def _masked(value: str, bits: int) -> str:
    return value if bits == 64 else f"{value} & {(1 << bits) - 1}"


def condition(site: Site, path: Path) -> str:
    """Return the expression that tells whether a jump is taken."""
    b = path.get(site.insn.src) if site.row.form is Form.JMP_REG else str(u64(site.insn.imm))
    return COMPARE_TEXT[site.row.op].format(a=path.get(site.insn.dst), b=b)


def _alu(site: Site, path: Path) -> None:
    text, dst = BINARY_TEXT[site.row.op], site.insn.dst
    a = path.get(dst) if "{a}" in text else ""
    b = path.get(site.insn.src) if site.row.form is Form.ALU_REG else str(u64(site.insn.imm))
    path.set(dst, text.format(a=a, b=b))


def _alu_unary(site: Site, path: Path) -> None:
    path.set(site.insn.dst, UNARY_TEXT[site.row.op].format(a=path.get(site.insn.dst)))


def _movsx(site: Site, path: Path) -> None:
    path.set(site.insn.dst, UNARY_TEXT[site.row.op].format(a=path.get(site.insn.src)))


def _constant(site: Site, path: Path) -> None:
    path.set(site.insn.dst, str(site.constant))


def _ldx(site: Site, path: Path) -> None:
    value = _load(site.row.size, path.offset(site))
    if site.row.op:
        path.line(f"x = {value}")
        value = UNARY_TEXT[site.row.op].format(a="x")
    path.set(site.insn.dst, value)


def _probe(site: Site, path: Path) -> None:
    src, size, last = path.get(site.insn.src), site.row.size, site.row.size - 1
    path.line(f"o = {src} + {site.insn.off} & M64 ^ {KERNEL_BASE}")
    mapped = f"o >> {PAGE_SHIFT} < len(pages) and pages[o >> {PAGE_SHIFT}] and pages[o + {last} >> {PAGE_SHIFT}]"
    path.line(f"x = {_load(size, 'o')} if {mapped} else 0")
    path.set(site.insn.dst, UNARY_TEXT[site.row.op].format(a="x") if site.row.op else "x")


def _st(site: Site, path: Path) -> None:
    bits = 8 * site.row.size
    _store(path, site.row.size, path.offset(site), str(site.insn.imm & (1 << bits) - 1))


def _stx(site: Site, path: Path) -> None:
    offset = path.offset(site)
    _store(path, site.row.size, offset, _masked(path.get(site.insn.src), 8 * site.row.size))


def _atomic(site: Site, path: Path) -> None:
    offset, src, size = path.offset(site), site.insn.src, site.row.size
    operand = path.get(src)
    path.line(f"x = {_load(size, offset)}")
    _store(path, size, offset, BINARY_TEXT[site.row.op].format(a="x", b=operand))
    if site.row.form is Form.ATOMIC_FETCH:
        path.set(src, "x")


def _xchg(site: Site, path: Path) -> None:
    offset, src = path.offset(site), site.insn.src
    operand = _masked(path.get(src), site.row.bits)
    path.line(f"x = {_load(site.row.size, offset)}")
    _store(path, site.row.size, offset, operand)
    path.set(src, "x")


def _cmpxchg(site: Site, path: Path) -> None:
    offset, bits = path.offset(site), site.row.bits
    expected, operand = _masked(path.get(0), bits), _masked(path.get(site.insn.src), bits)
    path.line(f"x = {_load(site.row.size, offset)}")
    inside = path.branch()
    path.line(f"if x == {expected}:")
    _store(inside, site.row.size, offset, operand)
    path.set(0, "x")


def _by_closure(site: Site, path: Path) -> None:
    assert path.block is not None
    path.store_state()
    name = f"op{site.idx}"
    path.source.names[name] = path.block.ops[path.number]
    path.line(f"{name}(state)")
    changed = written(site)
    if changed is not None:
        path.forget(changed)


def _nothing(_site: Site, _path: Path) -> None:
    pass


WRITERS: dict[Form, Callable[[Site, Path], None]] = {
    Form.ALU_IMM: _alu,
    Form.ALU_REG: _alu,
    Form.ALU_UNARY: _alu_unary,
    Form.MOVSX: _movsx,
    Form.LD_IMM64: _constant,
    Form.LDX: _ldx,
    Form.LDSX: _ldx,
    Form.PROBE_LDX: _probe,
    Form.PROBE_LDSX: _probe,
    Form.ST: _st,
    Form.STX: _stx,
    Form.ATOMIC: _atomic,
    Form.ATOMIC_FETCH: _atomic,
    Form.XCHG: _xchg,
    Form.CMPXCHG: _cmpxchg,
    Form.LOAD_ACQUIRE: _ldx,
    Form.STORE_RELEASE: _stx,
    Form.NOSPEC: _nothing,
    Form.ARENA: _by_closure,
    Form.ADDR_SPACE_CAST: _by_closure,
}
