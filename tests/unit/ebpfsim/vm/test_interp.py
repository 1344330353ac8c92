"""The interpreter as its callers see it: results, counts, faults, limits, nesting."""

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfsim.errors import DecodeError, InternalError, KernelOops, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import TABLE, insn_len
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.interp import compile_prog, execute


def test_run_gives_the_low_half_of_r0_and_takes_the_context_in_r1(machine: Any) -> None:
    prog = machine.prog("r0 = -1; r0 <<= 33; r1 += 5; r0 |= r1; exit")
    assert prog.run(2, machine.cpus[0]) == 7
    assert execute(prog, 2, machine.cpus[0]).retval == 7


def test_counts_are_of_executed_instructions(machine: Any) -> None:
    run = machine.run("r0 = 1 ll; r1 = 3; l: r1 -= 1; if r1 != 0 goto l; exit")
    # a 64-bit load is one instruction
    assert (run.insns, run.cost_ps) == (2 + 3 * 2 + 1, 9 * 300)
    assert run.tail_calls == 0
    assert run.prog.name == "test"


def test_cost_is_charged_to_the_cpu_that_ran(make_machine: Any) -> None:
    machine = make_machine(cpus=2)
    machine.run("r0 = 0; exit", cpu=1)
    assert [cpu.elapsed_ps for cpu in machine.cpus] == [0, 600]


def test_helpers_see_the_time_of_the_work_before_them(machine: Any) -> None:
    # profile skx3: 0.3 ns an instruction, 2 ns a helper
    code = "r6 = 0; call bpf_ktime_get_ns; r7 = r0;" + "r6 += 1;" * 99 + "call bpf_ktime_get_ns; r0 -= r7; exit"
    run = machine.run(code)
    assert run.retval == (2 * 300 + 101 * 300 + 2 * 2000) // 1000 - (2 * 300 + 2000) // 1000
    assert run.cost_ps == run.insns * 300 + 2 * 2000


FAULTS = [
    ("r1 = 0; r0 = *(u32 *)(r1 +4); exit", "read of 4 bytes near NULL in program 'test' at insn 1, address 0x4"),
    (
        "r1 = 0xffff888000001000 ll; *(u8 *)(r1 -1) = 7; exit",
        "write of 1 bytes of unmapped memory in program 'test' at insn 2, address 0xffff888000000fff",
    ),
    ("l: goto l", "runaway: more than 50000000 instructions in program 'test' at insn 0"),
]


@pytest.mark.parametrize(("code", "message"), FAULTS[:2])
def test_a_fault_names_program_instruction_and_address(machine: Any, code: str, message: str) -> None:
    with pytest.raises(KernelOops) as caught:
        machine.run(code)
    assert str(caught.value) == f"kernel oops: {message}"


def test_a_fault_in_a_helper_is_placed_in_the_program(machine: Any) -> None:
    with pytest.raises(KernelOops) as caught:
        machine.run("r1 = 16; r2 = 8; call bpf_trace_printk; exit")
    assert (caught.value.prog, caught.value.insn_idx, caught.value.address) == ("test", 2, 16)


def test_runaways_end_after_the_budget(make_machine: Any) -> None:
    machine = make_machine(insn_budget=1000)
    with pytest.raises(KernelOops) as caught:
        machine.run("r0 = 0; l: r0 += 1; goto l")
    assert str(caught.value) == "kernel oops: runaway: more than 1000 instructions in program 'test' at insn 1"
    assert machine.run("r1 = 332; l: r1 -= 1; r0 = 0; if r1 != 0 goto l; r0 = 7; exit").retval == 7


def test_a_fault_leaves_the_cpu_as_it_was(machine: Any) -> None:
    cpu = machine.cpus[0]
    top = cpu.stack_top
    with pytest.raises(KernelOops):
        machine.run("r0 = 0; call f; exit; f: r0 = *(u8 *)(r0 +0); exit")
    assert cpu.stack_top == top
    assert cpu.elapsed_ps > 0


def test_calls_without_end_are_a_stack_overflow(machine: Any) -> None:
    with pytest.raises(KernelOops, match="stack overflow in program 'test'"):
        machine.run("f: call f; exit")
    with pytest.raises(KernelOops, match=r"function calls without end|stack overflow"):
        machine.run(machine.prog("f: call f; exit", frame=0))


def test_a_program_may_run_inside_a_helper_of_another(machine: Any) -> None:
    inner = machine.prog("*(u64 *)(r10 -8) = 1; r0 = 5; exit", "inner")
    machine.helpers = {9000: lambda run, *args: inner.run(0, run.cpu)}
    outer = machine.prog("*(u64 *)(r10 -8) = 7; call 9000; r1 = *(u64 *)(r10 -8); r0 += r1; exit", "outer")
    assert machine.run(outer).retval == 12


