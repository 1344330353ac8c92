"""Single runs by builtin functions: results, counts, time, and what happens when a run does not get to its end."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.jit import engine
from ebpfsim.jit.entry import Block, _slot
from ebpfsim.uapi.helper_ids import HELPER_IDS

KTIME, NUMA = HELPER_IDS["bpf_ktime_get_ns"], HELPER_IDS["bpf_get_numa_node_id"]


@pytest.fixture
def compiled(machine: Any) -> Callable[..., Any]:
    """Return what makes machine code of assembly; the program is returned."""

    def compile_(code: str, on: Any = machine, **options: Any) -> Any:
        prog = on.prog(code, **options)
        prog.run = engine.compile_prog(prog, on)
        return prog

    return compile_


def with_helper(machine: Any, helper: Callable[..., int]) -> None:
    machine.helpers = machine.helpers | {NUMA: helper}


@pytest.mark.parametrize(
    ("code", "retval"),
    [("r0 = 7; exit", 7), ("r0 = r1; exit", 0xFFFF_FFFF), ("r0 = -1; r0 <<= 33; r0 |= 5; exit", 5)],
)
def test_returns_r0_as_a_u32(machine: Any, compiled: Callable[..., Any], code: str, retval: int) -> None:
    prog, ctx = compiled(code), (1 << 64) - 1
    assert prog.run(ctx, machine.cpus[0]) == retval
    assert engine.entry(prog, machine.cpus[0]).run(ctx) == retval
    assert engine.execute(prog, ctx, machine.cpus[0]).r0 & 0xFFFF_FFFF == retval


def test_counts_and_time_are_those_of_the_interpreter(machine: Any, compiled: Callable[..., Any]) -> None:
    code = f"r6 = 0; l: r6 += 1; if r6 < 5 goto l; call {NUMA}; call f; exit; f: r0 = r6; exit"
    cpu = machine.cpus[0]
    expected = machine.run(code)
    spent_ps, cpu.elapsed_ps = cpu.elapsed_ps, 0
    entry = engine.entry(compiled(code), cpu)
    for _ in range(3):
        assert entry.run(0) == 5
    assert cpu.elapsed_ps == 3 * spent_ps
    assert entry.take() == (3, 3 * expected.insns, 3 * expected.cost_ps, 0)
    assert entry.take() == (0, 0, 0, 0)
    ran = entry.ran()
    assert (ran.r0, ran.retval, ran.tail_calls) == (5, 5, 0)
    assert (ran.insns, ran.cost_ps) == (expected.insns, expected.cost_ps)


def test_a_program_reads_the_time_of_its_cpu(make_machine: Any, compiled: Callable[..., Any]) -> None:
    machine = make_machine(cpus=2)
    prog = compiled(f"call {KTIME}; exit", machine)
    interpreted = machine.prog(f"call {KTIME}; exit")
    machine.clock.run(until_ns=12_345)
    for number, elapsed_ps in enumerate((999_999, 5)):
        cpu = machine.cpus[number]
        for _ in range(3):
            cpu.elapsed_ps = elapsed_ps
            expected, after_ps = interpreted.run(0, cpu), cpu.elapsed_ps
            cpu.elapsed_ps = elapsed_ps
            assert (prog.run(0, cpu), cpu.elapsed_ps) == (expected, after_ps)
            elapsed_ps = after_ps


def test_every_cpu_has_an_entry(make_machine: Any, compiled: Callable[..., Any]) -> None:
    machine = make_machine(cpus=3)
    prog = compiled(f"call {HELPER_IDS['bpf_get_smp_processor_id']}; exit", machine)
    for _ in range(2):
        assert [prog.run(0, cpu) for cpu in machine.cpus] == [0, 1, 2]
    entries = [engine.entry(prog, cpu) for cpu in machine.cpus]
    assert len(set(map(id, entries))) == 3
    assert [entry.take().runs for entry in entries] == [2, 2, 2]
    # a CPU that no kernel has is a CPU too
    other = Cpu(9, machine.clock, machine.mem)
    assert prog.run(0, other) == 9
    assert other.elapsed_ps == machine.cpus[0].elapsed_ps // 2


def test_registers_are_zero_at_the_start(compiled: Callable[..., Any], machine: Any) -> None:
    prog = compiled("r0 |= r2; r0 |= r3; r0 |= r4; r0 |= r5; r0 |= r6; r0 |= r7; r0 |= r8; r0 |= r9; r2 = -1; r3 = -1;"
                    "r4 = -1; r5 = -1; r6 = -1; r7 = -1; r8 = -1; r9 = -1; exit")  # fmt: skip
    assert [prog.run(5, machine.cpus[0]) for _ in range(3)] == [0, 0, 0]


def test_wrong_arguments(compiled: Callable[..., Any], machine: Any) -> None:
    prog, cpu = compiled("r0 = 1; exit"), machine.cpus[0]
    entry = engine.entry(prog, cpu)
    wrong: Any
    for wrong in ("0", None, 1.0):
        with pytest.raises(TypeError):
            entry.run(wrong)
        with pytest.raises(TypeError):
            prog.run(wrong, cpu)
    for wrong in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            entry.run(wrong)
        with pytest.raises(OverflowError):
            prog.run(wrong, cpu)
    for arguments in ((), (0,), (0, cpu, 0)):
        with pytest.raises(TypeError):
            prog.run(*arguments)
    assert (entry.run(0), cpu.elapsed_ps) == (1, 2 * machine.costs.ps("insn"))


def test_a_time_that_is_no_number(compiled: Callable[..., Any], machine: Any) -> None:
    prog, cpu = compiled("r0 = 1; exit"), machine.cpus[0]
    for value, error in ((None, TypeError), (-5, OverflowError)):
        cpu.elapsed_ps = value
        with pytest.raises(error):
            prog.run(0, cpu)
    cpu.elapsed_ps = 0
    assert prog.run(0, cpu) == 1


def test_a_helper_sees_the_activation(compiled: Callable[..., Any], machine: Any) -> None:
    cpu, insn_ps = machine.cpus[0], machine.costs.ps("insn")
    seen: list[Any] = []
    start_ps = 0

    def helper(run: Any, *_args: int) -> int:
        seen.append((run.ctx, run.prog.name, run.cpu is cpu, run.insns, cpu.elapsed_ps - start_ps))
        return 3

    with_helper(machine, helper)
    prog = compiled(f"r6 = 1; call {NUMA}; exit", name="sees")
    call_ps = machine.costs.ps("helper")
    for ctx in (77, 78, 79):
        start_ps = cpu.elapsed_ps
        assert prog.run(ctx, cpu) == 3
        assert seen.pop() == (ctx, "sees", True, 2, 2 * insn_ps + call_ps)
        assert cpu.elapsed_ps == start_ps + 3 * insn_ps + call_ps


class Stop(Exception):
    """What a helper raises here."""


def test_an_exception_of_a_helper_passes_through(compiled: Callable[..., Any], machine: Any) -> None:
    def helper(run: Any, *_args: int) -> int:
        if run.ctx == 1:
            raise Stop("as told")
        return 0

    with_helper(machine, helper)
    cpu = machine.cpus[0]
    prog = compiled(f"call f; r0 = 4; exit; f: *(u64 *)(r10 - 8) = 1; call {NUMA}; exit")
    entry, top = engine.entry(prog, cpu), cpu.stack_top
    for _ in range(50):
        with pytest.raises(Stop, match="as told"):
            entry.run(1)
        assert (cpu.stack_top, entry.busy) == (top, False)
        assert entry.run(0) == 4
    counts = entry.take()
    assert counts.runs == 100
    assert counts.cost_ps == cpu.elapsed_ps


def test_an_exception_keeps_its_traceback(compiled: Callable[..., Any], machine: Any) -> None:
    def helper(_run: Any, *_args: int) -> int:
        raise Stop

    with_helper(machine, helper)
    with pytest.raises(Stop) as error:
        compiled(f"call {NUMA}; exit").run(0, machine.cpus[0])
    assert error.traceback[-1].name == "helper"


def test_a_fault_counts_up_to_where_it_is(compiled: Callable[..., Any], machine: Any) -> None:
    code = "r6 = 5; r1 = 0; *(u64 *)(r10 - 8) = r6; r0 = *(u64 *)(r1 + 0); exit"
    cpu, top = machine.cpus[0], machine.cpus[0].stack_top
    with pytest.raises(KernelOops) as expected:
        machine.run(code)
    spent_ps, cpu.elapsed_ps = cpu.elapsed_ps, 0
    entry = engine.entry(compiled(code), cpu)
    for number in range(1, 4):
        with pytest.raises(KernelOops) as found:
            entry.run(0)
        assert str(found.value) == str(expected.value)
        assert found.value.registers[6] == 5
        assert (cpu.elapsed_ps, cpu.stack_top) == (number * spent_ps, top)
    assert entry.take() == (3, 3 * spent_ps // machine.costs.ps("insn"), 3 * spent_ps, 0)


def test_a_run_inside_a_run(compiled: Callable[..., Any], machine: Any) -> None:
    cpu = machine.cpus[0]

    def helper(run: Any, *_args: int) -> int:
        return prog.run(run.ctx - 1, cpu) + 1 if run.ctx else 0

    with_helper(machine, helper)
    prog = compiled(f"*(u64 *)(r10 - 8) = r1; call {NUMA}; exit")
    entry = engine.entry(prog, cpu)
    assert entry.run(0) == 0
    once = entry.take()
    for depth in (1, 4, 2):
        before_ps = cpu.elapsed_ps
        assert entry.run(depth) == depth
        assert entry.take()[:2] == (depth + 1, (depth + 1) * once.insns)
        assert cpu.elapsed_ps - before_ps == (depth + 1) * once.cost_ps


def test_runs_keep_no_objects(compiled: Callable[..., Any], machine: Any) -> None:
    cpu = machine.cpus[0]
    prog = compiled("r0 = 0x12345678 ll; exit")
    run, blocks = prog.run, 0
    for number in range(3000):
        run(0, cpu)
        if number == 100:
            gc.collect()
            blocks = sys.getallocatedblocks()
    assert sys.getallocatedblocks() < blocks + 50


def test_programs_go_with_their_last_reference(machine: Any) -> None:
    import weakref

    prog = machine.prog("r0 = 1; exit")
    prog.run = engine.compile_prog(prog, machine)
    prog.run(0, machine.cpus[0])
    gone = weakref.ref(prog.image)
    run = prog.run
    del prog
    gc.collect()
    assert run(0, machine.cpus[0]) == 1
    assert gone() is not None
    del run
    gc.collect()
    assert gone() is None


def test_only_machine_code_has_entries(machine: Any) -> None:
    prog = machine.prog("r0 = 1; exit")
    with pytest.raises(InternalError, match="no machine code"):
        engine.entry(prog, machine.cpus[0])
    assert engine.entry_of(prog, machine.cpus[0]) is None
    engine.compile_prog(prog, machine)
    # it still runs as it did
    assert engine.entry_of(prog, machine.cpus[0]) is None


def test_slots_are_found_where_objects_keep_them() -> None:
    class Two:
        __slots__ = ("first", "second")

    assert _slot(Two, "second") - _slot(Two, "first") == 8

    class Open:
        pass

    with pytest.raises(InternalError, match="is no slot"):
        _slot(Open, "first")


def test_words_of_a_block_are_all_different() -> None:
    from ebpfsim.jit import entry

    numbers = [value for name, value in vars(entry).items() if name.startswith("B_")]
    assert sorted(numbers) == list(range(entry.BLOCK_WORDS))
    assert Block.__slots__
