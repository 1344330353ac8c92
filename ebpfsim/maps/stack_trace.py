"""BPF_MAP_TYPE_STACK_TRACE: call stacks under the hash of their addresses (kernel/bpf/stackmap.c, v6.18).

Left out: BPF_F_STACK_BUILD_ID stores what bpf_get_stackid() is given; nobody looks build ids up yet.
"""

from collections.abc import Sequence
from struct import Struct, pack

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.jhash import jhash
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID

__all__ = ["StackTraceMap"]

_U32 = Struct("<I")
STACK_MAP_BUCKET_BYTES = 16  # struct stack_map_bucket: list node, hash, number of addresses


class StackTraceMap(Map):
    """Call stacks; ``stack_id`` is what bpf_get_stackid() does with a stack."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.nr_buckets = 1 << (attr.max_entries - 1).bit_length()
        self._alloc_area((STACK_MAP_BUCKET_BYTES + attr.value_size) * attr.max_entries)
        self._stacks: dict[int, bytes] = {}

    def stack_id(self, addresses: Sequence[int], flags: int) -> int:
        """Store a call stack, innermost function first: its id, EEXIST when another one is in its place, or ENOMEM."""
        stack = pack(f"<{len(addresses)}Q", *addresses)
        stack_hash = jhash(stack, 0)
        number = stack_hash & (self.nr_buckets - 1)
        there = self._stacks.get(number)
        if there is not None:
            if there == stack or (flags & BPF_F_FAST_STACK_CMP and jhash(there, 0) == stack_hash):
                return number
            if not flags & BPF_F_REUSE_STACKID:
                return -Errno.EEXIST
        elif len(self._stacks) >= self.max_entries:
            return -Errno.ENOMEM
        self._stacks[number] = stack
        return number

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Refuse: programs do not read stacks."""
        return -Errno.EOPNOTSUPP

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Refuse: stacks are stored by bpf_get_stackid()."""
        return -Errno.EINVAL

    def delete_elem(self, key: bytes) -> int:
        """Forget a stack: E2BIG past the end, ENOENT when there is none."""
        number: int = _U32.unpack(key)[0]
        if number >= self.nr_buckets:
            return -Errno.E2BIG
        return 0 if self._stacks.pop(number, None) is not None else -Errno.ENOENT

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the id of the next stack, the first one after None and after an id that is not there."""
        start = 0
        if key is not None:
            number: int = _U32.unpack(key)[0]
            start = number + 1 if number in self._stacks else 0
        following = [number for number in sorted(self._stacks) if number >= start]
        return _U32.pack(following[0]) if following else None

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return a stack, innermost address first, filled up with zeroes."""
        return self._stack("map_lookup_elem", key)

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Refuse: stacks are stored by bpf_get_stackid()."""
        self._raise("map_update_elem", -Errno.EINVAL, key)

    def sys_lookup_and_delete(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return a stack and forget it."""
        stack = self._stack("map_lookup_and_delete_elem", key)
        del self._stacks[_U32.unpack(key or b"")[0]]
        return stack

    def _stack(self, op: str, key: bytes | None) -> bytes:
        assert key is not None
        stack = self._stacks.get(_U32.unpack(key)[0])
        if stack is None:
            raise KernelError(op, Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        return stack.ljust(self.value_size, b"\0")
