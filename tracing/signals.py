"""Signals: sending, and what a task does about them on its way to user space (kernel/signal.c, v6.18).

A handler is user space, of which nothing is modelled but that it returns (rt_sigreturn).

Left out: queues of real-time signals with the same number, alternative stacks in use, dumps of memory.
"""

from struct import Struct
from typing import Any, cast

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32
from tracing.functions import kernel_function
from tracing.sched import WaitQueue
from tracing.signal_state import (
    DUMPING,
    FAULTS,
    NSIG,
    SIG_DFL,
    SIG_IGN,
    SIGCONT,
    SIGKILL,
    STOPPING,
    Action,
)
from tracing.task import Task

__all__ = ["ERESTARTNOHAND", "ERESTARTSYS", "Siginfo", "exit_to_user", "interrupted", "wait_interruptible"]

# results of calls that a signal interrupted, which user space never sees (include/linux/errno.h)
ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = 512, 513, 514, 516
RESTARTS = (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK)
SA_NODEFER, SA_RESETHAND, SA_RESTART = 0x4000_0000, 0x8000_0000, 0x1000_0000
SI_USER, SI_TKILL, SI_KERNEL = 0, -6, 0x80
CAP_KILL = 5
PIDTYPE_PID, PIDTYPE_TGID = 0, 1
SEND_SIG_NOINFO, SEND_SIG_PRIV = 0, 1
# results of trace_signal_generate (include/trace/events/signal.h)
DELIVERED, WAS_IGNORED, ALREADY_PENDING = 0, 1, 2
STOPPED = 4  # TASK_STOPPED
TASK_INTERRUPTIBLE, TASK_WAKEKILL = 1, 0x100
_ACTION = Struct("<QQQQ")  # struct k_sigaction
_BLOCKED, _PENDING = place("task_struct", "blocked.sig")[0], place("task_struct", "pending.signal.sig")[0]


class Siginfo(KernelStruct):
    """``struct kernel_siginfo``: what comes with a signal."""

    struct_name = "kernel_siginfo"
    si_signo = Field()
    si_errno = Field()
    si_code = Field()
    si_pid = Field("_sifields._kill._pid")
    si_uid = Field("_sifields._kill._uid")
    si_addr = Field("_sifields._sigfault._addr")


class Ksignal(KernelStruct):
    """``struct ksignal``: the signal that is being handled."""

    struct_name = "ksignal"
    sig = Field()
    sa_handler = Field("ka.sa.sa_handler")
    sa_flags = Field("ka.sa.sa_flags")


# ---- sending ---------------------------------------------------------------------------------------------------------


@kernel_function
def kill_something_info(k: Any, cpu: Cpu, sig: int, info: int, pid: int) -> int:
    """Send a signal to a process, to a group (0, or less than -1) or to all (-1)."""
    functions, pid = k.functions, s32(pid)
    if pid > 0:
        functions.find_vpid(cpu, pid)
        return cast(int, functions.kill_pid_info_type(cpu, sig, info, _pid_at(k, pid), PIDTYPE_TGID))
    if pid == -(1 << 31):
        return -Errno.ESRCH
    own = k.sched.current(cpu).leader
    group = own.sig.group.pgid if pid == 0 else -pid
    answers = [
        _group_send(k, cpu, sig, info, task)
        for task in _processes(k)
        if (pid != -1 and task.sig.group.pgid == group) or (pid == -1 and task.pid > 1 and task is not own)
    ]
    if not answers:
        return -Errno.ESRCH
    return 0 if 0 in answers else answers[-1]


def _processes(k: Any) -> list[Task]:
    return [task for task in k.sched.tasks.values() if task.leader is task]


def _pid_at(k: Any, number: int) -> int:
    task = k.sched.tasks.get(number)
    return task.struct.thread_pid if task is not None else 0


def _task_of(k: Any, pid: int) -> Task | None:
    return next((task for task in k.sched.tasks.values() if task.struct.thread_pid == pid), None) if pid else None


