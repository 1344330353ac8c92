"""BPF_MAP_TYPE_ARENA: memory that programs and user space share (kernel/bpf/arena.c, v6.18).

Pages exist when a program allocates them or user space touches them. Pointers are those of user space: programs reach
a page at ``kern_vm_start + (u32)pointer``, which is page 0 for ``user_vm_start``::

    user_vm_start   where user space maps the arena: map_extra, or what the first mmap() chose; 0 before
    kern_vm_start   the kernel's base: base - (u32)user_vm_start modulo 2^64
    base            the address of page 0 in the simulated RAM; pages that do not exist are not mapped there

A mapping of the simulated user space has no page faults of its own: a page counts as touched once it holds something
other than zeroes. Who finds a page unmapped asks ``touched`` before taking it for a fault.
"""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE, Memory
from ebpfsim.memory.arena import MAPPED, UNMAPPED
from ebpfsim.uapi.flags import BPF_F_SEGV_ON_FAULT

__all__ = ["ArenaMap"]

SZ_4G = 1 << 32
U32_MAX = SZ_4G - 1
M64 = (1 << 64) - 1
ZERO_PAGE = bytes(PAGE_SIZE)
# where mmap() puts an arena when nothing says where: below the stack, aligned to 4 GiB so that it crosses no boundary
MMAP_BASE = 0x7F00_0000_0000


