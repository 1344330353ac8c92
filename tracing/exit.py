"""The end of tasks, and waiting for it: exit(2), wait4(2), waitid(2) (kernel/exit.c, v6.18)."""

from typing import Any, cast

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory.user import UserFault
from tracing.functions import kernel_function
from tracing.mm import exit_mm
from tracing.sched import TaskExit
from tracing.signal_state import SIG_IGN, SIGCHLD
from tracing.signals import ERESTARTSYS, PIDTYPE_TGID, Siginfo, interrupted, signal_wake_up, wait_interruptible
from tracing.syscalls import syscall
from tracing.task import PF_EXITING, Task, TaskState
from tracing.vfs import File

__all__: list[str] = []

WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x0100_0000
WNOTHREAD, WALL, WCLONE = 0x2000_0000, 0x4000_0000, 0x8000_0000
P_ALL, P_PID, P_PGID, P_PIDFD = range(4)
CLD_EXITED, CLD_KILLED = 1, 2
SA_NOCLDWAIT = 2
PIDTYPES = 4
_ROOT = place("fs_struct", "root")[0]


@syscall(60)
def sys_exit(k: Any, cpu: Cpu, error_code: int) -> int:
    k.functions.do_exit(cpu, (error_code & 0xFF) << 8)
    return 0


@syscall(231)
def sys_exit_group(k: Any, cpu: Cpu, error_code: int) -> int:
    k.functions.do_group_exit(cpu, (error_code & 0xFF) << 8)
    return 0


@kernel_function
def do_group_exit(k: Any, cpu: Cpu, exit_code: int) -> None:
    """End the calling task and all other threads of its process; does not return."""
    task: Task = k.sched.current(cpu)
    group = task.sig.group
    if group.exit_code is not None:
        # the process ends already (SIGNAL_GROUP_EXIT)
        exit_code = group.exit_code
    else:
        group.exit_code = exit_code
        k.functions.zap_other_threads(cpu, task.address)
        for thread in (task.leader, *task.leader.threads):
            if thread is not task and thread.alive:
                thread.sig.killed = True
                signal_wake_up(k, cpu, thread, 0x104)
    k.functions.do_exit(cpu, exit_code)


@kernel_function
def do_exit(k: Any, cpu: Cpu, code: int) -> None:
    """End the calling task; does not return."""
    functions, task = k.functions, k.sched.current(cpu)
    address, leader = task.address, task.leader
    last = not any(thread.alive and thread is not task for thread in (leader, *leader.threads))
    functions.exit_signals(cpu, address)
    task.struct.flags |= PF_EXITING
    functions.seccomp_filter_release(cpu, address)
    if last:
        functions.hrtimer_cancel(cpu, 0)
        functions.exit_itimers(cpu, address)
    task.struct.exit_code = code
    if last:
        leader.struct.exit_code = leader.sig.group.exit_code if leader.sig.group.exit_code is not None else code
    functions.tty_audit_exit(cpu)
    k.trace(cpu, "sched_process_exit", address, int(last))
    functions.perf_event_exit_task(cpu, address)
    exit_mm(k, cpu, task)
    functions.exit_sem(cpu, address)
    functions.exit_shm(cpu, address)
    functions.exit_files(cpu, address)
    functions.exit_fs(cpu, address)
    if last:
        functions.disassociate_ctty(cpu, 1)
    functions.exit_task_namespaces(cpu, address)
    if task.works:
        functions.task_work_run(cpu)
    functions.exit_thread(cpu, address)
    functions.sched_autogroup_exit_task(cpu, address)
    functions.cgroup_exit(cpu, address)
    functions.flush_ptrace_hw_breakpoint(cpu, address)
    _exit_notify(k, cpu, task, last=last)
    functions.proc_exit_connector(cpu, address)
    functions.mpol_put_task_policy(cpu, address)
    functions.exit_task_stack_account(cpu, address)
    functions.exit_rcu(cpu)
    raise TaskExit(code)


