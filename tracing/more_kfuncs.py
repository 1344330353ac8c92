"""Kernel functions and helpers of programs that send signals, walk tasks, copy texts of user space, and ask for symbols
(kernel/trace/bpf_trace.c, kernel/bpf/{helpers,task_iter,syscall,btf}.c, v6.18).
"""

from typing import Any, cast

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import M64, u32
from ebpfsim.memory.user import UserFault
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from tracing.helpers import current
from tracing.kallsyms import has_symbol, symbol_address
from tracing.task import PF_EXITING, PF_KTHREAD, Task
from tracing.task_helpers import task_at

__all__ = ["HELPERS", "KFUNCS"]

NSIG = 64
PIDTYPE_PID, PIDTYPE_TGID = 0, 1
SEND_SIG_PRIV = 1
# enum bpf_task_iter flags
ALL_PROCS, ALL_THREADS, PROC_THREADS = 0, 1, 2
BPF_F_PAD_ZEROS = 1
ORIG_AX = 120  # in struct pt_regs
_POS, _FLAGS, _FIRST = 8, 16, 0  # struct bpf_iter_task_kern: task, pos, flags


def _send(run: Run, task: Task, sig: int, kind: int) -> int:
    # bpf_send_signal_common(); what must wait for the end of an interrupt is done at once
    if task.struct.flags & (PF_KTHREAD | PF_EXITING) or task.pid <= 1:
        return -Errno.EPERM
    if not 0 <= sig <= NSIG:
        return -Errno.EINVAL
    if not sig:
        return 0
    ret: int = cast(Any, run.kernel).functions.do_send_sig_info(run.cpu, sig, SEND_SIG_PRIV, task.address, kind)
    return ret


def send_signal(run: Run, sig: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Send a signal to the process that runs: 0, EINVAL, EPERM of kernel threads, init and those that end."""
    return _send(run, current(run), u32(sig), PIDTYPE_TGID)


def send_signal_thread(run: Run, sig: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Send a signal to the thread that runs."""
    return _send(run, current(run), u32(sig), PIDTYPE_PID)


def send_signal_task(run: Run, task: int, sig: int, kind: int, _value: int, _r5: int) -> int:
    """Send a signal to any task, or its process: as ``send_signal``, EINVAL of another kind, ESRCH."""
    if u32(kind) not in (PIDTYPE_PID, PIDTYPE_TGID):
        return -Errno.EINVAL
    found = task_at(run, task)
    return _send(run, found, u32(sig), u32(kind)) if found is not None else -Errno.ESRCH


def iter_task_new(run: Run, it: int, task: int, flags: int, _r4: int, _r5: int) -> int:
    """Begin to walk processes, all threads, or those of a process: 0, EINVAL."""
    run.mem.fill(it, 24)
    if u32(flags) > PROC_THREADS or (u32(flags) == PROC_THREADS and not task):
        return -Errno.EINVAL
    idle: Task = cast(Any, run.kernel).sched.queues[0].idle
    first = task if u32(flags) == PROC_THREADS else idle.address
    run.mem.store(it + _FIRST, 8, first)
    run.mem.store(it + _POS, 8, first)
    run.mem.store(it + _FLAGS, 4, u32(flags))
    return 0


def iter_task_next(run: Run, it: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the next task, 0 behind the last one. The first one is the idle task of CPU 0 (init_task)."""
    position, flags = run.mem.load(it + _POS, 8), run.mem.load(it + _FLAGS, 4)
    if not position:
        return 0
    sched = cast(Any, run.kernel).sched
    tasks = list(sched.tasks.values())
    if flags == PROC_THREADS:
        first = task_at(run, run.mem.load(it + _FIRST, 8))
        order = [task.address for task in tasks if first is not None and task.leader is first.leader]
    else:
        chosen = [task for task in tasks if flags == ALL_THREADS or task.leader is task]
        order = [sched.queues[0].idle.address, *(task.address for task in chosen)]
    at = order.index(position) + 1 if position in order else len(order)
    run.mem.store(it + _POS, 8, order[at] if at < len(order) else 0)
    return position


def iter_task_destroy(_run: Run, _it: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """End a walk."""
    return 0


def _copy_str(run: Run, task: Task | None, to: tuple[int, int], user_ptr: int, flags: int) -> int:
    dst, size = to
    if flags & ~BPF_F_PAD_ZEROS:
        return -Errno.EINVAL
    if not size:
        return 0
    try:
        text = task.user.read_string(user_ptr, size) if task is not None and task.user is not None else None
    except UserFault:
        text = None
    if text is None:
        if flags & BPF_F_PAD_ZEROS:
            run.mem.fill(dst, size)
        return -Errno.EFAULT
    data = text[: size - 1] + b"\0"
    run.mem.write(dst, data.ljust(size, b"\0") if flags & BPF_F_PAD_ZEROS else data)
    return len(data)


def copy_from_user_str(run: Run, dst: int, size: int, user_ptr: int, flags: int, _r5: int) -> int:
    """Copy a text of the task that runs: its bytes with the NUL, EINVAL of flags, EFAULT."""
    return _copy_str(run, current(run), (dst, u32(size)), user_ptr, flags)


def copy_from_user_task_str(run: Run, dst: int, size: int, user_ptr: int, task: int, flags: int) -> int:
    """Copy a text of another task."""
    return _copy_str(run, task_at(run, task), (dst, u32(size)), user_ptr, flags)


def session_is_return(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Whether a program of a session is at the return of its function."""
    return int(run.mem.load(run.ctx + ORIG_AX, 8) == M64)


def kallsyms_lookup_name(run: Run, name: int, size: int, flags: int, result: int, _r5: int) -> int:
    """Store the address of a function of the kernel: 0, EINVAL, ENOENT (and 0 is stored)."""
    text = _name(run, name, size)
    if flags or text is None:
        return -Errno.EINVAL
    address = symbol_address(text) if has_symbol(text) else 0
    run.mem.store(result, 8, address)
    return 0 if address else -Errno.ENOENT


def btf_find_by_name_kind(run: Run, name: int, size: int, kind: int, flags: int, _r5: int) -> int:
    """Return the id of a type of the kernel: EINVAL, ENOENT."""
    text = _name(run, name, size)
    if flags or text is None:
        return -Errno.EINVAL
    found = vmlinux().find(text, Kind(u32(kind))) if u32(kind) in Kind.__members__.values() else None
    return found if found is not None else -Errno.ENOENT


def _name(run: Run, address: int, size: int) -> str | None:
    data = run.mem.read(address, u32(size)) if u32(size) > 1 else b""
    return data.partition(b"\0")[0].decode(errors="replace") if data.endswith(b"\0") else None


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_send_signal"]: send_signal,
    HELPER_IDS["bpf_send_signal_thread"]: send_signal_thread,
    HELPER_IDS["bpf_kallsyms_lookup_name"]: kallsyms_lookup_name,
    HELPER_IDS["bpf_btf_find_by_name_kind"]: btf_find_by_name_kind,
}
KFUNCS: dict[str, Helper] = {
    "bpf_send_signal_task": send_signal_task,
    "bpf_iter_task_new": iter_task_new,
    "bpf_iter_task_next": iter_task_next,
    "bpf_iter_task_destroy": iter_task_destroy,
    "bpf_copy_from_user_str": copy_from_user_str,
    "bpf_copy_from_user_task_str": copy_from_user_task_str,
    "bpf_session_is_return": session_is_return,
}