@kernel_function
def kill_pid_info_type(k: Any, cpu: Cpu, sig: int, info: int, pid: int, _type: int) -> int:
    """Send a signal to the process of a ``struct pid``; ESRCH."""
    k.functions.pid_task(cpu, pid, PIDTYPE_PID)
    task = _task_of(k, pid)
    return -Errno.ESRCH if task is None else _group_send(k, cpu, sig, info, task)


def _group_send(k: Any, cpu: Cpu, sig: int, info: int, task: Task) -> int:
    # group_send_sig_info()
    ret: int = k.functions.check_kill_permission(cpu, sig, info, task.address)
    return ret or (k.functions.do_send_sig_info(cpu, sig, info, task.address, PIDTYPE_TGID) if sig else 0)


@kernel_function
def check_kill_permission(k: Any, cpu: Cpu, sig: int, info: int, t: int) -> int:
    """Whether the task may send this: EINVAL, EPERM, what the security modules say."""
    functions, task = k.functions, k.sched.by_address[t]
    if not 0 <= s32(sig) <= NSIG:
        return -Errno.EINVAL
    functions.audit_signal_info(cpu, sig, t)
    ours, theirs = k.sched.current(cpu).cred, task.cred
    same = {ours.euid, ours.uid} & {theirs.suid, theirs.uid}
    if task.leader is not k.sched.current(cpu).leader and not same and not _may_kill(k, cpu, theirs.user_ns):
        own = k.sched.current(cpu).leader.sig.group
        if sig != SIGCONT or task.leader.sig.group.sid != own.sid:
            return -Errno.EPERM
    ret: int = functions.security_task_kill(cpu, t, info, sig, 0)
    return ret


def _may_kill(k: Any, cpu: Cpu, user_ns: int) -> bool:
    return bool(k.functions.ns_capable(cpu, user_ns, CAP_KILL))


@kernel_function
def do_send_sig_info(k: Any, cpu: Cpu, sig: int, info: int, p: int, type_: int) -> int:
    """Send a signal to a task, unless it has gone."""
    if k.sched.by_address[p].struct.exit_state & 0x10:
        return -Errno.ESRCH
    ret: int = k.functions.send_signal_locked(cpu, sig, info, p, type_)
    return ret


@kernel_function
def send_signal_locked(k: Any, cpu: Cpu, sig: int, info: int, t: int, type_: int) -> int:
    """Send a signal: who sent it has the pid that the receiver's name space gives it."""
    functions = k.functions
    if info > SEND_SIG_PRIV:
        functions.siginfo_layout(cpu, sig, Siginfo(k.mem, info).si_code)
        if sig not in FAULTS or Siginfo(k.mem, info).si_code <= 0:
            # has_si_pid_and_uid()
            functions.task_active_pid_ns(cpu, t)
            functions.__task_pid_nr_ns(cpu, k.sched.current(cpu).address, PIDTYPE_TGID, 0)
    elif info == SEND_SIG_NOINFO:
        # from a name space above it could not be ignored
        functions.task_active_pid_ns(cpu, t)
        functions.__task_pid_nr_ns(cpu, k.sched.current(cpu).address, PIDTYPE_PID, 0)
    ret: int = functions.__send_signal_locked(cpu, sig, info, t, type_, 0)
    return ret


@kernel_function
def __send_signal_locked(k: Any, cpu: Cpu, sig: int, info: int, t: int, type_: int, force: int) -> int:
    """Let a signal wait for a task, or for any thread of its process."""
    functions, task = k.functions, k.sched.by_address[t]
    pending = task.sig.pending if type_ == PIDTYPE_PID else task.sig.group.pending
    result = DELIVERED
    if not functions.prepare_signal(cpu, sig, t, force):
        result = WAS_IGNORED
    elif sig in pending:
        result = ALREADY_PENDING
    else:
        if info > SEND_SIG_PRIV and sig != SIGKILL:
            functions.inc_rlimit_get_ucounts(cpu, 0, 0, 0)
        pending[sig] = _copy_info(k, info)
        _store_pending(k, task)
        functions.complete_signal(cpu, sig, t, type_)
    k.trace(cpu, "signal_generate", sig, info, t, int(type_ != PIDTYPE_PID), result)
    return 0


