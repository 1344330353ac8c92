"""Where machine code keeps things."""

from ebpfsim.jit import layout
from ebpfsim.vm import state


def test_registers_are_those_of_the_kernels_jit() -> None:
    # reg2hex and is_ereg() of arch/x86/net/bpf_jit_comp.c, v6.18: rax rdi rsi rdx rcx r8 rbx r13 r14 r15 rbp
    assert layout.REGS == (0, 7, 6, 2, 1, 8, 3, 13, 14, 15, 5)
    assert not {layout.LEFT, layout.RECORD, layout.TMP, layout.BASE, 4} & set(layout.REGS)


def test_words_of_a_record_are_all_different() -> None:
    numbers = [value for name, value in vars(layout).items() if name.startswith("W_")]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) == layout.W_ROUTINES
    assert layout.W_ROUTINES + len(layout.ROUTINES) == layout.RECORD_WORDS


def test_first_words_stand_where_the_interpreter_has_them() -> None:
    assert layout.W_LEFT == state.LEFT
    assert layout.W_RECORD == state.RUN
    assert min(value for name, value in vars(layout).items() if name.startswith("W_")) == layout.W_AX == 11


def test_words_are_near_the_record_register() -> None:
    assert layout.word(0).disp == -128
    assert layout.word(1).disp == -120
    assert layout.routine("runaway").disp == 8 * layout.W_ROUTINES - 128


def test_what_is_set_at_the_start_of_a_run_lies_together() -> None:
    # ``NativeRun`` fills both rows at once
    row = "LEFT RECORD COST STACK_TOP STACK_BASE ENTRY STATUS FAULT_PC FAULT_ADDRESS PROG"
    assert [getattr(layout, f"W_{name}") for name in row.split()] == list(range(layout.W_LEFT, layout.W_PROG + 1))
    row = "CPU CLOCK ELAPSED FLUSHED_AT"
    assert [getattr(layout, f"W_{name}") for name in row.split()] == list(range(layout.W_CPU, layout.W_FLUSHED_AT + 1))
