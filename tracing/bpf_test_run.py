"""Functions that the kernel has for tests of tracing programs, and what calls them (net/bpf/test_run.c, v6.18).

BPF_PROG_TEST_RUN of a tracing program runs no program itself: it calls the functions that programs may be attached to.
"""

from ebpfsim.cpu import Cpu
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory import Memory
from tracing.functions import KernelFunctions, kernel_function
from tracing.tracepoints import Tracepoints

__all__ = ["TestFunctions", "TracepointFunctions", "run_fentry_tests", "run_modify_return_tests"]


def _short(value: int) -> int:
    value &= 0xFFFF
    return value - 0x10000 if value >> 15 else value


def _char(value: int) -> int:
    value &= 0xFF
    return value - 0x100 if value >> 7 else value


class TestFunctions:
    """Sums of their arguments, mostly."""

    __test__ = False

    def __init__(self, mem: Memory) -> None:
        self.mem = mem

    @kernel_function
    def bpf_fentry_test1(self, _cpu: Cpu, a: int) -> int:
        """Return a + 1."""
        return s32(a + 1)

    @kernel_function
    def bpf_fentry_test2(self, _cpu: Cpu, a: int, b: int) -> int:
        """Return the sum of an int and a u64."""
        return s32(a + b)

    @kernel_function
    def bpf_fentry_test3(self, _cpu: Cpu, a: int, b: int, c: int) -> int:
        """Return the sum of a char, an int and a u64."""
        return s32(_char(a) + b + c)

    @kernel_function
    def bpf_fentry_test4(self, _cpu: Cpu, a: int, b: int, c: int, d: int) -> int:
        """Return the sum of a pointer, a char, an int and a u64."""
        return s32(a + _char(b) + c + d)

    @kernel_function
    def bpf_fentry_test5(self, _cpu: Cpu, a: int, b: int, c: int, d: int, e: int) -> int:
        """Return the sum of a u64, a pointer, a short, an int and a u64."""
        return s32(a + b + _short(c) + d + e)

    @kernel_function
    def bpf_fentry_test6(self, _cpu: Cpu, a: int, b: int, c: int, d: int, e: int, f: int) -> int:
        """Return the sum of a u64, a pointer, a short, an int, a pointer and a u64."""
        return s32(a + b + _short(c) + d + e + f)

    @kernel_function
    def bpf_fentry_test7(self, _cpu: Cpu, arg: int) -> int:
        """Return a pointer, as an int."""
        return s32(arg)

    @kernel_function
    def bpf_fentry_test8(self, _cpu: Cpu, arg: int) -> int:
        """Return the pointer in a structure, as an int."""
        return s32(self.mem.load(arg, 8))

    @kernel_function
    def bpf_fentry_test9(self, _cpu: Cpu, a: int) -> int:
        """Return the u32 behind a pointer."""
        return self.mem.load(a, 4)

    @kernel_function
    def bpf_fentry_test10(self, _cpu: Cpu, a: int) -> int:
        """Return a pointer, as an int."""
        return s32(a)

    @kernel_function
    def bpf_fentry_test_sinfo(self, _cpu: Cpu, sinfo: int) -> None:
        """Do nothing."""

    @kernel_function
    def bpf_modify_return_test(self, _cpu: Cpu, a: int, b: int) -> int:
        """Add one to the int behind b; return the sum of it and a."""
        return s32(a + self._increment(b))

    @kernel_function
    def bpf_modify_return_test2(self, _cpu: Cpu, a: int, b: int, c: int, d: int, e: int, f: int, g: int) -> int:
        """Add one to the int behind b; return the sum of it and the other arguments."""
        return s32(a + self._increment(b) + _short(c) + d + e + _char(f) + g)

    def _increment(self, address: int) -> int:
        value = s32(self.mem.load(address, 4) + 1)
        self.mem.store(address, 4, value)
        return value


class TracepointFunctions:
    """What calls tracepoints that are there for tests."""

    def __init__(self, tracepoints: Tracepoints) -> None:
        self._tracepoints = tracepoints
        tracepoints.declare("bpf_trigger_tp", "bpf_test_finish")

    @kernel_function
    def bpf_modify_return_test_tp(self, cpu: Cpu, nonce: int) -> int:
        """Call the tracepoint bpf_trigger_tp; return the number."""
        self._tracepoints.bpf_trigger_tp(cpu, nonce)
        return s32(nonce)


def run_fentry_tests(functions: KernelFunctions, mem: Memory, cpu: Cpu) -> bool:
    """Call bpf_fentry_test1() to bpf_fentry_test10(); tell whether they returned what they should."""
    room = mem.alloc(16)
    call = functions
    try:
        return (
            call.bpf_fentry_test1(cpu, 1) == 2
            and call.bpf_fentry_test2(cpu, 2, 3) == 5
            and call.bpf_fentry_test3(cpu, 4, 5, 6) == 15
            and call.bpf_fentry_test4(cpu, 7, 8, 9, 10) == 34
            and call.bpf_fentry_test5(cpu, 11, 12, 13, 14, 15) == 65
            and call.bpf_fentry_test6(cpu, 16, 17, 18, 19, 20, 21) == 111
            and call.bpf_fentry_test7(cpu, 0) == 0
            and call.bpf_fentry_test8(cpu, room) == 0
            and call.bpf_fentry_test9(cpu, room + 8) == 0
            and call.bpf_fentry_test10(cpu, 0) == 0
        )
    finally:
        mem.free(room)


def run_modify_return_tests(functions: KernelFunctions, mem: Memory, cpu: Cpu) -> int:
    """Call bpf_modify_return_test() and ..._test2(); return how many did something above the sum of the results."""
    b = mem.alloc(4)
    side_effect = 0
    try:
        mem.store(b, 4, 2)
        ret = functions.bpf_modify_return_test(cpu, 1, b)
        side_effect += mem.load(b, 4) != 2
        mem.store(b, 4, 2)
        ret += functions.bpf_modify_return_test2(cpu, 1, b, 3, 4, 5, 6, 7)
        side_effect += mem.load(b, 4) != 2
    finally:
        mem.free(b)
    return u32(side_effect << 16 | ret & 0xFFFF)
