"""What the records of trace events hold, from the arguments of their tracepoints (include/trace/events/, v6.18)."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from ebpfsim.btf.view import place
from tracing.exec import Binprm
from tracing.net_records import NET_BUILDERS
from tracing.signals import SEND_SIG_PRIV, SI_KERNEL, SI_USER, Siginfo
from tracing.task import PtRegs, Task
from tracing.tcp_records import TCP_BUILDERS

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


def _sched_stat_runtime(k: Any, address: int, runtime: int) -> Values:
    task = _task(k, address)
    return {"comm": _comm(task), "pid": task.pid, "runtime": runtime}


def _sched_migrate_task(k: Any, address: int, dest_cpu: int) -> Values:
    task = _task(k, address)
    values: dict[str, int | bytes] = {"comm": _comm(task), "pid": task.pid, "prio": task.struct.prio}
    return values | {"orig_cpu": task.struct.cpu, "dest_cpu": dest_cpu}


def _task_newtask(k: Any, address: int, clone_flags: int) -> Values:
    task = _task(k, address)
    return {"pid": task.pid, "comm": _comm(task), "clone_flags": clone_flags, "oom_score_adj": 0}


def _irq_handler_entry(k: Any, irq: int, action: int) -> Values:
    name = k.mem.load(action + place("irqaction", "name")[0], 8)
    return {"irq": irq, "name": k.mem.read_string(name, PATH_MAX)}


def _irq_handler_exit(_k: Any, irq: int, _action: int, ret: int) -> Values:
    return {"irq": irq, "ret": ret}


def _softirq(_k: Any, vec: int) -> Values:
    return {"vec": vec}


def _local_timer(_k: Any, vector: int) -> Values:
    return {"vector": vector}


def _hrtimer(_k: Any, timer: int) -> Values:
    return {"hrtimer": timer}


def _hrtimer_start(k: Any, timer: int, mode: int, was_armed: int) -> Values:
    expires = k.mem.load(timer + place("hrtimer", "node.expires")[0], 8)
    values: dict[str, int | bytes] = {"hrtimer": timer, "mode": mode, "expires": expires, "was_armed": was_armed}
    function = k.mem.load(timer + place("hrtimer", "function")[0], 8)
    softexpires = k.mem.load(timer + place("hrtimer", "_softexpires")[0], 8)
    return values | {"function": function, "softexpires": softexpires}


def _hrtimer_expire_entry(k: Any, timer: int, now: int) -> Values:
    function = k.mem.load(timer + place("hrtimer", "function")[0], 8)
    return {"hrtimer": timer, "now": k.mem.load(now, 8), "function": function}


def _cpu_idle(_k: Any, state: int, cpu: int) -> Values:
    return {"state": state, "cpu_id": cpu}


def _siginfo(k: Any, info: int) -> tuple[int, int]:
    # TP_STORE_SIGINFO
    if info > SEND_SIG_PRIV:
        found = Siginfo(k.mem, info)
        return found.si_errno, found.si_code
    return 0, SI_KERNEL if info == SEND_SIG_PRIV else SI_USER


def _signal_generate(k: Any, sig: int, info: int, address: int, group: int, result: int) -> Values:
    task, (errno, code) = _task(k, address), _siginfo(k, info)
    values: dict[str, int | bytes] = {"sig": sig, "errno": errno, "code": code, "comm": _comm(task)}
    return values | {"pid": task.pid, "group": group, "result": result}


def _signal_deliver(k: Any, sig: int, info: int, action: int) -> Values:
    errno, code = _siginfo(k, info)
    handler = k.mem.load(action + place("k_sigaction", "sa.sa_handler")[0], 8)
    flags = k.mem.load(action + place("k_sigaction", "sa.sa_flags")[0], 8)
    return {"sig": sig, "errno": errno, "code": code, "sa_handler": handler, "sa_flags": flags}


def _sched_process_wait(k: Any, pid: int) -> Values:
    task = k.sched.current(k.sched.running_cpu())
    number = next((other.pid for other in k.sched.tasks.values() if other.struct.thread_pid == pid), 0) if pid else 0
    return {"comm": _comm(task), "pid": number, "prio": task.struct.prio}


def _sched_prepare_exec(k: Any, address: int, bprm: int) -> Values:
    task, found = _task(k, address), Binprm(k.mem, bprm)
    interp, filename = (k.mem.read_string(at, PATH_MAX) for at in (found.interp, found.filename))
    return {"interp": interp, "filename": filename, "pid": task.pid, "comm": _comm(task)}


def _page_fault(k: Any, address: int, regs: int, error_code: int) -> Values:
    return {"address": address, "ip": PtRegs(k.mem, regs).ip, "error_code": error_code}


def _bpf_test_finish(k: Any, err: int) -> Values:
    return {"err": k.mem.load(err, 4)}


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
    "sched:sched_process_wait": _sched_process_wait,
    "sched:sched_prepare_exec": _sched_prepare_exec,
    "signal:signal_generate": _signal_generate,
    "signal:signal_deliver": _signal_deliver,
    "exceptions:page_fault_user": _page_fault,
    "exceptions:page_fault_kernel": _page_fault,
    "bpf_test_run:bpf_test_finish": _bpf_test_finish,
    "task:task_rename": _task_rename,
    "task:task_newtask": _task_newtask,
    "sched:sched_stat_runtime": _sched_stat_runtime,
    "sched:sched_migrate_task": _sched_migrate_task,
    "irq:irq_handler_entry": _irq_handler_entry,
    "irq:irq_handler_exit": _irq_handler_exit,
    "irq:softirq_raise": _softirq,
    "irq:softirq_entry": _softirq,
    "irq:softirq_exit": _softirq,
    "irq_vectors:local_timer_entry": _local_timer,
    "irq_vectors:local_timer_exit": _local_timer,
    "timer:hrtimer_start": _hrtimer_start,
    "timer:hrtimer_expire_entry": _hrtimer_expire_entry,
    "timer:hrtimer_expire_exit": _hrtimer,
    "timer:hrtimer_cancel": _hrtimer,
    "power:cpu_idle": _cpu_idle,
    **TCP_BUILDERS,
    **NET_BUILDERS,
}
