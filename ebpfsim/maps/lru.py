"""Which element an LRU map gives up: the lists of kernel/bpf/bpf_lru_list.c, v6.18.

Two variants. Common: all CPUs share an active, an inactive and a free list; each CPU draws nodes from them in batches
of ``target_free`` into a local free list, and keeps what it has handed out in a local pending list until the next
batch. Per CPU (BPF_F_NO_COMMON_LRU): each CPU has an active, an inactive and a free list of its own.

A node is an element of the table, named by its offset in the RAM. It carries a reference bit that lookups by programs
set; a node whose bit is set when the lists are rotated gets another round. All of it lies in RAM, where machine code
does the same (``ebpfsim.jit.routines.lru``): what a node has stands behind the header that all elements have::

    L_NEXT L_PREV    its list, u32 each            L_CPU (u16) L_KIND L_REF (u8)

and a set of lists has LIST_BYTES::

    heads (next, prev) of the active, the inactive and the free list
    COUNTS           nodes on the active and on the inactive list
    ROTATION         where the rotation of the inactive list goes on
    FRESH FRESH_LOW  the nodes below FRESH, down to FRESH_LOW, were never used: they are the end of the free list

A head is named by where its element would begin, so that its links lie where those of nodes do.
"""

from collections.abc import Callable, Iterator

from ebpfsim.errors import KernelOops
from ebpfsim.isa.alu import u32
from ebpfsim.maps.hash_table import HEADER, PER_CPU
from ebpfsim.memory import Memory

__all__ = ["CommonLru", "PercpuLru"]

# kernel/bpf/bpf_lru_list.c: LOCAL_FREE_TARGET = LOCAL_NR_SCANS, PERCPU_FREE_TARGET = PERCPU_NR_SCANS
LOCAL_FREE_TARGET = 128
PERCPU_FREE_TARGET = 4

# what list a node is on (enum bpf_lru_list_type and the local types)
ACTIVE, INACTIVE, FREE, LOCAL_FREE, LOCAL_PENDING = range(5)

# fields of a node, in bytes
L_NEXT, L_PREV, L_CPU, L_KIND, L_REF = HEADER, HEADER + 4, HEADER + 8, HEADER + 10, HEADER + 11
LRU_HEADER = HEADER + 16

# fields of a set of lists, in bytes
HEADS, COUNTS, ROTATION, FRESH, FRESH_LOW, LIST_BYTES = 0, 24, 32, 36, 40, 48
# fields of a CPU in the common variant, behind its one set of lists
LOCALS = PER_CPU + 8 + LIST_BYTES
LOCAL_FREE_HEAD, PENDING_HEAD, NEXT_STEAL, LOCAL_BYTES = 0, 8, 16, 24
# where lists begin, in bytes from the map's address; in front of them the number of nodes that a CPU draws at a time
TARGET_FREE, LISTS = PER_CPU, PER_CPU + 8

# tells whether the element was in the map; it is no more afterwards
Remove = Callable[[int], bool]


def corrupted() -> KernelOops:
    """Return the oops of a list that leads nowhere: only programs that nobody has verified can do this."""
    return KernelOops("a list of an LRU map has no end")


