"""Waiting for memory to change: futex(2) (kernel/futex/, v6.18).

Left out: requeueing, priority inheritance, robust lists, futex_waitv(2) (ENOSYS); processes share words that were
mapped before they were forked.
"""

from struct import Struct
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory.user import UserFault
from tracing.functions import kernel_function
from tracing.mm import VM_SHARED, layout_of
from tracing.signals import ERESTART_RESTARTBLOCK, ERESTARTSYS, interrupted
from tracing.syscalls import syscall
from tracing.task import Task

__all__: list[str] = []

FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET = 0, 1, 9, 10
FUTEX_PRIVATE, FUTEX_CLOCK_REALTIME = 128, 256
FUTEX_BITSET_MATCH_ANY = 0xFFFF_FFFF
FLAGS_SHARED = 0x10
NSEC_PER_SEC = 1_000_000_000
_TIMESPEC = Struct("<qq")


@syscall(202)
def sys_futex(k: Any, cpu: Cpu, uaddr: int, op: int, val: int, utime: int, uaddr2: int, val3: int) -> int:
    command, timeout = u32(op) & 0x7F, 0
    if command in (FUTEX_WAIT, FUTEX_WAIT_BITSET) and utime:
        k.functions.get_timespec64(cpu, 0, utime)
        try:
            seconds, nanoseconds = _TIMESPEC.unpack(k.sched.current(cpu).user.read(utime, 16))
        except UserFault:
            return -Errno.EFAULT
        if seconds < 0 or not 0 <= nanoseconds < NSEC_PER_SEC:
            return -Errno.EINVAL
        # a wait for a set of bits is until then, the other one for so long
        total: int = seconds * NSEC_PER_SEC + nanoseconds
        timeout = max(total - (cpu.now_ns if command == FUTEX_WAIT_BITSET else 0), 0) + 1
    return s32(k.functions.do_futex(cpu, uaddr, u32(op), u32(val), timeout, uaddr2, 0, u32(val3)))


@kernel_function
def do_futex(k: Any, cpu: Cpu, uaddr: int, op: int, val: int, timeout: int, _uaddr2: int, _val2: int, val3: int) -> int:
    """Wait or wake; ENOSYS for the rest."""
    command, flags = op & 0x7F, 0 if op & FUTEX_PRIVATE else FLAGS_SHARED
    bitset = val3 if command in (FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET) else FUTEX_BITSET_MATCH_ANY
    if command in (FUTEX_WAIT, FUTEX_WAIT_BITSET):
        return int(k.functions.futex_wait(cpu, uaddr, flags, val, timeout, bitset))
    if command in (FUTEX_WAKE, FUTEX_WAKE_BITSET):
        return int(k.functions.futex_wake(cpu, uaddr, flags, val, bitset))
    return -Errno.ENOSYS


def _key(k: Any, cpu: Cpu, uaddr: int, flags: int) -> tuple[int, int] | None:
    # get_futex_key(): what the word is, in whichever process
    task: Task = k.sched.current(cpu)
    user = task.user
    if uaddr % 4 or user is None:
        return None
    if flags & FLAGS_SHARED:
        area = next((vma for vma in layout_of(task) if vma.vm_start <= uaddr < vma.vm_end), None)
        if area is not None and area.vm_flags & VM_SHARED:
            return area.origin, uaddr - area.vm_start + area.vm_pgoff * 4096
    return task.struct.mm_ptr, uaddr


@kernel_function
def futex_wait(k: Any, cpu: Cpu, uaddr: int, flags: int, val: int, abs_time: int, bitset: int) -> int:
    """Wait until somebody wakes: EAGAIN when the word is another one, ETIMEDOUT, EINTR, EINVAL, EFAULT."""
    if not bitset:
        return -Errno.EINVAL
    functions = k.functions
    functions.futex_setup_timer(cpu, 0, 0, flags, 0)
    ret: int = functions.__futex_wait(cpu, uaddr, flags, val, abs_time, bitset)
    return s32(u32(ret))


@kernel_function
def __futex_wait(k: Any, cpu: Cpu, uaddr: int, flags: int, val: int, to: int, bitset: int) -> int:
    """Wait until somebody wakes."""
    functions, task = k.functions, k.sched.current(cpu)
    ret: int = functions.futex_wait_setup(cpu, uaddr, val, flags, 0, 0, 0)
    if ret:
        return s32(u32(ret))
    key = _key(k, cpu, uaddr, flags)
    waiters = k.sched.futexes.setdefault(key, [])
    waiters.append((task, bitset))
    functions.__futex_queue(cpu, 0, 0, 0)
    timed_out = False
    if to:
        functions.hrtimer_sleeper_start_expires(cpu, 0, 0)
    if not interrupted(task):
        timed_out = not k.sched.wait(None, timeout_ns=to - 1 if to else None)
    cpu = k.sched.cpu_of(task)
    still = (task, bitset) in waiters
    functions.futex_unqueue(cpu, 0)
    if still:
        waiters.remove((task, bitset))
    if not waiters:
        k.sched.futexes.pop(key, None)
    if not still:
        return 0
    if timed_out and to:
        return -Errno.ETIMEDOUT
    return -(ERESTART_RESTARTBLOCK if to else ERESTARTSYS)


@kernel_function
def futex_wait_setup(k: Any, cpu: Cpu, uaddr: int, val: int, flags: int, _q: int, _key2: int, _task: int) -> int:
    """See whether the word is what the task has seen: EAGAIN, EFAULT, EINVAL."""
    functions = k.functions
    functions.get_futex_key(cpu, uaddr, flags, 0, 0)
    if _key(k, cpu, uaddr, flags) is None:
        return -Errno.EINVAL
    functions.futex_q_lock(cpu, 0, 0)
    try:
        found = int.from_bytes(k.sched.current(cpu).user.read(uaddr, 4), "little")
    except UserFault:
        functions.futex_q_unlock(cpu, 0)
        return -Errno.EFAULT
    if found != u32(val):
        functions.futex_q_unlock(cpu, 0)
        return -Errno.EAGAIN
    return 0


@kernel_function
def futex_wake(k: Any, cpu: Cpu, uaddr: int, flags: int, nr_wake: int, bitset: int) -> int:
    """Wake so many who wait for a word; how many were."""
    if not bitset:
        return -Errno.EINVAL
    functions, key = k.functions, _key(k, cpu, uaddr, flags)
    functions.get_futex_key(cpu, uaddr, flags, 0, 0)
    if key is None:
        return -Errno.EINVAL
    functions.futex_hash(cpu, 0)
    woken: list[Task] = []
    waiters = k.sched.futexes.get(key, [])
    for waiter in list(waiters):
        if len(woken) < max(s32(nr_wake), 1) and waiter[1] & bitset:
            functions.futex_wake_mark(cpu, 0, 0)
            waiters.remove(waiter)
            woken.append(waiter[0])
    if woken:
        head = k.mem.alloc(16)
        k.walks[head] = woken
        functions.wake_up_q(cpu, head)
        del k.walks[head]
        k.mem.free(head)
    return len(woken)


@kernel_function
def wake_up_q(k: Any, cpu: Cpu, head: int) -> None:
    """Wake all who are on a list."""
    for task in k.walks.get(head, ()):
        k.functions.try_to_wake_up(cpu, task.address, 3, 0)