def _copy_info(k: Any, info: int) -> int:
    if info <= SEND_SIG_PRIV:
        return 0
    copy = Siginfo.alloc(k.mem)
    k.mem.write(copy.address, k.mem.read(info, 48))
    return copy.address


def _store_pending(k: Any, task: Task) -> None:
    k.mem.store(task.address + _PENDING, 8, sum(1 << sig - 1 for sig in task.sig.pending))


@kernel_function
def prepare_signal(k: Any, cpu: Cpu, sig: int, p: int, _force: int) -> int:
    """See whether a signal does anything; one that goes on and those that stop take each other away."""
    task: Task = k.sched.by_address[p]
    state, group = task.sig, task.sig.group
    if group.exit_code is not None:
        return int(sig == SIGKILL)
    if sig in STOPPING or sig == SIGCONT:
        for other in (SIGCONT,) if sig in STOPPING else STOPPING:
            for pending in (state.pending, group.pending):
                _forget(k, pending, other)
    if sig == SIGCONT and group.stopped:
        group.stopped = False
        for thread in (task.leader, *task.leader.threads):
            k.functions.wake_up_state(cpu, thread.address, STOPPED)
    blocked = state.blocked >> sig - 1 & 1
    if task.pid == 1 and state.action(sig).handler == SIG_DFL:
        return 0
    return int(bool(blocked) or not state.ignores(sig))


def _forget(k: Any, pending: dict[int, int], sig: int) -> None:
    info = pending.pop(sig, 0)
    if info:
        k.mem.free(info)


@kernel_function
def complete_signal(k: Any, cpu: Cpu, sig: int, p: int, type_: int) -> None:
    """Find a thread that wants the signal, and wake it; one that ends the process is for all."""
    task: Task = k.sched.by_address[p]
    group = task.sig.group
    threads = [task] if type_ == PIDTYPE_PID else [task, *(t for t in (task.leader, *task.leader.threads) if t != task)]
    wanting = [t for t in threads if t.alive and (sig == SIGKILL or not t.sig.blocked >> sig - 1 & 1)]
    if not wanting:
        return
    if task.sig.is_fatal(sig) and group.exit_code is None and sig not in DUMPING:
        group.exit_code, group.stopped = sig, False
        for thread in (task.leader, *task.leader.threads):
            if thread.alive:
                thread.sig.killed = True
                signal_wake_up(k, cpu, thread, TASK_WAKEKILL | STOPPED)
        return
    signal_wake_up(k, cpu, wanting[0], 0)


def signal_wake_up(k: Any, cpu: Cpu, task: Task, state: int) -> None:
    """Let a task see its signals: wake it, or interrupt what it does (signal_wake_up_state)."""
    if not k.functions.wake_up_state(cpu, task.address, state | TASK_INTERRUPTIBLE):
        k.functions.kick_process(cpu, task.address)


@kernel_function
def wake_up_state(k: Any, cpu: Cpu, p: int, state: int) -> int:
    """Wake a task that waits in one of these states."""
    ret: int = k.functions.try_to_wake_up(cpu, p, state, 0)
    return ret


def send_kill(k: Any, cpu: Cpu, pid: int, sig: int) -> int:
    """kill(2)."""
    info = _info(k, cpu, sig, SI_USER)
    ret: int = k.functions.kill_something_info(cpu, sig, info.address, pid)
    info.free()
    return s32(ret & 0xFFFF_FFFF)


def _info(k: Any, cpu: Cpu, sig: int, code: int) -> Siginfo:
    # prepare_kill_siginfo()
    task, info = k.sched.current(cpu), Siginfo.alloc(k.mem)
    info.si_signo, info.si_code, info.si_uid = sig, code, task.cred.uid
    info.si_pid = k.functions.__task_pid_nr_ns(cpu, task.address, PIDTYPE_TGID, 0)
    return info


