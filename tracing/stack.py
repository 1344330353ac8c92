"""Stacks: of kernel functions that are being called, and of user space by its frame pointers (kernel/bpf/stackmap.c and
arch/x86/events/core.c, v6.18).

The stack of the kernel is told from the Python functions that are being called: those that are functions of the
kernel, and those that ``tracing.frames`` knows. What programs are called through stands on it as Linux 6.12 showed it:
a program and its trampoline, ``bpf_trace_runN()``; stacks of probes and of records of tracepoints begin where the
probe is.

Differs: a return address is near the beginning of its function, at a place that depends on the function that was
called; build ids are never found, so addresses stand in their place (BPF_STACK_BUILD_ID_IP).
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from struct import Struct
from types import CodeType, FrameType
from typing import Any, cast
from zlib import crc32

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.maps.stack_trace import StackTraceMap, build_id_records
from ebpfsim.memory.user import UserFault
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.flags import BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.run import bpf_prog_run
from hooks.text import prog_text_address
from hooks.trampoline import Generation
from tracing.frames import FRAMES
from tracing.kallsyms import has_symbol, symbol_address
from tracing.kprobe import Kprobes
from tracing.perf_tracepoint import PerfTracepoints
from tracing.syscalls import USER_CS, Syscalls, enter_code
from tracing.task import PF_KTHREAD, Task
from tracing.tracepoints import Tracepoint

__all__ = ["HELPERS", "kernel_stack", "task_stack", "user_stack"]

# include/uapi/linux/bpf.h
BPF_F_SKIP_FIELD_MASK, BPF_F_USER_STACK, BPF_F_USER_BUILD_ID = 0xFF, 1 << 8, 1 << 11
PERF_MAX_STACK_DEPTH = 127  # kernel.perf_event_max_stack
BUILD_ID_BYTES, ADDRESS_BYTES = 32, 8  # sizeof(struct bpf_stack_build_id)
CALL_BYTES, SPREAD = 5, 11  # a return address is behind a call; functions are 16 bytes apart
_BP, _IP, _CS = 32, 128, 136  # in struct pt_regs
_FRAME = Struct("<QQ")  # struct stack_frame: next_frame, return_address

_SYSCALL = ("do_syscall_64", "entry_SYSCALL_64_after_hwframe")
_IDLE = ("pv_native_safe_halt", "default_idle", "default_idle_call", "do_idle", "cpu_startup_entry")
_BOOT = ("rest_init", "start_kernel", "x86_64_start_reservations", "x86_64_start_kernel")
_LAST, _SECONDARY = "common_startup_64", "start_secondary"

# names of functions that are being called, or addresses, the innermost first
Places = list[str | int]


class _Walk:
    # a way out through Python frames
    def __init__(self) -> None:
        self.places: Places = []
        self.progs = 0

    def prog(self, frame: FrameType) -> None:
        prog: Prog = frame.f_locals["prog"]
        self.progs += 1
        self.places.append(prog_text_address(prog) + 8 * (len(prog.insns) - 1))

    def trampoline(self, frame: FrameType) -> None:
        generation: Generation = frame.f_locals["self"]
        inside = self.places and isinstance(self.places[-1], int)
        if inside:
            site = generation.trampoline.site
            self.places += [generation.image.address + generation.image.size // 2, site.address + CALL_BYTES]

    def kprobe(self, frame: FrameType) -> None:
        # the registers of a probe are where it is
        site, (_, result, behind) = frame.f_locals["site"], frame.f_locals["regs"]
        if self.progs == 1:
            self.places = [] if result is not None else [site.address + behind]

    def tracepoint(self, frame: FrameType) -> None:
        tracepoint: Tracepoint = frame.f_locals["self"]
        if self.places and self.progs:
            self.places.append(f"bpf_trace_run{max(tracepoint.num_args, 1)}")
        self._behind(tracepoint.name)

    def perf(self, frame: FrameType) -> None:
        # the stack begins where the tracepoint is; the name of that is no place
        if self.progs == 1:
            self.places, self.progs = [], 0
            if frame.f_locals["slot"].event.category == "syscalls":
                self.places = [f"perf_{frame.f_locals['slot'].tracepoint.replace('sys', 'syscall')}"]

    def _behind(self, tracepoint: str) -> None:
        # who calls the tracepoints of system calls
        if tracepoint == "sys_enter":
            self.places.append("syscall_trace_enter")
        elif tracepoint == "sys_exit":
            self.places.append("syscall_exit_work")

    def syscall(self, _frame: FrameType) -> None:
        self.places += _SYSCALL

    def entry(self, frame: FrameType) -> None:
        self.places.append(frame.f_locals["row"].entry)


_SPECIAL: Mapping[CodeType, Callable[[_Walk, FrameType], None]] = {
    bpf_prog_run.__code__: _Walk.prog,
    Generation.call.__code__: _Walk.trampoline,
    Kprobes._run.__code__: _Walk.kprobe,
    Tracepoint.fire.__code__: _Walk.tracepoint,
    PerfTracepoints.run.__code__: _Walk.perf,
    Syscalls.call.__code__: _Walk.syscall,
    enter_code(): _Walk.entry,
}


def _walk(frame: FrameType | None) -> Places:
    walk = _Walk()
    while frame is not None:
        code = frame.f_code
        special = _SPECIAL.get(code)
        if special is not None:
            special(walk, frame)
        else:
            walk.places += (name for name in FRAMES.get(code, ()) if has_symbol(name))
        frame = frame.f_back
    return walk.places


def _addresses(places: Places, ip: str = "") -> list[int]:
    # return addresses are told apart by who was called; the first place may be where an interrupt came
    found, called = [], ip
    for place in places:
        if isinstance(place, int):
            found.append(place)
            called = f"{place:x}"
        else:
            found.append(symbol_address(place) + CALL_BYTES + crc32(called.encode()) % SPREAD)
            called = place
    return found


def _idle(cpu: Cpu) -> Places:
    return [*_IDLE, *(_BOOT if not cpu.number else (_SECONDARY,)), _LAST]


def kernel_stack(kernel: Any, cpu: Cpu) -> list[int]:
    """Return the addresses of the stack of what a CPU does just now, the innermost first."""
    sched = kernel.sched
    places = _walk(sys._getframe(1))
    current: Task = sched.current(cpu)
    if not sched.is_running(current) and current.pid == 0 and _LAST not in places:
        # an interrupt came while the CPU was idle
        places += _idle(cpu)
    if cpu.number == 0 and _SECONDARY in places:
        at = places.index(_SECONDARY)
        places[at : at + 1] = _BOOT
    return _addresses(places)[:PERF_MAX_STACK_DEPTH]


def interrupted_stack(kernel: Any, cpu: Cpu) -> list[int]:
    """Return the stack that an interrupt finds; none where it comes from user space."""
    current: Task = kernel.sched.current(cpu)
    return _addresses(_idle(cpu)) if current.pid == 0 else []


def task_stack(kernel: Any, task: Task, cpu: Cpu) -> list[int]:
    """Return the stack of any task (stack_trace_save_tsk)."""
    sched = kernel.sched
    if task is sched.current(cpu):
        return kernel_stack(kernel, cpu)
    run = sched.greenlet_of(task)
    if task.pid == 0:
        places: Places = ["__schedule", "schedule_idle", *_idle(cpu)[3:]]
    elif sched.preempted(task):
        places = ["__schedule", "schedule", "irqentry_exit_to_user_mode", "asm_sysvec_apic_timer_interrupt"]
    elif run is None or run.gr_frame is None:
        places = ["ret_from_fork", "ret_from_fork_asm"]
    else:
        places = _walk(run.gr_frame)
    return _addresses(places)[:PERF_MAX_STACK_DEPTH]


def user_stack(task: Task) -> list[int]:
    """Return the stack of a task's user space by its registers: where it is, then the chain of frame pointers."""
    return _frames(task, task.user_ip, task.user_bp)


