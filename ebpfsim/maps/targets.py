"""Targets of bpf_redirect_map() in RAM, where machine code finds them: what devmaps and cpumaps have in common.

A target's block begins with the value that programs may read (``struct bpf_devmap_val``, ``struct bpf_cpumap_val``);
its map, the next one of its bucket and its key follow. The table has the address of a block for each index, or, for a
hash, for each bucket: the newest one comes first.
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from ebpfsim.memory import Memory

__all__ = ["KEY", "MAP", "NEXT", "TARGET_BYTES", "Target", "TargetTable"]

MAP, NEXT, KEY, TARGET_BYTES = 8, 16, 24, 32
# a target that was removed is still where earlier calls wanted packets to go
KEPT = 16


class Target(Protocol):
    """What a table holds."""

    @property
    def address(self) -> int:
        """Where its block is."""
        ...


TargetT = TypeVar("TargetT", bound=Target)


class TargetTable(Generic[TargetT]):
    """The targets of a map. ``address`` is the table's; ``mask`` gives the bucket of a key, None for an array."""

    def __init__(self, mem: Memory, map_address: int, address: int, mask: int | None = None) -> None:
        self.address, self.mask = address, mask
        self._mem, self._map_address = mem, map_address
        self._by_address: dict[int, TargetT] = {}
        self._gone: OrderedDict[int, TargetT] = OrderedDict()

    def block(self, key: int, value: bytes) -> int:
        """Return the address of a new block that no table leads to."""
        address = self._mem.alloc(TARGET_BYTES)
        self._mem.write(address, value)
        self._mem.store(address + MAP, 8, self._map_address)
        self._mem.store(address + KEY, 4, key)
        return address

    def put(self, key: int, target: TargetT) -> None:
        """Let the table lead to a target."""
        self._by_address[target.address] = target
        self._gone.pop(target.address, None)
        place = self._place(key)
        if self.mask is not None:
            self._mem.store(target.address + NEXT, 8, self._mem.load(place, 8))
        self._mem.store(place, 8, target.address)

    def take(self, key: int, target: TargetT) -> None:
        """Let the table lead to a target no more, and free its block."""
        mem, place = self._mem, self._place(key)
        while self.mask is not None and mem.load(place, 8) != target.address:
            place = mem.load(place, 8) + NEXT
        mem.store(place, 8, mem.load(target.address + NEXT, 8) if self.mask is not None else 0)
        self._gone[target.address] = self._by_address.pop(target.address)
        if len(self._gone) > KEPT:
            self._gone.popitem(last=False)
        mem.free(target.address)

    def at(self, address: int) -> TargetT | None:
        """Return the target whose block is at an address, one that was removed lately included."""
        return self._by_address.get(address) or self._gone.get(address)

    def _place(self, key: int) -> int:
        return self.address + 8 * (key if self.mask is None else key & self.mask)