def test_a_fault_in_the_inner_program_stays_its_own(machine: Any) -> None:
    inner = machine.prog("r1 = 0; r0 = *(u8 *)(r1 +0); exit", "inner")
    machine.helpers = {9000: lambda run, *args: inner.run(0, run.cpu)}
    with pytest.raises(KernelOops) as caught:
        machine.run(machine.prog("call 9000; exit", "outer"))
    assert (caught.value.prog, caught.value.insn_idx) == ("inner", 1)


def test_may_goto_ends_after_its_credit(make_machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # include/linux/bpf.h has BPF_MAX_LOOPS of 8 * 1024 * 1024: fewer here, for the time it takes
    monkeypatch.setattr("ebpfsim.vm.state.BPF_MAX_LOOPS", 100)
    machine = make_machine()
    run = machine.run("r0 = 0; l: may_goto out; r0 += 1; goto l; out: exit")
    assert run.retval == 100
    # each function has its own credit
    main = "r0 = 0; call f; call f; l: may_goto out; r0 += 1; goto l; out: exit;"
    assert machine.run(f"{main} f: may_goto end; r0 += 1; goto f; end: exit").retval == 300


@st.composite
def anything(draw: st.DrawFn) -> tuple[Insn, ...]:
    """Slots that look like instructions, in any order, with any operands."""
    slots = []
    for row in draw(st.lists(st.sampled_from(TABLE), min_size=1, max_size=25)):
        near = st.integers(-8, 8)
        insn = row.insn(
            dst=draw(st.integers(0, 11)) if "dst" in row.operands else 0,
            src=draw(st.integers(0, 11)) if "src" in row.operands else 0,
            off=draw(near) if "off" in row.operands else 0,
            imm=draw(st.one_of(near, st.integers(-(1 << 31), (1 << 31) - 1))) if "imm" in row.operands else 0,
        )
        slots.append(insn)
        if insn_len(insn) == 2:
            slots.append(Insn(0, imm=draw(st.sampled_from([0, 1, -30584, -1]))))
    return (*slots, Insn(0x95))


@pytest.fixture
def impatient(make_machine: Any) -> Any:
    """A machine for programs that may never end."""
    return make_machine(insn_budget=500)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(insns=anything(), ctx=st.integers(0, (1 << 64) - 1))
def test_no_program_gets_out(impatient: Any, insns: tuple[Insn, ...], ctx: int) -> None:
    cpu = impatient.cpus[0]
    top = cpu.stack_top
    with contextlib.suppress(KernelOops, NotModelled, DecodeError):
        assert 0 <= impatient.prog(insns).run(ctx, cpu) < 1 << 32
    assert cpu.stack_top == top


NOT_MODELLED = [
    (Insn(0x20, imm=0), "packet access by LD_ABS that was not rewritten in program 'p' at insn 0"),
    (Insn(0x40, src=1), "packet access by LD_IND that was not rewritten in program 'p' at insn 0"),
    (Insn(0xBF, 1, 2, off=1, imm=3), "address space cast 0x3 (kernel/bpf/verifier.c)"),
    (Insn(0x85, imm=HELPER_IDS["bpf_sk_lookup_tcp"]), "helper bpf_sk_lookup_tcp (include/uapi/linux/bpf.h)"),
    (Insn(0x85, imm=9999), "helper number 9999 (include/uapi/linux/bpf.h)"),
]


@pytest.mark.parametrize(("insn", "message"), NOT_MODELLED, ids=[message[:24] for _, message in NOT_MODELLED])
def test_what_is_not_modelled_says_so_when_compiled(machine: Any, insn: Insn, message: str) -> None:
    with pytest.raises(NotModelled) as caught:
        machine.prog((insn, Insn(0x95)), "p")
    assert str(caught.value) == f"not modelled: {message}"


def test_unverified_nonsense_is_refused_with_its_place(machine: Any) -> None:
    cases = {
        (Insn(0xFF), Insn(0x95)): "insn 0: error: no instruction has code 0xff, src 0, imm 0",
        (Insn(0xB7, 12), Insn(0x95)): "insn 0: error: register r12 does not exist",
        (Insn(0xB7, 0),): "insn 1: error: execution runs out of the program",
        (Insn(0x05, off=-2),): "insn -1: error: execution runs out of the program",
        (Insn(0x18, 1),): "insn 0: error: 64-bit load without its second slot",
        # a jump into the second half of a 64-bit load
        (
            Insn(0x05, off=1),
            Insn(0x18, 1),
            Insn(0),
            Insn(0x95),
        ): "insn 2: error: no instruction has code 0x00, src 0, imm 0",
    }
    for insns, message in cases.items():
        with pytest.raises(DecodeError) as caught:
            machine.prog(insns, "p")
        assert str(caught.value) == f"program 'p', {message}"


def test_a_program_must_be_compiled_before_it_runs(machine: Any) -> None:
    prog = Prog("raw", ProgType.XDP, AttachType.XDP, assemble("exit"), (), ())
    with pytest.raises(InternalError, match="program 'raw' is not compiled"):
        execute(prog, 0, machine.cpus[0])
    assert compile_prog(prog, machine)(0, machine.cpus[0]) == 0
