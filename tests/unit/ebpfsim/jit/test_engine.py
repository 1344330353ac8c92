"""The engine's front: choice, runs, counts and faults."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from ebpfsim.errors import InputError, KernelOops
from ebpfsim.jit import engine
from ebpfsim.jit.compile import Image
from ebpfsim.uapi.helper_ids import HELPER_IDS

LOOP = HELPER_IDS["bpf_loop"]


@pytest.mark.parametrize(("name", "native"), [("auto", True), ("jit", True), ("interp", False)])
def test_the_configuration_names_the_engine(make_machine: Any, name: str, native: bool) -> None:
    machine = make_machine(engine=name)
    prog = machine.prog("r0 = 9; exit")
    assert engine.compile_for(prog, machine)(0, machine.cpus[0]) == 9
    assert isinstance(prog.image, Image) is native
    assert engine.execute(prog, 0, machine.cpus[0]).insns == 2


def test_an_unknown_engine_is_refused(make_machine: Any) -> None:
    machine = make_machine(engine="llvm")
    with pytest.raises(InputError, match="unknown engine 'llvm'"):
        engine.compile_for(machine.prog("exit"), machine)


def test_without_executable_memory_the_interpreter_serves(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise engine.ExecutableMemoryError("refused here")

    monkeypatch.setattr(engine, "native", refuse)
    engine._jit_serves.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="interpreter, which is slower: refused here"):
            engine.compile_for(machine.prog("r0 = 0; exit"), machine)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            prog = machine.prog("r0 = 1; exit")
            assert engine.compile_for(prog, machine)(0, machine.cpus[0]) == 1
        assert not isinstance(prog.image, Image)
    finally:
        engine._jit_serves.cache_clear()


@pytest.mark.parametrize(("system", "cpu"), [("linux", "aarch64"), ("darwin", "x86_64")])
def test_other_machines_have_no_jit(monkeypatch: pytest.MonkeyPatch, system: str, cpu: str) -> None:
    monkeypatch.setattr(engine.sys, "platform", system)
    monkeypatch.setattr(engine.platform, "machine", lambda: cpu)
    assert engine.unavailable() == f"there is no JIT for {cpu} on {system}"


def test_a_small_ram_is_always_checked(machine: Any, jit: Callable[..., Any]) -> None:
    # addresses cut to 32 bits could leave it
    assert machine.mem.size < engine.FULL_ARENA
    with pytest.raises(KernelOops, match="unmapped"):
        jit(f"r1 = {0xFFFF_8880_F000_0000:#x} ll; r0 = *(u8 *)(r1 + 0); exit", checked=False)


def test_runaway_programs_end(make_machine: Any) -> None:
    machine = make_machine(insn_budget=1000)
    ends = []
    for compiler in (engine.interp.compile_prog, engine.compile_prog):
        prog = machine.prog("l: r0 += 1; goto l; exit")
        compiler(prog, machine)
        before = machine.cpus[0].elapsed_ps
        with pytest.raises(KernelOops) as error:
            engine.execute(prog, 0, machine.cpus[0])
        ends.append((str(error.value), machine.cpus[0].elapsed_ps - before))
    assert ends[0] == ends[1]
    assert "runaway: more than 1000 instructions" in ends[0][0]


def test_stack_overflow(machine: Any, jit: Callable[..., Any]) -> None:
    ends = []
    for run in (lambda code: machine.run(machine.prog(code)), jit):
        with pytest.raises(KernelOops) as error:
            run("r1 = 1; f: call f; exit")
        ends.append((error.value.reason, error.value.insn_idx, error.value.address))
    assert ends[0] == ends[1]


def test_calls_without_end_and_without_frames(machine: Any) -> None:
    from ebpfsim.progs.prog import Subprog

    prog = machine.prog("call f; exit; f: call f; exit")
    prog.subprogs = (Subprog(0, 2, "main", 0), Subprog(2, 4, "f", 0))
    engine.compile_prog(prog, machine)
    with pytest.raises(KernelOops, match="function calls without end"):
        engine.execute(prog, 0, machine.cpus[0])


_ITSELF = f"r1 = 3; r2 = subprog[-2] ll; r3 = 0; r4 = 0; call {LOOP}; exit"
_ITSELF_BY_CALLX = f"r1 = 3; r2 = subprog[-2] ll; r3 = 0; r4 = 0; r6 = {LOOP}; callx r6; exit"
_IN_TURNS = f"f: r6 += 1; call g; exit; g: r1 = 3; r2 = subprog[f] ll; r3 = 0; r4 = 0; call {LOOP}; exit"


@pytest.mark.parametrize("frame", [0, 16, 64, 512])
@pytest.mark.parametrize("code", ["f: r1 += 1; call f; exit", _ITSELF, _ITSELF_BY_CALLX, _IN_TURNS])
@pytest.mark.parametrize("deeper", [0, 300])
def test_calls_without_end_end_at_the_same_place(make_machine: Any, code: str, frame: int, deeper: int) -> None:
    # whatever the caller has used of Python's stack
    def ends() -> Any:
        machine = make_machine(insn_budget=100_000)
        cpu = machine.cpus[0]
        for compiler in (engine.interp.compile_prog, partial(engine.compile_prog, checked=True)):
            prog, before = machine.prog(code, frame=frame), cpu.elapsed_ps
            compiler(prog, machine)
            with pytest.raises(KernelOops) as error:
                engine.execute(prog, 0, cpu)
            oops = error.value
            registers = (oops.registers[0], *oops.registers[3:])  # R2 has the address of a function
            yield oops.reason, oops.insn_idx, oops.address, registers, cpu.elapsed_ps - before

    def further_down(left: int) -> list[Any]:
        return further_down(left - 1) if left else list(ends())

    first, second = further_down(deeper)
    assert first == second
    assert first[0] in ("function calls without end", "stack overflow")


def test_callbacks_without_end(machine: Any) -> None:
    prog = machine.prog(f"r1 = 3; r2 = subprog[-2] ll; r3 = 0; r4 = 0; call {LOOP}; exit", frame=0)
    engine.compile_prog(prog, machine)
    with pytest.raises(KernelOops, match="function calls without end"):
        engine.execute(prog, 0, machine.cpus[0])
    assert machine.cpus[0].stack_top > machine.cpus[0].stack_base


def test_time_goes_on_in_front_of_a_helper(both: Callable[..., Any], machine: Any) -> None:
    run = both("l: r6 += 1; if r6 != 20000 goto l; call bpf_ktime_get_ns; exit")
    assert run.r0 >= 40_000 * machine.costs.ps("insn") // 1000


def test_the_context_and_all_of_r0(both: Callable[..., Any]) -> None:
    run = both("r0 = r1; r0 <<= 20; exit", 0xFFFF_FFFF_FFF1_2345)
    assert (run.r0, run.retval) == (0xFFFF_FF12_3450_0000 | 0xFF << 56, 0x3450_0000)


@pytest.mark.parametrize(("debug", "faults"), [(True, True), (False, False)])
def test_debug_mode_checks_every_access(make_machine: Any, debug: bool, faults: bool) -> None:
    from ebpfsim.cpu import Cpu
    from ebpfsim.memory import Memory

    machine = make_machine(debug=debug, engine="jit")
    machine.mem = Memory()
    machine.cpus = [Cpu(0, machine.clock, machine.mem)]
    # no verified program does this: a foreign address, which without a check is cut to 32 bits
    prog = machine.prog("r1 = 0x1234567800001000 ll; r0 = *(u64 *)(r1 + 0); exit")
    run = engine.compile_for(prog, machine)
    if faults:
        with pytest.raises(KernelOops, match="wild-memory-access: read of 8 bytes") as error:
            run(0, machine.cpus[0])
        assert error.value.address == 0x1234_5678_0000_1000
        assert error.value.registers[1] == 0x1234_5678_0000_1000
    else:
        assert run(0, machine.cpus[0]) == 0
