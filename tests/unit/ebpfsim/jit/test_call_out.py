"""Calls from machine code into Python: what they get, what they keep, and the places of their faults."""

from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.jit.compile import compile_image
from ebpfsim.uapi.helper_ids import HELPER_IDS

NUMA, LOOP = HELPER_IDS["bpf_get_numa_node_id"], HELPER_IDS["bpf_loop"]
KINDS = ["plain", "checked"]


@pytest.fixture
def run(machine: Any, jit: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs assembly with a helper of the test's own, as code of one kind or the other."""

    def go(kind: str, helper: Callable[..., int], code: str, **options: Any) -> Any:
        machine.helpers = machine.helpers | {NUMA: helper}
        return jit(code, checked=kind == "checked", **options)

    return go


@pytest.mark.parametrize("kind", KINDS)
def test_a_helper_gets_five_arguments_of_64_bits(run: Callable[..., Any], kind: str) -> None:
    seen: list[tuple[int, ...]] = []

    def helper(_run: Any, *arguments: int) -> int:
        seen.append(arguments)
        return -1

    code = "".join(f"r{reg} = {reg << 60 | reg:#x} ll;" for reg in range(1, 6))
    assert run(kind, helper, f"{code} call {NUMA}; exit").r0 == (1 << 64) - 1
    assert seen == [tuple(reg << 60 | reg for reg in range(1, 6))]


@pytest.mark.parametrize("kind", KINDS)
def test_registers_of_the_caller_stay(run: Callable[..., Any], kind: str) -> None:
    # R6 to R10: RFC 9669, section 2
    code = "".join(f"r{reg} = {reg << 33 | reg:#x} ll;" for reg in range(6, 10))
    total = sum(reg << 33 | reg for reg in range(6, 10))
    code += (
        f"*(u64 *)(r10 - 8) = 77; call {NUMA}; r0 = r6; r0 += r7; r0 += r8; r0 += r9; r1 = *(u64 *)(r10 - 8); r0 += r1;"
    )
    assert run(kind, lambda *_: 0, code + "exit").r0 == total + 77


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(4))
def test_a_fault_is_at_the_call_that_made_it(run: Callable[..., Any], kind: str, number: int) -> None:
    calls = 0

    def helper(*_: Any) -> int:
        nonlocal calls
        calls += 1
        if calls > number:
            raise KernelOops("as told", address=0x1234)
        return 0

    code = f"r6 = 1; call {NUMA}; r6 += 1; call {NUMA}; call f; call {NUMA}; exit; f: r7 = 3; call {NUMA}; r0 = 5; exit"
    with pytest.raises(KernelOops, match="as told") as error:
        run(kind, helper, code)
    slots = (1, 3, 8, 5)
    assert (error.value.prog, error.value.insn_idx, error.value.address) == ("test", slots[number], 0x1234)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_in_a_callback_is_there(run: Callable[..., Any], kind: str) -> None:
    def helper(*_: Any) -> int:
        raise KernelOops("as told")

    code = f"r1 = 3; r2 = subprog[+5] ll; r3 = 0; r4 = 0; call {LOOP}; exit; r6 = r1; call {NUMA}; r0 = 0; exit"
    with pytest.raises(KernelOops, match="as told") as error:
        run(kind, helper, code)
    assert error.value.insn_idx == 8


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_right_inside_and_behind(machine: Any, run: Callable[..., Any], kind: str) -> None:
    seen: list[int] = []

    def helper(activation: Any, *_: Any) -> int:
        activation.flush()
        seen.append(activation.insns)
        return 0

    code = f"r6 = 2; l: call {NUMA}; r6 -= 1; if r6 != 0 goto l; call {NUMA}; r0 = 0; exit"
    assert run(kind, helper, code).insns == 10
    assert seen == [2, 5, 8]


def test_calls_of_one_helper_share_their_function(machine: Any) -> None:
    def callouts(code: str) -> int:
        return len(compile_image(machine.prog(code), machine, checked=True).calls)

    one = callouts(f"call {NUMA}; exit")
    assert callouts(f"call {NUMA};" * 20 + "exit") == one
    assert callouts(f"call {NUMA}; call {LOOP}; exit") == one + 1


def test_the_place_of_a_call_is_not_kept_as_a_fault(machine: Any, run: Callable[..., Any]) -> None:
    # the word that tells the place is that of faults: one behind a call has its own
    with pytest.raises(KernelOops) as error:
        run("checked", lambda *_: 0, f"call {NUMA}; r1 = 0; r2 = *(u64 *)(r1 + 16); exit")
    assert (error.value.insn_idx, error.value.address) == (2, 16)


@pytest.mark.parametrize("reg", range(10))
def test_the_helper_of_a_call_through_a_register(machine: Any, both: Callable[..., Any], reg: int) -> None:
    # the same in both engines, with what it counts and costs
    machine.helpers = machine.helpers | {NUMA: lambda *_: 41}
    run = both(f"r{reg} = {NUMA}; callx r{reg}; r0 += 1; exit")
    assert (run.r0, run.insns) == (42, 4)


def test_a_call_through_a_register_costs_what_the_call_does(machine: Any, jit: Callable[..., Any]) -> None:
    def cost(call: str) -> int:
        machine.cpus[0].elapsed_ps = 0
        return int(jit(f"r6 = {NUMA}; {call}; exit").cost_ps)

    machine.helpers = machine.helpers | {NUMA: lambda *_: 0}
    assert cost("callx r6") == cost(f"call {NUMA}") > cost("r0 = 0")
