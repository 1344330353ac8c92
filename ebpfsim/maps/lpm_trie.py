"""BPF_MAP_TYPE_LPM_TRIE: the longest prefix of a key (kernel/bpf/lpm_trie.c, v6.18).

A key is ``struct bpf_lpm_trie_key``: a length in bits, and bytes whose most significant bit comes first. Nodes lie in
RAM as the kernel lays them out, so machine code can walk them::

    struct lpm_trie_node   +0 child[0]  +8 child[1]  +16 prefixlen  +20 flags  +24 data, then the value

A node that only tells its two children apart is marked as intermediate and holds no value. Keys come in post-order:
more specific ones before less specific ones.
"""

from collections.abc import Sequence
from struct import Struct

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops
from ebpfsim.maps.map import BatchError, MapAttr, MapEnv
from ebpfsim.maps.value import ValueMap
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.uapi.flags import BPF_EXIST, BPF_NOEXIST

__all__ = ["LpmTrieMap"]

PREFIXLEN_BYTES = 4  # of struct bpf_lpm_trie_key, before its data
CHILD_OFF, PREFIXLEN_OFF, FLAGS_OFF, DATA_OFF = 0, 16, 20, 24  # struct lpm_trie_node
LPM_TREE_NODE_FLAG_IM = 1


