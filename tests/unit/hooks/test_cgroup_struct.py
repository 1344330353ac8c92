"""struct cgroup in RAM: what CO-RE walks from a task find (include/linux/cgroup-defs.h, v6.18)."""

import ebpfsim
from ebpfsim.btf.view import place


def test_the_walk_from_a_task() -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    task, mem = host.spawn("a", cgroup="/one/two").task, host.kernel.mem

    def follow(address: int, *members: tuple[str, str]) -> int:
        for struct, member in members:
            offset, size = place(struct, member)
            address = mem.load(address + offset, size)
        return address

    group = (("task_struct", "cgroups"), ("css_set", "dfl_cgrp"))
    two = host.cgroup("/one/two")
    kn = follow(task.address, *group, ("cgroup", "kn"))
    assert follow(kn, ("kernfs_node", "id")) == two.cgroup_id
    assert mem.read_string(follow(kn, ("kernfs_node", "name")), 16) == b"two"
    parent = follow(kn, ("kernfs_node", "__parent"))
    assert mem.read_string(follow(parent, ("kernfs_node", "name")), 16) == b"one"
    cgroup = follow(task.address, *group)
    assert follow(cgroup, ("cgroup", "level")) == 2
    at = cgroup + place("cgroup", "ancestors")[0]
    ancestors = [mem.load(at + 8 * level, 8) for level in range(3)]
    assert ancestors == [host.cgroup(path).struct.address for path in ("/", "/one", "/one/two")]
    # subsys[] of a set leads to its group
    css = mem.load(follow(task.address, ("task_struct", "cgroups")) + place("css_set", "subsys")[0], 8)
    assert follow(css, ("cgroup_subsys_state", "cgroup")) == cgroup


def test_the_structure_goes_with_the_group() -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    tree = host.kernel.cgroups
    address = tree.mkdir("/one").struct.address
    assert tree.by_address[address] is tree.find("/one")
    tree.rmdir("/one")
    assert address not in tree.by_address
