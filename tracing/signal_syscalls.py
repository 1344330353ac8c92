"""System calls of signals (kernel/signal.c, v6.18)."""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64
from ebpfsim.memory.user import UserFault
from tracing.functions import kernel_function
from tracing.signal_state import IGNORED, NSIG, ONLY_KERNEL, SIG_DFL, SIG_IGN, Action
from tracing.signals import (
    ERESTARTNOHAND,
    _forget,
    interrupted,
    send_kill,
    send_tkill,
    set_blocked,
    wait_interruptible,
)
from tracing.syscalls import syscall
from tracing.task import Task

__all__: list[str] = []

SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = range(3)
SIGSET_BYTES = 8
# handler, flags, restorer, mask: struct sigaction as the C library gives it
_SIGACTION = Struct("<QQQQ")


def _mask(task: Task, address: int) -> int:
    assert task.user is not None
    return int.from_bytes(task.user.read(address, SIGSET_BYTES), "little")


@syscall(62)
def sys_kill(k: Any, cpu: Cpu, pid: int, sig: int) -> int:
    return send_kill(k, cpu, s32(pid), s32(sig))


@syscall(200)
def sys_tkill(k: Any, cpu: Cpu, pid: int, sig: int) -> int:
    return -Errno.EINVAL if s32(pid) <= 0 else send_tkill(k, cpu, 0, s32(pid), s32(sig))


@syscall(234)
def sys_tgkill(k: Any, cpu: Cpu, tgid: int, pid: int, sig: int) -> int:
    if s32(pid) <= 0 or s32(tgid) <= 0:
        return -Errno.EINVAL
    return send_tkill(k, cpu, s32(tgid), s32(pid), s32(sig))


@syscall(13)
def sys_rt_sigaction(k: Any, cpu: Cpu, sig: int, act: int, oact: int, sigsetsize: int) -> int:
    if sigsetsize != SIGSET_BYTES:
        return -Errno.EINVAL
    task: Task = k.sched.current(cpu)
    user, number = task.user, s32(sig)
    assert user is not None
    try:
        new = Action(*_SIGACTION.unpack(user.read(act, 32))) if act else None
    except UserFault:
        return -Errno.EFAULT
    old = task.sig.action(number)
    ret: int = k.functions.do_sigaction(cpu, number, act, oact)
    if ret:
        return ret
    if new is not None:
        _set_action(k, task, number, new)
    try:
        if oact:
            user.write(oact, _SIGACTION.pack(old.handler, old.flags, old.restorer, old.mask))
    except UserFault:
        return -Errno.EFAULT
    return 0


@kernel_function
def do_sigaction(k: Any, cpu: Cpu, sig: int, act: int, oact: int) -> int:
    """Say what is to be done about a signal; EINVAL for what nobody can handle."""
    if not 1 <= s32(sig) <= NSIG or (act and s32(sig) in ONLY_KERNEL):
        return -Errno.EINVAL
    k.functions.sigaction_compat_abi(cpu, act, oact)
    return 0


def _set_action(k: Any, task: Task, sig: int, action: Action) -> None:
    group = task.sig.group
    group.actions[sig] = action
    if action.handler == SIG_IGN or (action.handler == SIG_DFL and sig in IGNORED):
        # what waits already is forgotten
        for pending in (group.pending, *(thread.sig.pending for thread in (task.leader, *task.leader.threads))):
            _forget(k, pending, sig)


