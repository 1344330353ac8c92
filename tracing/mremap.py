"""What else is done with mapped memory: mremap(2), madvise(2), mlock(2), msync(2), mincore(2) (mm/, v6.18).

Left out: locking everything (mlockall), secret memory, huge pages; areas that are moved or grown are whole ones.
"""

from typing import Any, cast

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.memory.user import PageState, UserFault
from tracing.faults import handle_fault
from tracing.fs import is_err
from tracing.functions import kernel_function
from tracing.mm import MAP_FIXED, PAGE, TASK_SIZE, VM_ACCOUNT, VM_WRITE, Vma, layout_of
from tracing.syscalls import syscall
from tracing.task import Task

__all__: list[str] = []

MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE = 0, 1, 2, 3, 4, 8
# those that only change how areas are used: huge pages, dumps, forks, merging
MADV_OTHERS = frozenset({0, 1, 2, 3, 4, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23})
MS_ASYNC, MS_INVALIDATE, MS_SYNC = 1, 2, 4
VM_LOCKED = 0x2000
RLIMIT_MEMLOCK, DEFAULT_MEMLOCK, CAP_IPC_LOCK = 8, 8 << 20, 14


def _round(length: int) -> int:
    return -(-length // PAGE) * PAGE


def _vma(task: Task, address: int) -> Vma | None:
    return next((vma for vma in layout_of(task) if vma.vm_start <= address < vma.vm_end and vma.own), None)


def _vmas(task: Task, start: int, end: int) -> list[Vma]:
    found = [vma for vma in layout_of(task) if vma.vm_start < end and start < vma.vm_end and vma.own]
    return sorted(found, key=lambda vma: vma.vm_start)


@syscall(25)
def sys_mremap(k: Any, cpu: Cpu, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    old, new, fixed = _round(old_len), _round(new_len), bool(flags & MREMAP_FIXED)
    wrong = flags & ~7 or addr % PAGE or not new or (fixed and not flags & MREMAP_MAYMOVE) or flags & MREMAP_DONTUNMAP
    if wrong or (fixed and (new_addr % PAGE or new_addr + new > TASK_SIZE)):
        return -Errno.EINVAL
    if fixed and new_addr < addr + old and addr < new_addr + new:
        return -Errno.EINVAL
    vma = _vma(task, addr)
    if vma is None or not old or addr + old > vma.vm_end:
        return -Errno.EFAULT if vma is None or old else -Errno.EINVAL
    mm = task.struct.mm_ptr
    if fixed:
        ret = _to(k, cpu, task, vma, (addr, old, new_addr, new))
    elif new < old:
        ret = functions.do_vmi_munmap(cpu, 0, mm, addr + new, old - new, 0, 1) or addr
    elif new == old:
        ret = addr
    else:
        ret = _grow(k, cpu, task, vma, (addr, old, new), may_move=bool(flags & MREMAP_MAYMOVE))
    functions.userfaultfd_unmap_complete(cpu, mm, 0)
    functions.mremap_userfaultfd_complete(cpu, 0, addr, ret if not is_err(ret) else 0, old)
    functions.userfaultfd_unmap_complete(cpu, mm, 0)
    return int(ret)


def _to(k: Any, cpu: Cpu, task: Task, vma: Vma, where: tuple[int, int, int, int]) -> int:
    # mremap_to()
    functions, (addr, old, to, new) = k.functions, where
    functions.do_munmap(cpu, task.struct.mm_ptr, to, new, 0)
    if old > new:
        functions.do_munmap(cpu, task.struct.mm_ptr, addr + new, old - new, 0)
        old = new
    refusal = _may_be_larger(k, cpu, vma, new - old)
    if refusal:
        return refusal
    start = functions.__get_unmapped_area(cpu, vma.vm_file, to, new, vma.vm_pgoff, MAP_FIXED, 0)
    return cast(int, start) if is_err(start) else _move(k, cpu, task, vma, (addr, old, to, new))


def _may_be_larger(k: Any, cpu: Cpu, vma: Vma, more: int) -> int:
    functions = k.functions
    functions.mlock_future_ok(cpu, vma.vm_mm, vma.vm_flags, more)
    functions.may_expand_vm(cpu, vma.vm_mm, vma.vm_flags, more // PAGE)
    return 0


def _charged(k: Any, cpu: Cpu, vma: Vma, pages: int) -> int:
    if not vma.vm_flags & VM_ACCOUNT:
        return 0
    return -Errno.ENOMEM if k.functions.security_vm_enough_memory_mm(cpu, vma.vm_mm, pages) else 0


def _grow(k: Any, cpu: Cpu, task: Task, vma: Vma, where: tuple[int, int, int], *, may_move: bool) -> int:
    functions, (addr, old, new) = k.functions, where
    _may_be_larger(k, cpu, vma, new - old)
    user = task.user
    assert user is not None
    if addr + old == vma.vm_end and user.is_free(vma.vm_end, addr + new):
        functions.find_vma_intersection(cpu, vma.vm_mm, vma.vm_end, addr + new)
        functions.__get_unmapped_area(cpu, 0, addr, new, 0, MAP_FIXED, 0)
        refusal = _charged(k, cpu, vma, (new - old) // PAGE)
        if refusal:
            return refusal
        functions.vma_merge_extend(cpu, 0, vma.address, new - old)
        functions.vm_stat_account(cpu, vma.vm_mm, vma.vm_flags, (new - old) // PAGE)
        user.move(addr, old, addr, new)
        vma.vm_end = addr + new
        return addr
    if not may_move:
        return -Errno.ENOMEM
    start = functions.__get_unmapped_area(cpu, vma.vm_file, 0, new, vma.vm_pgoff, 0, 0)
    return cast(int, start) if is_err(start) else _move(k, cpu, task, vma, (addr, old, start, new))


def _move(k: Any, cpu: Cpu, task: Task, vma: Vma, where: tuple[int, int, int, int]) -> int:
    # move_vma()
    functions, (addr, old, to, new) = k.functions, where
    functions.ksm_madvise(cpu, vma.address, addr, addr + old, 25, 0)
    refusal = _charged(k, cpu, vma, new // PAGE)
    if refusal:
        return refusal
    functions.copy_vma(cpu, 0, to, new, vma.vm_pgoff, 0)
    functions.move_page_tables(cpu, 0)
    functions.mremap_userfaultfd_prep(cpu, vma.address, 0)
    functions.vm_stat_account(cpu, vma.vm_mm, vma.vm_flags, new // PAGE)
    user = task.user
    assert user is not None
    user.move(addr, old, to, new)
    copy = vma.copy(task)
    copy.vm_start, copy.vm_end = to, to + new
    layout_of(task).append(copy)
    functions.do_vmi_munmap(cpu, 0, task.struct.mm_ptr, addr, old, 0, 0)
    return to


@kernel_function
def do_munmap(k: Any, cpu: Cpu, mm: int, start: int, length: int, uf: int) -> int:
    """Unmap what is mapped in a range."""
    ret: int = k.functions.do_vmi_munmap(cpu, 0, mm, start, length, uf, 0)
    return ret


@syscall(28)
def sys_madvise(k: Any, cpu: Cpu, start: int, len_in: int, behavior: int) -> int:
    ret: int = k.functions.do_madvise(cpu, k.sched.current(cpu).struct.mm_ptr, start, len_in, behavior & 0xFFFF_FFFF)
    return ret


@kernel_function
def do_madvise(k: Any, cpu: Cpu, _mm: int, start: int, len_in: int, behavior: int) -> int:
    """Say how memory is going to be used, or that what is in it is not: EINVAL, ENOMEM where nothing is."""
    functions, task = k.functions, k.sched.current(cpu)
    length = _round(len_in)
    if behavior not in MADV_OTHERS or start % PAGE or (len_in and not length) or start + length > 1 << 64:
        return -Errno.EINVAL
    if not length:
        return 0
    functions.blk_start_plug(cpu, 0)
    functions.find_vma_prev(cpu, task.struct.mm_ptr, start, 0)
    vmas = _vmas(task, start, start + length)
    for vma in vmas:
        low, high = max(start, vma.vm_start), min(start + length, vma.vm_end)
        if behavior in (MADV_DONTNEED, MADV_FREE):
            functions.madvise_dontneed_free_valid_vma(cpu, 0)
            functions.userfaultfd_remove(cpu, vma.address, low, high)
            if behavior == MADV_DONTNEED:
                functions.zap_page_range_single(cpu, vma.address, low, high - low, 0)
                _forget(task, vma, low, high)
        elif behavior != MADV_WILLNEED:
            functions.vma_modify(cpu, 0)
            if high == vma.vm_end:
                functions.can_vma_merge_right(cpu, 0, 0)
    functions.blk_finish_plug(cpu, 0)
    covered = sum(min(start + length, vma.vm_end) - max(start, vma.vm_start) for vma in vmas)
    return 0 if covered == length else -Errno.ENOMEM


def _forget(task: Task, vma: Vma, low: int, high: int) -> None:
    # pages go; those of files come again as the file has them
    user = task.user
    assert user is not None
    if vma.file is None:
        for page in range(low // PAGE, high // PAGE):
            if user.pages.get(page) != PageState.ABSENT:
                user.wipe(page * PAGE, PAGE)
    user.expect(low, high - low)


@syscall(149)
def sys_mlock(k: Any, cpu: Cpu, start: int, len: int) -> int:  # noqa: A002
    ret: int = k.functions.do_mlock(cpu, start, len, VM_LOCKED)
    return ret


@kernel_function
def do_mlock(k: Any, cpu: Cpu, start: int, length: int, flags: int) -> int:
    """Let memory stay where it is, all of it: EPERM, ENOMEM beyond the limit or where nothing is."""
    functions, task = k.functions, k.sched.current(cpu)
    size = _round(length + start % PAGE)
    limit = task.leader.limits.get(RLIMIT_MEMLOCK, (DEFAULT_MEMLOCK, DEFAULT_MEMLOCK))[0]
    locked = sum(vma.vm_end - vma.vm_start for vma in layout_of(task) if vma.vm_flags & VM_LOCKED)
    if not task.cred.cap_effective >> CAP_IPC_LOCK & 1:
        if not limit:
            return -Errno.EPERM
        if locked + size > limit:
            return -Errno.ENOMEM
    ret: int = functions.apply_vma_lock_flags(cpu, start // PAGE * PAGE, size, flags)
    return ret or functions.__mm_populate(cpu, start // PAGE * PAGE, size, 0)


@kernel_function
def apply_vma_lock_flags(k: Any, cpu: Cpu, start: int, length: int, flags: int) -> int:
    """Lock areas, or not; ENOMEM where nothing is."""
    task = k.sched.current(cpu)
    vmas, covered = _vmas(task, start, start + length), 0
    for vma in vmas:
        low, high = max(start, vma.vm_start), min(start + length, vma.vm_end)
        covered += high - low
        k.functions.mlock_fixup(cpu, 0, vma.address, 0, low, high, vma.vm_flags & ~VM_LOCKED | flags)
        vma.vm_flags = vma.vm_flags & ~VM_LOCKED | flags
    return 0 if covered == length else -Errno.ENOMEM


@kernel_function
def __mm_populate(k: Any, cpu: Cpu, start: int, length: int, _ignore_errors: int) -> int:
    """Let all pages of a range come."""
    functions, task = k.functions, k.sched.current(cpu)
    functions.find_vma_intersection(cpu, task.struct.mm_ptr, start, start + length)
    for vma in _vmas(task, start, start + length):
        low, high = max(start, vma.vm_start), min(start + length, vma.vm_end)
        functions.populate_vma_page_range(cpu, vma.address, low, high, 0)
        for page in range(low // PAGE, high // PAGE):
            if task.user.pages.get(page) == PageState.ABSENT:
                handle_fault(k, cpu, (task.user, vma), page * PAGE, bool(vma.vm_flags & VM_WRITE))
    return 0


@syscall(150)
def sys_munlock(k: Any, cpu: Cpu, start: int, len: int) -> int:  # noqa: A002
    ret: int = k.functions.apply_vma_lock_flags(cpu, start // PAGE * PAGE, _round(len + start % PAGE), 0)
    return ret


@syscall(26)
def sys_msync(k: Any, cpu: Cpu, start: int, len: int, flags: int) -> int:  # noqa: A002
    functions, task = k.functions, k.sched.current(cpu)
    if flags & ~7 or start % PAGE or flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC:
        return -Errno.EINVAL
    end = start + _round(len)
    if end == start:
        return 0
    functions.find_vma(cpu, task.struct.mm_ptr, start)
    vmas = _vmas(task, start, end)
    for vma in vmas:
        if flags & MS_SYNC and vma.file is not None:
            vma.file.get()
            functions.vfs_fsync_range(cpu, vma.vm_file, 0, end - start, 1)
            functions.fput(cpu, vma.vm_file)
    covered = sum(min(end, vma.vm_end) - max(start, vma.vm_start) for vma in vmas)
    return 0 if covered == end - start else -Errno.ENOMEM


@syscall(27)
def sys_mincore(k: Any, cpu: Cpu, start: int, len: int, vec: int) -> int:  # noqa: A002
    functions, task = k.functions, k.sched.current(cpu)
    if start % PAGE:
        return -Errno.EINVAL
    pages, user = _round(len) // PAGE, task.user
    if start + len > TASK_SIZE or user.is_free(start, start + PAGE):
        return -Errno.ENOMEM
    functions.do_mincore(cpu, start, pages, 0)
    there = bytes(user.pages.get(start // PAGE + page, PageState.OWN) != PageState.ABSENT for page in range(pages))
    try:
        user.write(vec, there)
    except UserFault:
        return -Errno.EFAULT
    return 0
