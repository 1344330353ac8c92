"""Many runs of one program on one CPU in machine code: one after the other, as if each had been started from Python.

``Loop.repeat`` runs a program on one context again and again; ``Loop.frames`` on frames, each put into a buffer of its
own first. Helpers in Python are called in between where programs call them, so everything that a run can see and do is
there: maps, program arrays, the time of the CPU, which goes on with each run.

What a caller has to do between two runs (hand a frame to the stack, send it) ends the loop: ``stops`` says behind which
return values. A run that ends in an exception ends it too; ``Loop.done`` then is the number of the row.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.jit import layout
from ebpfsim.jit.engine import Entry, entry_of
from ebpfsim.jit.entry import (
    B_AFTER_PS,
    B_BEFORE_PS,
    B_BUFFER,
    B_BUFFERS,
    B_BUFFERS_END,
    B_CLEAN,
    B_COSTS_OUT,
    B_COUNT,
    B_CTX,
    B_DURATION,
    B_FRAME_SZ,
    B_INDEX,
    B_INSNS_OUT,
    B_REPEAT,
    B_RETVALS,
    B_REWIND,
    B_ROWS,
    B_RXQ,
    B_START_PS,
    B_STOPS,
    B_TAIL_CALLS_OUT,
    B_TO_NS,
    BUFFER_BYTES,
    ROW_BYTES,
)
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Ran

__all__ = ["Buffers", "Loop", "Rows", "address_of", "run_repeatedly"]

_BYTES_HEADER = bytes.__basicsize__ - 1


def address_of(data: bytes) -> int:
    """Return where the contents of a bytes object lie in this process."""
    # CPython, without which there is no machine code, has the address of an object as its identity
    return id(data) + _BYTES_HEADER


class RanRow(NamedTuple):
    """What a row came to; of R0 only the return value is known."""

    r0: int
    retval: int
    insns: int
    cost_ps: int
    tail_calls: int


class Buffers(NamedTuple):
    """Buffers for frames, used in turn.

    ``pairs`` are the simulated addresses of each ``struct xdp_buff`` and its page, ``rxq`` the address of the
    ``struct xdp_rxq_info``, ``frame_sz`` the bytes of a page. ``clean``: programs may have written to the headroom.
    """

    pairs: "array[int]"
    rxq: int
    frame_sz: int
    clean: bool = False


class Rows:
    """Frames: where the bytes of each lie in this process, and how many; whoever uses them keeps them there."""

    __slots__ = ("words",)

    def __init__(self) -> None:
        self.words: array[int] = array("Q")

    def __len__(self) -> int:
        return len(self.words) // 2

    def outside(self, least: int, most: int) -> list[int]:
        """Return the numbers of the rows whose frames are shorter or longer than that."""
        sizes = self.words[1::2]
        if not sizes or (min(sizes) >= least and max(sizes) <= most):
            return []
        return [number for number, size in enumerate(sizes) if not least <= size <= most]

    @classmethod
    def of(cls, frames: Sequence[bytes]) -> "Rows":
        """Return rows for frames, which the caller keeps."""
        rows = cls()
        for frame in frames:
            rows.words.append(address_of(frame))
            rows.words.append(len(frame))
        return rows


class Loop:
    """A loop of at most ``capacity`` rows; ``retvals``, ``insns``, ``costs_ps`` and ``tail_calls`` are by row.

    ``insns`` and ``costs_ps`` are sums over the repetitions of a row, the others come from the last one.
    """

    def __init__(self, entry: Entry, capacity: int = 1) -> None:
        self.entry = entry
        self.capacity = capacity
        self.retvals: array[int] = array("I", bytes(4 * capacity))
        self.insns: array[int] = array("Q", bytes(8 * capacity))
        self.costs_ps: array[int] = array("Q", bytes(8 * capacity))
        self.tail_calls: array[int] = array("Q", bytes(8 * capacity))

    @property
    def done(self) -> int:
        """The number of rows that the last call got through."""
        return self.entry.words[B_INDEX]

    @property
    def duration_ns(self) -> int:
        """The sum over the rows of the last call of the mean time of a run, each in whole nanoseconds."""
        return self.entry.words[B_DURATION]

    def ran(self, row: int) -> Ran:
        """Return what a row came to."""
        retval = self.retvals[row]
        return RanRow(retval, retval, self.insns[row], self.costs_ps[row], self.tail_calls[row])

    def repeat(self, ctx: int, times: int) -> int:
        """Run the program on a context ``times`` times and return the last return value."""
        words = self.entry.words
        words[B_CTX], words[B_ROWS], words[B_COUNT] = ctx, 0, 1
        words[B_REPEAT], words[B_REWIND] = times, 0
        words[B_BEFORE_PS] = words[B_AFTER_PS] = words[B_STOPS] = 0
        self._go()
        return self.retvals[0]

    def frames(
        self,
        rows: Rows,
        first: int,
        count: int,
        buffers: Buffers,
        *,
        repeat: int = 1,
        rewind: bool = False,
        before_ps: int = 0,
        after_ps: int = 0,
        stops: int = 0,
    ) -> int:
        """Run the program on ``count`` rows from the row ``first`` on, and return how many it was.

        Their frames have to fit into the linear part of a page.

        The CPU is charged ``before_ps`` in front of a row and ``after_ps`` behind it; with ``rewind`` its time begins
        anew with each row. Unless ``stops`` is 0, the loop ends behind a return value whose bit is set there, and
        behind one above 63.
        """
        if not 0 <= first <= first + count <= len(rows) or count > self.capacity:
            raise InternalError(f"rows {first} to {first + count} of {len(rows)} in a loop of {self.capacity}")
        words = self.entry.words
        address, _ = rows.words.buffer_info()
        pairs, _ = buffers.pairs.buffer_info()
        words[B_ROWS], words[B_COUNT] = address + first * ROW_BYTES, count
        words[B_BUFFERS] = words[B_BUFFER] = pairs
        words[B_BUFFERS_END] = pairs + len(buffers.pairs) // 2 * BUFFER_BYTES
        words[B_RXQ], words[B_FRAME_SZ], words[B_CLEAN] = buffers.rxq, buffers.frame_sz, buffers.clean
        words[B_REPEAT], words[B_REWIND], words[B_START_PS] = repeat, rewind, self.entry.cpu.elapsed_ps
        words[B_BEFORE_PS], words[B_AFTER_PS], words[B_STOPS] = before_ps, after_ps, stops
        self._go()
        return words[B_INDEX]

    def resume(self) -> None:
        """Go on behind a row that ended the loop before its last row."""
        entry, cpu = self.entry, self.entry.cpu
        record = entry.record.words
        record[layout.W_ELAPSED] = cpu.elapsed_ps
        try:
            entry.block.loop(None)
        finally:
            cpu.elapsed_ps = record[layout.W_ELAPSED]

    def _go(self) -> None:
        entry, cpu = self.entry, self.entry.cpu
        words, record = entry.words, entry.record.words
        words[B_INDEX] = words[B_DURATION] = 0
        words[B_TO_NS] = 1000 * words[B_REPEAT]
        words[B_RETVALS], _ = self.retvals.buffer_info()
        words[B_INSNS_OUT], _ = self.insns.buffer_info()
        words[B_COSTS_OUT], _ = self.costs_ps.buffer_info()
        words[B_TAIL_CALLS_OUT], _ = self.tail_calls.buffer_info()
        record[layout.W_START_TOP] = cpu.stack_top
        record[layout.W_CLOCK] = entry.image.kernel.clock.now_ns
        record[layout.W_ELAPSED] = cpu.elapsed_ps
        try:
            entry.block.loop(None)
        finally:
            cpu.elapsed_ps = record[layout.W_ELAPSED]


def run_repeatedly(prog: Prog, ctx: int, cpu: Cpu, times: int) -> int:
    """Run a program on a context ``times`` times, by whichever engine, and return the last return value."""
    entry = entry_of(prog, cpu)
    if entry is not None:
        return Loop(entry).repeat(ctx, times)
    run, retval = prog.run, 0
    for _ in range(times):
        retval = run(ctx, cpu)
    return retval
