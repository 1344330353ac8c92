"""Functions of hot blocks: the same as the closures in every respect, and only where they may be."""

from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.vm.hot import HEAT
from ebpfsim.vm.interp import execute

NEVER, AT_ONCE = 0, 1

PROGRAMS = {
    "loop": "r0 = 0; r1 = 40; l: r0 += r1; r2 = r0; r2 <<= 3; w2 ^= 7; r0 -= r2; r1 -= 1; if r1 != 0 goto l; exit",
    "a register that only the loop writes": "r0 = 0; l: r0 += 1; r3 = r0; if r0 < 9 goto l; r0 += r3; exit",
    "a register written in the last turn only": """
        r0 = 0; r3 = 77; l: r0 += 1; if r0 < 9 goto l; r3 = 5; r0 += r3; if r0 < 30 goto l; r0 += r3; exit""",
    "nested loops": """
        r0 = 0; r1 = 9; o: r2 = 7; i: r0 += r2; r2 -= 1; if r2 != 0 goto i; r1 -= 1; if r1 != 0 goto o; exit""",
    "branches that meet": """
        r0 = 0; r1 = 33
        l: r2 = r1; r2 &= 3; if r2 == 0 goto a; if r2 == 1 goto b; r0 += 7; goto m
        a: r0 ^= 99; goto m
        b: r0 <<= 1
        m: r1 -= 1; if r1 != 0 goto l; exit""",
    "memory": """
        r1 = 20
        l: *(u64 *)(r10 -8) = r1; *(u16 *)(r10 -12) = -3; r2 = *(u32 *)(r10 -8); r3 = *(s16 *)(r10 -12)
        r4 = r10; r4 += -8; lock *(u64 *)(r4 +0) += r3; r5 = 9; r5 = atomic_fetch_add((u32 *)(r4 +0), r5)
        r1 -= 1; if r1 != 0 goto l; r0 = *(u64 *)(r10 -8); exit""",
    "helpers": """
        r6 = 30; r7 = 0
        l: call bpf_ktime_get_ns; r7 += r0; r1 = r6; call bpf_get_prandom_u32; r7 ^= r0; r7 += r1
        r6 -= 1; if r6 != 0 goto l; r0 = r7; exit""",
    "functions": """
        r6 = 12; r8 = 0
        l: r1 = r6; r2 = 5; call f; r8 += r0; r8 += r2; r6 -= 1; if r6 != 0 goto l; r0 = r8; exit
        f: *(u64 *)(r10 -8) = r1; r6 = 99; r0 = *(u64 *)(r10 -8); r2 += 1; exit""",
    "callbacks": """
        r1 = 12; r2 = subprog[f] ll; r3 = r10; r3 += -8; *(u64 *)(r10 -8) = 3; r4 = 0; call bpf_loop
        r0 = *(u64 *)(r10 -8); exit
        f: r3 = *(u64 *)(r2 +0); r3 += r1; *(u64 *)(r2 +0) = r3; r0 = 0; exit""",
    "may_goto": "r0 = 0; l: may_goto o; r0 += 1; if r0 < 50 goto l; o: exit",
    "probing": """
        r6 = 9; r0 = 1
        l: r1 = 8; r1 <<= r6; r2 = probe_mem *(u32 *)(r1 +0); r3 = r10; *(u64 *)(r10 -8) = -2
        r4 = probe_mem *(s16 *)(r3 -8); r0 += r2; r0 += r4; r6 -= 1; if r6 != 0 goto l; exit""",
    "a fault": "r1 = r10; r0 = 5; l: r2 = *(u64 *)(r1 -8); r0 += 1; r1 += 4096; r3 = r0; goto l",
    "a fault of an address that wraps": "r1 = 16; r0 = 3; r0 += r1; *(u8 *)(r1 -32) = 1; exit",
    "a fault before memory that is there": """
        r1 = r10; r1 -= 70000; r0 = 2; r3 = *(u32 *)(r1 +0); r4 = *(u32 *)(r10 -4); exit""",
    "a fault behind others from the same register": """
        r1 = r10; r1 += -8; *(u64 *)(r1 +0) = 1; r0 = 7; *(u32 *)(r1 +4) = 2; r3 = 1; r2 = *(u64 *)(r1 +9)
        r0 = 9; exit""",
    "a fault in a helper": "r6 = 5; l: r6 += 1; r1 = r6; r2 = 8; call bpf_trace_printk; exit",
    "a runaway": "r0 = 0; l: r0 += 1; r1 = r0; r1 &= 3; if r1 == 0 goto l; r2 = r0; goto l",
    "a runaway that calls": "r6 = 0; l: r6 += 1; call bpf_get_smp_processor_id; goto l",
}