class LpmTrieMap(ValueMap):
    """A trie; ``root_slot`` is the address of the pointer to its root."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.data_size = attr.key_size - PREFIXLEN_BYTES
        self.max_prefixlen = self.data_size * 8
        self.root_slot = self._alloc_area(8)
        self._node = Struct(f"<QQII{self.data_size}s")  # children, prefixlen, flags, data
        self._count = 0

    def __len__(self) -> int:
        return self._count

    # ---- elements -----------------------------------------------------------------------------------------------

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of the value of the longest prefix that matches, or 0."""
        prefixlen, data = _split(key)
        if prefixlen > self.max_prefixlen:
            return 0
        found, width = 0, self.max_prefixlen
        unpack, buf = self._node.unpack_from, self.mem.buf
        node = self.mem.load(self.root_slot, 8)
        while node:
            # nodes are the map's own and need no check
            left, right, length, flags, bits = unpack(buf, node ^ KERNEL_BASE)
            shared = width - (int.from_bytes(bits, "big") ^ data).bit_length()
            if shared < length or prefixlen < length:
                break
            if not flags & LPM_TREE_NODE_FLAG_IM:
                found = node
            if length == width:
                break
            node = right if data >> (width - 1 - length) & 1 else left
        return found + DATA_OFF + self.data_size if found else 0

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set the value of a prefix: ENOSPC when full, EINVAL for a length past the key."""
        prefixlen, data = _split(key)
        if flags > BPF_EXIST or prefixlen > self.max_prefixlen:
            return -Errno.EINVAL
        slot, node, match = self._walk(prefixlen, data)
        exists = node and self._prefixlen(node) == match
        real = exists and not self._flags(node) & LPM_TREE_NODE_FLAG_IM
        if real and flags == BPF_NOEXIST:
            return -Errno.EEXIST
        if not real:
            if flags == BPF_EXIST:
                return -Errno.ENOENT
            if self._count == self.max_entries:
                return -Errno.ENOSPC
        new = self._new_node(prefixlen, 0, key[PREFIXLEN_BYTES:], value)
        if not new:
            return -Errno.ENOMEM
        above = new
        if exists:
            self._set_child(new, 0, self._child(node, 0))
            self._set_child(new, 1, self._child(node, 1))
        elif node and match == prefixlen:
            # the new prefix holds the one that is there
            self._set_child(new, _bit(self._data(node), match, self.max_prefixlen), node)
        elif node:
            above = self._new_node(match, LPM_TREE_NODE_FLAG_IM, self.mem.read(node + DATA_OFF, self.data_size), None)
            if not above:
                self.mem.free(new)
                return -Errno.ENOMEM
            side = _bit(data, match, self.max_prefixlen)
            self._set_child(above, side, new)
            self._set_child(above, 1 - side, node)
        self.mem.store(slot, 8, above)
        if exists:
            self.mem.free(node)
        self._count += 0 if real else 1
        return 0

    def delete_elem(self, key: bytes) -> int:
        """Remove a prefix: ENOENT, or EINVAL for a length past the key."""
        prefixlen, data = _split(key)
        if prefixlen > self.max_prefixlen:
            return -Errno.EINVAL
        path = self._path(prefixlen, data)
        if path is None:
            return -Errno.ENOENT
        slot, node = path[-1]
        children = [self._child(node, 0), self._child(node, 1)]
        self._count -= 1
        if all(children):
            self.mem.store(node + FLAGS_OFF, 4, self._flags(node) | LPM_TREE_NODE_FLAG_IM)
            return 0
        parent_slot, parent = path[-2] if len(path) > 1 else (0, 0)
        if parent and self._flags(parent) & LPM_TREE_NODE_FLAG_IM and not any(children):
            # an intermediate node has two children: the other one takes its place
            other = self._child(parent, 1) if self._child(parent, 0) == node else self._child(parent, 0)
            self.mem.store(parent_slot, 8, other)
            self.mem.free(parent)
        else:
            self.mem.store(slot, 8, children[0] or children[1])
        self.mem.free(node)
        return 0

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after ``key`` in post-order; the first one when it is not there."""
        root = self.mem.load(self.root_slot, 8)
        if not root:
            return None
        path = self._path(*_split(key)) if key is not None and _split(key)[0] <= self.max_prefixlen else None
        if path is None:
            return self._key(self._leftmost(root))
        while len(path) > 1:
            _, node = path.pop()
            parent = path[-1][1]
            if self._child(parent, 0) == node and self._child(parent, 1):
                return self._key(self._leftmost(self._child(parent, 1)))
            if not self._flags(parent) & LPM_TREE_NODE_FLAG_IM:
                return self._key(parent)
        return None

    def sys_delete_batch(self, keys: Sequence[bytes]) -> None:
        """BPF_MAP_DELETE_BATCH (``generic_map_delete_batch``)."""
        for count, key in enumerate(keys):
            result = self.delete_elem(key)
            if result < 0:
                raise BatchError("map_delete_batch", -result, count)

    def on_release(self) -> None:
        """Give back the nodes."""
        pending = [self.mem.load(self.root_slot, 8)]
        while pending:
            node = pending.pop()
            if node:
                pending += (self._child(node, 0), self._child(node, 1))
                self.mem.free(node)
        super().on_release()

    # ---- the trie -----------------------------------------------------------------------------------------------

    def _walk(self, prefixlen: int, data: int) -> tuple[int, int, int]:
        # the slot for a prefix, the node that is there (or 0), and how many bits they share
        slot, match, width = self.root_slot, 0, self.max_prefixlen
        unpack, buf = self._node.unpack_from, self.mem.buf
        node = self.mem.load(slot, 8)
        while node:
            left, right, length, _, bits = unpack(buf, node ^ KERNEL_BASE)
            match = min(length, prefixlen, width - (int.from_bytes(bits, "big") ^ data).bit_length())
            if length != match or length == prefixlen:
                break
            side = data >> (width - 1 - length) & 1
            slot, node = node + CHILD_OFF + 8 * side, right if side else left
        return slot, node, match

    def _path(self, prefixlen: int, data: int) -> list[tuple[int, int]] | None:
        # slots and nodes from the root down to a prefix, None when it is not there
        path = []
        slot = self.root_slot
        while node := self.mem.load(slot, 8):
            path.append((slot, node))
            length, flags, match = self._match(node, prefixlen, data)
            if length != match:
                return None
            if length == prefixlen:
                return None if flags & LPM_TREE_NODE_FLAG_IM else path
            slot = self._child_slot(node, _bit(data, length, self.max_prefixlen))
        return None

    def _leftmost(self, node: int) -> int:
        found = node
        while node:
            if self._flags(node) & LPM_TREE_NODE_FLAG_IM:
                node = self._child(node, 0)
            else:
                found = node
                node = self._child(node, 0) or self._child(node, 1)
        return found

    def _match(self, node: int, prefixlen: int, data: int) -> tuple[int, int, int]:
        # length and flags of a node, and how many bits it shares with a prefix
        _, _, length, flags, bits = self._node.unpack_from(self.mem.buf, node ^ KERNEL_BASE)
        diff = int.from_bytes(bits, "big") ^ data
        return length, flags, min(length, prefixlen, self.max_prefixlen - diff.bit_length())

    def _new_node(self, prefixlen: int, flags: int, data: bytes, value: bytes | None) -> int:
        size = DATA_OFF + self.data_size
        try:
            node = self.mem.alloc(size + (self.value_size if value is not None else 0))
        except KernelOops:
            return 0
        self.mem.write(node + PREFIXLEN_OFF, prefixlen.to_bytes(4, "little") + flags.to_bytes(4, "little") + data)
        if value is not None:
            self.mem.write(node + size, value)
        return node

    def _child_slot(self, node: int, side: int) -> int:
        return node + CHILD_OFF + 8 * side

    def _child(self, node: int, side: int) -> int:
        return self.mem.load(self._child_slot(node, side), 8)

    def _set_child(self, node: int, side: int, child: int) -> None:
        self.mem.store(self._child_slot(node, side), 8, child)

    def _prefixlen(self, node: int) -> int:
        return self.mem.load(node + PREFIXLEN_OFF, 4)

    def _flags(self, node: int) -> int:
        return self.mem.load(node + FLAGS_OFF, 4)

    def _data(self, node: int) -> int:
        return int.from_bytes(self.mem.read(node + DATA_OFF, self.data_size), "big")

    def _key(self, node: int) -> bytes:
        return self.mem.read(node + PREFIXLEN_OFF, 4) + self.mem.read(node + DATA_OFF, self.data_size)


def _split(key: bytes) -> tuple[int, int]:
    # length and bits
    return int.from_bytes(key[:PREFIXLEN_BYTES], "little"), int.from_bytes(key[PREFIXLEN_BYTES:], "big")


def _bit(data: int, index: int, width: int) -> int:
    # extract_bit(): bit 0 is the most significant one
    return data >> (width - 1 - index) & 1
