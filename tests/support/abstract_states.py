"""Every concrete register inside the verifier's abstract state: what is proved of a program, held against its runs.

``Watched`` loads the programs of ``verified_programs`` into a simulated kernel in debug mode. Each is verified as
usual, and once more with all states of all instructions noted; then it runs instruction by instruction, and before each
one some noted state must hold all registers.

The second time a path only ends at a state that contains the current one in all registers. In an ordinary walk, numbers
that do not matter for safety need not be contained in what the walk goes on with, as in Linux.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from struct import Struct
from typing import Any
from unittest.mock import patch

from ranges import M64, holds
from side_by_side import CPUS, Simulated
from verified_programs import Generator, Program, bind, packet

from ebpfsim.errors import KernelError, NotModelled, VerifierError
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.maps.map import Map
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_MAP,
    NOT_INIT,
    PTR_MAYBE_NULL,
    PTR_TO_CTX,
    PTR_TO_MAP_VALUE,
    PTR_TO_PACKET,
    PTR_TO_PACKET_END,
    PTR_TO_STACK,
    SCALAR_VALUE,
)
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier import compare, prune, verify
from ebpfsim.verifier.env import Env, LoadAttr
from ebpfsim.verifier.state import Reg
from ebpfsim.vm.step import Step, Stepper
from netstack.bpf_net_context import bpf_net_context
from netstack.xdp_buff import make_xdp_buff

__all__ = ["Violation", "Watched"]

MOST_PROCESSED = 30_000  # a program with more paths is left out
ALL_REGISTERS = (1 << 11) - 1
_LINE_INFO = Struct("<IIII")
_XDP_BUFF = Struct("<QQ")  # data, data_end: include/net/xdp.h

# what an instruction may find: for each walk that came by, how deep the calls are, and R0 to R10
Found = dict[int, list[tuple[int, list[Reg]]]]


class Violation(Exception):
    """A register held what no abstract state of the instruction allows."""


@contextmanager
def _noting(found: Found) -> Iterator[None]:
    def noted(handler: Any) -> Any:
        def note(env: Env, insn: Insn) -> int:
            frames = env.cur_state.frames
            found.setdefault(env.insn_idx, []).append((len(frames), frames[-1].regs[:]))
            done: int = handler(env, insn)
            return done

        return note

    def all_matters(env: Env, old: Any, cur: Any, _live: int, ids: Any, exact: int) -> bool:
        return frames_equal(env, old, cur, ALL_REGISTERS, ids, exact)

    def ranges_matter(env: Env, old: Reg, cur: Reg, ids: Any, exact: int) -> bool:
        return scalar_safe(env, old, cur, ids, exact or compare.RANGE_WITHIN)

    def keep(_env: Env, state: Any) -> None:
        state.cleaned = True

    frames_equal, scalar_safe = compare._frames_equal, compare._scalar_safe
    with ExitStack() as stack:
        handlers = {kind: noted(handler) for kind, handler in verify._HANDLERS.items()}
        stack.enter_context(patch.object(verify, "_HANDLERS", handlers))
        stack.enter_context(patch.object(verify, "BPF_COMPLEXITY_LIMIT_INSNS", MOST_PROCESSED))
        stack.enter_context(patch.object(compare, "_frames_equal", all_matters))
        stack.enter_context(patch.object(compare, "_scalar_safe", ranges_matter))
        stack.enter_context(patch.object(prune, "_clean_state", keep))
        yield


class Watched(Simulated):
    """A simulated kernel whose programs are watched; ``steps`` does the next ones."""

    def __init__(self, seed: int) -> None:
        super().__init__("interp", CPUS, 0, debug=True)
        self.rng = random.Random(seed)
        self.generator = Generator(self.rng, live=False)
        self.counts: Counter[str] = Counter()
        self.found: dict[Prog, Found] = {}
        self._verify = self.kernel.verify
        self._noted: Found | None = None
        self.kernel.verify = self._verify_twice  # type: ignore[method-assign]

    def _verify_twice(self, attr: LoadAttr) -> Any:
        verified = self._verify(attr)
        found: Found = {}
        with _noting(found):
            try:
                self._verify(replace(attr, log_level=0))
                self._noted = found
            except VerifierError:
                self._noted = None
        return verified

    def load(self, program: Program) -> int:
        insns = bind(program, self.fds)
        # the line of an instruction is its slot: so rewritten programs tell where they come from
        lines = b"".join(_LINE_INFO.pack(at, 0, 0, at << 10) for at, insn in enumerate(insns) if insn.code)
        info = program.func_info
        loaded = self.bpf.prog_load(
            ProgType.XDP, encode(insns), prog_btf_fd=self.btf_fd, func_info=info, line_info=lines
        )
        fd: int = loaded.fd
        self.progs.append(fd)
        return fd

    def steps(self, count: int) -> None:
        """Go on until so many programs were verified and run."""
        while self.counts["programs"] < count:
            self.step()

    def step(self) -> None:
        """Verify and run one program; Violation when a register is where no state has it."""
        program = self.generator.program()
        try:
            fd = self.load(program)
        except (KernelError, NotModelled):
            self.counts["refused"] += 1
            return
        if self._noted is None:
            self.counts["with too many paths"] += 1
            return
        prog = self.kernel.fds.lookup(fd)
        places = {at: col >> 10 for at, _, _, col in _LINE_INFO.iter_unpack(prog.line_info)}
        self.found[prog] = {at: self._noted.get(place, []) for at, place in places.items()}
        self.counts["programs"] += 1
        for _ in range(2):
            self._watch(prog, packet(self.rng), program)
        if self.rng.random() < 0.5:
            self.offer(fd, self.rng.randrange(5))

    def _watch(self, prog: Prog, data: bytes, program: Program) -> None:
        xdp = make_xdp_buff(self.kernel.mem, data, self.rxq)
        cpu = self.kernel.cpus[self.cpu]

        def look(step: Step) -> None:
            states = self.found[step.prog].get(step.insn_idx)
            if states is None:
                return  # inside what an instruction was rewritten to
            self.counts["instructions"] += 1
            self._look(states, step, xdp.address)

        try:
            with bpf_net_context(cpu):
                Stepper(prog, self.kernel, look).run(xdp.address, cpu)
        except Violation as violation:
            parts = " ".join(program.parts)
            raise Violation(f"{violation}\nparts: {parts}\npacket: {data.hex()}\nslots: {program.insns!r}") from None
        finally:
            xdp.close()

    def _look(self, states: list[tuple[int, list[Reg]]], step: Step, ctx: int) -> None:
        values = step.registers
        area = _XDP_BUFF.unpack(self.kernel.mem.read(ctx, _XDP_BUFF.size))
        closest: list[int] = list(range(11))
        for depth, regs in states:
            wrong = [
                regno
                for regno, (reg, value) in enumerate(zip(regs, values, strict=False))
                if reg.type != NOT_INIT and not _allows(reg, value, depth, values[10], ctx, area)
            ]
            if not wrong:
                self.counts["registers"] += 10
                return
            closest = min(closest, wrong, key=len)
        spelled = ", ".join(f"r{regno} = {values[regno]:#x}" for regno in closest)
        raise Violation(f"{step}: {spelled} in none of {len(states)} states")


def _allows(reg: Reg, value: int, depth: int, frame: int, ctx: int, area: tuple[int, ...]) -> bool:
    # does an abstract register hold a value, as far as can be told from outside of the verifier
    if reg.type == SCALAR_VALUE:
        return holds(reg.b, value)
    if reg.type & PTR_MAYBE_NULL:
        return True
    if not value:
        return False
    base = reg.type & BASE_TYPE_MASK
    moved = value - reg.off & M64
    if base == PTR_TO_CTX:
        return moved == ctx
    if base == PTR_TO_STACK:
        # pointers into the frames of callers: their frames are not at hand
        return reg.frameno != depth - 1 or holds(reg.b, moved - frame & M64)
    if base == PTR_TO_PACKET_END:
        return value == area[1]
    if base == PTR_TO_PACKET:
        proved = reg.raw if isinstance(reg.raw, int) else 0
        return (
            area[0] <= moved
            and (proved <= 0 or moved + proved <= area[1])
            and (reg.id != 0 or holds(reg.b, moved - area[0]))
        )
    if base == CONST_PTR_TO_MAP:
        return isinstance(reg.raw, Map) and value == reg.raw.address
    return base != PTR_TO_MAP_VALUE or isinstance(reg.raw, Map)
