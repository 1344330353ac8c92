"""Kernel functions that programs call about tasks, control groups and files (kernel/bpf/helpers.c, fs/bpf_fs_kfuncs.c,
v6.18).

Tasks and groups that programs have references on stay where they are until the last one has gone.
"""

from typing import Any, cast

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32
from ebpfsim.progs.runtime import Helper, Run
from hooks.cgroup import Cgroup
from tracing.fs import FsKernel
from tracing.task_helpers import d_path, held_tasks, task_at
from tracing.vfs import File

__all__ = ["KFUNCS"]


def _acquired(run: Run, address: int) -> int:
    task = task_at(run, address)
    if task is None:
        return 0
    task.hold()
    held_tasks(run.kernel)[address] = task
    return address


def task_acquire(run: Run, task: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take a reference on a task; 0 when it is going."""
    return _acquired(run, task)


def task_release(run: Run, task: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Drop a reference on a task."""
    held = held_tasks(run.kernel)
    found = held.get(task)
    if found is not None:
        found.drop()
        if not found.holders:
            del held[task]
    return 0


def task_from_pid(run: Run, pid: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return a task by its number, with a reference, or 0."""
    found = cast(Any, run.kernel).sched.tasks.get(s32(pid))
    return _acquired(run, found.address) if found is not None else 0


def _group(run: Run, address: int) -> Cgroup | None:
    found: Cgroup | None = cast(Any, run.kernel).cgroups.by_address.get(address)
    return found


def cgroup_acquire(run: Run, cgroup: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take a reference on a control group; 0 when it is going."""
    group = _group(run, cgroup)
    if group is None:
        return 0
    group.get()
    return cgroup


def cgroup_release(run: Run, cgroup: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Drop a reference on a control group."""
    group = _group(run, cgroup)
    if group is not None:
        group.put()
    return 0


def cgroup_ancestor(run: Run, cgroup: int, level: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the group above another one at a level, with a reference; 0 below its own."""
    group = _group(run, cgroup)
    line = list(group.ancestors())[::-1] if group is not None else []
    return cgroup_acquire(run, line[s32(level)].struct.address, 0, 0, 0, 0) if 0 <= s32(level) < len(line) else 0


def cgroup_from_id(run: Run, cgroup_id: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return a control group by its id, with a reference, or 0."""
    group = cast(Any, run.kernel).cgroups.of_id(cgroup_id)
    return cgroup_acquire(run, group.struct.address, 0, 0, 0, 0) if group is not None else 0


def task_under_cgroup(run: Run, task: int, ancestor: int, _r3: int, _r4: int, _r5: int) -> int:
    """Whether a task is in a group or below it."""
    found, group = task_at(run, task), _group(run, ancestor)
    if found is None or found.cgroup is None or group is None:
        return 0
    return int(found.cgroup.is_under(group))


def task_get_cgroup1(_run: Run, _task: int, _hierarchy: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return 0: there are no hierarchies of version 1."""
    return 0


def get_task_exe_file(run: Run, task: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the file that a task executes, with a reference, or 0."""
    found = task_at(run, task)
    address = found.mm.exe_file if found is not None and found.mm is not None else 0
    file = _file(run, address)
    if file is None:
        return 0
    file.get()
    return address


def put_file(run: Run, file: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Drop a reference on a file."""
    found = _file(run, file)
    if found is not None:
        found.put()
    return 0


def _file(run: Run, address: int) -> File | None:
    found = cast(FsKernel, run.kernel).vfs.by_address.get(address) if address else None
    return found if isinstance(found, File) else None


def path_d_path(run: Run, path: int, buf: int, size: int, _r4: int, _r5: int) -> int:
    """Write the path of a ``struct path``: its length with the NUL, EINVAL without room, ENAMETOOLONG."""
    return d_path(run, path, buf, size, 0, 0) if size else -Errno.EINVAL


KFUNCS: dict[str, Helper] = {
    "bpf_task_acquire": task_acquire,
    "bpf_task_release": task_release,
    "bpf_task_from_pid": task_from_pid,
    "bpf_task_from_vpid": task_from_pid,
    "bpf_task_under_cgroup": task_under_cgroup,
    "bpf_task_get_cgroup1": task_get_cgroup1,
    "bpf_cgroup_acquire": cgroup_acquire,
    "bpf_cgroup_release": cgroup_release,
    "bpf_cgroup_ancestor": cgroup_ancestor,
    "bpf_cgroup_from_id": cgroup_from_id,
    "bpf_get_task_exe_file": get_task_exe_file,
    "bpf_put_file": put_file,
    "bpf_path_d_path": path_d_path,
}
