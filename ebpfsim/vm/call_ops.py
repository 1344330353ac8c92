"""Closures that end a block with a call: of helpers, of functions of the program, of other programs."""

from collections.abc import Callable
from typing import cast

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.helpers.tail_call import tail_call_target
from ebpfsim.isa.alu import M64, u32
from ebpfsim.maps.map import Map
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Runtime
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.cost import MAP_OPERATIONS, helper_ps, map_operation_ps, replace_extra_ps, tail_call_key
from ebpfsim.vm.mem_ops import Place
from ebpfsim.vm.state import RUN, SAVED, Block, Function, Image, State, Terminator, call_function, enter_frame

__all__ = ["helper_call", "local_call", "placed", "python_call", "register_call", "tail_call"]

_UPDATE = HELPER_IDS["bpf_map_update_elem"]


def placed(oops: KernelOops, place: Place) -> KernelOops:
    """Return the oops of a call with the place of the call."""
    # a helper's fault is the program's, unless another program that ran inside has it already
    if oops.insn_idx >= 0:
        return oops
    return KernelOops(oops.reason, place[0], place[1], oops.address, oops.about)


def helper_call(helper_id: int, kernel: Runtime, place: Place, following: Block) -> Terminator:
    """R0 = helper (R1..R5)."""
    helper = kernel.helpers[helper_id]
    if helper_id in MAP_OPERATIONS:
        return _map_call(helper_id, helper, kernel, place, following)
    return python_call(helper, helper_ps(kernel.costs, helper_id), place, following)


def register_call(reg: int, resolve: Callable[[int], Terminator]) -> Terminator:
    """R0 = helper whose number is in a register (R1..R5). ``resolve`` gives the call of a number, once for each."""
    known: dict[int, Terminator] = {}

    def end(state: State) -> Block | None:
        number = state[reg]
        call = known.get(number)
        if call is None:
            call = known[number] = resolve(number)
        return call(state)

    return end


def python_call(helper: Helper, cost_ps: int, place: Place, following: Block) -> Terminator:
    """R0 = a function in Python (R1..R5), at a cost."""

    def end(state: State) -> Block:
        run = state[RUN]
        run.settle(cost_ps)
        try:
            state[0] = helper(run, state[1], state[2], state[3], state[4], state[5]) & M64
        except KernelOops as oops:
            raise placed(oops, place) from None
        return following

    return end


def _map_call(helper_id: int, helper: Helper, kernel: Runtime, place: Place, following: Block) -> Terminator:
    cost_of, costs, update = map_operation_ps(kernel.costs, helper_id), kernel.costs, helper_id == _UPDATE
    # a place in a program nearly always has the same map: what depends on the map is kept for the last one
    known: Map | None = None
    cost_ps, extra_ps = 0, None

    def end(state: State) -> Block:
        nonlocal known, cost_ps, extra_ps
        run = state[RUN]
        try:
            map_ = kernel.map_at(state[1])
            if map_ is not known:
                known, cost_ps = map_, cost_of(map_)
                extra_ps = replace_extra_ps(costs, map_) if update else None
            run.settle(cost_ps)
            elements = _elements(map_) if extra_ps is not None else 0
            result = state[0] = helper(run, state[1], state[2], state[3], state[4], state[5]) & M64
            if extra_ps is not None and result == 0 and _elements(map_) == elements:
                run.charge(extra_ps)
        except KernelOops as oops:
            raise placed(oops, place) from None
        return following

    return end


def _elements(map_: Map) -> int:
    return len(cast("list[object]", map_)) if hasattr(map_, "__len__") else 0


def local_call(resolve: Callable[[], Function], cost_ps: int, prog: Prog, following: Block) -> Terminator:
    """R0 = function (R1..R5); R6 to R9 and the frame survive. ``resolve`` gives the function once all are known."""
    function: Function | None = None

    def end(state: State) -> Block:
        nonlocal function
        if function is None:
            function = resolve()
        run = state[RUN]
        run.charge(cost_ps)
        saved = state[SAVED]
        call_function(function, state)
        state[SAVED] = saved
        # a tail call inside went to another program; here this one goes on
        run.prog = prog
        return following

    return end


def tail_call(direct: bool, kernel: Runtime, place: Place, following: Block) -> Terminator:
    """Go on in the program at index R3 of the map at R2, in this function's place; fall through on a miss."""
    taken_ps = kernel.costs.ps(tail_call_key(direct, kernel.config.mitigations))
    missed_ps = kernel.costs.ps("tail.miss")

    def end(state: State) -> Block:
        run = state[RUN]
        try:
            prog = tail_call_target(run, state[2], u32(state[3]))
        except KernelOops as oops:
            raise placed(oops, place) from None
        if prog is None:
            run.charge(missed_ps)
            return following
        image = run.image_of(prog)
        if not isinstance(image, Image):
            raise InternalError(f"tail call of program '{prog.name}', which is not compiled")
        run.charge(taken_ps)
        run.prog = prog
        function = image.functions[0]
        enter_frame(function, state, state[10])
        return function.body

    return end