def send_tkill(k: Any, cpu: Cpu, tgid: int, pid: int, sig: int) -> int:
    """tkill(2), and tgkill(2) with a process."""
    info = _info(k, cpu, sig, SI_TKILL)
    ret: int = k.functions.do_send_specific(cpu, tgid, pid, sig, info.address)
    info.free()
    return ret


@kernel_function
def do_send_specific(k: Any, cpu: Cpu, tgid: int, pid: int, sig: int, info: int) -> int:
    """Send a signal to one thread; ESRCH."""
    functions = k.functions
    functions.find_task_by_vpid(cpu, pid)
    task = k.sched.tasks.get(s32(pid))
    if task is None or (s32(tgid) > 0 and task.tgid != tgid):
        return -Errno.ESRCH
    ret: int = functions.check_kill_permission(cpu, sig, info, task.address)
    if not ret and sig:
        ret = functions.do_send_sig_info(cpu, sig, info, task.address, PIDTYPE_PID)
    return ret


# ---- waiting and being interrupted -----------------------------------------------------------------------------------


def interrupted(task: Task) -> bool:
    """Whether a signal waits for a task (signal_pending)."""
    return task.sig.waiting


def wait_interruptible(k: Any, task: Task, queue: WaitQueue | None, timeout_ns: int | None = None) -> bool:
    """Let the current task wait; False when time was over. Whoever calls it looks for signals (``interrupted``)."""
    if interrupted(task):
        return True
    woken: bool = k.sched.wait(queue, timeout_ns=timeout_ns)
    if queue is not None:
        queue.remove(task)
    return woken


# ---- on the way to user space ----------------------------------------------------------------------------------------


def exit_to_user(k: Any, task: Task, ret: int) -> int | None:
    """Do what is left to do before a task is in user space again, signals included (exit_to_user_mode_loop).

    Return the call's result, None when the call is to be made once more.
    """
    while task.works or task.sig.waiting:
        cpu = k.sched.cpu_of(task)
        if task.works:
            k.functions.task_work_run(cpu)
        if task.sig.waiting:
            ksig = Ksignal.alloc(k.mem)
            try:
                handled = k.functions.get_signal(cpu, ksig.address)
                restart = -ret in RESTARTS
                if handled:
                    flags = ksig.sa_flags
                    again = -ret == ERESTARTNOINTR or (-ret == ERESTARTSYS and bool(flags & SA_RESTART))
                    _handle(k, cpu, task, ksig)
                    if restart and not again:
                        ret = -Errno.EINTR
                        restart = False
                if restart:
                    return None
            finally:
                ksig.free()
    return None if -ret in RESTARTS else ret


def _handle(k: Any, cpu: Cpu, task: Task, ksig: Ksignal) -> None:
    # handle_signal(), the handler itself, and its way back
    functions, regs = k.functions, task.regs.address
    functions.x64_setup_rt_frame(cpu, ksig.address, regs)
    functions.fpu__clear_user_states(cpu, 0)
    functions.signal_setup_done(cpu, 0, ksig.address, 0)
    k.syscalls.call(task, "rt_sigreturn")


@kernel_function
def get_signal(k: Any, cpu: Cpu, ksig: int) -> int:
    """Take the next signal: 1 when the task has a handler for it, 0 when there is nothing left to do about any."""
    functions, task, found = k.functions, k.sched.current(cpu), Ksignal(k.mem, ksig)
    state, group = task.sig, task.sig.group
    functions.uprobe_deny_signal(cpu)
    while True:
        _stop(k, task)
        if state.killed or group.exit_code is not None:
            state.killed = False
            k.trace(cpu, "signal_deliver", SIGKILL, SEND_SIG_NOINFO, _action(k, task, SIGKILL))
            functions.recalc_sigpending(cpu)
            functions.do_group_exit(cpu, group.exit_code or SIGKILL)
        info = Siginfo.alloc(k.mem)
        try:
            sig = functions.dequeue_signal(cpu, task.address + _BLOCKED, info.address, 0)
            if not sig:
                return 0
            action = state.action(sig)
            k.trace(cpu, "signal_deliver", sig, info.address, _action(k, task, sig))
        finally:
            info.free()
        if action.handler == SIG_IGN:
            continue
        if action.handler != SIG_DFL:
            found.sig, found.sa_handler, found.sa_flags = sig, action.handler, action.flags
            if action.flags & SA_RESETHAND:
                group.actions.pop(sig)
            return 1
        if state.ignores(sig) or task.pid == 1:
            continue
        if sig in STOPPING:
            group.stopped = True
            continue
        if sig in DUMPING:
            functions.vfs_coredump(cpu, ksig)
        functions.do_group_exit(cpu, sig)