class _Nodes:
    """Doubly linked lists of nodes."""

    def __init__(self, mem: Memory, nr_nodes: int) -> None:
        self.words = mem.buf.cast("I")
        self.buf = mem.buf
        self._steps = range(nr_nodes + 1)  # along a list and back to its head

    def head(self, address: int) -> int:
        """Return the name of a head whose links lie at that offset, after making its list empty."""
        head = address - L_NEXT
        self.words[head + L_NEXT >> 2] = self.words[head + L_PREV >> 2] = head
        return head

    def add(self, node: int, head: int) -> None:
        """Put a node at the front of a list."""
        words = self.words
        first = words[head + L_NEXT >> 2]
        words[node + L_NEXT >> 2] = first
        words[node + L_PREV >> 2] = head
        words[first + L_PREV >> 2] = words[head + L_NEXT >> 2] = node

    def unlink(self, node: int) -> None:
        """Take a node off its list."""
        words = self.words
        before, after = words[node + L_PREV >> 2], words[node + L_NEXT >> 2]
        words[before + L_NEXT >> 2] = after
        words[after + L_PREV >> 2] = before

    def move(self, node: int, head: int) -> None:
        """Move a node to the front of a list."""
        self.unlink(node)
        self.add(node, head)

    def first(self, head: int) -> int:
        """Return the node at the front of a list, or its head."""
        return self.words[head + L_NEXT >> 2]

    def previous(self, node: int) -> int:
        """Return the node (or head) in front of a node, the last one for a head."""
        return self.words[node + L_PREV >> 2]

    def empty(self, head: int) -> bool:
        """Tell whether a list has no node."""
        return self.words[head + L_NEXT >> 2] == head

    def backward(self, head: int) -> Iterator[int]:
        """Yield the nodes from the back; the one just given may be moved away."""
        node = self.previous(head)
        for _ in self._steps:
            if node == head:
                return
            preceding = self.previous(node)
            yield node
            node = preceding
        raise corrupted()

    def kind(self, node: int) -> int:
        """Return what list a node is on."""
        return self.buf[node + L_KIND]

    def ref(self, node: int) -> int:
        """Return the reference bit of a node."""
        return self.buf[node + L_REF]

    def set_kind(self, node: int, kind: int) -> None:
        """Say what list a node is on; its reference bit is cleared."""
        self.buf[node + L_KIND] = kind
        self.buf[node + L_REF] = 0

    def cpu(self, node: int) -> int:
        """Return the CPU that drew a node, or whose it is."""
        return self.buf[node + L_CPU] | self.buf[node + L_CPU + 1] << 8

    def set_cpu(self, node: int, cpu: int) -> None:
        """Say what CPU drew a node, or whose it is."""
        self.buf[node + L_CPU] = cpu & 0xFF
        self.buf[node + L_CPU + 1] = cpu >> 8