def _frames(task: Task, ip: int, frame: int) -> list[int]:
    # perf_callchain_user()
    user = task.user
    if user is None or task.struct.flags & PF_KTHREAD:
        return []
    found = [ip]
    while len(found) < PERF_MAX_STACK_DEPTH:
        try:
            frame, address = _FRAME.unpack(user.peek(frame, _FRAME.size))
        except UserFault:
            break
        found.append(address)
    return found


def _stack(run: Run, flags: int) -> list[int]:
    kernel = cast(Any, run.kernel)
    if run.prog.type == ProgType.KPROBE and run.mem.load(run.ctx + _CS, 8) == USER_CS:
        # a probe of user space: what the registers say, and nothing in the kernel
        if not flags & BPF_F_USER_STACK:
            return []
        ip, frame = run.mem.load(run.ctx + _IP, 8), run.mem.load(run.ctx + _BP, 8)
        return _frames(kernel.sched.current(run.cpu), ip, frame)
    if flags & BPF_F_USER_STACK:
        return user_stack(kernel.sched.current(run.cpu))
    if run.prog.type == ProgType.PERF_EVENT:
        return interrupted_stack(kernel, run.cpu)
    return kernel_stack(kernel, run.cpu)


def get_stackid(run: Run, _ctx: int, map_address: int, flags: int, _r4: int, _r5: int) -> int:
    """Store the stack in a map: its id, EINVAL, EFAULT of an empty one, EEXIST, ENOMEM."""
    if flags & ~(BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP | BPF_F_REUSE_STACKID):
        return -Errno.EINVAL
    map_ = cast(StackTraceMap, run.kernel.map_at(map_address))
    skip = flags & BPF_F_SKIP_FIELD_MASK
    stack = _stack(run, flags)[: min(map_.max_depth + skip, PERF_MAX_STACK_DEPTH)]
    if len(stack) <= skip:
        return -Errno.EFAULT
    return map_.stack_id(stack[skip:], flags)