class ArenaMap(Map):
    """An arena of ``max_entries`` pages."""

    direct_value = True

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self._size = attr.max_entries * PAGE_SIZE
        self.base = self._alloc_area(self._size)
        mem.map_pages(self.base ^ KERNEL_BASE, self._size, UNMAPPED)
        self.user_vm_start = attr.map_extra
        self.user_vm_end = attr.map_extra + self._size if attr.map_extra else 0
        self._free = bytearray(b"\1") * attr.max_entries  # 1: the page does not exist
        self._mapped_pages = 0  # pages of the largest mapping of user space

    @property
    def kern_vm_start(self) -> int:
        """What is added to the low 32 bits of a pointer (``bpf_arena_get_kern_vm_start``)."""
        return (self.base - (self.user_vm_start & U32_MAX)) & M64

    def page_exists(self, page: int) -> bool:
        """Tell whether a page was allocated or touched."""
        return 0 <= page < self.max_entries and not self._free[page]

    # ---- programs -----------------------------------------------------------------------------------------------

    def alloc_pages(self, address: int, count: int) -> int:
        """Make pages exist, at a user address or (0) at the first place that is free (``arena_alloc_pages``).

        Return the user address of the first, or 0.
        """
        most = (self.user_vm_end - self.user_vm_start) // PAGE_SIZE
        if not 0 < count <= most:
            return 0
        if address:
            page = ((address - self.user_vm_start) & U32_MAX) // PAGE_SIZE
            if address % PAGE_SIZE or page > most - count or any(map(self.touched, range(page, page + count))):
                return 0
        else:
            page = self._free.find(b"\1" * count)
            while page >= 0 and any(map(self.touched, range(page, page + count))):
                page = self._free.find(b"\1" * count)
            if page < 0 or page + count > most:
                return 0
        self._make(page, count)
        return self.user_vm_start + page * PAGE_SIZE

    def free_pages(self, address: int, count: int) -> None:
        """Take pages away (``arena_free_pages``); those that do not exist are passed over."""
        start = (self.user_vm_start & ~U32_MAX) + (address & U32_MAX & -PAGE_SIZE)
        end = min(self.user_vm_end, start + count * PAGE_SIZE)
        for page in range((start - self.user_vm_start) // PAGE_SIZE, (end - self.user_vm_start) // PAGE_SIZE):
            if self.page_exists(page):
                offset = (self.base ^ KERNEL_BASE) + page * PAGE_SIZE
                self.mem.buf[offset : offset + PAGE_SIZE] = bytes(PAGE_SIZE)
                self.mem.map_pages(offset, PAGE_SIZE, UNMAPPED)
                self._free[page] = 1

    def direct_value_addr(self, off: int) -> int:
        """Return the user address of the arena; ERANGE for an offset past its end, as user space mapped it."""
        return -Errno.ERANGE if off > self.user_vm_end - self.user_vm_start else self.user_vm_start

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Refuse: there are no elements."""
        return -Errno.EINVAL

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Refuse: there are no elements."""
        return -Errno.EOPNOTSUPP

    def delete_elem(self, key: bytes) -> int:
        """Refuse: there are no elements."""
        return -Errno.EOPNOTSUPP

    # ---- user space ---------------------------------------------------------------------------------------------

    def check_place(self, length: int, offset: int, address: int) -> None:
        """Check where user space wants to map it (``arena_get_unmapped_area``).

        EINVAL for an offset and for another size or place than before, E2BIG when it is larger.
        """
        op, have = "map_mmap", self.user_vm_end - self.user_vm_start
        size = -(-length // PAGE_SIZE) * PAGE_SIZE
        if offset:
            raise KernelError(op, Errno.EINVAL, f"{self._who()} is mapped from its start only")
        if size > (have or SZ_4G):
            raise KernelError(op, Errno.E2BIG, f"{self._who()}: {size} bytes, at most {have or SZ_4G}")
        if have and (size, address) != (have, self.user_vm_start):
            detail = f"{self._who()}: {size} bytes at {address:#x}, expected {have} at {self.user_vm_start:#x}"
            raise KernelError(op, Errno.EINVAL, detail)

    def settle(self, length: int, address: int) -> None:
        """Settle where user space has the arena, if that is not settled yet; 0 leaves the choice to the kernel."""
        size = -(-length // PAGE_SIZE) * PAGE_SIZE
        if not self.user_vm_end:
            self.user_vm_start = address or MMAP_BASE
            self.user_vm_end = self.user_vm_start + size
        self._mapped_pages = min(size // PAGE_SIZE, self.max_entries)

    def mmap_area(self, length: int, offset: int, *, writable: bool) -> int:
        """Return where a mapping lies; pages behind the arena's own are nobody's."""
        return self.base

    def fault(self, page: int) -> bool:
        """Make a page exist because somebody in user space touches it; False when that is a SIGSEGV."""
        if self.touched(page):
            return True
        if self.map_flags & BPF_F_SEGV_ON_FAULT or not 0 <= page < self.max_entries:
            return False
        self._make(page, 1)
        return True

    def touched(self, page: int) -> bool:
        """Tell whether a page exists; one that a mapping of user space wrote to does from now on."""
        if page >= self._mapped_pages or self.page_exists(page):
            return self.page_exists(page)
        start = (self.base ^ KERNEL_BASE) + page * PAGE_SIZE
        if bytes(self.mem.buf[start : start + PAGE_SIZE]) == ZERO_PAGE:
            return False
        self.mem.map_pages(start, PAGE_SIZE, MAPPED)
        self._free[page] = 0
        return True

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Refuse: there are no elements."""
        raise KernelError("map_get_next_key", Errno.EOPNOTSUPP, self._who())

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Refuse: there are no elements."""
        raise KernelError("map_lookup_elem", Errno.EINVAL, self._who())

    def on_release(self) -> None:
        """Give the RAM back as it was taken."""
        self.mem.map_pages(self.base ^ KERNEL_BASE, self._size, MAPPED)
        super().on_release()

    def _make(self, page: int, count: int) -> None:
        offset = (self.base ^ KERNEL_BASE) + page * PAGE_SIZE
        self.mem.buf[offset : offset + count * PAGE_SIZE] = bytes(count * PAGE_SIZE)
        self.mem.map_pages(offset, count * PAGE_SIZE, MAPPED)
        self._free[page : page + count] = bytes(count)
