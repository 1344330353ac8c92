"""BPF_MAP_TYPE_STACK_TRACE: call stacks under the hash of their addresses (kernel/bpf/stackmap.c, v6.18).

With BPF_F_STACK_BUILD_ID a map holds ``struct bpf_stack_build_id``; ids of files are never found, so each says
BPF_STACK_BUILD_ID_IP and has the address.
"""

from collections.abc import Sequence
from struct import Struct, pack

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.jhash import jhash
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import Memory
from ebpfsim.uapi.flags import BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID, BPF_F_STACK_BUILD_ID

__all__ = ["StackTraceMap", "build_id_records"]

_U32 = Struct("<I")
STACK_MAP_BUCKET_BYTES = 16  # struct stack_map_bucket: list node, hash, number of addresses


_BUILD_ID = Struct("<i20xQ")  # struct bpf_stack_build_id: status, build_id, ip
BPF_STACK_BUILD_ID_IP = 2


def build_id_records(addresses: Sequence[int]) -> bytes:
    """Return the records of addresses of which no build id is known (stack_map_build_id_set_ip)."""
    return b"".join(_BUILD_ID.pack(BPF_STACK_BUILD_ID_IP, address) for address in addresses)


class StackTraceMap(Map):
    """Call stacks; ``stack_id`` is what bpf_get_stackid() does with a stack."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.nr_buckets = 1 << (attr.max_entries - 1).bit_length()
        self._alloc_area((STACK_MAP_BUCKET_BYTES + attr.value_size) * attr.max_entries)
        self._stacks: dict[int, bytes] = {}
        self._hashes: dict[int, int] = {}
        self.has_build_ids = bool(attr.map_flags & BPF_F_STACK_BUILD_ID)
        # how many addresses a stack has at most
        self.max_depth = attr.value_size // (_BUILD_ID.size if self.has_build_ids else 8)

    def stack_id(self, addresses: Sequence[int], flags: int) -> int:
        """Store a call stack, innermost function first: its id, EEXIST when another one is in its place, or ENOMEM."""
        plain = pack(f"<{len(addresses)}Q", *addresses)
        stack_hash = jhash(plain, 0)
        stack = build_id_records(addresses) if self.has_build_ids else plain
        number = stack_hash & (self.nr_buckets - 1)
        there = self._stacks.get(number)
        full = len(self._stacks) >= self.max_entries
        same_hash = there is not None and self._hashes[number] == stack_hash
        if same_hash and flags & BPF_F_FAST_STACK_CMP:
            return number
        if self.has_build_ids and full:
            # a bucket is taken before the stacks are compared
            return -Errno.ENOMEM
        if same_hash and there == stack:
            return number
        if there is not None and not flags & BPF_F_REUSE_STACKID:
            return -Errno.EEXIST
        if full:
            return -Errno.ENOMEM
        self._stacks[number], self._hashes[number] = stack, stack_hash
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
