"""The kernel's test functions return what net/bpf/test_run.c says."""

from ebpfsim.memory import Memory
from tracing.bpf_test_run import TestFunctions, run_fentry_tests, run_modify_return_tests
from tracing.functions import KernelFunctions


def functions(mem: Memory) -> KernelFunctions:
    found = KernelFunctions()
    found.add(TestFunctions(mem))
    return found


def test_sums_of_their_arguments() -> None:
    mem = Memory(1 << 26)
    assert run_fentry_tests(functions(mem), mem, None)


def test_two_side_effects_and_33() -> None:
    # facts/hooks: 131105 = 2 << 16 | 33
    mem = Memory(1 << 26)
    assert run_modify_return_tests(functions(mem), mem, None) == 131105


def test_chars_and_shorts_are_signed() -> None:
    call = functions(Memory(1 << 26))
    assert call.bpf_fentry_test3(None, 0xFF, 2, 3) == 4
    assert call.bpf_fentry_test5(None, 0, 0, 0xFFFF, 0, 0) == -1
    assert call.bpf_fentry_test2(None, 0x7FFF_FFFF, 1) == -(1 << 31)
