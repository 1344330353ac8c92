"""Frames of functions: what is kept for the caller, on the native stack and on the simulated one."""

from collections.abc import Callable
from itertools import chain, combinations
from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.jit.frame import CALLS, CREDIT, POINTER, SAVED_MASKS, Frame, find_frames
from ebpfsim.uapi.helper_ids import HELPER_IDS

NUMA = HELPER_IDS["bpf_get_numa_node_id"]
SUBSETS = list(chain.from_iterable(combinations((6, 7, 8, 9), size) for size in range(5)))


def block(first: int, mask: int = 0, following: int = -1, target: int = -1) -> Any:
    return SimpleNamespace(first=first, mask=mask, following=following, target=target)


@pytest.mark.parametrize("regs", SUBSETS, ids=str)
@pytest.mark.parametrize("size", [0, 16, 512])
def test_registers_of_the_caller_come_back(
    machine: Any, plain: Callable[..., Any], regs: tuple[int, ...], size: int
) -> None:
    # R6 to R9 and R10 belong to the caller (RFC 9669, section 2); the callee writes some, with or without a stack
    body = "".join(f"r{reg} = -1;" for reg in regs) + (f"*(u64 *)(r10 - {size}) = -1;" if size else "")
    code = (
        "r6 = 6; r7 = 7; r8 = 8; r9 = 9; *(u64 *)(r10 - 8) = 10; call f; r0 = r6; r0 *= r7; r0 *= r8; r0 *= r9;"
        f"r1 = *(u64 *)(r10 - 8); r0 *= r1; exit; f: {body} exit"
    )
    top = machine.cpus[0].stack_top
    assert plain(code).r0 == 6 * 7 * 8 * 9 * 10
    assert machine.cpus[0].stack_top == top


def test_a_function_has_what_it_needs() -> None:
    frames = find_frames(
        [block(0, CALLS | SAVED_MASKS[6]), block(5), block(8, POINTER), block(11, CREDIT | SAVED_MASKS[9] | POINTER)],
        {0: 16, 5: 0, 8: 8, 11: 0},
        checked=False,
    )
    assert (frames[0].saved, frames[0].calls, frames[0].moves_top) == ((6,), True, True)
    assert frames[5] == Frame(0, False, (), False, False, False, keeps_top=False)
    # without calls nobody sees where the top is
    assert (frames[8].pointer, frames[8].calls, frames[8].moves_top) == (True, False, False)
    assert (frames[11].saved, frames[11].credit, frames[11].pointer) == ((9,), True, True)


def test_functions_that_run_into_each_other_have_the_same() -> None:
    frames = find_frames(
        [block(0, SAVED_MASKS[6], following=3), block(3, SAVED_MASKS[8])], {0: 16, 3: 16}, checked=False
    )
    assert frames[0] == frames[3]
    assert frames[0].saved == (6, 8)
    frames = find_frames([block(0, SAVED_MASKS[6]), block(3, SAVED_MASKS[8])], {0: 16, 3: 16}, checked=False)
    assert (frames[0].saved, frames[3].saved) == ((6,), (8,))


def test_checked_code_keeps_everything() -> None:
    frames = find_frames([block(0), block(3)], {0: 0, 3: 64}, checked=True)
    assert frames == {0: Frame(0), 3: Frame(64)}


@pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
def test_frames_end_where_the_stack_does(machine: Any, jit: Callable[..., Any], checked: bool) -> None:
    # each call takes 512 bytes of the CPU's stack, and one that does not fit is an oops of the callee
    cpu = machine.cpus[0]
    rooms = (cpu.stack_top - cpu.stack_base) // 512
    code = "call f; exit; f: *(u64 *)(r10 - 8) = r1; r1 += 1; call f; exit"
    with pytest.raises(KernelOops, match="stack overflow") as error:
        jit(code, checked=checked)
    assert error.value.insn_idx == 2
    assert error.value.registers[1] == rooms - 1
    assert cpu.stack_top - cpu.stack_base >= 512 * rooms


# what callers have on their stack is rounded up to 16 (measured on Linux 6.18: 240 bytes load, 248 are too large)
@pytest.mark.parametrize(("size", "taken"), [(0, 0), (8, 16), (512, 512)])
def test_a_helper_finds_the_stack_below_the_frame(
    machine: Any, plain: Callable[..., Any], size: int, taken: int
) -> None:
    cpu, seen = machine.cpus[0], []

    def helper(*_: Any) -> int:
        seen.append(cpu.stack_top)
        return 0

    machine.helpers = machine.helpers | {NUMA: helper}
    top = cpu.stack_top
    plain(f"call {NUMA}; exit", frame=size)
    assert seen == [top - taken]
    assert cpu.stack_top == top
