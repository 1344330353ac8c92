"""Page faults: pages that come with their first access (arch/x86/mm/fault.c, mm/memory.c, v6.18).

Areas that a task maps have no pages before; after fork parent and child share theirs until one of them writes. Who uses
them may be the task (``touch``), a system call that copies, or a program that may sleep; programs that may not are told
EFAULT instead.

Left out: huge pages, swapping; what a process has from the beginning (its program, its stack) is there.
"""

from functools import partial
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.cpu import Cpu
from ebpfsim.memory.user import PageState, UserFault, UserMemory
from tracing.functions import kernel_function
from tracing.mm import PAGE, VM_SHARED, Vma, layout_of
from tracing.signal_state import SIG_DFL, SIG_IGN, Action
from tracing.signals import PIDTYPE_PID, Siginfo, exit_to_user
from tracing.task import Task

__all__ = ["EXCEPTION_TRACEPOINTS", "handle_fault", "touch", "watch_pages"]

EXCEPTION_TRACEPOINTS = ("page_fault_user", "page_fault_kernel")
# arch/x86/include/asm/trap_pf.h
PF_PROT, PF_WRITE, PF_USER = 1, 2, 4
FAULT_FLAG_WRITE, FAULT_FLAG_USER = 1, 1 << 6
SIGSEGV, SEGV_MAPERR, SEGV_ACCERR = 11, 1, 2
# how much one page of page tables maps; how many pages of a file come together
TABLE_BYTES, FAULT_AROUND = 1 << 21, 16


class VmFault(KernelStruct):
    """``struct vm_fault``: the fault that is being handled."""

    __slots__ = ("area", "user")
    struct_name = "vm_fault"
    vma = Field()
    pgoff = Field()
    vm_address = Field("address")
    real_address = Field()
    flags = Field()

    area: Vma
    user: UserMemory


def watch_pages(k: Any, user: UserMemory) -> None:
    """Let accesses to memory that need a page come here."""
    user.pager = partial(_kernel_fault, k, user)


def touch(k: Any, task: Task, address: int, *, write: bool = False) -> bool:
    """Let a task use its memory in user space; False where it must not, and SIGSEGV has been handled."""
    user = task.user
    assert user is not None
    before, user.pager = user.pager, partial(_user_fault, k, task)
    try:
        user.touch(address, 1, write=write)
    except UserFault:
        user.pager = before
        exit_to_user(k, task, 0)
        return False
    finally:
        user.pager = before
    return True


