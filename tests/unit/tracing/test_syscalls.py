"""The way into the kernel: registers, tracepoints, numbers of arch/x86/entry/syscalls/syscall_64.tbl."""

import pytest
from task_machine import Machine

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InputError


# asm/unistd_64.h
@pytest.mark.parametrize(
    ("name", "nr"),
    [("read", 0), ("write", 1), ("open", 2), ("close", 3), ("lseek", 8), ("pread64", 17), ("nanosleep", 35),
     ("getpid", 39), ("execve", 59), ("exit", 60), ("wait4", 61), ("openat", 257), ("clock_nanosleep", 230)],
)  # fmt: skip
def test_numbers(name: str, nr: int) -> None:
    assert Machine().syscalls.table[name].nr == nr


def test_entries_are_functions_of_the_kernel() -> None:
    machine = Machine()
    assert not [name for name in machine.syscalls.entries if vmlinux().find(name, Kind.FUNC) is None]
    assert "__do_sys_getpid" in machine.syscalls.entries  # calls without arguments, facts/call-paths
    assert "__x64_sys_close" in machine.syscalls.entries


def test_arguments_are_in_the_registers() -> None:
    machine = Machine()
    seen = []

    def trace(cpu, name: str, regs: int, value: int) -> None:  # type: ignore[no-untyped-def]
        places = {"r10": 7, "r9": 8, "r8": 9, "ax": 10, "dx": 12, "si": 13, "di": 14, "orig_ax": 15}
        place = {word: machine.mem.load(regs + 8 * at, 8) for word, at in places.items()}
        seen.append((name, value, place))

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        machine.kernel.trace = trace
        call("pread64", 1, 2, 3, 4)
        machine.kernel.trace = lambda *args: None

    machine.run(main)
    # syscall(2): rdi rsi rdx r10 r8 r9, the number in rax, which is -ENOSYS on the way in
    place = {"r10": 4, "r9": 0, "r8": 0, "ax": -38 & (1 << 64) - 1, "dx": 3, "si": 2, "di": 1, "orig_ax": 17}
    assert seen == [("sys_enter", 17, place), ("sys_exit", -9, place | {"ax": -9 & (1 << 64) - 1})]


def test_unknown_calls() -> None:
    machine = Machine()

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(InputError, match="'openatt' is not modelled"):
            call("openatt")
        with pytest.raises(InputError, match=r"close\(\) has 2 arguments, expected 1"):
            call("close", 1, 2)

    machine.run(main)
