"""Lists and trees of objects (kernel/bpf/helpers.c, v6.18).

A node belongs to the root in its owner field. The verifier puts the type of the object and the node's place in it into
the arguments behind those of the program (see ``ebpfsim.helpers.objects``).
"""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.objects import object_type
from ebpfsim.helpers.rbtree import Tree
from ebpfsim.isa.alu import u32
from ebpfsim.maps.fields import LIST_NEXT, LIST_OWNER, LIST_PREV, RB_OWNER, drop_object
from ebpfsim.memory import Memory
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["KFUNCS"]


def _add(run: Run, head: int, node: int, type_id: int, node_off: int, *, tail: bool) -> int:
    # __bpf_list_add()
    mem = run.mem
    _init_head(mem, head)
    if mem.load(node + LIST_OWNER, 8):
        drop_object(mem, node - node_off, object_type(run, type_id))
        return u32(-Errno.EINVAL)
    before = mem.load(head + LIST_PREV, 8) if tail else head
    after = head if tail else mem.load(head + LIST_NEXT, 8)
    _chain(mem, before, node)
    _chain(mem, node, after)
    mem.store(node + LIST_OWNER, 8, head)
    return 0


def _init_head(mem: Memory, head: int) -> None:
    # a head in a map value begins as zeroes
    if not mem.load(head + LIST_NEXT, 8):
        _chain(mem, head, head)


def _chain(mem: Memory, before: int, after: int) -> None:
    mem.store(before + LIST_NEXT, 8, after)
    mem.store(after + LIST_PREV, 8, before)


def bpf_list_push_front(run: Run, head: int, node: int, type_id: int, node_off: int, _r5: int) -> int:
    """Put a node at the beginning of a list: 0, or EINVAL of one that is in a list already (a reference is dropped)."""
    return _add(run, head, node, type_id, node_off, tail=False)


def bpf_list_push_back(run: Run, head: int, node: int, type_id: int, node_off: int, _r5: int) -> int:
    """Put a node at the end of a list, as ``bpf_list_push_front`` does at the beginning."""
    return _add(run, head, node, type_id, node_off, tail=True)


def _take(run: Run, head: int, link: int) -> int:
    # __bpf_list_del()
    mem = run.mem
    _init_head(mem, head)
    node = mem.load(head + link, 8)
    if node == head:
        return 0
    _chain(mem, mem.load(node + LIST_PREV, 8), mem.load(node + LIST_NEXT, 8))
    _chain(mem, node, node)
    mem.store(node + LIST_OWNER, 8, 0)
    return node


def bpf_list_pop_front(run: Run, head: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take the first node out of a list, or return 0."""
    return _take(run, head, LIST_NEXT)


def bpf_list_pop_back(run: Run, head: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take the last node out of a list, or return 0."""
    return _take(run, head, LIST_PREV)


def bpf_list_front(run: Run, head: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the first node of a list, or 0."""
    return _end(run, head, LIST_NEXT)


def bpf_list_back(run: Run, head: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the last node of a list, or 0."""
    return _end(run, head, LIST_PREV)


def _end(run: Run, head: int, link: int) -> int:
    node = run.mem.load(head + link, 8)
    return 0 if node == head else node


def bpf_rbtree_add(run: Run, root: int, node: int, less: int, type_id: int, node_off: int) -> int:
    """Put a node into a tree where ``less(node, other)`` puts it: 0, or EINVAL of one that is in a tree already."""
    mem = run.mem
    if mem.load(node + RB_OWNER, 8):
        drop_object(mem, node - node_off, object_type(run, type_id))
        return u32(-Errno.EINVAL)
    tree = Tree(mem, root)
    parent, following, left, leftmost = 0, tree.top, False, True
    while following:
        parent, left = following, bool(run.call(less, node, following))
        following = tree.left(parent) if left else tree.right(parent)
        leftmost = leftmost and left
    tree.add(node, parent, left=left, leftmost=leftmost)
    mem.store(node + RB_OWNER, 8, root)
    return 0


def bpf_rbtree_remove(run: Run, root: int, node: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take a node out of a tree, or return 0 when it is not in this one."""
    if run.mem.load(node + RB_OWNER, 8) != root:
        return 0
    Tree(run.mem, root).remove(node)
    # RB_CLEAR_NODE
    run.mem.store(node, 8, node)
    run.mem.store(node + RB_OWNER, 8, 0)
    return node


def bpf_rbtree_first(run: Run, root: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the leftmost node, or 0."""
    return Tree(run.mem, root).first


def bpf_rbtree_root(run: Run, root: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the topmost node, or 0."""
    return Tree(run.mem, root).top


def bpf_rbtree_left(run: Run, root: int, node: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the left child of a node of this tree, or 0."""
    return Tree(run.mem, root).left(node) if run.mem.load(node + RB_OWNER, 8) == root else 0


def bpf_rbtree_right(run: Run, root: int, node: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the right child of a node of this tree, or 0."""
    return Tree(run.mem, root).right(node) if run.mem.load(node + RB_OWNER, 8) == root else 0


KFUNCS: dict[str, Helper] = {
    "bpf_list_push_front_impl": bpf_list_push_front,
    "bpf_list_push_back_impl": bpf_list_push_back,
    "bpf_list_pop_front": bpf_list_pop_front,
    "bpf_list_pop_back": bpf_list_pop_back,
    "bpf_list_front": bpf_list_front,
    "bpf_list_back": bpf_list_back,
    "bpf_rbtree_add_impl": bpf_rbtree_add,
    "bpf_rbtree_remove": bpf_rbtree_remove,
    "bpf_rbtree_first": bpf_rbtree_first,
    "bpf_rbtree_root": bpf_rbtree_root,
    "bpf_rbtree_left": bpf_rbtree_left,
    "bpf_rbtree_right": bpf_rbtree_right,
}
