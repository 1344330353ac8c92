"""Blocks that run often become one function of Python, several times as fast as their closures.

A function begins at a block that was executed ``HEAT`` times and follows the ways on from there as a tree: jumps become
``if``, a way back to the first block the next turn of a loop, calls are done by the closures of their blocks. A way
that was hardly ever taken, or that leads to a block with a function of its own, ends the function: it stores the
registers and returns that block. ::

    def hot(state):
        left = state[13]
        r1 = state[1]; r8 = state[8]
        try:
            while True:
                o8 = r8 ^ 18446612682070000640
                if pages[o8 +12 >> 12] == 0 or pages[o8 +13 >> 12] == 0: raise IndexError
                r4 = load2(buf, o8 +12)[0]
                if r4 != 8:
                    ...
                    return b17
                ...
        except IndexError as error:
            return miss(error, state, locals())

Results, counts, costs and faults are those of the closures. The budget is looked at once a turn, for the longest way;
when it is nearly spent the closures count it down. Where an access may not be allowed they go on from its instruction.
The text consists of templates of ours and of numbers, so nothing that a program says is executed as Python.
"""

from collections.abc import Callable
from typing import Any

from ebpfsim.isa.table import Form, insn_len
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.compile import Site, Unit
from ebpfsim.vm.hot_ops import WRITERS, Path, Point, Source, condition, names
from ebpfsim.vm.state import CREDIT, LEFT, Block, State

__all__ = ["HEAT", "WarmUnit"]

# writing a function takes as long as some hundred runs of the closures
HEAT = 300
RARE = 20  # blocks that were executed less often are not followed
MOST_INSNS = 400
MOST_DEPTH = 24
_TAIL_CALL = HELPER_IDS["bpf_tail_call"]
_JUMPS = (Form.JMP_IMM, Form.JMP_REG)


class WarmUnit(Unit):
    """A program whose blocks count how often they run, and become functions."""

    def __init__(self, prog: Prog, kernel: Runtime) -> None:
        super().__init__(prog, kernel)
        self._names: dict[str, object] = {}

    def new_block(self, idx: int) -> Block:
        """Return a block that will be looked at when it was executed often."""
        return Block(idx, HEAT, self.warm)

    def warm(self, block: Block) -> None:
        """Give a block its function."""
        self._names = self._names or names(self.kernel.mem)
        Tree(self, block).write(self._names)

    def straight(self, block: Block) -> list[Site]:
        """Return a block's instructions that have closures in ``ops``."""
        found = []
        idx = block.insn_idx
        for _ in block.ops:
            found.append(self.sites[idx])
            idx += insn_len(self.insns[idx])
        return found

    def last(self, block: Block) -> Site | None:
        """Return the instruction that ends a block, or None where the next block just begins."""
        if block.count == len(block.ops):
            return None
        sites = self.straight(block)
        return self.sites[sites[-1].idx + insn_len(sites[-1].insn) if sites else block.insn_idx]