@kernel_function
def exit_files(k: Any, cpu: Cpu, tsk: int) -> None:
    """Let go of the table of descriptors."""
    task: Task = k.sched.by_address[tsk]
    if not any(thread.alive and thread is not task for thread in (task.leader, *task.leader.threads)):
        k.functions.put_files_struct(cpu, task.struct.files_ptr)


@kernel_function
def put_files_struct(k: Any, cpu: Cpu, files: int) -> None:
    """Close all descriptors."""
    table = k.sched.current(cpu).files
    for fd in table.numbers():
        obj = table.take(fd)
        if isinstance(obj, File):
            k.functions.filp_close(cpu, obj.address, files)
        elif obj is not None:
            obj.put_user()


@kernel_function
def exit_fs(k: Any, cpu: Cpu, tsk: int) -> None:
    """Let go of root and working directory."""
    task: Task = k.sched.by_address[tsk]
    if any(thread.alive and thread is not task for thread in (task.leader, *task.leader.threads)):
        return
    room, directory = k.mem.alloc(16), task.leader.cwd
    # the root has no count of its own, nor has a task that works in it
    k.vfs.root.opens += 1 if directory is not None else 2
    for dentry in (k.vfs.root, directory or k.vfs.root):
        k.mem.store(room, 8, k.vfs.mount_of(dentry).vfsmount)
        k.mem.store(room + 8, 8, dentry.address)
        k.functions.path_put(cpu, room)
    k.mem.free(room)
    task.leader.cwd = None


def _exit_notify(k: Any, cpu: Cpu, task: Task, *, last: bool) -> None:
    functions, sched = k.functions, k.sched
    task.alive = False
    for child in list(task.children):
        # forget_original_parent()
        child.parent = sched.init
        child.struct.real_parent_ptr = child.struct.parent_ptr = sched.init.address
        sched.init.children.append(child)
        if child.struct.exit_state == TaskState.EXIT_ZOMBIE and child.is_empty:
            sched.release(child)
    task.children = []
    functions.task_active_pid_ns(cpu, task.address)
    functions.kill_orphaned_pgrp(cpu, task.leader.address, task.leader.parent.address)
    task.struct.exit_state = TaskState.EXIT_ZOMBIE
    if task.vfork_done is not None:
        waits, task.vfork_done = task.vfork_done, None
        sched.wake_up_all(waits, cpu)
    if last:
        functions.do_notify_pidfd(cpu, task.leader.address)
        ignored = functions.do_notify_parent(cpu, task.leader.address, task.leader.struct.exit_signal or SIGCHLD)
        # who is to be released without anybody waiting for it
        task.leader.autoreap = bool(ignored & 1) or task.leader.parent is sched.init
    if task.leader is not task:
        task.autoreap = True


@kernel_function
def do_notify_parent(k: Any, cpu: Cpu, tsk: int, sig: int) -> int:
    """Tell the parent that a process has ended; 1 when it does not want to know."""
    functions, task = k.functions, k.sched.by_address[tsk]
    parent: Task = task.parent
    functions.__wake_up(cpu, 0, 3, 0, 0)
    functions.task_active_pid_ns(cpu, parent.address)
    functions.__task_pid_nr_ns(cpu, tsk, 0, 0)
    functions.nsec_to_clock_t(cpu, 0)
    functions.nsec_to_clock_t(cpu, 0)
    code = task.struct.exit_code
    info = Siginfo.alloc(k.mem)
    info.si_signo, info.si_pid, info.si_uid = s32(sig) & 0xFF, task.pid, task.cred.uid
    info.si_code = CLD_KILLED if code & 0x7F else CLD_EXITED
    action = parent.sig.action(SIGCHLD)
    ignored = s32(sig) == SIGCHLD and (action.handler == SIG_IGN or bool(action.flags & SA_NOCLDWAIT))
    if 0 < s32(sig) <= 64 and not (ignored and action.handler == SIG_IGN):
        functions.__send_signal_locked(cpu, s32(sig), info.address, parent.address, PIDTYPE_TGID, 0)
    info.free()
    functions.__wake_up_parent(cpu, tsk, parent.address)
    return int(ignored)


