"""BPF_MAP_TYPE_QUEUE and BPF_MAP_TYPE_STACK (kernel/bpf/queue_stack_maps.c, v6.18).

A ring of values in RAM with one place more than there are elements. Both push at the head; a queue pops at the tail, a
stack at the head. Head, tail (places) and the ring (its offset in the RAM) stand behind the map as u32, where machine
code finds them too (``ebpfsim.jit.routines.queue``).
"""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import STRUCT_BPF_MAP_BYTES, Map, MapAttr, MapEnv
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.uapi.flags import BPF_EXIST, BPF_NOEXIST

__all__ = ["QueueMap", "StackMap"]

# from the map's address
HEAD, TAIL, RING = (STRUCT_BPF_MAP_BYTES + 4 * word for word in range(3))


class QueueMap(Map):
    """A queue: first in, first out."""

    struct_bytes = RING + 4

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self._places = attr.max_entries + 1
        self._ring = self._alloc_area(self._places * attr.value_size)
        self._words = mem.buf.cast("I")
        self._head_at, self._tail_at = ((self.address ^ KERNEL_BASE) + word >> 2 for word in (HEAD, TAIL))
        mem.store(self.address + RING, 4, self._ring ^ KERNEL_BASE)

    @property
    def _head(self) -> int:
        return self._words[self._head_at]

    @_head.setter
    def _head(self, place: int) -> None:
        self._words[self._head_at] = place

    @property
    def _tail(self) -> int:
        return self._words[self._tail_at]

    @_tail.setter
    def _tail(self, place: int) -> None:
        self._words[self._tail_at] = place

    # ---- programs -----------------------------------------------------------------------------------------------

    def push_elem(self, value: bytes, flags: int) -> int:
        """Add a value: E2BIG when full, except that BPF_EXIST throws the oldest away."""
        if flags & BPF_NOEXIST or flags > BPF_EXIST:
            return -Errno.EINVAL
        after = (self._head + 1) % self._places
        if after == self._tail:
            if not flags & BPF_EXIST:
                return -Errno.E2BIG
            self._tail = (self._tail + 1) % self._places
        self.mem.write(self._ring + self._head * self.value_size, value)
        self._head = after
        return 0

    def peek_elem(self, *, remove: bool = False) -> bytes | None:
        """Return the value that is next, or None when there is none."""
        if self._head == self._tail:
            return None
        place = self._next_place()
        if remove:
            self._remove(place)
        return self.mem.read(self._ring + place * self.value_size, self.value_size)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return 0: there are no keys."""
        return 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Refuse: there are no keys."""
        return -Errno.EINVAL

    def delete_elem(self, key: bytes) -> int:
        """Refuse: there are no keys."""
        return -Errno.EINVAL

    # ---- user space ---------------------------------------------------------------------------------------------

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Refuse: there are no keys."""
        raise KernelError("map_get_next_key", Errno.EINVAL, self._who())

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the value that is next."""
        return self._next("map_lookup_elem", remove=False)

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Add a value."""
        self._raise("map_update_elem", self.push_elem(value, flags))

    def sys_lookup_and_delete(self, key: bytes | None, flags: int = 0) -> bytes:
        """Take the value that is next."""
        if flags:
            raise KernelError("map_lookup_and_delete_elem", Errno.EINVAL, f"{self._who()} takes no flags")
        return self._next("map_lookup_and_delete_elem", remove=True)

    def _next(self, op: str, *, remove: bool) -> bytes:
        value = self.peek_elem(remove=remove)
        if value is None:
            raise KernelError(op, Errno.ENOENT, f"{self._who()} is empty")
        return value

    def _next_place(self) -> int:
        return self._tail

    def _remove(self, place: int) -> None:
        self._tail = (place + 1) % self._places


class StackMap(QueueMap):
    """A stack: last in, first out."""

    def _next_place(self) -> int:
        return (self._head - 1) % self._places

    def _remove(self, place: int) -> None:
        self._head = place