@syscall(14)
def sys_rt_sigprocmask(k: Any, cpu: Cpu, how: int, nset: int, oset: int, sigsetsize: int) -> int:
    if sigsetsize != SIGSET_BYTES:
        return -Errno.EINVAL
    task: Task = k.sched.current(cpu)
    old = task.sig.blocked
    assert task.user is not None
    try:
        if nset:
            mask = _mask(task, nset)
            masks = {SIG_BLOCK: old | mask, SIG_UNBLOCK: old & ~mask, SIG_SETMASK: mask}
            if s32(how) not in masks:
                return -Errno.EINVAL
            set_blocked(k, cpu, task, masks[s32(how)])
        if oset:
            task.user.write(oset, old.to_bytes(8, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0


@syscall(127)
def sys_rt_sigpending(k: Any, cpu: Cpu, uset: int, sigsetsize: int) -> int:
    if sigsetsize > SIGSET_BYTES:
        return -Errno.EINVAL
    task: Task = k.sched.current(cpu)
    waiting = {*task.sig.pending, *task.sig.group.pending}
    found = sum(1 << sig - 1 for sig in sorted(waiting)) & task.sig.blocked
    assert task.user is not None
    try:
        task.user.write(uset, found.to_bytes(8, "little")[:sigsetsize])
    except UserFault:
        return -Errno.EFAULT
    return 0


@syscall(130)
def sys_rt_sigsuspend(k: Any, cpu: Cpu, unewset: int, sigsetsize: int) -> int:
    if sigsetsize != SIGSET_BYTES:
        return -Errno.EINVAL
    task: Task = k.sched.current(cpu)
    try:
        mask = _mask(task, unewset)
    except UserFault:
        return -Errno.EFAULT
    task.sig.saved = task.sig.blocked
    set_blocked(k, cpu, task, mask)
    while not interrupted(task):
        wait_interruptible(k, task, None)
    return -ERESTARTNOHAND


@syscall(128)
def sys_rt_sigtimedwait(k: Any, cpu: Cpu, uthese: int, uinfo: int, uts: int, sigsetsize: int) -> int:
    if sigsetsize != SIGSET_BYTES:
        return -Errno.EINVAL
    task: Task = k.sched.current(cpu)
    assert task.user is not None
    try:
        wanted = _mask(task, uthese)
        words = task.user.read(uts, 16) if uts else None
    except UserFault:
        return -Errno.EFAULT
    timeout_ns = None
    if words is not None:
        seconds, nanoseconds = (s64(int.from_bytes(words[at : at + 8], "little")) for at in (0, 8))
        if seconds < 0 or not 0 <= nanoseconds < 10**9:
            return -Errno.EINVAL
        timeout_ns = seconds * 10**9 + nanoseconds
    blocked = task.sig.blocked
    for attempt in range(2):
        for pending in (task.sig.pending, task.sig.group.pending):
            found = [sig for sig in pending if wanted >> sig - 1 & 1]
            if found:
                _forget(k, pending, min(found))
                return min(found)
        if attempt or timeout_ns == 0:
            break
        task.sig.blocked = blocked & ~wanted
        wait_interruptible(k, task, None, timeout_ns)
        task.sig.blocked = blocked
    return -Errno.EINTR if interrupted(task) else -Errno.EAGAIN


@syscall(15)
def sys_rt_sigreturn(k: Any, cpu: Cpu) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    mask, task.sig.saved = task.sig.saved, None
    room = k.mem.alloc(8)
    k.mem.store(room, 8, mask if mask is not None else task.sig.blocked)
    functions.set_current_blocked(cpu, room)
    k.mem.free(room)
    functions.restore_altstack(cpu, 0)
    functions.restore_sigcontext(cpu, task.regs.address, 0, 0)
    # no system call any more
    task.regs.orig_ax = (1 << 64) - 1
    return 0


@syscall(131)
def sys_sigaltstack(k: Any, cpu: Cpu, uss: int, uoss: int) -> int:
    task: Task = k.sched.current(cpu)
    assert task.user is not None
    try:
        if uss:
            _, flags, size = Struct("<QixxxxQ").unpack(task.user.read(uss, 24))
            if flags & ~(2 | 1 | -(1 << 31)):
                return -Errno.EINVAL
            if not flags & 2 and size < 2048:
                return -Errno.ENOMEM
        if uoss:
            task.user.write(uoss, Struct("<QixxxxQ").pack(0, 2, 0))
    except UserFault:
        return -Errno.EFAULT
    return 0


@syscall(34)
def sys_pause(k: Any, cpu: Cpu) -> int:
    task: Task = k.sched.current(cpu)
    while not interrupted(task):
        wait_interruptible(k, task, None)
    return -ERESTARTNOHAND
