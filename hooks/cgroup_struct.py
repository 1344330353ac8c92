"""``struct cgroup`` and ``struct css_set`` in simulated RAM (include/linux/cgroup-defs.h, v6.18).

What programs walk to from a task is there: ``cgroups->dfl_cgrp`` with ``kn->id``, ``kn->name``, ``level`` and
``ancestors``; every ``subsys[]`` of a set leads to the same cgroup, as if it had all controllers.
"""

from collections.abc import Sequence

from ebpfsim.btf.view import Field, KernelStruct, place, size_of
from ebpfsim.memory import Memory

__all__ = ["CgroupStruct"]


class _Css(KernelStruct):
    struct_name = "cgroup_subsys_state"
    cgroup = Field()
    id = Field()
    parent = Field()


class _Kernfs(KernelStruct):
    struct_name = "kernfs_node"
    id = Field()
    name = Field()
    parent = Field("__parent")


class _CssSet(KernelStruct):
    struct_name = "css_set"
    dfl_cgrp = Field()
    dom_cset = Field()


class CgroupStruct(KernelStruct):
    """``struct cgroup``, with its directory and the set that its tasks point to."""

    __slots__ = ("css_set", "kernfs", "text")
    struct_name = "cgroup"
    level = Field()
    kn = Field()
    dom_cgrp = Field()

    css_set: int
    kernfs: int
    text: int

    @classmethod
    def make(cls, mem: Memory, cgroup_id: int, name: str, ancestors: Sequence["CgroupStruct"]) -> "CgroupStruct":
        """Return the structure of a cgroup below ``ancestors``, the root first."""
        made = cls(mem, mem.alloc(size_of("cgroup") + 8 * (len(ancestors) + 1), what="struct cgroup"))
        parent = ancestors[-1] if ancestors else None
        made.level = len(ancestors)
        made.dom_cgrp = made.address
        at = made.member_address("ancestors")
        for index, cgroup in enumerate((*ancestors, made)):
            mem.store(at + 8 * index, 8, cgroup.address)
        css = _Css(mem, made.address)
        css.cgroup, css.id, css.parent = made.address, cgroup_id, parent.address if parent is not None else 0
        made._directory(cgroup_id, name, parent)
        made._set()
        return made

    def release(self) -> None:
        """Give everything back."""
        for address in (self.css_set, self.kernfs, self.text, self.address):
            self.mem.free_rcu(address)

    def _directory(self, cgroup_id: int, name: str, parent: "CgroupStruct | None") -> None:
        node = _Kernfs.alloc(self.mem)
        text = name.encode() + b"\0"
        self.text = self.mem.alloc(len(text))
        self.mem.write(self.text, text)
        node.id, node.name, node.parent = cgroup_id, self.text, parent.kernfs if parent is not None else 0
        self.kernfs = self.kn = node.address

    def _set(self) -> None:
        made = _CssSet.alloc(self.mem)
        made.dfl_cgrp, made.dom_cset = self.address, made.address
        offset, size = place("css_set", "subsys")
        for index in range(size // 8):
            self.mem.store(made.address + offset + 8 * index, 8, self.address)
        self.css_set = made.address
