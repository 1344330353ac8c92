"""Which element an LRU map gives up: the lists of kernel/bpf/bpf_lru_list.c, v6.18.

Two variants. Common: all CPUs share an active, an inactive and a free list; each CPU draws nodes from them in batches
of ``target_free`` into a local free list, and keeps what it has handed out in a local pending list until the next
batch. Per CPU (BPF_F_NO_COMMON_LRU): each CPU has an active, an inactive and a free list of its own.

A node is the number of an element. It carries a reference bit that lookups by programs set; a node whose bit is set
when the lists are rotated gets another round. Heads of lists are nodes too, behind the elements.
"""

from array import array
from collections.abc import Callable, Iterator

__all__ = ["CommonLru", "PercpuLru"]

# kernel/bpf/bpf_lru_list.c: LOCAL_FREE_TARGET = LOCAL_NR_SCANS, PERCPU_FREE_TARGET = PERCPU_NR_SCANS
LOCAL_FREE_TARGET = 128
PERCPU_FREE_TARGET = 4

# what list a node is on (enum bpf_lru_list_type and the local types)
ACTIVE, INACTIVE, FREE, LOCAL_FREE, LOCAL_PENDING = range(5)

# tells whether the element was in the map; it is no more afterwards
Remove = Callable[[int], bool]


class _Nodes:
    """Doubly linked lists over node numbers; the numbers from ``nr_nodes`` on are heads of lists."""

    def __init__(self, nr_nodes: int, nr_lists: int) -> None:
        self.nr_nodes = nr_nodes
        self.next = array("I", range(nr_nodes + nr_lists))
        self.prev = array("I", range(nr_nodes + nr_lists))
        self.kind = bytearray(nr_nodes)
        self.ref = bytearray(nr_nodes)
        self.cpu = array("H", bytes(2 * nr_nodes))

    def add(self, node: int, head: int) -> None:
        """Put a node at the front of a list."""
        first = self.next[head]
        self.next[node], self.prev[node] = first, head
        self.prev[first] = self.next[head] = node

    def unlink(self, node: int) -> None:
        """Take a node off its list."""
        before, after = self.prev[node], self.next[node]
        self.next[before], self.prev[after] = after, before

    def move(self, node: int, head: int) -> None:
        """Move a node to the front of a list."""
        self.unlink(node)
        self.add(node, head)

    def empty(self, head: int) -> bool:
        """Tell whether a list has no node."""
        return self.next[head] == head

    def forward(self, head: int) -> Iterator[int]:
        """Yield the nodes from the front; the one just given may be moved away."""
        node = self.next[head]
        while node != head:
            following = self.next[node]
            yield node
            node = following

    def backward(self, head: int) -> Iterator[int]:
        """Yield the nodes from the back; the one just given may be moved away."""
        node = self.prev[head]
        while node != head:
            preceding = self.prev[node]
            yield node
            node = preceding


class _Lists:
    """One set of active, inactive and free list (``struct bpf_lru_list``)."""

    def __init__(self, nodes: _Nodes, first_head: int, nr_scans: int, remove: Remove) -> None:
        self.nodes = nodes
        self.heads = (first_head, first_head + 1, first_head + 2)
        self.counts = [0, 0]
        self.next_inactive_rotation = self.heads[INACTIVE]
        self.nr_scans = nr_scans
        self.remove = remove

    def populate(self, node: int, cpu: int) -> None:
        """Add a new node to the free list."""
        self.nodes.kind[node] = FREE
        self.nodes.cpu[node] = cpu
        self.nodes.add(node, self.heads[FREE])

    def move(self, node: int, kind: int) -> None:
        """Move a node to the front of one of the lists; its reference bit is cleared."""
        self._leave(node)
        if kind != FREE:
            self.counts[kind] += 1
        self.nodes.kind[node] = kind
        self.nodes.ref[node] = 0
        self.nodes.move(node, self.heads[kind])

    def take_in(self, node: int) -> None:
        """Move a node from a local pending list to the active or inactive list, as its reference bit says."""
        kind = ACTIVE if self.nodes.ref[node] else INACTIVE
        self.counts[kind] += 1
        self.nodes.kind[node] = kind
        self.nodes.ref[node] = 0
        self.nodes.move(node, self.heads[kind])

    def give_free(self, node: int, free_head: int, kind: int) -> None:
        """Move a node to a free list, this one or a CPU's."""
        self._leave(node)
        self.nodes.kind[node] = kind
        self.nodes.move(node, free_head)

    def rotate(self) -> None:
        """Sort out used from unused nodes, a bounded number at a time."""
        if self.counts[INACTIVE] < self.counts[ACTIVE]:
            self._rotate_active()
        self._rotate_inactive()

    def shrink(self, wanted: int, free_head: int, kind: int) -> int:
        """Evict up to ``wanted`` unused nodes from the inactive list; if all are in use, one that is."""
        evicted = 0
        for scanned, node in enumerate(self.nodes.backward(self.heads[INACTIVE]), 1):
            if self.nodes.ref[node]:
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
        if node == self.next_inactive_rotation:
            self.next_inactive_rotation = self.nodes.prev[node]
        kind = self.nodes.kind[node]
        if kind != FREE:
            self.counts[kind] -= 1

    def _rotate_active(self) -> None:
        first = self.nodes.next[self.heads[ACTIVE]]
        for scanned, node in enumerate(self.nodes.backward(self.heads[ACTIVE]), 1):
            self.move(node, ACTIVE if self.nodes.ref[node] else INACTIVE)
            if scanned == self.nr_scans or node == first:
                break

    def _rotate_inactive(self) -> None:
        head, nodes = self.heads[INACTIVE], self.nodes
        if nodes.empty(head):
            return
        last = nodes.next[self.next_inactive_rotation]
        if last == head:
            last = nodes.next[last]
        current = following = self.next_inactive_rotation
        scanned = 0
        while scanned < self.nr_scans:
            if current == head:
                current = nodes.prev[current]
                continue
            following = nodes.prev[current]
            if nodes.ref[current]:
                self.move(current, ACTIVE)
            if current == last:
                break
            current = following
            scanned += 1
        self.next_inactive_rotation = following


