"""System calls: the table, the way in and the way out (arch/x86/entry/syscall_64.c, v6.18).

A call goes through its tracepoints and ``__x64_sys_NAME(struct pt_regs *)``, which takes its arguments from the task's
registers, as on Linux. What a call does is a function with the call's arguments, marked with ``syscall`` in the files
that model the kernel's rooms.
"""

import inspect
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import CodeType, ModuleType
from typing import Any, Protocol, TypeVar

from ebpfsim.costs import CostProfile
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError, InternalError
from ebpfsim.isa.alu import s64
from tracing.functions import kernel_function
from tracing.signals import exit_to_user
from tracing.task import Task

__all__ = ["Syscall", "Syscalls", "enter_code", "syscall", "syscall_table"]

_REGS = struct.Struct("<21Q")  # struct pt_regs
_U64 = (1 << 64) - 1
# user space as it looks in the registers: __USER_CS, __USER_DS, the flags of a program
USER_CS, USER_DS, USER_FLAGS = 0x33, 0x2B, 0x246

FunctionT = TypeVar("FunctionT", bound=Callable[..., int])


@dataclass(frozen=True, slots=True)
class Syscall:
    """One row of the table: number (arch/x86/entry/syscalls/syscall_64.tbl), name, names of its arguments."""

    nr: int
    name: str
    args: tuple[str, ...]
    call: Callable[..., int]

    @property
    def entry(self) -> str:
        """The function behind the table: calls without arguments have no wrapper of their own in BTF."""
        return f"__x64_sys_{self.name}" if self.args else f"__do_sys_{self.name}"


def syscall(nr: int) -> Callable[[FunctionT], FunctionT]:
    """Mark ``sys_NAME(kernel, cpu, ...)`` as what a system call does."""

    def mark(function: FunctionT) -> FunctionT:
        names = tuple(inspect.signature(function).parameters)[2:]
        function.__dict__["syscall"] = Syscall(nr, function.__name__.removeprefix("sys_"), names, function)
        return function

    return mark


def syscall_table(modules: Iterable[ModuleType]) -> dict[str, Syscall]:
    """Return the system calls that modules have, by their names."""
    table: dict[str, Syscall] = {}
    for module in modules:
        for function in vars(module).values():
            row = getattr(function, "syscall", None)
            if isinstance(row, Syscall):
                if row.name in table:
                    raise InternalError(f"system call {row.name} is there twice")
                table[row.name] = row
    return table


class _Kernel(Protocol):
    costs: CostProfile

    @property
    def sched(self) -> Any: ...

    @property
    def functions(self) -> Any: ...

    def trace(self, cpu: Cpu, name: str, *args: int) -> None: ...


class Syscalls:
    """The system calls of one kernel; ``entries`` has the functions behind the table by their names."""

    def __init__(self, kernel: _Kernel, modules: Iterable[ModuleType]) -> None:
        self.kernel = kernel
        self.entries: dict[str, Callable[..., int]] = {}
        self.table = syscall_table(modules)
        for row in self.table.values():
            self.entries[row.entry] = kernel_function(partial(_enter, self.kernel, row))

    def call(self, task: Task, name: str, *args: int) -> int:
        """Let the running task make a system call; what the C library would get from the kernel, a signed long."""
        row = self.table.get(name)
        if row is None:
            raise InputError("", f"system call '{name}' is not modelled")
        if len(args) > len(row.args):
            raise InputError("", f"{name}() has {len(args)} arguments, expected {len(row.args)}", ", ".join(row.args))
        values = [arg & _U64 for arg in args] + [0] * (6 - len(args))
        while True:
            ret = self._once(task, row, values)
            if not task.works and not task.sig.waiting:
                return ret
            # before the task is in user space again
            done = exit_to_user(self.kernel, task, ret)
            if done is not None:
                task.regs.ax = done
                return done

    def _once(self, task: Task, row: Syscall, values: list[int]) -> int:
        kernel = self.kernel
        cpu: Cpu = kernel.sched.cpu_of(task)
        regs = task.regs
        _fill(task, row.nr, values)
        cpu.charge(kernel.costs.ps("syscall"))
        kernel.trace(cpu, "sys_enter", regs.address, row.nr)
        ret = s64(getattr(kernel.functions, row.entry)(cpu, regs.address))
        regs.ax = ret
        cpu = kernel.sched.cpu_of(task)
        kernel.trace(cpu, "sys_exit", regs.address, ret)
        return ret


def enter_code() -> CodeType:
    """Return the code of what every ``__x64_sys_NAME()`` is."""
    return _enter.__code__


def _fill(task: Task, nr: int, values: list[int]) -> None:
    di, si, dx, r10, r8, r9 = values
    # ax is -ENOSYS until the call has an answer
    ax = -38 & _U64
    regs, ip = task.regs, task.user_ip
    words = (0, 0, 0, 0, task.user_bp, 0, USER_FLAGS, r10, r9, r8, ax, ip, dx, si, di, nr, ip, USER_CS, USER_FLAGS)
    regs.mem.write(regs.address, _REGS.pack(*words, task.user_sp, USER_DS))


def _enter(kernel: Any, row: Syscall, cpu: Cpu, regs: int) -> int:
    if not row.args:
        return row.call(kernel, cpu)
    words = _REGS.unpack(kernel.mem.read(regs, _REGS.size))
    values = (words[14], words[13], words[12], words[7], words[9], words[8])
    return row.call(kernel, cpu, *values[: len(row.args)])
