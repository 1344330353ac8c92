"""``struct neighbour`` and ``struct neigh_table`` in RAM, for probes (include/net/neighbour.h, v6.18)."""

from typing import TYPE_CHECKING

from ebpfsim.btf.view import Field, KernelStruct, size_of
from ebpfsim.memory import Memory

if TYPE_CHECKING:
    from netstack.neigh import Neighbour

__all__ = ["NeighView", "jiffies"]

INITIAL_JIFFIES = (1 << 32) - 300 * 250  # five minutes before 32 bits wrap, at 250 a second
RTN_UNICAST = 1


def jiffies(time_ns: int) -> int:
    """Return the number of ticks at an instant."""
    return INITIAL_JIFFIES + time_ns // 4_000_000


class _Neighbour(KernelStruct):
    struct_name = "neighbour"
    tbl = Field()
    confirmed = Field()
    updated = Field()
    used = Field()
    refcnt = Field("refcnt.refs.counter")
    nud_state = Field()
    type = Field()
    flags = Field()
    dev = Field()


class _Table(KernelStruct):
    struct_name = "neigh_table"
    family = Field()
    key_len = Field()
    entries = Field("entries.counter")


class NeighView:
    """The structure of one neighbour."""

    __slots__ = ("_key_bytes", "_struct")

    def __init__(self, mem: Memory, table: int, key_bytes: int) -> None:
        size = size_of("neighbour") + key_bytes
        self._struct = _Neighbour(mem, mem.alloc(size, what="struct neighbour"))
        self._struct.tbl, self._key_bytes = table, key_bytes

    @staticmethod
    def table(mem: Memory, family: int, key_bytes: int) -> int:
        """Return the address of a new ``struct neigh_table``."""
        table = _Table.alloc(mem)
        table.family, table.key_len = family, key_bytes
        return table.address

    def update(self, neigh: "Neighbour") -> int:
        """Show an entry as it is now, and return the structure's address."""
        struct = self._struct
        struct.nud_state, struct.dev, struct.type = int(neigh.state), neigh.dev.struct_address, RTN_UNICAST
        struct.confirmed, struct.updated = jiffies(neigh.confirmed_ns), jiffies(neigh.updated_ns)
        struct.used, struct.refcnt = jiffies(neigh.used_ns), 2 + (neigh.timer is not None)
        struct.mem.write(struct.member_address("ha"), neigh.mac)
        struct.mem.write(struct.member_address("primary_key"), neigh.address.to_bytes(self._key_bytes, "big"))
        return struct.address

    def free(self) -> None:
        """The entry is gone."""
        self._struct.free()
