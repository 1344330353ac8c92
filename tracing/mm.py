"""Address spaces: mmap(2), munmap(2), mprotect(2), brk(2), and what fork, exec and exit do with them (mm/, v6.18).

A process has the areas of a small program (``struct vm_area_struct``) and those that it maps. Contents of files are
copied when they are mapped. Left out: page faults, shared memory, huge pages, moving areas.
"""

from typing import Any, cast

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s64, u32
from ebpfsim.memory.user import PageState, UserMemory
from tracing.fs import is_err
from tracing.functions import kernel_function
from tracing.syscalls import syscall
from tracing.task import Task
from tracing.vfs import File

__all__ = ["Vma", "copy_mm", "exit_mm", "new_layout"]

PAGE = 4096
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_POPULATE = 0x8000
MAP_SHARED, MAP_PRIVATE, MAP_TYPE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE, MAP_FIXED_NOREPLACE = (
    1, 2, 15, 0x10, 0x20, 0x4000, 0x10_0000,
)  # fmt: skip
VM_READ, VM_WRITE, VM_EXEC, VM_SHARED, VM_ACCOUNT, VM_PFNMAP = 1, 2, 4, 8, 0x10_0000, 0x400
FMODE_READ, FMODE_WRITE = 1, 2
TASK_SIZE = 0x7FFF_FFFF_F000
MMAP_MIN_ADDR = 65536
# more than a simulated process may map
MAX_BYTES = 256 << 20
HEAP, STACK_TOP, TEXT, VVAR = 0x4D_0000, 0x7FFF_FFFF_F000, 0x40_0000, 0x7FFF_F7FF_0000
CAP_SYS_RAWIO = 17


class Vma(KernelStruct):
    """``struct vm_area_struct``. ``anon`` is an area with pages of its own; ``own`` one that the task has mapped."""

    __slots__ = ("anon", "anon_prepared", "file", "origin", "own")
    struct_name = "vm_area_struct"
    vm_start = Field()
    vm_end = Field()
    vm_flags = Field()
    vm_file = Field()
    vm_mm = Field()
    vm_pgoff = Field()

    anon: bool
    # whether it has what its own pages need (anon_vma)
    anon_prepared: bool
    # the area that it is a copy of after fork, by its address
    origin: int
    file: File | None
    own: bool

    @classmethod
    def make(cls, task: Task, start: int, end: int, flags: int, *, anon: bool, file: File | None = None) -> "Vma":
        """Return a new area; it has a reference of its file."""
        vma = cls.alloc(task.mem)
        vma.vm_start, vma.vm_end, vma.vm_flags = start, end, flags
        vma.vm_mm = task.mm.address if task.mm is not None else 0
        vma.anon, vma.file, vma.own, vma.anon_prepared, vma.origin = anon, file, False, False, vma.address
        if file is not None:
            vma.vm_file = file.address
            file.get()
        return vma

    def copy(self, task: Task) -> "Vma":
        """Return the same area in the address space of another task."""
        vma = Vma.make(task, self.vm_start, self.vm_end, self.vm_flags, anon=self.anon, file=self.file)
        vma.vm_pgoff, vma.own = self.vm_pgoff, self.own
        vma.anon_prepared, vma.origin = self.anon_prepared, self.origin
        return vma


# the areas of a small program: pages, flags, whether they are of its file and have pages of their own
_PROGRAM = (
    (1, VM_READ, True, False), (100, VM_READ | VM_EXEC, True, False), (40, VM_READ, True, False),
    (4, VM_READ | VM_ACCOUNT, True, True), (3, VM_READ | VM_WRITE | VM_ACCOUNT, True, True),
    (5, VM_READ | VM_WRITE | VM_ACCOUNT, False, True),
)  # fmt: skip


def new_layout(task: Task, file: File | None) -> None:
    """Give a task the areas of a new program."""
    layout: list[Vma] = []
    at = TEXT
    for pages, flags, of_file, anon in _PROGRAM:
        layout.append(Vma.make(task, at, at + pages * PAGE, flags, anon=anon, file=file if of_file else None))
        at += pages * PAGE
    at = VVAR
    for size, flags in ((0x4000, VM_READ | VM_PFNMAP), (0x2000, VM_READ | VM_EXEC)):
        layout.append(Vma.make(task, at, at + size, flags, anon=False))
        at += size
    stack = VM_READ | VM_WRITE | VM_ACCOUNT
    layout.append(Vma.make(task, STACK_TOP - 0x2_1000, STACK_TOP, stack, anon=True))
    task.layout = layout


