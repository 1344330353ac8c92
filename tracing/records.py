"""What the records of trace events hold, from the arguments of their tracepoints (include/trace/events/, v6.18)."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from tracing.process import Binprm
from tracing.task import PtRegs, Task

__all__ = ["BUILDERS", "Values", "syscall_number", "syscall_values"]

Values = Mapping[str, int | bytes]
Builder = Callable[..., Values]

# include/linux/sched.h: what TASK_REPORT shows, and what it says of a task that was preempted
TASK_REPORT, TASK_REPORT_MAX = 0x7F, 0x100
TASK_COMM_LEN = 16
PATH_MAX = 4096
_ARGS = struct.Struct("<6Q")


def _task(k: Any, address: int) -> Task:
    found: Task = k.sched.by_address[address]
    return found


def _comm(task: Task) -> bytes:
    return task.comm.encode()[: TASK_COMM_LEN - 1]


def _args(k: Any, regs: int) -> tuple[int, ...]:
    # syscall_get_arguments()
    mem = k.mem
    return tuple(mem.load(regs + 8 * word, 8) for word in (14, 13, 12, 7, 9, 8))


def syscall_number(k: Any, regs: int) -> int:
    """Return which system call a task is in."""
    return PtRegs(k.mem, regs).orig_ax


def syscall_values(k: Any, is_exit: bool, names: tuple[str, ...], regs: int, value: int) -> Values:
    """Return the record of a system call's way in (perf_syscall_enter) or out: number, arguments or result."""
    values: dict[str, int | bytes] = {"__syscall_nr": syscall_number(k, regs)}
    if is_exit:
        return values | {"ret": value}
    return values | dict(zip(names, _args(k, regs), strict=False))


def _sys_enter(k: Any, regs: int, nr: int) -> Values:
    return {"id": nr, "args": _ARGS.pack(*_args(k, regs))}


def _sys_exit(k: Any, regs: int, ret: int) -> Values:
    return {"id": syscall_number(k, regs), "ret": ret}


def _sched_switch(k: Any, preempt: int, prev: int, following: int, prev_state: int) -> Values:
    before, after = _task(k, prev), _task(k, following)
    # __trace_sched_switch_state(): the highest bit of the state
    state = (prev_state | before.struct.exit_state) & TASK_REPORT
    state = TASK_REPORT_MAX if preempt else 1 << state.bit_length() >> 1
    values: dict[str, int | bytes] = {"prev_state": state}
    for name, task in (("prev", before), ("next", after)):
        values |= {f"{name}_comm": _comm(task), f"{name}_pid": task.pid, f"{name}_prio": task.struct.prio}
    return values


def _sched_wakeup(k: Any, address: int) -> Values:
    task = _task(k, address)
    return {"comm": _comm(task), "pid": task.pid, "prio": task.struct.prio, "target_cpu": task.struct.cpu}


def _sched_process_fork(k: Any, parent: int, child: int) -> Values:
    old, new = _task(k, parent), _task(k, child)
    return {"parent_comm": _comm(old), "parent_pid": old.pid, "child_comm": _comm(new), "child_pid": new.pid}


def _sched_process_exec(k: Any, address: int, old_pid: int, bprm: int) -> Values:
    filename = k.mem.read_string(Binprm(k.mem, bprm).filename, PATH_MAX)
    return {"filename": filename, "pid": _task(k, address).pid, "old_pid": old_pid}


def _sched_process_exit(k: Any, address: int, group_dead: int) -> Values:
    task = _task(k, address)
    return {"comm": _comm(task), "pid": task.pid, "prio": task.struct.prio, "group_dead": group_dead}


def _task_rename(k: Any, address: int, comm: int) -> Values:
    task = _task(k, address)
    new = k.mem.read_string(comm, TASK_COMM_LEN)
    return {"pid": task.pid, "oldcomm": _comm(task), "newcomm": new, "oom_score_adj": 0}


# by the event's full name; what an event is called is the tracepoint that fires it
BUILDERS: Mapping[str, Builder] = {
    "raw_syscalls:sys_enter": _sys_enter,
    "raw_syscalls:sys_exit": _sys_exit,
    "sched:sched_switch": _sched_switch,
    "sched:sched_wakeup": _sched_wakeup,
    "sched:sched_wakeup_new": _sched_wakeup,
    "sched:sched_waking": _sched_wakeup,
    "sched:sched_process_fork": _sched_process_fork,
    "sched:sched_process_exec": _sched_process_exec,
    "sched:sched_process_exit": _sched_process_exit,
    "task:task_rename": _task_rename,
}
