"""Control groups: who may attach where, in which order programs run, what is left when a group goes.

Facts of "Cgroup and sockets", measured on Linux 6.18; orders with BPF_F_PREORDER and positions are those of
kernel/bpf/cgroup.c, v6.18 (compute_effective_progs, get_prog_list).
"""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from ebpfsim.uapi.flags import BPF_F_AFTER, BPF_F_BEFORE, BPF_F_PREORDER, BPF_F_REPLACE

EGRESS = AttachType.CGROUP_INET_EGRESS
NONE, OVERRIDE, MULTI = 0, 1, 2


class Tree:
    """A host with ``/a``, ``/a/b`` and ``/a/b/c``; programs by one letter."""

    def __init__(self) -> None:
        self.host = Simulation().host("h")
        self.bpf = self.host.bpf
        self.fds: dict[str, int] = {}
        self.progs: dict[str, int] = {}

    def group(self, path: str) -> int:
        if path not in self.fds:
            group = self.host.cgroup(path)
            group.get()
            self.fds[path] = self.host.kernel.fds.install(group)
        return self.fds[path]

    def prog(self, name: str) -> int:
        if name not in self.progs:
            insns = encode(assemble("r0 = 1; exit"))
            self.progs[name] = self.bpf.prog_load(ProgType.CGROUP_SKB, insns, expected_attach_type=EGRESS).fd
        return self.progs[name]

    def attach(self, path: str, name: str, flags: int = MULTI, **opts: int) -> str:
        try:
            self.bpf.prog_attach(self.prog(name), self.group(path), EGRESS, flags=flags, **opts)
        except KernelError as error:
            return error.errno_name
        return "ok"

    def names(self, ids: Any) -> str:
        by_id = {self.bpf.obj_get_info_by_fd(fd).id: name for name, fd in self.progs.items()}
        return "".join(by_id[each] for each in ids)

    def effective(self, path: str) -> str:
        return self.names(self.bpf.prog_query(self.group(path), EGRESS, query_flags=1).prog_ids)

    def own(self, path: str) -> str:
        return self.names(self.bpf.prog_query(self.group(path), EGRESS).prog_ids)


@pytest.fixture
def tree() -> Tree:
    return Tree()


def test_none_forbids_all_below(tree: Tree) -> None:
    """Fact: "parent NONE, child attach EPERM"."""
    assert tree.attach("/a", "p", NONE) == "ok"
    assert [tree.attach("/a/b", "q", flags) for flags in (NONE, OVERRIDE, MULTI)] == ["EPERM"] * 3
    assert tree.attach("/a", "q", NONE) == "ok"
    assert tree.effective("/a/b") == "q"


def test_override(tree: Tree) -> None:
    """Fact: "OVERRIDE child replaces"."""
    tree.attach("/a", "p", OVERRIDE)
    assert tree.effective("/a/b") == "p"
    assert tree.attach("/a/b", "q", OVERRIDE) == "ok"
    assert (tree.effective("/a"), tree.effective("/a/b"), tree.effective("/a/b/c")) == ("p", "q", "q")


def test_multi(tree: Tree) -> None:
    """Fact: "MULTI child first, then parent"; "duplicate EINVAL"."""
    for path, name in (("/a", "p"), ("/a", "q"), ("/a/b", "r"), ("/a/b", "s")):
        assert tree.attach(path, name) == "ok"
    assert tree.attach("/a", "p") == "EINVAL"
    assert (tree.effective("/a/b/c"), tree.own("/a"), tree.own("/a/b/c")) == ("rspq", "pq", "")
    assert tree.attach("/a", "x", OVERRIDE) == "EPERM"
    assert tree.attach("/a", "x", MULTI | BPF_F_REPLACE, replace_bpf_fd=tree.prog("p")) == "ok"
    assert tree.own("/a") == "xq"
    assert tree.attach("/a", "y", MULTI | BPF_F_REPLACE, replace_bpf_fd=tree.prog("z")) == "ENOENT"


def test_sixty_four(tree: Tree) -> None:
    """Fact: "64 programs, then E2BIG"."""
    assert {tree.attach("/a", chr(0x100 + n)) for n in range(64)} == {"ok"}
    assert tree.attach("/a", "x") == "E2BIG"


def test_preorder(tree: Tree) -> None:
    """Programs with BPF_F_PREORDER run first, those of ancestors before those below, in a group as attached."""
    tree.attach("/a", "p")
    tree.attach("/a", "q", MULTI | BPF_F_PREORDER)
    tree.attach("/a", "r", MULTI | BPF_F_PREORDER)
    tree.attach("/a/b", "s", MULTI | BPF_F_PREORDER)
    tree.attach("/a/b", "t")
    assert tree.effective("/a/b") == "qrstp"