def outcome(make_machine: Any, code: str, times: int = 2, **config: int) -> list[Any]:
    """What some runs of a program give, on a machine of its own."""
    machine = make_machine(**{"insn_budget": 2000, **config})
    prog = machine.prog(code)
    cpu = machine.cpus[0]
    found = []
    for _ in range(times):
        try:
            run = execute(prog, 7, cpu)
            found.append((run.r0, run.insns, run.cost_ps, cpu.elapsed_ps, cpu.stack_top))
        except KernelOops as oops:
            found.append((str(oops), oops.insn_idx, oops.address, oops.registers, cpu.elapsed_ps, cpu.stack_top))
    found.append(bytes(machine.mem.buf[1 << 24 : machine.mem._next_page]))
    return found


@pytest.fixture
def heat(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that says how hot a block has to be from here on; all ways on are followed."""

    def set_heat(value: int, rare: int = 0) -> None:
        monkeypatch.setattr("ebpfsim.vm.hot.HEAT", value)
        monkeypatch.setattr("ebpfsim.vm.hot.RARE", rare)

    return set_heat


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_counts_costs_and_faults_are_those_of_the_closures(name: str, make_machine: Any, heat: Any) -> None:
    heat(NEVER)
    expected = outcome(make_machine, PROGRAMS[name])
    for value, rare in ((AT_ONCE, 0), (2, 0), (2, 1), (3, 2)):
        heat(value, rare)
        assert outcome(make_machine, PROGRAMS[name]) == expected, (value, rare)


@pytest.mark.parametrize("name", ["nested loops", "branches that meet", "functions", "callbacks", "helpers"])
def test_the_budget_ends_at_the_same_instruction(name: str, make_machine: Any, heat: Any) -> None:
    for budget in (*range(1, 40), 97, 98, 99, 100, 101):
        heat(NEVER)
        expected = outcome(make_machine, PROGRAMS[name], 1, insn_budget=budget)
        heat(AT_ONCE)
        assert outcome(make_machine, PROGRAMS[name], 1, insn_budget=budget) == expected, budget


def test_programs_that_are_rarely_run_keep_their_closures(machine: Any) -> None:
    prog = machine.prog("r0 = 1; exit")
    entry = prog.image.functions[0].entry
    for _ in range(HEAT - 1):
        machine.run(prog)
    assert entry.hot is None
    machine.run(prog)
    assert entry.hot is not None
    assert machine.run(prog).retval == 1


def test_what_is_hardly_ever_executed_is_no_part_of_a_function(machine: Any, heat: Any) -> None:
    heat(50, 10)
    code = "r0 = 0; l: r0 += 1; if r0 == 100 goto rare; if r0 < 200 goto l; exit; rare: *(u8 *)(r10 -1) = 9; exit"
    prog = machine.prog(code)
    assert machine.run(prog).retval == 100
    loop = prog.image.functions[0].entry.end([0] * 15)
    # what it returns: itself, the end of the program, and the block of the store
    assert {"b1", "b4", "b5"} == {name for name in loop.hot.__code__.co_names if name[0] == "b"}


def test_debug_mode_and_stepping_keep_the_closures(make_machine: Any, heat: Any) -> None:
    from ebpfsim.vm.step import Stepper

    heat(AT_ONCE)
    machine = make_machine(debug=True)
    prog = machine.prog(PROGRAMS["loop"])
    machine.run(prog)
    assert prog.image.functions[0].entry.hot is None

    machine = make_machine()
    prog = machine.prog(PROGRAMS["loop"])
    steps: list[int] = []
    Stepper(prog, machine, lambda step: steps.append(step.insn_idx)).run(0, machine.cpus[0])
    assert len(steps) == machine.run(prog).insns


def test_an_index_error_of_a_helper_stays_one(make_machine: Any, heat: Any) -> None:
    def broken(*_: object) -> int:
        raise IndexError("of the helper")

    heat(AT_ONCE)
    machine = make_machine()
    machine.helpers = {9000: broken}
    with pytest.raises(IndexError, match="of the helper"):
        machine.run("r0 = 0; call 9000; r1 = *(u64 *)(r10 -8); exit")


def test_names_of_programs_do_not_get_into_the_text(make_machine: Any, heat: Any) -> None:
    heat(AT_ONCE)
    machine = make_machine()
    prog = machine.prog("r0 = 5; exit", name="'); raise SystemExit #")
    assert machine.run(prog).retval == 5


def test_blocks_of_any_shape_end(make_machine: Any, heat: Any) -> None:
    # 2**12 ways through: what does not fit into one function is another one
    heat(NEVER)
    code = "r0 = 0;" + "".join(f"r2 = r1; r2 &= {1 << n}; if r2 == 0 goto +1; r0 += {n};" for n in range(12)) + "exit"
    expected = outcome(make_machine, code)
    heat(AT_ONCE)
    assert outcome(make_machine, code) == expected
    deep = "".join(f"if r1 == {n} goto l{n};" for n in range(60)) + "r0 = 1; exit;"
    deep += "".join(f"l{n}: r0 = {n}; goto l{n + 1 if n < 59 else 7};" for n in range(60))
    heat(NEVER)
    expected = outcome(make_machine, deep)
    heat(AT_ONCE)
    assert outcome(make_machine, deep) == expected
