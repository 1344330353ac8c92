"""A packet of the stack as ``struct sk_buff`` in RAM, for programs that look at functions and tracepoints (v6.18).

The structure is made when somebody asks for the address of a packet, shows the packet as it then is, and stays in its
place until the packet is gone. Programs cannot write to it.

Differs: the room in front of the data is 128 bytes whoever made the packet; references to routes are 0, and ``users``
is 1.
"""

from typing import TYPE_CHECKING

from ebpfsim.btf.view import place
from ebpfsim.memory import Memory
from netstack.sk_buff import NO_HEADER, SkbStruct

if TYPE_CHECKING:
    from netstack.skb import SkBuff

__all__ = ["SkbView"]

HEADROOM, TAILROOM = 128, 64


class SkbView:
    """The structure of one packet."""

    __slots__ = ("_base", "_data", "struct")

    def __init__(self, mem: Memory, skb: "SkBuff") -> None:
        room = max(len(skb.data), 128) + TAILROOM
        self.struct = SkbStruct.build(mem, room, HEADROOM)
        mem.store(self.struct.address + place("sk_buff", "users")[0], 4, 1)
        # where the first byte of the packet's data lies, from the head on
        self._base = HEADROOM + skb.shift
        self._data = b""

    def update(self, skb: "SkBuff") -> int:
        """Show the packet as it is now, and return the structure's address."""
        struct, mem = self.struct, self.struct.mem
        if skb.data is not self._data:
            self._place_data(skb)
        base = self._base
        struct.data = struct.head + base + skb.pulled
        struct.len, struct.data_len = max(0, len(skb.data) - skb.pulled), 0
        struct.tail = base + len(skb.data)
        struct.dev = skb.dev.struct_address
        struct.sk = skb.sk.struct_address if skb.sk is not None else 0
        struct.protocol = skb.protocol >> 8 | (skb.protocol & 0xFF) << 8
        struct.pkt_type, struct.ip_summed = skb.pkt_type, skb.ip_summed
        struct.skb_iif, struct.mark, struct.priority = skb.skb_iif, skb.mark, skb.priority
        struct.hash, struct.sw_hash, struct.tstamp = skb.hash, bool(skb.hash), skb.tstamp
        struct.tc_index = skb.tc_index
        struct.queue_mapping = skb.queue_mapping + 1 if skb.rx_queue_recorded else skb.queue_mapping
        struct.vlan_proto = skb.vlan_proto >> 8 | (skb.vlan_proto & 0xFF) << 8
        struct.vlan_tci = skb.vlan_tci
        struct.mac_header = base if skb.has_mac_header else NO_HEADER
        struct.mac_len = skb.network_header if skb.has_mac_header else 0
        struct.network_header = base + skb.network_header
        struct.transport_header = base + skb.transport_header if skb.transport_header else NO_HEADER
        mem.store(struct.address + place("sk_buff", "truesize")[0], 4, skb.truesize)
        return struct.address

    def _place_data(self, skb: "SkBuff") -> None:
        struct, new = self.struct, skb.data
        base = self._base = max(0, HEADROOM + skb.shift)
        if base + len(new) > struct.end:
            struct.expand_head(0, base + len(new) - struct.end)
        struct.mem.write(struct.head + base, new)
        self._data = new

    def free(self) -> None:
        """The packet is gone."""
        self.struct.free()
