"""A node is in one list or tree at a time (kernel/bpf/helpers.c); all else is compared with Linux' in tests/objects."""

import pytest

from ebpfsim.helpers import graph
from ebpfsim.maps.fields import ObjectType, SpecialField, init_object
from ebpfsim.progs.runtime import Run

RECORD = (
    SpecialField("bpf_list_node", 0, 24),
    SpecialField("bpf_refcount", 56, 4),
    SpecialField("bpf_rb_node", 24, 32),
)
EINVAL = -22 & 0xFFFF_FFFF


@pytest.fixture
def run(machine, monkeypatch) -> Run:
    monkeypatch.setattr(graph, "object_type", lambda _run, _type_id: ObjectType(64, RECORD))
    return Run(machine, machine.prog("exit"), 0, machine.cpus[0])


def item(run: Run) -> int:
    made = run.mem.alloc(64)
    init_object(run.mem, made, RECORD)
    run.mem.store(made + 56, 4, 2)
    return made


def test_a_node_that_is_in_a_list_is_refused_and_a_reference_dropped(run) -> None:
    head, other, node = run.mem.alloc(16), run.mem.alloc(16), item(run)
    assert graph.bpf_list_front(run, head, 0, 0, 0, 0) == graph.bpf_list_back(run, head, 0, 0, 0, 0) == 0
    assert graph.bpf_list_push_back(run, head, node, 1, 0, 0) == 0
    assert graph.bpf_list_push_front(run, other, node, 1, 0, 0) == EINVAL
    assert run.mem.load(node + 56, 4) == 1
    assert graph.bpf_list_front(run, head, 0, 0, 0, 0) == graph.bpf_list_back(run, head, 0, 0, 0, 0) == node
    assert graph.bpf_list_pop_back(run, other, 0, 0, 0, 0) == 0
    assert graph.bpf_list_pop_back(run, head, 0, 0, 0, 0) == node
    assert graph.bpf_list_pop_front(run, head, 0, 0, 0, 0) == 0


def test_trees_know_their_own_nodes_only(run) -> None:
    root, other, node = run.mem.alloc(16), run.mem.alloc(16), item(run)
    assert graph.bpf_rbtree_add(run, root, node + 24, 0, 1, 24) == 0
    assert graph.bpf_rbtree_add(run, other, node + 24, 0, 1, 24) == EINVAL
    assert run.mem.load(node + 56, 4) == 1
    assert graph.bpf_rbtree_remove(run, other, node + 24, 0, 0, 0) == 0
    assert graph.bpf_rbtree_left(run, other, node + 24, 0, 0, 0) == 0
    assert graph.bpf_rbtree_root(run, root, 0, 0, 0, 0) == graph.bpf_rbtree_first(run, root, 0, 0, 0, 0) == node + 24
    assert graph.bpf_rbtree_remove(run, root, node + 24, 0, 0, 0) == node + 24
    assert graph.bpf_rbtree_remove(run, root, node + 24, 0, 0, 0) == 0
    assert graph.bpf_rbtree_root(run, root, 0, 0, 0, 0) == 0
