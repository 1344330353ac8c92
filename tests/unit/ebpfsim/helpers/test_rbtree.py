"""Red-black trees keep their rules (lib/rbtree.c); their shape is compared with Linux' in tests/objects (trees)."""

from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.helpers.rbtree import BLACK, Tree
from ebpfsim.memory import Memory


class Keyed:
    """A tree whose nodes have their key behind them."""

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self.tree = Tree(mem, mem.alloc(16))
        self.nodes: dict[int, int] = {}

    def add(self, key: int) -> None:
        node = self.nodes[key] = self.mem.alloc(40)
        self.mem.store(node + 32, 8, key)
        tree, parent, following, left, leftmost = self.tree, 0, self.tree.top, False, True
        while following:
            parent, left = following, key < self.mem.load(following + 32, 8)
            following = tree.left(parent) if left else tree.right(parent)
            leftmost = leftmost and left
        tree.add(node, parent, left=left, leftmost=leftmost)

    def remove(self, key: int) -> None:
        self.tree.remove(self.nodes.pop(key))

    def check(self, node: int, keys: list[int]) -> int:
        """Append the keys in order and return the number of black nodes on a way down; assert the rules."""
        if not node:
            return 1
        left, right, black = self.tree.left(node), self.tree.right(node), self.mem.load(node, 8) & BLACK
        for child in (left, right):
            assert not child or self.tree.parent(child) == node
            assert black or not child or self.mem.load(child, 8) & BLACK
        depth = self.check(left, keys)
        keys.append(self.mem.load(node + 32, 8))
        assert self.check(right, keys) == depth
        return depth + black


MEM = Memory(1 << 26)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=120))
def test_order_colours_and_depth(steps) -> None:
    keyed = Keyed(MEM)
    for add, key in steps:
        if add and key not in keyed.nodes:
            keyed.add(key)
        elif not add and key in keyed.nodes:
            keyed.remove(key)
        found: list[int] = []
        keyed.check(keyed.tree.top, found)
        assert found == sorted(keyed.nodes)
        assert keyed.tree.first == (keyed.nodes[found[0]] if found else 0)


def test_ascending_keys_give_the_shape_of_linux() -> None:
    # 1..7 in order: 2 on top, 4 its right child (the textbook insertion that lib/rbtree.c follows)
    keyed = Keyed(MEM)
    for key in range(1, 8):
        keyed.add(key)
    tree, key_of = keyed.tree, {node: key for key, node in keyed.nodes.items()}
    right = tree.right(tree.top)
    assert [key_of[n] for n in (tree.top, tree.left(tree.top), right, tree.left(right), tree.right(right))] == [
        2, 1, 4, 3, 6,
    ]  # fmt: skip