def test_positions(tree: Tree) -> None:
    for name in "pq":
        tree.attach("/a", name)
    assert tree.attach("/a", "r", MULTI | BPF_F_BEFORE, relative_fd=tree.prog("q")) == "ok"
    assert tree.attach("/a", "s", MULTI | BPF_F_BEFORE) == "ok"
    assert tree.attach("/a", "t", MULTI | BPF_F_AFTER, relative_fd=tree.prog("p")) == "ok"
    assert tree.own("/a") == "sptrq"
    assert tree.attach("/a", "u", MULTI, relative_fd=tree.prog("p")) == "EINVAL"
    assert tree.attach("/a", "u", MULTI | BPF_F_BEFORE | BPF_F_AFTER) == "EINVAL"
    assert tree.attach("/a", "u", MULTI | BPF_F_BEFORE | BPF_F_PREORDER, relative_fd=tree.prog("p")) == "EINVAL"
    assert tree.attach("/a", "u", MULTI | BPF_F_BEFORE, relative_fd=tree.prog("v")) == "ENOENT"
    assert tree.attach("/a", "u", MULTI, expected_revision=1) == "ESTALE"
    assert tree.attach("/a", "u", MULTI, expected_revision=6) == "ok"
    assert tree.bpf.prog_query(tree.group("/a"), EGRESS).revision == 7


@pytest.mark.parametrize("flags", [OVERRIDE | MULTI, BPF_F_REPLACE, BPF_F_REPLACE | OVERRIDE])
def test_flags_that_do_not_go_together(tree: Tree, flags: int) -> None:
    assert tree.attach("/a", "p", flags, replace_bpf_fd=tree.prog("q")) == "EINVAL"


def test_detach(tree: Tree) -> None:
    detach = tree.bpf.prog_detach
    tree.attach("/a", "p", NONE)
    detach(0, tree.group("/a"), EGRESS)
    assert tree.own("/a") == ""
    with pytest.raises(KernelError, match="ENOENT"):
        detach(0, tree.group("/a"), EGRESS)
    tree.attach("/a", "p")
    with pytest.raises(KernelError, match="EINVAL"):
        detach(0, tree.group("/a"), EGRESS)
    with pytest.raises(KernelError, match="ENOENT"):
        detach(tree.prog("q"), tree.group("/a"), EGRESS)
    detach(tree.prog("p"), tree.group("/a"), EGRESS)
    # without programs the flags are free again
    assert tree.attach("/a", "p", OVERRIDE) == "ok"


def test_links(tree: Tree) -> None:
    link = tree.bpf.link_create(tree.prog("p"), tree.group("/a"), EGRESS)
    group = tree.host.cgroup("/a")
    info = tree.bpf.obj_get_info_by_fd(link)
    assert (info.type, info.cgroup_id, info.attach_type) == (LinkType.CGROUP, group.cgroup_id, EGRESS)
    tree.bpf.link_update(link, tree.prog("q"))
    assert tree.effective("/a/b") == "q"
    with pytest.raises(KernelError, match="EPERM"):
        tree.bpf.link_update(link, tree.prog("p"), old_prog_fd=tree.prog("p"), flags=BPF_F_REPLACE)
    tree.bpf.link_detach(link)
    assert (tree.effective("/a/b"), tree.bpf.obj_get_info_by_fd(link).cgroup_id) == ("", 0)
    with pytest.raises(KernelError, match="ENOLINK"):
        tree.bpf.link_update(link, tree.prog("p"))


def test_a_removed_cgroup_lets_go(tree: Tree) -> None:
    link = tree.bpf.link_create(tree.prog("p"), tree.group("/a/b"), EGRESS)
    tree.attach("/a/b", "q")
    refs = tree.host.prog(tree.prog("q")).refs
    with pytest.raises(KernelError, match="EBUSY"):
        tree.host.kernel.cgroups.rmdir("/a")
    tree.host.kernel.cgroups.rmdir("/a/b")
    assert tree.bpf.obj_get_info_by_fd(link).cgroup_id == 0
    assert tree.host.prog(tree.prog("q")).refs == refs - 1
    with pytest.raises(KernelError, match="ENOLINK"):
        tree.bpf.link_update(link, tree.prog("r"))
    assert tree.attach("/a/b", "r") == "ENOENT"


PATHS = ["/a", "/a/b", "/a/b/c"]
KINDS = ["attach", "detach", "pre"]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(PATHS), st.sampled_from("pqrs")))


@given(STEPS)
def test_effective_arrays_are_those_of_a_plain_model(steps: list[tuple[str, str, str]]) -> None:
    tree = Tree()
    model: dict[str, list[tuple[str, bool]]] = {path: [] for path in PATHS}
    for what, path, name in steps:
        there = [each for each, _ in model[path]]
        if what == "detach":
            try:
                tree.bpf.prog_detach(tree.prog(name), tree.group(path), EGRESS)
                assert name in there
            except KernelError:
                assert name not in there
            model[path] = [each for each in model[path] if each[0] != name]
        else:
            flags = MULTI | (BPF_F_PREORDER if what == "pre" else 0)
            assert tree.attach(path, name, flags) == ("EINVAL" if name in there else "ok")
            if name not in there:
                model[path].append((name, what == "pre"))
        for depth, below in enumerate(PATHS):
            line = PATHS[: depth + 1]
            first = [each for group in line for each, pre in model[group] if pre]
            rest = [each for group in reversed(line) for each, pre in model[group] if not pre]
            assert tree.effective(below) == "".join(first + rest)