class CommonLru:
    """The variant in which all CPUs share the lists."""

    def __init__(self, nr_nodes: int, nr_cpus: int, remove: Remove) -> None:
        self.nr_cpus = nr_cpus
        self._nodes = _Nodes(nr_nodes, 3 + 2 * nr_cpus)
        self._lists = _Lists(self._nodes, nr_nodes, LOCAL_FREE_TARGET, remove)
        self._local_free = [nr_nodes + 3 + 2 * cpu for cpu in range(nr_cpus)]
        self._pending = [nr_nodes + 4 + 2 * cpu for cpu in range(nr_cpus)]
        self._next_steal = list(range(nr_cpus))
        self._remove = remove
        self.ref = self._nodes.ref
        for node in range(nr_nodes):
            self._lists.populate(node, 0)
        self._target_free = min(max(nr_nodes // nr_cpus // 2, 1), LOCAL_FREE_TARGET)

    def pop_free(self, cpu: int) -> int:
        """Return a node for a new element, evicting others where needed, or -1."""
        node = self._pop_local(cpu)
        if node < 0:
            self._refill(cpu)
            node = self._pop_local(cpu)
        if node < 0:
            node = self._steal(cpu)
        if node >= 0:
            nodes = self._nodes
            nodes.cpu[node] = cpu
            nodes.kind[node] = LOCAL_PENDING
            nodes.ref[node] = 0
            nodes.add(node, self._pending[cpu])
        return node

    def push_free(self, node: int) -> None:
        """Take back the node of an element that is no more."""
        nodes = self._nodes
        if nodes.kind[node] == LOCAL_PENDING:
            nodes.kind[node] = LOCAL_FREE
            nodes.ref[node] = 0
            nodes.move(node, self._local_free[nodes.cpu[node]])
        else:
            self._lists.move(node, FREE)

    def _pop_local(self, cpu: int) -> int:
        head = self._local_free[cpu]
        node = self._nodes.next[head]
        if node == head:
            return -1
        self._nodes.unlink(node)
        return node

    def _refill(self, cpu: int) -> None:
        lists, nodes = self._lists, self._nodes
        for node in nodes.backward(self._pending[cpu]):
            lists.take_in(node)
        lists.rotate()
        taken = 0
        for node in nodes.forward(lists.heads[FREE]):
            lists.give_free(node, self._local_free[cpu], LOCAL_FREE)
            taken += 1
            if taken == self._target_free:
                return
        lists.shrink(self._target_free - taken, self._local_free[cpu], LOCAL_FREE)

    def _steal(self, cpu: int) -> int:
        # everything is with the CPUs: take from them in turn, from where the last theft ended
        victim = first = self._next_steal[cpu]
        while True:
            node = self._pop_local(victim)
            if node < 0:
                node = self._pop_pending(victim)
            victim = (victim + 1) % self.nr_cpus
            if node >= 0 or victim == first:
                self._next_steal[cpu] = victim
                return node

    def _pop_pending(self, cpu: int) -> int:
        # the oldest unused one, else the oldest
        for respect_ref in (True, False):
            for node in self._nodes.backward(self._pending[cpu]):
                if not (respect_ref and self._nodes.ref[node]) and self._remove(node):
                    self._nodes.unlink(node)
                    return node
        return -1


class PercpuLru:
    """The variant in which each CPU has lists of its own (BPF_F_NO_COMMON_LRU)."""

    def __init__(self, nr_nodes: int, nr_cpus: int, remove: Remove) -> None:
        self._nodes = _Nodes(nr_nodes, 3 * nr_cpus)
        self._lists = [_Lists(self._nodes, nr_nodes + 3 * cpu, PERCPU_FREE_TARGET, remove) for cpu in range(nr_cpus)]
        self.ref = self._nodes.ref
        share = nr_nodes // nr_cpus
        for node in range(nr_nodes):
            self._lists[min(node // share, nr_cpus - 1)].populate(node, min(node // share, nr_cpus - 1))

    def pop_free(self, cpu: int) -> int:
        """Return a node for a new element, evicting others where needed, or -1."""
        lists = self._lists[cpu]
        lists.rotate()
        free = lists.heads[FREE]
        if self._nodes.empty(free):
            lists.shrink(PERCPU_FREE_TARGET, free, FREE)
        if self._nodes.empty(free):
            return -1
        node = self._nodes.next[free]
        lists.move(node, INACTIVE)
        return node

    def push_free(self, node: int) -> None:
        """Take back the node of an element that is no more."""
        self._lists[self._nodes.cpu[node]].move(node, FREE)
