"""Red-black trees in simulated memory, balanced as Linux balances them (lib/rbtree.c, v6.18).

Programs that walk one find the same shape.

A node is ``struct rb_node``: the parent's address with the colour in bit 0 (1: black), right, left. A root is
``struct rb_root_cached``: the topmost node, the leftmost one.
"""

from ebpfsim.maps.fields import RB_LEFT, RB_PARENT_COLOR, RB_RIGHT
from ebpfsim.memory import Memory

__all__ = ["Tree"]

BLACK = 1
ROOT_NODE, ROOT_LEFTMOST = 0, 8


class Tree:
    """The tree of a root."""

    def __init__(self, mem: Memory, root: int) -> None:
        self.mem, self.root = mem, root

    @property
    def top(self) -> int:
        """The topmost node, or 0."""
        return self.mem.load(self.root + ROOT_NODE, 8)

    @property
    def first(self) -> int:
        """The leftmost node, or 0."""
        return self.mem.load(self.root + ROOT_LEFTMOST, 8)

    def left(self, node: int) -> int:
        """Return the left child, or 0."""
        return self.mem.load(node + RB_LEFT, 8)

    def right(self, node: int) -> int:
        """Return the right child, or 0."""
        return self.mem.load(node + RB_RIGHT, 8)

    def parent(self, node: int) -> int:
        """Return the parent, or 0."""
        return self.mem.load(node + RB_PARENT_COLOR, 8) & ~3

    def add(self, node: int, parent: int, *, left: bool, leftmost: bool) -> None:
        """Hang a node below a parent (0: it is the first one) and balance (``rb_insert_color_cached``)."""
        self._set(node, parent, 0)
        self.mem.store(node + RB_LEFT, 8, 0)
        self.mem.store(node + RB_RIGHT, 8, 0)
        if not parent:
            self.mem.store(self.root + ROOT_NODE, 8, node)
        else:
            self.mem.store(parent + (RB_LEFT if left else RB_RIGHT), 8, node)
        if leftmost:
            self.mem.store(self.root + ROOT_LEFTMOST, 8, node)
        self._insert_color(node)

    def remove(self, node: int) -> None:
        """Take a node out and balance (``rb_erase_cached``)."""
        if self.first == node:
            self.mem.store(self.root + ROOT_LEFTMOST, 8, self._next(node))
        rebalance = self._erase(node)
        if rebalance:
            self._erase_color(rebalance)

    # ---- links ------------------------------------------------------------------------------------------------------

    def _set(self, node: int, parent: int, color: int) -> None:
        self.mem.store(node + RB_PARENT_COLOR, 8, parent | color)

    def _color(self, node: int) -> int:
        return self.mem.load(node + RB_PARENT_COLOR, 8) & BLACK

    def _red(self, node: int) -> bool:
        return bool(node) and not self._color(node)

    def _child(self, node: int, side: int) -> int:
        return self.mem.load(node + side, 8)

    def _link(self, node: int, side: int, child: int) -> None:
        self.mem.store(node + side, 8, child)

    def _change_child(self, old: int, new: int, parent: int) -> None:
        if not parent:
            self.mem.store(self.root + ROOT_NODE, 8, new)
        else:
            self._link(parent, RB_LEFT if self.left(parent) == old else RB_RIGHT, new)

    def _rotate_set_parents(self, old: int, new: int, color: int) -> None:
        parent = self.parent(old)
        self._set(new, parent, self._color(old))
        self._set(old, new, color)
        self._change_child(old, new, parent)

    def _next(self, node: int) -> int:
        following = self.right(node)
        if following:
            while self.left(following):
                following = self.left(following)
            return following
        parent = self.parent(node)
        while parent and self.right(parent) == node:
            node, parent = parent, self.parent(parent)
        return parent

    # ---- insertion (__rb_insert) ------------------------------------------------------------------------------------

    def _insert_color(self, node: int) -> None:
        while True:
            parent = self.parent(node)
            if not parent:
                self._set(node, 0, BLACK)
                return
            if self._color(parent):
                return
            grandparent = self.parent(parent)
            near, far = (RB_LEFT, RB_RIGHT) if self.right(grandparent) != parent else (RB_RIGHT, RB_LEFT)
            uncle = self._child(grandparent, far)
            if self._red(uncle):
                self._set(uncle, grandparent, BLACK)
                self._set(parent, grandparent, BLACK)
                node = grandparent
                self._set(node, self.parent(node), 0)
                continue
            self._insert_rotate(node, parent, grandparent, (near, far))
            return

    def _insert_rotate(self, node: int, parent: int, grandparent: int, sides: tuple[int, int]) -> None:
        near, far = sides
        inner = self._child(parent, far)
        if node == inner:
            inner = self._child(node, near)
            self._link(parent, far, inner)
            self._link(node, near, parent)
            if inner:
                self._set(inner, parent, BLACK)
            self._set(parent, node, 0)
            parent = node
            inner = self._child(node, far)
        self._link(grandparent, near, inner)
        self._link(parent, far, grandparent)
        if inner:
            self._set(inner, grandparent, BLACK)
        self._rotate_set_parents(grandparent, parent, 0)

    # ---- removal (__rb_erase_augmented and ____rb_erase_color) ------------------------------------------------------

    def _erase(self, node: int) -> int:
        # take the node out; returns where to begin to balance, or 0
        child, left = self.right(node), self.left(node)
        if left and child:
            return self._erase_inner(node, child)
        parent, color = self.parent(node), self._color(node)
        only = child or left
        self._change_child(node, only, parent)
        if only:
            self._set(only, parent, color)
            return 0
        return parent if color else 0

    def _erase_inner(self, node: int, child: int) -> int:
        # the node that follows takes the place
        successor = child
        if not self.left(child):
            parent, below = successor, self.right(successor)
        else:
            parent = child
            while self.left(successor):
                parent, successor = successor, self.left(successor)
            below = self.right(successor)
            self._link(parent, RB_LEFT, below)
            self._link(successor, RB_RIGHT, child)
            self._set(child, successor, self._color(child))
        left = self.left(node)
        self._link(successor, RB_LEFT, left)
        self._set(left, successor, self._color(left))
        up, color = self.parent(node), self._color(node)
        self._change_child(node, successor, up)
        rebalance = 0
        if below:
            self._set(below, parent, BLACK)
        else:
            rebalance = parent if self._color(successor) else 0
        self._set(successor, up, color)
        return rebalance

    def _erase_color(self, parent: int) -> None:
        node = 0
        while True:
            near, far = (RB_LEFT, RB_RIGHT) if self.right(parent) != node else (RB_RIGHT, RB_LEFT)
            sibling = self._child(parent, far)
            if self._red(sibling):
                inner = self._child(sibling, near)
                self._link(parent, far, inner)
                self._link(sibling, near, parent)
                self._set(inner, parent, BLACK)
                self._rotate_set_parents(parent, sibling, 0)
                sibling = inner
            outer = self._child(sibling, far)
            if not self._red(outer):
                inner = self._child(sibling, near)
                if not self._red(inner):
                    self._set(sibling, parent, 0)
                    if self._red(parent):
                        self._set(parent, self.parent(parent), BLACK)
                        return
                    node, parent = parent, self.parent(parent)
                    if parent:
                        continue
                    return
                outer, sibling = self._raise_inner(parent, sibling, inner, (near, far)), inner
            self._erase_rotate(parent, sibling, outer, (near, far))
            return

    def _raise_inner(self, parent: int, sibling: int, inner: int, sides: tuple[int, int]) -> int:
        near, far = sides
        below = self._child(inner, far)
        self._link(sibling, near, below)
        self._link(inner, far, sibling)
        self._link(parent, far, inner)
        if below:
            self._set(below, sibling, BLACK)
        return sibling

    def _erase_rotate(self, parent: int, sibling: int, outer: int, sides: tuple[int, int]) -> None:
        near, far = sides
        inner = self._child(sibling, near)
        self._link(parent, far, inner)
        self._link(sibling, near, parent)
        self._set(outer, sibling, BLACK)
        if inner:
            self._set(inner, parent, self._color(inner))
        self._rotate_set_parents(parent, sibling, BLACK)