class _Lists:
    """One set of active, inactive and free list (``struct bpf_lru_list``), and the nodes that belong to it."""

    def __init__(self, nodes: _Nodes, at: int, nr_scans: int, remove: Remove, fresh: tuple[int, int, int]) -> None:
        # fresh: the first byte of the nodes, and the first one behind them; bytes of a node
        self.nodes, self.at = nodes, at
        self.heads = tuple(nodes.head(at + HEADS + 8 * kind) for kind in (ACTIVE, INACTIVE, FREE))
        self.nr_scans = nr_scans
        self.remove = remove
        self.cpu = 0
        low, end, self.node_bytes = fresh
        nodes.words[at + FRESH_LOW >> 2], nodes.words[at + FRESH >> 2] = low, end
        nodes.words[at + ROTATION >> 2] = self.heads[INACTIVE]

    def count(self, kind: int, more: int) -> None:
        """Change the number of nodes on the active or the inactive list."""
        words, count = self.nodes.words, self.at + COUNTS + 4 * kind >> 2
        words[count] = u32(words[count] + more)

    def first_free(self) -> int:
        """Return the node at the front of the free list, or 0."""
        nodes, head = self.nodes, self.heads[FREE]
        first = nodes.first(head)
        if first != head:
            return first
        words, fresh = nodes.words, self.at + FRESH >> 2
        node = words[fresh] - self.node_bytes
        if node < words[self.at + FRESH_LOW >> 2]:
            return 0
        words[fresh] = node
        nodes.set_kind(node, FREE)
        nodes.set_cpu(node, self.cpu)
        nodes.add(node, head)
        return node

    def move(self, node: int, kind: int) -> None:
        """Move a node to the front of one of the lists; its reference bit is cleared."""
        self._leave(node)
        if kind != FREE:
            self.count(kind, 1)
        self.nodes.set_kind(node, kind)
        self.nodes.move(node, self.heads[kind])

    def take_in(self, node: int) -> None:
        """Move a node from a local pending list to the active or inactive list, as its reference bit says."""
        kind = ACTIVE if self.nodes.ref(node) else INACTIVE
        self.count(kind, 1)
        self.nodes.set_kind(node, kind)
        self.nodes.move(node, self.heads[kind])

    def give_free(self, node: int, free_head: int, kind: int) -> None:
        """Move a node to a free list, this one or a CPU's."""
        self._leave(node)
        self.nodes.set_kind(node, kind)
        self.nodes.move(node, free_head)

    def rotate(self) -> None:
        """Sort out used from unused nodes, a bounded number at a time."""
        words, counts = self.nodes.words, self.at + COUNTS >> 2
        if words[counts + INACTIVE] < words[counts + ACTIVE]:
            self._rotate_active()
        self._rotate_inactive()

    def shrink(self, wanted: int, free_head: int, kind: int) -> int:
        """Evict up to ``wanted`` unused nodes from the inactive list; if all are in use, one that is."""
        evicted = 0
        for scanned, node in enumerate(self.nodes.backward(self.heads[INACTIVE]), 1):
            if self.nodes.ref(node):
                self.move(node, ACTIVE)
            elif self.remove(node):
                self.give_free(node, free_head, kind)
                evicted += 1
                if evicted == wanted:
                    break
            if scanned == self.nr_scans:
                break
        if evicted:
            return evicted
        source = self.heads[ACTIVE] if self.nodes.empty(self.heads[INACTIVE]) else self.heads[INACTIVE]
        for node in self.nodes.backward(source):
            if self.remove(node):
                self.give_free(node, free_head, kind)
                return 1
        return 0

    def _leave(self, node: int) -> None:
        # the rotation goes on with the node before the one that leaves
        nodes, rotation = self.nodes, self.at + ROTATION >> 2
        if node == nodes.words[rotation]:
            nodes.words[rotation] = nodes.previous(node)
        kind = nodes.kind(node)
        if kind != FREE:
            self.count(kind, -1)

    def _rotate_active(self) -> None:
        nodes = self.nodes
        first = nodes.first(self.heads[ACTIVE])
        for scanned, node in enumerate(nodes.backward(self.heads[ACTIVE]), 1):
            self.move(node, ACTIVE if nodes.ref(node) else INACTIVE)
            if scanned == self.nr_scans or node == first:
                break

    def _rotate_inactive(self) -> None:
        head, nodes = self.heads[INACTIVE], self.nodes
        if nodes.empty(head):
            return
        rotation = self.at + ROTATION >> 2
        current = following = nodes.words[rotation]
        last = nodes.first(current)
        if last == head:
            last = nodes.first(last)
        scanned = passed = 0
        while scanned < self.nr_scans:
            if current == head:
                current = nodes.previous(current)
                passed += 1
                if passed > 1:
                    raise corrupted()
                continue
            following = nodes.previous(current)
            if nodes.ref(current):
                self.move(current, ACTIVE)
            if current == last:
                break
            current = following
            scanned += 1
        nodes.words[rotation] = following