def _stop(k: Any, task: Task) -> None:
    # do_signal_stop()
    while task.sig.group.stopped and task.sig.group.exit_code is None:
        k.sched.wait(None, state=STOPPED)


def _action(k: Any, task: Task, sig: int) -> int:
    # the action of a signal, where the kernel has it
    at: int = task.struct.sighand + place("sighand_struct", "action")[0] + 32 * (sig - 1)
    action = task.sig.action(sig)
    k.mem.write(at, _ACTION.pack(action.handler, action.flags, action.restorer, action.mask))
    return at


@kernel_function
def dequeue_signal(k: Any, cpu: Cpu, _mask: int, info: int, _type: int) -> int:
    """Take the signal that is next; 0 without one."""
    functions, task = k.functions, k.sched.current(cpu)
    sig: int = task.sig.next()
    if sig:
        pending = task.sig.pending if sig in task.sig.pending else task.sig.group.pending
        functions.collect_signal(cpu, sig, 0, info, 0)
        waiting = pending.pop(sig)
        if waiting:
            k.mem.write(info, k.mem.read(waiting, 48))
            k.mem.free(waiting)
        else:
            Siginfo(k.mem, info).si_signo = sig
        _store_pending(k, task)
    functions.recalc_sigpending(cpu)
    return sig


@kernel_function
def signal_setup_done(k: Any, cpu: Cpu, _failed: int, ksig: int, _stepping: int) -> None:
    """Block what the handler does not want to be interrupted by."""
    task, found = k.sched.current(cpu), Ksignal(k.mem, ksig)
    state = task.sig
    action: Action = state.action(found.sig)
    # what comes back when the handler is done
    state.saved = state.blocked if state.saved is None else state.saved
    mask = state.blocked | action.mask | (0 if action.flags & SA_NODEFER else 1 << found.sig - 1)
    set_blocked(k, cpu, task, mask)


def set_blocked(k: Any, cpu: Cpu, task: Task, mask: int) -> None:
    """Change which signals a task blocks; SIGKILL and SIGSTOP cannot be."""
    mask &= ~(1 << SIGKILL - 1 | 1 << 18) & (1 << 64) - 1
    room = k.mem.alloc(8)
    k.mem.store(room, 8, mask)
    k.functions.__set_task_blocked(cpu, task.address, room)
    k.mem.free(room)


@kernel_function
def __set_task_blocked(k: Any, cpu: Cpu, tsk: int, newset: int) -> None:
    """Change which signals a task blocks."""
    task: Task = k.sched.by_address[tsk]
    task.sig.blocked = k.mem.load(newset, 8)
    k.mem.store(tsk + _BLOCKED, 8, task.sig.blocked)
    k.functions.recalc_sigpending(cpu)


@kernel_function
def set_current_blocked(k: Any, cpu: Cpu, newset: int) -> None:
    """Change which signals the running task blocks."""
    k.functions.__set_task_blocked(cpu, k.sched.current(cpu).address, newset)


@kernel_function
def task_work_run(k: Any, cpu: Cpu) -> None:
    """Do what was put off until the task returns to user space."""
    task: Task = k.sched.current(cpu)
    while task.works:
        task.works.pop(0)()