class Tree:
    """A function on its way: the ways on from a block."""

    def __init__(self, unit: WarmUnit, head: Block) -> None:
        self.unit, self.head = unit, head
        self.most_used = 0
        self.insns = 0
        self.loops = False
        self.back_dirty: set[int] = set()
        self.missed: set[int] = set()
        self._ahead: frozenset[int] = frozenset()
        self.source = Source(1)

    def write(self, shared: dict[str, object]) -> None:
        """Write the function, compile it and give it to the block."""
        ahead: frozenset[int] = frozenset()
        dirty: frozenset[int] = frozenset()
        self._walk(ahead, dirty)
        again = self.loops
        # what a turn of the loop finds in local names depends on what the turns before it left there
        while again or (self.loops and not (self.missed <= ahead and self.back_dirty <= dirty)):
            again = False
            dirty |= self.back_dirty
            ahead |= self.missed | dirty
            self._walk(ahead, dirty)
        text = "\n".join(self.source.lines)
        scope = {**shared, **self.source.names, "miss": _miss(self.source.points), "need": self.most_used}
        exec(compile(text, f"<instructions from {self.head.insn_idx} on>", "exec"), scope)
        function: Any = scope["hot"]
        self.head.hot_insns = self.most_used
        self.head.hot = function

    def _walk(self, ahead: frozenset[int], dirty: frozenset[int]) -> None:
        self.source = source = Source(1)
        self.most_used = self.insns = 0
        self._ahead = ahead
        self.missed = set()
        looping = self.loops
        source.add(0, "def hot(state):")
        source.add(1, f"left = state[{LEFT}]")
        for reg in sorted(ahead):
            source.add(1, f"r{reg} = state[{reg}]")
        source.add(1, "try:")
        if looping:
            source.add(2, "while True:")
        path = Path(source, 3 if looping else 2, ahead, dirty)
        path.missed = self.missed
        self._block(self.head, path, ())
        source.add(1, "except IndexError as error:")
        source.add(2, "return miss(error, state, locals())")

    def _block(self, block: Block, path: Path, trail: tuple[Block, ...]) -> None:
        trail = (*trail, block)
        self.insns += block.count
        path.used += block.count
        self.most_used = max(self.most_used, path.used)
        path.block, path.sites = block, self.unit.straight(block)
        for number, site in enumerate(path.sites):
            path.number = number
            WRITERS[site.row.form](site, path)
        path.number = len(path.sites)
        last = self.unit.last(block)
        if last is None:
            self._go(path.sites[-1].following, path, trail)
        else:
            self._end(block, last, path, trail)

    def _end(self, block: Block, site: Site, path: Path, trail: tuple[Block, ...]) -> None:
        if site.row.form in _JUMPS:
            self._jump(condition(site, path), site, path, trail)
        elif site.row.form in (Form.JA, Form.JA32):
            self._go(site.taken, path, trail)
        elif site.row.form is Form.MAY_GOTO:
            path.line(f"x = state[{CREDIT}]")
            self._side("not x", site.taken, path, trail)
            path.line(f"state[{CREDIT}] = x - 1")
            self._go(site.following, path, trail)
        elif site.row.form is Form.EXIT:
            path.store_state()
            path.line("return None")
        else:
            self._call(block, site, path, trail)

    def _jump(self, taken: str, site: Site, path: Path, trail: tuple[Block, ...]) -> None:
        if self._followed(site.taken, path, trail) and not self._followed(site.following, path, trail):
            self._side(f"not ({taken})", site.following, path, trail)
            self._go(site.taken, path, trail)
        else:
            self._side(taken, site.taken, path, trail)
            self._go(site.following, path, trail)

    def _side(self, text: str, block: Block, path: Path, trail: tuple[Block, ...]) -> None:
        path.line(f"if {text}:")
        self._go(block, path.branch(), trail)

    def _followed(self, block: Block, path: Path, trail: tuple[Block, ...]) -> bool:
        if block is self.head:
            return True
        return (
            block.hot is None
            and block not in trail
            and HEAT - block.heat >= RARE
            and self.insns + block.count <= MOST_INSNS
            and path.depth < MOST_DEPTH
        )

    def _go(self, block: Block, path: Path, trail: tuple[Block, ...]) -> None:
        if block is self.head:
            self._turn(path)
        elif self._followed(block, path, trail):
            self._block(block, path, trail)
        else:
            path.store_state()
            path.line(f"return {self._name(block)}")

    def _turn(self, path: Path) -> None:
        self.loops = True
        for reg in sorted(self._ahead - path.loaded):
            path.line(f"r{reg} = state[{reg}]")
        self.back_dirty |= path.dirty
        path.line(f"left -= {path.used}")
        path.line("if left >= need: continue")
        path.used = 0
        path.store_state()
        path.line(f"return {self._name(self.head)}")

    def _call(self, block: Block, site: Site, path: Path, trail: tuple[Block, ...]) -> None:
        # the closure does all of it; what comes back in registers is read again
        path.store_state()
        call = f"end{block.insn_idx}"
        self.source.names[call] = block.end
        if site.row.form is Form.CALL_HELPER and site.insn.imm == _TAIL_CALL:
            path.line(f"return {call}(state)")
            return
        following = site.following
        if not (following is self.head or self._followed(following, path, trail)):
            path.line(f"return {call}(state)")
            return
        path.line(f"{call}(state)")
        path.forget(*(range(6) if site.row.form is Form.CALL_LOCAL else (0,)))
        path.line(f"left = state[{LEFT}]")
        path.line(f"if left < need: return {self._name(following)}")
        path.used = 0
        self._go(following, path, trail)

    def _name(self, block: Block) -> str:
        name = f"b{block.insn_idx}"
        self.source.names[name] = block
        return name


def _miss(points: dict[int, Point]) -> Callable[[IndexError, State, dict[str, Any]], Block | None]:
    def miss(error: IndexError, state: State, values: dict[str, Any]) -> Block | None:
        """Go on in the closures, from the instruction whose access the function did not do."""
        trace = error.__traceback__
        if trace is None or trace.tb_next is not None:
            # of a helper, not of an access
            raise error
        point = points[trace.tb_lineno]
        for reg in point.dirty:
            state[reg] = values[f"r{reg}"]
        state[LEFT] = values["left"] - point.used
        for op in point.block.ops[point.number :]:
            op(state)
        return point.block.end(state)

    return miss
