"""Helpers about tasks, their groups and their memory (kernel/bpf/helpers.c, kernel/trace/bpf_trace.c, v6.18).

Left out: signals of helpers, areas of user memory (bpf_find_vma). Writing to user memory and replacing what functions
return are refused by the kernel that is modelled.
"""

from typing import Any, cast

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.maps.cgroup_array import CgroupArrayMap
from ebpfsim.memory.user import UserFault
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.cgroup import Cgroup
from tracing.helpers import current
from tracing.task import Task
from tracing.vfs import Dentry

__all__ = ["HELPERS", "dentry_path", "held_tasks", "task_at"]


def held_tasks(kernel: object) -> dict[int, Task]:
    """Return the tasks of a kernel that programs have references on, by address; some may have gone."""
    held: dict[int, Task] = kernel.__dict__.setdefault("held_tasks", {})
    return held


def task_at(run: Run, address: int) -> Task | None:
    """Return the task whose structure is at an address."""
    found: Task | None = cast(Any, run.kernel).sched.by_address.get(address)
    return found if found is not None else held_tasks(run.kernel).get(address)


def _cgroup(run: Run) -> Cgroup:
    group = current(run).cgroup
    root: Cgroup = cast(Any, run.kernel).cgroups.root
    return group if group is not None else root


def get_current_cgroup_id(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the id of the task's control group."""
    return _cgroup(run).cgroup_id


def get_current_ancestor_cgroup_id(run: Run, level: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the id of the group above the task's at a level, the root being 0; 0 below its own."""
    line = list(_cgroup(run).ancestors())[::-1]
    return line[s32(level)].cgroup_id if 0 <= s32(level) < len(line) else 0


def current_task_under_cgroup(run: Run, map_address: int, index: int, _r3: int, _r4: int, _r5: int) -> int:
    """Whether the task is in the group of a slot, or below: 1 or 0; E2BIG past the end, EAGAIN of an empty slot."""
    map_ = run.kernel.map_at(map_address)
    assert isinstance(map_, CgroupArrayMap)
    if u32(index) >= map_.max_entries:
        return -Errno.E2BIG
    group = map_.cgroup_at(u32(index))
    if group is None:
        return -Errno.EAGAIN
    return int(_cgroup(run).is_under(cast(Cgroup, group)))


def task_pt_regs(run: Run, task: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return where the registers of a task's user space are."""
    found = task_at(run, task)
    return found.regs.address if found is not None else 0


def copy_from_user_task(run: Run, dst: int, size: int, user_ptr: int, task: int, flags: int) -> int:
    """Copy memory of another task: 0, EINVAL of flags, EFAULT and zeroes."""
    count = u32(size)
    if flags:
        return -Errno.EINVAL
    if not count:
        return 0
    found = task_at(run, task)
    try:
        data = found.user.read(user_ptr, count) if found is not None and found.user is not None else None
    except UserFault:
        data = None
    run.mem.write(dst, bytes(count) if data is None else data)
    return 0 if data is not None else -Errno.EFAULT


def dentry_path(run: Run, path: int) -> bytes | None:
    """Return the path behind a ``struct path``; None when nothing is there."""
    dentry = cast(Any, run.kernel).vfs.by_address.get(run.mem.load(path + 8, 8))
    if not isinstance(dentry, Dentry):
        return None
    gone = b"" if dentry.address == dentry.parent.address or dentry.hashed else b" (deleted)"
    return dentry.path.encode(errors="surrogateescape") + gone


def d_path(run: Run, path: int, buf: int, size: int, _r4: int, _r5: int) -> int:
    """Write the path of a ``struct path``: its length with the NUL, ENAMETOOLONG."""
    if not size:
        return 0
    text = dentry_path(run, path)
    if text is None or len(text) + 1 > size:
        return -Errno.ENAMETOOLONG if text is not None else -Errno.EINVAL
    # it is made at the end of the buffer, then moved to its beginning
    run.mem.write(buf + size - len(text) - 1, text + b"\0")
    run.mem.write(buf, text + b"\0")
    return len(text) + 1


def get_branch_snapshot(_run: Run, _entries: int, _size: int, flags: int, _r4: int, _r5: int) -> int:
    """Return nothing: there is no hardware that keeps branches."""
    return -Errno.EINVAL if flags else -Errno.ENOENT


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_get_current_cgroup_id"]: get_current_cgroup_id,
    HELPER_IDS["bpf_get_current_ancestor_cgroup_id"]: get_current_ancestor_cgroup_id,
    HELPER_IDS["bpf_current_task_under_cgroup"]: current_task_under_cgroup,
    HELPER_IDS["bpf_task_pt_regs"]: task_pt_regs,
    HELPER_IDS["bpf_copy_from_user_task"]: copy_from_user_task,
    HELPER_IDS["bpf_d_path"]: d_path,
    HELPER_IDS["bpf_get_branch_snapshot"]: get_branch_snapshot,
}