@kernel_function
def __wake_up_parent(k: Any, cpu: Cpu, p: int, parent: int) -> None:
    """Wake who waits for a child."""
    k.functions.__wake_up_sync_key(cpu, 0, 1, p)
    k.sched.wake_up_all(k.sched.child_exits(k.sched.by_address[parent]), cpu)


@syscall(61)
def sys_wait4(k: Any, cpu: Cpu, upid: int, stat_addr: int, options: int, ru: int) -> int:
    ret: int = k.functions.kernel_wait4(cpu, s32(upid), stat_addr, u32(options), ru)
    return ret


@kernel_function
def kernel_wait4(k: Any, cpu: Cpu, upid: int, stat_addr: int, options: int, _ru: int) -> int:
    """Wait for a child that ends; its number, 0 with WNOHANG when none has; ECHILD, EINVAL, EFAULT."""
    functions, upid = k.functions, s32(upid)
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL):
        return -Errno.EINVAL
    if upid == -(1 << 31):
        return -Errno.ESRCH
    if upid != -1:
        functions.find_get_pid(cpu, abs(upid))
    wo = _Wait(k, cpu, upid, options)
    ret: int = functions.do_wait(cpu, wo.address)
    code, _ = wo.done()
    functions.put_pid(cpu, 0)
    task: Task = k.sched.current(cpu)
    if ret > 0 and stat_addr and task.user is not None:
        try:
            task.user.write(stat_addr, u32(code).to_bytes(4, "little"))
        except UserFault:
            return -Errno.EFAULT
    return ret


class _Wait:
    # ``struct wait_opts``: whom a task waits for, and what it has found
    def __init__(self, k: Any, cpu: Cpu, upid: int, options: int) -> None:
        self.k, self.task, self.upid, self.options = k, k.sched.current(cpu).leader, upid, options
        self.address = k.mem.alloc(64)
        self.code = 0
        self.keep = bool(options & WNOWAIT)
        k.walks[self.address] = self

    def wants(self, child: Task) -> bool:
        if child.leader is not child:
            return False
        if self.upid == -1:
            return True
        group = self.task.sig.group.pgid if self.upid == 0 else -self.upid
        return child.pid == self.upid if self.upid > 0 else child.sig.group.pgid == group

    def done(self) -> tuple[int, int]:
        del self.k.walks[self.address]
        self.k.mem.free(self.address)
        return self.code, 0


@kernel_function
def do_wait(k: Any, cpu: Cpu, wo: int) -> int:
    """Wait for a child."""
    functions, asked, task = k.functions, k.walks[wo], k.sched.current(cpu)
    k.trace(cpu, "sched_process_wait", _pid_of(k, asked.upid))
    functions.add_wait_queue(cpu, 0, 0)
    while True:
        ret = functions.__do_wait(cpu, wo)
        if ret != -ERESTARTSYS:
            break
        if interrupted(task):
            break
        wait_interruptible(k, task, k.sched.child_exits(task.leader))
    functions.remove_wait_queue(cpu, 0, 0)
    return cast(int, ret)


def _pid_of(k: Any, upid: int) -> int:
    task = k.sched.tasks.get(upid)
    return task.struct.thread_pid if task is not None else 0


@kernel_function
def __do_wait(k: Any, cpu: Cpu, wo: int) -> int:
    """Look for a child that has ended; -ERESTARTSYS when there is none yet."""
    functions, asked = k.functions, k.walks[wo]
    wanted = [child for child in asked.task.children if asked.wants(child)]
    if asked.upid > 0:
        functions.pid_task(cpu, _pid_of(k, asked.upid), PIDTYPE_TGID)
    for child in wanted:
        ret = functions.wait_consider_task(cpu, wo, 0, child.address)
        if ret:
            return cast(int, ret)
    if asked.upid > 0 and wanted:
        functions.pid_task(cpu, _pid_of(k, asked.upid), PIDTYPE_TGID)
    if not wanted:
        return -Errno.ECHILD
    return 0 if asked.options & WNOHANG else -ERESTARTSYS