def get_stack(run: Run, _ctx: int, buf: int, size: int, flags: int, _r5: int) -> int:
    """Copy the stack to memory: how many bytes, EINVAL, EFAULT when there is less of it than is skipped."""
    return _get_stack(run, buf, u32(size), flags, lambda: _stack(run, flags))


def get_task_stack(run: Run, task: int, buf: int, size: int, flags: int, _r5: int) -> int:
    """Copy the stack of a task to memory: how many bytes, EINVAL, EFAULT, EOPNOTSUPP of others' user space."""
    kernel = cast(Any, run.kernel)
    found: Task | None = kernel.sched.by_address.get(task)
    if found is None or not found.alive:
        # the stack has gone (try_get_task_stack)
        return -Errno.EFAULT
    current = kernel.sched.current(run.cpu)
    if not flags & BPF_F_USER_STACK:
        return _get_stack(run, buf, u32(size), flags, lambda: task_stack(kernel, found, run.cpu))
    refused = Errno.EFAULT if found.user is None else Errno.EOPNOTSUPP if found is not current else 0
    return _get_stack(run, buf, u32(size), flags, lambda: user_stack(found), refused)


def _get_stack(run: Run, buf: int, size: int, flags: int, take: Callable[[], list[int]], refused: int = 0) -> int:
    # __bpf_get_stack()
    user, ids = bool(flags & BPF_F_USER_STACK), bool(flags & BPF_F_USER_BUILD_ID)
    each = BUILD_ID_BYTES if ids else ADDRESS_BYTES
    skip = flags & BPF_F_SKIP_FIELD_MASK
    wrong = flags & ~(BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_USER_BUILD_ID) or (ids and not user)
    errno = Errno.EINVAL if wrong or size % each else refused
    stack = take()[: min(size // each + skip, PERF_MAX_STACK_DEPTH)] if not errno else []
    if not errno and len(stack) < skip:
        errno = Errno.EFAULT
    if errno:
        run.mem.fill(buf, size)
        return -errno
    stack = stack[skip:]
    data = build_id_records(stack) if ids else Struct(f"<{len(stack)}Q").pack(*stack)
    run.mem.write(buf, data.ljust(size, b"\0"))
    return len(data)


def names_of(kernel: Any, addresses: list[int]) -> Iterator[str]:
    """Return the symbols of addresses."""
    return (kernel.kallsyms.name_of(address) for address in addresses)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_get_stackid"]: get_stackid,
    HELPER_IDS["bpf_get_stack"]: get_stack,
    HELPER_IDS["bpf_get_task_stack"]: get_task_stack,
}
