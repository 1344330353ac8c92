"""Calls from machine code into Python: functions made for their places by the interpreter's own code.

Each takes the record of the activation, whose words hold the registers, and returns what becomes R0 (or, for tail calls
and careful code, a native address to go on at).
"""

from array import array
from collections.abc import Callable
from dataclasses import replace
from struct import Struct
from typing import Any, cast
from weakref import ref

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.helpers.tail_call import tail_call_target
from ebpfsim.isa.alu import u32
from ebpfsim.jit import layout
from ebpfsim.jit.native import Record
from ebpfsim.jit.program import Image
from ebpfsim.vm.call_ops import placed
from ebpfsim.vm.compile import ENDS, OPERATIONS, Site, call_by_number
from ebpfsim.vm.cost import tail_call_key
from ebpfsim.vm.state import RUN

__all__ = ["CallOut", "carry_on", "closure_call", "helper_call", "register_call", "tail_call"]

CallOut = Callable[[Record], int]

# R0 to R5, and the rest of what the interpreter's helper calls get: they look at the activation only
_ARGUMENTS = Struct("<6Q").unpack_from
_NO_MORE = (0,) * (RUN - 6)


def helper_call(site: Site) -> CallOut:
    """Return what calls the helper or kernel function of a place, or of another place with the same one.

    Its faults have no place: the record knows where it was called from.
    """
    end = cast(Callable[[list[Any]], object], ENDS[site.row.form](replace(site, idx=-1)))

    def call(record: Record) -> int:
        run, words = record.run, record.words
        run.arrive()
        run.cpu.stack_top = words[layout.W_STACK_TOP]
        state = [*_ARGUMENTS(record.memory), *_NO_MORE, run]
        end(state)
        run.resume()
        result: int = state[0]
        return result

    return call


def register_call(site: Site) -> CallOut:
    """Return what calls the helper whose number is in its word."""
    known: dict[int, CallOut] = {}

    def call(record: Record) -> int:
        number = record.words[layout.W_NUMBER]
        found = known.get(number)
        if found is None:
            found = known[number] = helper_call(call_by_number(site, number))
        return found(record)

    return call


def closure_call(site: Site) -> CallOut:
    """Return what does to the registers what the interpreter's closure does."""
    op = OPERATIONS[site.row.form](site)

    def do(record: Record) -> int:
        words = record.words
        state = [*words[: layout.W_AX + 1], *_NO_MORE]
        op(state)
        words[: layout.W_AX + 1] = array("Q", state[: layout.W_AX + 1])
        result: int = state[0]
        return result

    return do


def tail_call(site: Site, *, direct: bool, checked: bool) -> CallOut:
    """Return what finds the target of a tail call: its native address, or 0 for a miss."""
    kernel, place = site.unit.kernel, site.place
    taken_ps = kernel.costs.ps(tail_call_key(direct, kernel.config.mitigations))
    missed_ps = kernel.costs.ps("tail.miss")

    def call(record: Record) -> int:
        run, words = record.run, record.words
        run.arrive()
        try:
            prog = tail_call_target(run, words[2], u32(words[3]))
        except KernelOops as oops:
            raise placed(oops, place) from None
        if prog is None:
            run.charge(missed_ps)
            run.resume()
            return 0
        image = prog.compiled
        if not isinstance(image, Image):
            raise InternalError(f"tail call of program '{prog.name}', which is not compiled")
        run.charge(taken_ps)
        run.resume()
        run.progs[image.number] = prog
        words[layout.W_TAIL_CALLS] = run.tail_calls
        words[layout.W_HOPS + run.tail_calls - 1] = words[layout.W_PROG] = image.number
        within = image.tail_within if checked else 0
        words[layout.W_UNWIND] = not within
        return within or image.bodies[0]

    return call


def carry_on(image: "ref[Image]") -> CallOut:
    """Return what finds where careful code goes on."""

    def go_on(record: Record) -> int:
        found = image()
        assert found is not None
        return found.careful.blocks[record.words[layout.W_SLOT]]

    return go_on