@kernel_function
def wait_consider_task(k: Any, cpu: Cpu, wo: int, _ptrace: int, p: int) -> int:
    """Take a child that has ended: its number; 0 when it has not."""
    functions, asked, child = k.functions, k.walks[wo], k.sched.by_address[p]
    if child.struct.exit_state != TaskState.EXIT_ZOMBIE or not child.is_empty:
        return 0
    number = functions.__task_pid_nr_ns(cpu, p, 0, 0)
    asked.code = child.struct.exit_code
    if not asked.keep:
        functions.release_task(cpu, p)
    return cast(int, number)


@kernel_function
def release_task(k: Any, cpu: Cpu, p: int) -> None:
    """Give back what is left of a task."""
    functions = k.functions
    functions.dec_rlimit_ucounts(cpu, 0, 0, 1)
    functions.cgroup_release(cpu, p)
    functions.posix_cpu_timers_exit(cpu, p)
    functions.posix_cpu_timers_exit_group(cpu, p)
    functions.add_device_randomness(cpu, 0, 0)
    for number in range(PIDTYPES):
        functions.detach_pid(cpu, 0, p, number)
    functions.flush_sigqueue(cpu, 0)
    functions.__cleanup_sighand(cpu, k.sched.by_address[p].struct.sighand)
    functions.flush_sigqueue(cpu, 0)
    functions.tty_kref_put(cpu, 0)
    functions.proc_flush_pid(cpu, k.sched.by_address[p].struct.thread_pid)
    functions.put_pid(cpu, 0)
    functions.release_thread(cpu, p)
    k.sched.release(k.sched.by_address[p])


@kernel_function
def detach_pid(k: Any, cpu: Cpu, pids: int, task: int, type_: int) -> None:
    """Let a number stand for a task no more."""
    k.functions.__change_pid(cpu, pids, task, type_, 0)


@kernel_function
def __change_pid(k: Any, cpu: Cpu, _pids: int, _task: int, type_: int, _new: int) -> None:
    """Let a number stand for another task, or none."""
    if type_ == 0:
        k.functions.__wake_up(cpu, 0, 3, 0, 0)
    elif type_ == 1:
        k.functions.free_pid(cpu, 0)


@syscall(247)
def sys_waitid(k: Any, cpu: Cpu, which: int, upid: int, infop: int, options: int, ru: int) -> int:
    flags, number = u32(options), s32(upid)
    if flags & ~(WNOHANG | WEXITED | WUNTRACED | WCONTINUED | WNOWAIT | WALL | WCLONE | WNOTHREAD):
        return -Errno.EINVAL
    if not flags & (WEXITED | WUNTRACED | WCONTINUED) or which > P_PGID or (which == P_PID and number <= 0):
        return -Errno.EINVAL
    wanted = {P_ALL: -1, P_PID: number, P_PGID: -number}[which]
    wo = _Wait(k, cpu, wanted, flags)
    ret: int = k.functions.do_wait(cpu, wo.address)
    code, _ = wo.done()
    k.functions.put_pid(cpu, 0)
    task: Task = k.sched.current(cpu)
    if ret > 0 and infop and task.user is not None:
        status, kind = (code & 0x7F, CLD_KILLED) if code & 0x7F else (code >> 8, CLD_EXITED)
        words = (SIGCHLD, 0, kind, 0, ret, 0, status)
        try:
            task.user.write(infop, b"".join(word.to_bytes(4, "little") for word in words))
        except UserFault:
            return -Errno.EFAULT
    return min(ret, 0)