def _code(user: UserMemory, address: int, *, write: bool, by_user: bool) -> int:
    is_there = user.pages.get(address // PAGE, PageState.OWN) != PageState.ABSENT
    is_there = is_there and not user.is_free(address, address + 1)
    return PF_PROT * is_there | PF_WRITE * write | PF_USER * by_user


def _user_fault(k: Any, task: Task, address: int, write: bool, allowed: bool) -> None:
    cpu, user = k.sched.cpu_of(task), task.user
    assert user is not None
    code = _code(user, address, write=write, by_user=True)
    k.trace(cpu, "page_fault_user", address, task.regs.address, code)
    vma = _vma(task, address)
    if vma is None:
        k.functions.lock_mm_and_find_vma(cpu, task.struct.mm_ptr, address, task.regs.address)
        k.functions.bad_area_nosemaphore(cpu, task.regs.address, code, address)
        k.functions.force_sig_fault(cpu, SIGSEGV, SEGV_MAPERR, address)
    elif not allowed:
        k.functions.__bad_area(cpu, task.regs.address, code, address, task.struct.mm_ptr, vma.address, 0, SEGV_ACCERR)
        k.functions.force_sig_fault(cpu, SIGSEGV, SEGV_ACCERR, address)
    else:
        handle_fault(k, cpu, (user, vma), address, FAULT_FLAG_USER | FAULT_FLAG_WRITE * write)


def _kernel_fault(k: Any, user: UserMemory, address: int, write: bool, allowed: bool) -> None:
    cpu: Cpu = k.sched.running_cpu()
    functions, current = k.functions, k.sched.current(cpu)
    owner = current if current.user is user else next((t for t in k.sched.tasks.values() if t.user is user), None)
    if owner is None:
        return
    vma = _vma(owner, address)
    code = _code(user, address, write=write, by_user=False)
    if owner is current:
        # others have their pages asked for (get_user_pages_remote), which is no exception
        k.trace(cpu, "page_fault_kernel", address, owner.regs.address, code)
        if not user.atomic:
            functions.lock_mm_and_find_vma(cpu, owner.struct.mm_ptr, address, 0)
    if allowed and not user.atomic:
        if vma is not None:
            handle_fault(k, cpu, (user, vma), address, FAULT_FLAG_WRITE * write)
        else:
            user.pages.pop(address // PAGE, None)
    elif owner is current:
        functions.bad_area_nosemaphore(cpu, owner.regs.address, code, address)


def _vma(task: Task, address: int) -> Vma | None:
    return next((vma for vma in layout_of(task) if vma.vm_start <= address < vma.vm_end), None)


def handle_fault(k: Any, cpu: Cpu, where: tuple[UserMemory, Vma], address: int, flags: int) -> None:
    """Let a page of an area come, or be its memory's own."""
    user, vma = where
    fault = VmFault.alloc(k.mem)
    fault.user, fault.area = user, vma
    fault.vma, fault.flags, fault.real_address, fault.vm_address = vma.address, flags, address, address // PAGE * PAGE
    fault.pgoff = vma.vm_pgoff + (address - vma.vm_start) // PAGE
    # found by the area, as __handle_mm_fault() makes the structure from its arguments
    before = k.walks.get(vma.address)
    k.walks[vma.address] = k.walks[fault.address] = fault
    try:
        k.functions.handle_mm_fault(cpu, vma.address, address, flags, 0)
    finally:
        del k.walks[fault.address]
        if before is None:
            del k.walks[vma.address]
        else:
            k.walks[vma.address] = before
        fault.free()
    _came(fault.area, user, address, write=bool(flags & FAULT_FLAG_WRITE))


def _came(vma: Vma, user: UserMemory, address: int, *, write: bool) -> None:
    page = address // PAGE
    if write:
        user.pages[page] = PageState.OWN
        return
    user.pages[page] = PageState.OWN if vma.vm_flags & VM_SHARED else PageState.CLEAN
    if vma.file is not None and vma.file.inode is not None:
        # fault-around: what the file has near by comes, too
        size, first = len(vma.file.inode.data), page // FAULT_AROUND * FAULT_AROUND
        for other in range(first, first + FAULT_AROUND):
            offset = other * PAGE - vma.vm_start + vma.vm_pgoff * PAGE
            if (
                user.pages.get(other) == PageState.ABSENT
                and vma.vm_start <= other * PAGE < vma.vm_end
                and offset < size
            ):
                user.pages[other] = user.pages[page]


# ---- what the kernel calls -------------------------------------------------------------------------------------------


@kernel_function
def handle_mm_fault(k: Any, cpu: Cpu, vma: int, address: int, flags: int, _regs: int) -> int:
    """Let a page come, or become one's own."""
    ret: int = k.functions.__handle_mm_fault(cpu, vma, address, flags)
    return ret


@kernel_function
def __handle_mm_fault(k: Any, cpu: Cpu, vma: int, address: int, _flags: int) -> int:
    """Do what the state of a page asks for."""
    fault: VmFault | None = k.walks.get(vma)
    if fault is None:
        return 0
    functions, user = k.functions, fault.user
    if user.pages.get(address // PAGE, PageState.OWN) != PageState.ABSENT:
        functions.do_wp_page(cpu, fault.address)
        return 0
    if not _has_table(user, address):
        functions.__thp_vma_allowable_orders(cpu, vma, fault.area.vm_flags, 0, 0)
        if fault.area.file is None:
            functions.do_huge_pmd_anonymous_page(cpu, fault.address)
    if fault.area.file is None:
        functions.do_anonymous_page(cpu, fault.address)
    else:
        functions.do_fault(cpu, fault.address)
    return 0


def _has_table(user: UserMemory, address: int) -> bool:
    # whether something is there near by, so that there is a page of page tables already
    start = address // TABLE_BYTES * TABLE_BYTES
    pages = range(start // PAGE, (start + TABLE_BYTES) // PAGE)
    return any(
        user.pages.get(page, PageState.OWN) != PageState.ABSENT
        for page in pages
        if page in user.pages or not user.is_free(page * PAGE, page * PAGE + 1)
    )


@kernel_function
def do_anonymous_page(k: Any, cpu: Cpu, vmf: int) -> int:
    """Let a new page come, or the one of zeroes where it is only read."""
    if k.walks[vmf].flags & FAULT_FLAG_WRITE:
        _new_page(k, cpu, vmf)
    return 0


def _new_page(k: Any, cpu: Cpu, vmf: int) -> None:
    functions, fault = k.functions, k.walks[vmf]
    functions.__vmf_anon_prepare(cpu, vmf)
    if fault.area.file is not None and fault.user.pages.get(fault.vm_address // PAGE) == PageState.ABSENT:
        functions.mpol_shared_policy_lookup(cpu, 0, fault.pgoff)
    functions.get_mem_cgroup_from_mm(cpu, fault.area.vm_mm)
    functions.__folio_throttle_swaprate(cpu, 0, 0)


@kernel_function
def __vmf_anon_prepare(k: Any, cpu: Cpu, vmf: int) -> int:
    """Let an area have what its own pages need, once."""
    area: Vma = k.walks[vmf].area
    if not area.anon_prepared:
        area.anon_prepared = True
        k.functions.__anon_vma_prepare(cpu, area.address)
    return 0


@kernel_function
def do_wp_page(k: Any, cpu: Cpu, vmf: int) -> int:
    """Copy a page that is written and is not the writer's alone, or let the last who has it keep it."""
    fault: VmFault = k.walks[vmf]
    functions, page = k.functions, fault.vm_address // PAGE
    if fault.user.pages.get(page) == PageState.SHARED and not _is_shared(k, fault.user, page):
        functions.folio_move_anon_rmap(cpu, 0, fault.vma)
        functions.folio_unlock(cpu, 0)
        functions.folio_xchg_last_cpupid(cpu, 0, 0)
        return 0
    _new_page(k, cpu, vmf)
    return 0


def _is_shared(k: Any, user: UserMemory, page: int) -> bool:
    others = (task.user for task in k.sched.tasks.values() if task.user is not user)
    return any(other is not None and other.pages.get(page) == PageState.SHARED for other in others)


@kernel_function
def do_fault(k: Any, cpu: Cpu, vmf: int) -> int:
    """Let a page of a file come: those around it, too, when it is read; a copy, when it is written and not shared."""
    fault: VmFault = k.walks[vmf]
    functions, area = k.functions, fault.area
    if not fault.flags & FAULT_FLAG_WRITE:
        functions.filemap_map_pages(cpu, vmf, fault.pgoff, fault.pgoff)
        return 0
    shared = area.vm_flags & VM_SHARED
    if not shared:
        _new_page(k, cpu, vmf)
    functions.__do_fault(cpu, vmf)
    functions.finish_fault(cpu, vmf)
    if shared:
        functions.fault_dirty_shared_page(cpu, vmf)
    else:
        functions.unlock_page(cpu, 0)
    return 0


@kernel_function
def __do_fault(k: Any, cpu: Cpu, vmf: int) -> int:
    """Ask the file for a page."""
    file = k.walks[vmf].area.file
    if file is not None and file.ops.get("mmap") == "shmem_mmap":
        k.functions.shmem_fault(cpu, vmf)
    return 0


@kernel_function
def fault_dirty_shared_page(k: Any, cpu: Cpu, vmf: int) -> int:
    """Note that a page of a file was written."""
    k.functions.folio_mark_dirty(cpu, 0)
    k.functions.folio_unlock(cpu, 0)
    k.functions.file_update_time(cpu, k.walks[vmf].area.vm_file)
    return 0


@kernel_function
def force_sig_fault(k: Any, cpu: Cpu, sig: int, code: int, addr: int) -> int:
    """Let the task have a signal for what it did at an address."""
    info = Siginfo.alloc(k.mem)
    info.si_signo, info.si_code, info.si_addr = sig, code, addr
    ret: int = k.functions.force_sig_info_to_task(cpu, info.address, k.sched.current(cpu).address, 0)
    info.free()
    return ret


@kernel_function
def force_sig_info_to_task(k: Any, cpu: Cpu, info: int, t: int, _handler: int) -> int:
    """Send a signal that can neither be blocked nor ignored."""
    task: Task = k.sched.by_address[t]
    sig = Siginfo(k.mem, info).si_signo
    blocked = task.sig.blocked >> sig - 1 & 1
    if blocked or task.sig.action(sig).handler == SIG_IGN:
        task.sig.group.actions[sig] = Action(SIG_DFL, 0, 0, 0)
        task.sig.blocked &= ~(1 << sig - 1)
    ret: int = k.functions.send_signal_locked(cpu, sig, info, t, PIDTYPE_PID)
    return ret