class CommonLru:
    """The variant in which all CPUs share the lists. ``map_at`` and ``first`` are offsets in the RAM."""

    def __init__(
        self, mem: Memory, map_at: int, nr_cpus: int, remove: Remove, first: int, nr_nodes: int, node_bytes: int
    ) -> None:
        self.nr_cpus = nr_cpus
        self._remove = remove
        self._nodes = nodes = _Nodes(mem, nr_nodes)
        fresh = first, first + nr_nodes * node_bytes, node_bytes
        self._lists = _Lists(nodes, map_at + LISTS, LOCAL_FREE_TARGET, remove, fresh)
        self._local = [map_at + LOCALS + cpu * LOCAL_BYTES for cpu in range(nr_cpus)]
        self._local_free = [nodes.head(at + LOCAL_FREE_HEAD) for at in self._local]
        self._pending = [nodes.head(at + PENDING_HEAD) for at in self._local]
        for cpu, at in enumerate(self._local):
            nodes.words[at + NEXT_STEAL >> 2] = cpu
        self._target_free = min(max(nr_nodes // nr_cpus // 2, 1), LOCAL_FREE_TARGET)
        nodes.words[map_at + TARGET_FREE >> 2] = self._target_free

    def pop_free(self, cpu: int) -> int:
        """Return a node for a new element, evicting others where needed, or 0."""
        node = self._pop_local(cpu)
        if not node:
            self._refill(cpu)
            node = self._pop_local(cpu)
        if not node:
            node = self._steal(cpu)
        if node:
            nodes = self._nodes
            nodes.set_cpu(node, cpu)
            nodes.set_kind(node, LOCAL_PENDING)
            nodes.add(node, self._pending[cpu])
        return node

    def push_free(self, node: int) -> None:
        """Take back the node of an element that is no more."""
        nodes = self._nodes
        if nodes.kind(node) == LOCAL_PENDING:
            nodes.set_kind(node, LOCAL_FREE)
            nodes.move(node, self._local_free[nodes.cpu(node)])
        else:
            self._lists.move(node, FREE)

    def _pop_local(self, cpu: int) -> int:
        head = self._local_free[cpu]
        node = self._nodes.first(head)
        if node == head:
            return 0
        self._nodes.unlink(node)
        return node

    def _refill(self, cpu: int) -> None:
        lists, nodes = self._lists, self._nodes
        for node in nodes.backward(self._pending[cpu]):
            lists.take_in(node)
        lists.rotate()
        for taken in range(self._target_free):
            node = lists.first_free()
            if not node:
                lists.shrink(self._target_free - taken, self._local_free[cpu], LOCAL_FREE)
                return
            lists.give_free(node, self._local_free[cpu], LOCAL_FREE)

    def _steal(self, cpu: int) -> int:
        # everything is with the CPUs: take from them in turn, from where the last theft ended
        next_steal = self._local[cpu] + NEXT_STEAL >> 2
        victim = first = self._nodes.words[next_steal]
        while True:
            node = self._pop_local(victim) or self._pop_pending(victim)
            victim = (victim + 1) % self.nr_cpus
            if node or victim == first:
                self._nodes.words[next_steal] = victim
                return node

    def _pop_pending(self, cpu: int) -> int:
        # the oldest unused one, else the oldest
        for respect_ref in (True, False):
            for node in self._nodes.backward(self._pending[cpu]):
                if not (respect_ref and self._nodes.ref(node)) and self._remove(node):
                    self._nodes.unlink(node)
                    return node
        return 0


class PercpuLru:
    """The variant in which each CPU has lists of its own (BPF_F_NO_COMMON_LRU)."""

    def __init__(
        self, mem: Memory, map_at: int, nr_cpus: int, remove: Remove, first: int, nr_nodes: int, node_bytes: int
    ) -> None:
        self._nodes = _Nodes(mem, nr_nodes)
        self._lists = []
        share = nr_nodes // nr_cpus * node_bytes
        for cpu in range(nr_cpus):
            at, fresh = map_at + LISTS + cpu * LIST_BYTES, (first + cpu * share, first + (cpu + 1) * share, node_bytes)
            self._lists.append(_Lists(self._nodes, at, PERCPU_FREE_TARGET, remove, fresh))
            self._lists[cpu].cpu = cpu

    def pop_free(self, cpu: int) -> int:
        """Return a node for a new element, evicting others where needed, or 0."""
        lists = self._lists[cpu]
        lists.rotate()
        node = lists.first_free()
        if not node:
            lists.shrink(PERCPU_FREE_TARGET, lists.heads[FREE], FREE)
            node = lists.first_free()
        if node:
            lists.move(node, INACTIVE)
        return node

    def push_free(self, node: int) -> None:
        """Take back the node of an element that is no more."""
        self._lists[self._nodes.cpu(node)].move(node, FREE)