def layout_of(task: Task) -> list[Vma]:
    """Return the areas of a task's process."""
    if task.leader.layout is None:
        new_layout(task.leader, None)
    assert task.leader.layout is not None
    return task.leader.layout


def copy_mm(k: Any, cpu: Cpu, parent: Task, child: Task, *, shared: bool) -> None:
    """Let a new task share the address space of its parent, or have a copy (copy_mm, dup_mmap)."""
    functions = k.functions
    if shared:
        child.share_mm(parent)
        if child.leader is child:
            child.layout = []
        return
    child.empty_mm()
    mm = child.struct.mm_ptr
    functions.mm_init(cpu, mm, child.address, 0)
    functions.uprobe_start_dup_mmap(cpu)
    functions.uprobe_dup_mmap(cpu, parent.struct.mm_ptr, mm)
    functions.get_file_rcu(cpu, 0)
    areas = []
    for vma in layout_of(parent):
        if vma.vm_flags & VM_ACCOUNT:
            functions.security_vm_enough_memory_mm(cpu, mm, (vma.vm_end - vma.vm_start) // PAGE)
        functions.vm_area_dup(cpu, vma.address)
        copy = vma.copy(child)
        areas.append(copy)
        functions.vma_dup_policy(cpu, vma.address, copy.address)
        functions.dup_userfaultfd(cpu, copy.address, 0)
        functions.anon_vma_fork(cpu, copy.address, vma.address)
        if vma.file is not None:
            functions.vma_interval_tree_insert_after(cpu, copy.address, vma.address, 0)
    functions.ldt_dup_context(cpu, parent.struct.mm_ptr, mm)
    functions.dup_userfaultfd_complete(cpu, 0)
    functions.uprobe_end_dup_mmap(cpu)
    child.layout = areas
    assert parent.user is not None
    _share_pages(parent)
    child.take_mm(parent, parent.user.copy())


def _share_pages(parent: Task) -> None:
    # copy_page_range(): who has pages of its own shares them from now on; others come anew in the child
    user, areas = parent.user, layout_of(parent)
    assert user is not None
    for page, state in user.pages.items():
        area = next((vma for vma in areas if vma.vm_start <= page * PAGE < vma.vm_end), None)
        if state == PageState.OWN and area is not None and not area.vm_flags & VM_SHARED:
            user.pages[page] = PageState.SHARED


@kernel_function
def vm_area_dup(k: Any, cpu: Cpu, orig: int) -> int:
    """Copy an area."""
    k.functions.__init_rwsem(cpu, 0, 0, 0)
    return orig


@kernel_function
def anon_vma_fork(k: Any, cpu: Cpu, vma: int, _pvma: int) -> int:
    """Let an area with pages of its own know of its copy."""
    child = k.sched.newest
    found = next((area for area in layout_of(k.sched.current(cpu)) if area.address == _pvma), None)
    if found is not None and found.anon:
        k.functions.anon_vma_clone(cpu, vma, _pvma)
        k.functions.anon_vma_interval_tree_insert(cpu, 0, child.address)
    return 0


def exit_mm(k: Any, cpu: Cpu, task: Task) -> None:
    """Let go of the address space of a task that ends."""
    functions, mm = k.functions, task.struct.mm_ptr
    functions.exit_mm_release(cpu, task.address, mm)
    if not mm:
        return
    functions.membarrier_update_current_mm(cpu, 0)
    functions.enter_lazy_tlb(cpu, mm, task.address)
    functions.mmput(cpu, mm)


@kernel_function
def mmput(k: Any, cpu: Cpu, mm: int) -> None:
    """Let go of an address space; with the last task that has it its areas go."""
    functions, task = k.functions, k.sched.current(cpu)
    if task.mm is not None and task.mm.users > 1:
        return
    functions.uprobe_clear_state(cpu, mm)
    functions.exit_aio(cpu, mm)
    functions.exit_mmap(cpu, mm)
    functions.mm_put_huge_zero_folio(cpu, mm)
    functions.set_mm_exe_file(cpu, mm, 0)
    functions.__mmdrop(cpu, mm)


@kernel_function
def exit_mmap(k: Any, cpu: Cpu, mm: int) -> None:
    """Unmap everything."""
    functions, leader = k.functions, k.sched.current(cpu).leader
    areas = leader.layout or []
    functions.ldt_arch_exit_mmap(cpu, mm)
    functions.unmap_vmas(cpu, 0, 0, areas[0].address if areas else 0, 0, 0, 0, 0)
    for vma in areas:
        _unmap(k, cpu, vma)
    functions.free_pgtables(cpu, 0, 0, areas[0].address if areas else 0, 0, 0, 0)
    for vma in list(areas):  # which loses them one by one
        functions.remove_vma(cpu, vma.address)
    leader.layout = []


def _unmap(k: Any, cpu: Cpu, vma: Vma) -> None:
    k.functions.unmap_single_vma(cpu, 0, vma.address, vma.vm_start, vma.vm_end, 0, 0)


@kernel_function
def remove_vma(k: Any, cpu: Cpu, vma: int) -> None:
    """Let an area go, and its file."""
    leader = k.sched.current(cpu).leader
    found = next(area for area in leader.layout if area.address == vma)
    if found.file is not None:
        k.functions.fput(cpu, found.file.address)
    k.functions.vm_area_free(cpu, vma)


@kernel_function
def vm_area_free(k: Any, cpu: Cpu, vma: int) -> None:
    """Give the memory of an area back."""
    leader = k.sched.current(cpu).leader
    found = next(area for area in leader.layout if area.address == vma)
    leader.layout.remove(found)
    found.free()


@kernel_function
def set_mm_exe_file(k: Any, cpu: Cpu, mm: int, new_exe_file: int) -> int:
    """Say which file a process runs, and let go of the one before."""
    at = mm + place("mm_struct", "exe_file")[0]
    before = k.mem.load(at, 8)
    k.mem.store(at, 8, new_exe_file)
    if new_exe_file:
        k.vfs.by_address[new_exe_file].get()
    if before:
        k.functions.fput(cpu, before)
    return 0


# ---- system calls ----------------------------------------------------------------------------------------------------


@syscall(9)
def sys_mmap(k: Any, cpu: Cpu, addr: int, len: int, prot: int, flags: int, fd: int, off: int) -> int:  # noqa: A002
    if off % PAGE:
        return -Errno.EINVAL
    return s64(k.functions.ksys_mmap_pgoff(cpu, addr, len, prot, flags, fd, off // PAGE))


@kernel_function
def ksys_mmap_pgoff(k: Any, cpu: Cpu, addr: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    """Map memory or a file; EBADF."""
    functions, file = k.functions, 0
    if not flags & MAP_ANONYMOUS:
        file = functions.fget(cpu, u32(fd))
        if not file:
            return -Errno.EBADF
    ret: int = functions.vm_mmap_pgoff(cpu, file, addr, length, prot, flags, pgoff)
    if file:
        functions.fput(cpu, file)
    return ret


@kernel_function
def vm_mmap_pgoff(k: Any, cpu: Cpu, file: int, addr: int, length: int, prot: int, flag: int, pgoff: int) -> int:
    """Ask the security modules, then map."""
    functions = k.functions
    ret: int = functions.security_mmap_file(cpu, file, prot, flag)
    if not ret:
        ret = functions.do_mmap(cpu, file, addr, length, prot, flag, 0, pgoff, 0, 0)
        functions.userfaultfd_unmap_complete(cpu, k.sched.current(cpu).struct.mm_ptr, 0)
        if flag & MAP_POPULATE and not is_err(ret):
            functions.__mm_populate(cpu, ret, -(-length // PAGE) * PAGE, 1)
    return ret


def _map_refusal(file: File | None, prot: int, flags: int) -> int:
    if flags & MAP_TYPE not in (MAP_SHARED, MAP_PRIVATE, 3):
        return -Errno.EINVAL
    if file is None:
        return 0
    if file.inode is None or not file.inode.is_plain or file.private is not None:
        return -Errno.ENODEV
    mode = file.struct.f_mode
    if not mode & FMODE_READ or (flags & MAP_TYPE != MAP_PRIVATE and prot & PROT_WRITE and not mode & FMODE_WRITE):
        return -Errno.EACCES
    return 0


@kernel_function
def do_mmap(
    k: Any, cpu: Cpu, file: int, addr: int, length: int, prot: int, flags: int, _vm: int, pgoff: int, _p: int, uf: int
) -> int:
    """Find a place, and map there; EINVAL, ENOMEM, EACCES, ENODEV."""
    functions, task = k.functions, k.sched.current(cpu)
    opened = k.vfs.by_address[file] if file else None
    size = -(-length // PAGE) * PAGE
    user: UserMemory = task.user
    if not length:
        return -Errno.EINVAL
    if length > TASK_SIZE or user.mapped_bytes + size > MAX_BYTES:
        return -Errno.ENOMEM
    start = functions.__get_unmapped_area(cpu, file, addr, size, pgoff, flags, 0)
    ret = is_err(start) or _map_refusal(opened, prot, flags)
    if ret:
        return ret
    if opened is not None:
        functions.path_noexec(cpu, opened.struct.member_address("f_path"))
        if "mmap" in opened.ops:
            functions.memfd_check_seals_mmap(cpu, file, 0)
    if flags & MAP_FIXED and not user.is_free(start, start + size):
        functions.do_vmi_munmap(cpu, 0, task.struct.mm_ptr, start, size, uf, 0)
    vm_flags = prot & 7 | (VM_SHARED if flags & MAP_TYPE != MAP_PRIVATE else 0)
    if vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE and not flags & MAP_NORESERVE:
        vm_flags |= VM_ACCOUNT
    if opened is None and flags & MAP_TYPE != MAP_PRIVATE:
        vm_flags |= VM_ACCOUNT
    mapped: int = functions.mmap_region(cpu, file, start, size, vm_flags, pgoff, uf)
    return mapped


@kernel_function
def __get_unmapped_area(k: Any, cpu: Cpu, file: int, addr: int, length: int, pgoff: int, flags: int, vm: int) -> int:
    """Find a place for an area: EINVAL, ENOMEM, EEXIST, EPERM for the lowest addresses."""
    functions, task = k.functions, k.sched.current(cpu)
    opened = k.vfs.by_address[file] if file else None
    own = opened.ops.get("get_unmapped_area") if opened is not None else None
    user: UserMemory = task.user
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        if addr % PAGE:
            return -Errno.EINVAL
        if addr + length > TASK_SIZE:
            return -Errno.ENOMEM
        if flags & MAP_FIXED_NOREPLACE and not user.is_free(addr, addr + length):
            return -Errno.EEXIST
        start = addr
    else:
        hint = addr // PAGE * PAGE
        fits = hint >= MMAP_MIN_ADDR and hint + length <= TASK_SIZE and user.is_free(hint, hint + length)
        start = hint if fits else user.gap(length)
    if own is not None:
        getattr(functions, own)(cpu, file, addr, length, pgoff, flags)
    else:
        functions.mm_get_unmapped_area_vmflags(cpu, task.struct.mm_ptr, file, addr, length, pgoff, flags, vm)
    ret: int = functions.security_mmap_addr(cpu, start)
    if not ret and start < MMAP_MIN_ADDR and not task.cred.cap_effective >> CAP_SYS_RAWIO & 1:
        ret = -Errno.EPERM
    return ret or start


@kernel_function
def mm_get_unmapped_area_vmflags(
    k: Any, cpu: Cpu, _mm: int, _file: int, _addr: int, _length: int, _pgoff: int, flags: int, _vm: int
) -> int:
    """Look for a place, unless one was given."""
    if not flags & MAP_FIXED:
        k.functions.get_mmap_base(cpu, 0)
        k.functions.vm_unmapped_area(cpu, 0)
    return 0


@kernel_function
def mm_get_unmapped_area(
    k: Any, cpu: Cpu, _mm: int, _file: int, addr: int, _length: int, _pgoff: int, flags: int
) -> int:
    """Look for a place, unless one was given."""
    if not flags & MAP_FIXED:
        k.functions.get_mmap_base(cpu, 0)
        for _ in range(2):
            k.functions.get_align_mask(cpu, 0)
        k.functions.vm_unmapped_area(cpu, 0)
    return addr


@kernel_function
def mmap_region(k: Any, cpu: Cpu, file: int, addr: int, length: int, vm_flags: int, pgoff: int, uf: int) -> int:
    """Make an area."""
    return cast(int, k.functions.__mmap_region(cpu, file, addr, length, vm_flags, pgoff, uf))


@kernel_function
def __mmap_region(k: Any, cpu: Cpu, file: int, addr: int, length: int, vm_flags: int, pgoff: int, _uf: int) -> int:
    """Make an area; ENOMEM when a security module says so."""
    functions, task = k.functions, k.sched.current(cpu)
    mm, opened = task.struct.mm_ptr, k.vfs.by_address[file] if file else None
    functions.may_expand_vm(cpu, mm, vm_flags, length // PAGE)
    if vm_flags & VM_ACCOUNT and functions.security_vm_enough_memory_mm(cpu, mm, length // PAGE):
        return -Errno.ENOMEM
    functions.vma_merge_new_range(cpu, 0)
    functions.vm_area_alloc(cpu, mm)
    vma = Vma.make(task, addr, addr + length, vm_flags, anon=opened is None, file=opened)
    vma.vm_pgoff, vma.own = pgoff, True
    layout_of(task).append(vma)
    data = b""
    if opened is not None:
        own = opened.ops.get("mmap")
        if own is not None:
            getattr(functions, own)(cpu, file, vma.address)
        data = bytes(opened.inode.data[pgoff * PAGE : pgoff * PAGE + length])
    writable, readable = bool(vm_flags & VM_WRITE), bool(vm_flags & 7)
    task.user.place(addr, length, data, writable=writable, readable=readable)
    task.user.expect(addr, length)
    functions.vma_link_file(cpu, vma.address)
    functions.khugepaged_enter_vma(cpu, vma.address, vm_flags)
    functions.vms_complete_munmap_vmas(cpu, 0, 0)
    if opened is not None:
        functions.uprobe_mmap(cpu, vma.address)
    functions.vma_set_page_prot(cpu, vma.address)
    return addr


@kernel_function
def vma_link_file(k: Any, cpu: Cpu, vma: int) -> None:
    """Let a file know of an area that shows it."""
    if vma and Vma(k.mem, vma).vm_file:
        k.functions.vma_interval_tree_insert(cpu, vma, 0)


@kernel_function
def vma_set_page_prot(k: Any, cpu: Cpu, vma: int) -> None:
    """Say what may be done with the pages of an area."""
    k.functions.vma_wants_writenotify(cpu, vma, 0)


@kernel_function
def vma_wants_writenotify(k: Any, cpu: Cpu, vma: int, _prot: int) -> int:
    """Whether somebody wants to know of the first write to a page."""
    area = Vma(k.mem, vma)
    if area.vm_flags & (VM_SHARED | VM_WRITE) == VM_SHARED | VM_WRITE and area.vm_file:
        k.functions.inode_to_bdi(cpu, k.vfs.by_address[area.vm_file].inode.address)
    return 0


@syscall(11)
def sys_munmap(k: Any, cpu: Cpu, addr: int, len: int) -> int:  # noqa: A002
    ret: int = k.functions.__vm_munmap(cpu, addr, len, 1)
    return ret


@kernel_function
def __vm_munmap(k: Any, cpu: Cpu, start: int, length: int, unlock: int) -> int:
    """Unmap; EINVAL."""
    mm = k.sched.current(cpu).struct.mm_ptr
    ret: int = k.functions.do_vmi_munmap(cpu, 0, mm, start, length, 0, unlock)
    k.functions.userfaultfd_unmap_complete(cpu, mm, 0)
    return ret


@kernel_function
def do_vmi_munmap(k: Any, cpu: Cpu, vmi: int, mm: int, start: int, length: int, uf: int, unlock: int) -> int:
    """Unmap what is mapped in a range; EINVAL."""
    if start % PAGE or length > TASK_SIZE or start > TASK_SIZE - length or not length:
        return -Errno.EINVAL
    end = start + -(-length // PAGE) * PAGE
    task: Task = k.sched.current(cpu)
    vmas = [vma for vma in layout_of(task) if vma.own and vma.vm_start < end and start < vma.vm_end]
    assert task.user is not None
    if not vmas and task.user.is_free(start, end):
        return 0
    first = vmas[0].address if vmas else 0
    return cast(int, k.functions.do_vmi_align_munmap(cpu, vmi, first, mm, start, end, uf, unlock))


@kernel_function
def do_vmi_align_munmap(
    k: Any, cpu: Cpu, _vmi: int, vma: int, _mm: int, start: int, end: int, _uf: int, unlock: int
) -> int:
    """Unmap a range of whole pages; areas across its ends are split."""
    functions, task = k.functions, k.sched.current(cpu)
    vmas = [area for area in layout_of(task) if area.own and area.vm_start < end and start < area.vm_end]
    functions.vms_gather_munmap_vmas(cpu, 0, 0)
    for area in list(vmas):
        if area.vm_start < start or area.vm_end > end:
            functions.__split_vma(cpu, 0, area.address, start if area.vm_start < start else end, 0)
    for area in vmas:
        functions.userfaultfd_unmap_prep(cpu, area.address, start, end, 0)
    functions.vms_complete_munmap_vmas(cpu, 0, 0)
    if unlock & 1:
        functions.downgrade_write(cpu, 0)
    functions.unmap_vmas(cpu, 0, 0, vma, start, end, end, 0)
    for area in vmas:
        _unmap(k, cpu, area)
    functions.free_pgtables(cpu, 0, 0, vma, 0, 0, 0)
    task.user.unmap_range(start, end)
    for area in vmas:
        _cut(k, cpu, task, area, start, end)
    return 0


@kernel_function
def __split_vma(k: Any, cpu: Cpu, _vmi: int, vma: int, _addr: int, _new_below: int) -> int:
    """Make two areas of one."""
    functions = k.functions
    area = next((area for area in layout_of(k.sched.current(cpu)) if area.address == vma), None)
    has_pages = area is not None and area.anon_prepared
    functions.vm_area_dup(cpu, vma)
    functions.vma_dup_policy(cpu, vma, vma)
    functions.anon_vma_clone(cpu, vma, vma)
    if has_pages:
        functions.anon_vma_interval_tree_insert(cpu, 0, 0)
    functions.init_multi_vma_prep(cpu, 0, vma, 0)
    functions.vma_prepare(cpu, 0)
    if has_pages:
        functions.anon_vma_interval_tree_remove(cpu, 0, 0)
    functions.vma_adjust_trans_huge(cpu, vma, 0, 0, 0)
    functions.vma_complete(cpu, 0, 0, 0)
    if has_pages:
        functions.anon_vma_interval_tree_insert(cpu, 0, 0)
    return 0


@kernel_function
def unlink_anon_vmas(k: Any, cpu: Cpu, vma: int) -> None:
    """Let the pages of an area no longer know of it."""
    areas: list[Vma] = k.sched.current(cpu).leader.layout or []
    if any(area.address == vma and area.own and area.anon_prepared for area in areas):
        k.functions.anon_vma_interval_tree_remove(cpu, 0, 0)


def _cut(k: Any, cpu: Cpu, task: Task, area: Vma, start: int, end: int) -> None:
    low, high = area.vm_start, area.vm_end
    if low < start or high > end:
        # what goes has become an area of its own
        gone = area.copy(task)
        layout_of(task).append(gone)
        k.functions.remove_vma(cpu, gone.address)
    if low < start and high > end:
        rest = area.copy(task)
        rest.vm_start = end
        layout_of(task).append(rest)
    if low < start:
        area.vm_end = start
    elif high > end:
        area.vm_start = end
    else:
        k.functions.remove_vma(cpu, area.address)


@syscall(10)
def sys_mprotect(k: Any, cpu: Cpu, start: int, len: int, prot: int) -> int:  # noqa: A002
    ret: int = k.functions.do_mprotect_pkey(cpu, start, len, prot, -1)
    return ret


@kernel_function
def do_mprotect_pkey(k: Any, cpu: Cpu, start: int, length: int, prot: int, pkey: int) -> int:
    """Change what may be done with mapped pages: EINVAL, ENOMEM, what the security modules say."""
    functions, task = k.functions, k.sched.current(cpu)
    if start % PAGE or prot & ~0x300_000F:
        return -Errno.EINVAL
    if not length:
        return 0
    end = start + -(-length // PAGE) * PAGE
    if end <= start or end > TASK_SIZE:
        return -Errno.ENOMEM
    vma = next((area for area in layout_of(task) if area.own and area.vm_start <= start < area.vm_end), None)
    if vma is None and task.user.is_free(start, end):
        return -Errno.ENOMEM
    address = vma.address if vma is not None else 0
    functions.__arch_override_mprotect_pkey(cpu, address, prot, pkey)
    ret: int = functions.security_file_mprotect(cpu, address, prot, prot)
    if ret:
        return ret
    writable, readable = bool(prot & PROT_WRITE), bool(prot & 7)
    if not task.user.protect(start, end, writable=writable, readable=readable):
        return -Errno.ENOMEM
    if vma is not None:
        functions.mprotect_fixup(cpu, 0, 0, address, 0, start, end, prot & 7)
    return 0


@kernel_function
def mprotect_fixup(k: Any, cpu: Cpu, vmi: int, tlb: int, vma: int, _pprev: int, start: int, end: int, new: int) -> int:
    """Change what may be done with pages of one area, which is split where the range ends within it."""
    functions, task = k.functions, k.sched.current(cpu)
    area = next(area for area in layout_of(task) if area.address == vma)
    functions.vma_modify_flags(cpu, vmi, 0, vma, start, end, 0)
    if end == area.vm_end:
        functions.can_vma_merge_right(cpu, 0, 0)
    low, high = area.vm_start, area.vm_end
    if low < start or high > end:
        functions.__split_vma(cpu, vmi, vma, start if low < start else end, 0)
        for part in ((low, start), (end, high)):
            if part[0] < part[1]:
                rest = area.copy(task)
                rest.vm_start, rest.vm_end = part
                layout_of(task).append(rest)
        area.vm_start, area.vm_end = max(low, start), min(high, end)
    area.vm_flags = area.vm_flags & ~7 | new
    functions.vma_set_page_prot(cpu, vma)
    functions.change_protection(cpu, tlb, vma, start, end, 0)
    functions.vm_stat_account(cpu, area.vm_mm, area.vm_flags, -((end - start) // PAGE))
    functions.vm_stat_account(cpu, area.vm_mm, area.vm_flags, (end - start) // PAGE)
    return 0


@syscall(12)
def sys_brk(k: Any, cpu: Cpu, brk: int) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    leader: Task = task.leader
    now = leader.brk or HEAP
    if brk < HEAP or brk - HEAP > MAX_BYTES:
        return now
    old, new = -(-now // PAGE) * PAGE, -(-brk // PAGE) * PAGE
    if new < old:
        functions.do_vmi_align_munmap(cpu, 0, 0, task.struct.mm_ptr, new, old, 0, 0)
    elif new > old:
        if functions.check_brk_limits(cpu, old, new - old) or functions.do_brk_flags(cpu, 0, 0, old, new - old, 0):
            return now
        task.user.place(old, new - old)
    functions.userfaultfd_unmap_complete(cpu, task.struct.mm_ptr, 0)
    leader.brk = brk
    return brk


@kernel_function
def check_brk_limits(k: Any, cpu: Cpu, addr: int, length: int) -> int:
    """Whether the heap may grow there."""
    return is_err(k.functions.__get_unmapped_area(cpu, 0, addr, length, 0, MAP_FIXED, 0))


@kernel_function
def do_brk_flags(k: Any, cpu: Cpu, _vmi: int, _vma: int, _addr: int, length: int, _flags: int) -> int:
    """Let the heap grow; ENOMEM when a security module says so."""
    functions, mm = k.functions, k.sched.current(cpu).struct.mm_ptr
    functions.may_expand_vm(cpu, mm, VM_READ | VM_WRITE, length // PAGE)
    if functions.security_vm_enough_memory_mm(cpu, mm, length // PAGE):
        return -Errno.ENOMEM
    functions.vma_merge_new_range(cpu, 0)
    functions.vma_expand(cpu, 0)
    functions.khugepaged_enter_vma(cpu, 0, VM_READ | VM_WRITE)
    return 0
