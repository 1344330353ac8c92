"""Values that belong to tasks, inodes and control groups, from programs (kernel/bpf/bpf_{task,inode,cgrp}_storage.c and
bpf_local_storage.c, v6.18).

A program that runs inside of these helpers, because it is on a function that they call, finds values of tasks and
cgroups that are there and can neither make nor remove any.
"""

from collections.abc import Callable
from typing import Any, cast

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import M64, s64
from ebpfsim.maps.local_storage import LocalStorageMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.flags import BPF_LOCAL_STORAGE_GET_F_CREATE, BPF_NOEXIST
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.verifier.call_symbols import helper_symbol
from tracing.functions import kernel_function

__all__ = ["HELPERS"]

MAX_ERRNO = 4095
TASK_BUSY, CGROUP_BUSY = "bpf_task_storage_busy", "bpf_cgrp_storage_busy"
TASK_GET, TASK_DELETE = HELPER_IDS["bpf_task_storage_get"], HELPER_IDS["bpf_task_storage_delete"]


@kernel_function
def bpf_local_storage_update(
    k: Any, _cpu: Cpu, owner: int, smap: int, value: int, map_flags: int, _swap_uptrs: int, _gfp_flags: int
) -> int:
    """Set an owner's value: the address of ``struct bpf_local_storage_data``, or ERR_PTR.

    Differs: it is the address of the value itself that is returned.
    """
    map_ = cast(LocalStorageMap, k.map_at(smap))
    first = k.mem.read(value, map_.value_size) if value else bytes(map_.value_size)
    return map_.storage_update(owner, first, map_flags)


def _get(run: Run, map_address: int, owner: int, value: int, may_create: bool) -> int:
    map_ = cast(LocalStorageMap, run.kernel.map_at(map_address))
    found = map_.storage_lookup(owner)
    if found or not may_create:
        return found
    functions = cast(Any, run.kernel).functions
    made = s64(functions.bpf_local_storage_update(run.cpu, owner, map_address, value, BPF_NOEXIST, 0, 0) & M64)
    return 0 if -MAX_ERRNO <= made < 0 else made & M64


def _delete(run: Run, map_address: int, owner: int) -> int:
    return cast(LocalStorageMap, run.kernel.map_at(map_address)).storage_delete(owner)


def _guarded(run: Run, lock: str, call: Callable[[bool], int], *, block: bool = False) -> int:
    # bpf_task_storage_trylock(): whether nobody on this CPU is in here; with ``block`` it is never asked
    scratch = run.cpu.scratch
    depth = scratch.get(lock, 0)
    assert isinstance(depth, int)
    scratch[lock] = depth + 1
    try:
        return call(block or not depth)
    finally:
        scratch[lock] = depth


def _unguarded(run: Run, helper: int) -> bool:
    # programs that cannot come between get the helpers that do not ask (bpf_prog_check_recur)
    return not helper_symbol(helper, run.prog.type, run.prog.expected_attach_type).endswith("_recur")


def task_storage_get(run: Run, map_address: int, task: int, value: int, flags: int, _r5: int) -> int:
    """Return the address of a task's value or 0; BPF_LOCAL_STORAGE_GET_F_CREATE makes it."""
    if flags & ~BPF_LOCAL_STORAGE_GET_F_CREATE or not task:
        return 0
    create = bool(flags)
    return _guarded(
        run,
        TASK_BUSY,
        lambda free: _get(run, map_address, task, value, create and free),
        block=_unguarded(run, TASK_GET),
    )


def task_storage_delete(run: Run, map_address: int, task: int, _r3: int, _r4: int, _r5: int) -> int:
    """Remove a task's value: 0, ENOENT, EBUSY inside of these helpers, EINVAL of no task."""
    if not task:
        return -Errno.EINVAL

    def delete(free: bool) -> int:
        map_ = cast(LocalStorageMap, run.kernel.map_at(map_address))
        if not free and map_.storage_lookup(task):
            return -Errno.EBUSY
        return map_.storage_delete(task)

    return _guarded(run, TASK_BUSY, delete, block=_unguarded(run, TASK_DELETE))


def inode_storage_get(run: Run, map_address: int, inode: int, value: int, flags: int, _r5: int) -> int:
    """Return the address of an inode's value or 0; BPF_LOCAL_STORAGE_GET_F_CREATE makes it."""
    if flags & ~BPF_LOCAL_STORAGE_GET_F_CREATE or not inode:
        return 0
    return _get(run, map_address, inode, value, bool(flags))


def inode_storage_delete(run: Run, map_address: int, inode: int, _r3: int, _r4: int, _r5: int) -> int:
    """Remove an inode's value: 0, ENOENT, EINVAL of no inode."""
    return _delete(run, map_address, inode) if inode else -Errno.EINVAL


def cgrp_storage_get(run: Run, map_address: int, cgroup: int, value: int, flags: int, _r5: int) -> int:
    """Return the address of a control group's value or 0; BPF_LOCAL_STORAGE_GET_F_CREATE makes it."""
    if flags & ~BPF_LOCAL_STORAGE_GET_F_CREATE or not cgroup:
        return 0
    return _guarded(run, CGROUP_BUSY, lambda free: _get(run, map_address, cgroup, value, bool(flags) and free))


def cgrp_storage_delete(run: Run, map_address: int, cgroup: int, _r3: int, _r4: int, _r5: int) -> int:
    """Remove a control group's value: 0, ENOENT, EBUSY inside of these helpers, EINVAL of no group."""
    if not cgroup:
        return -Errno.EINVAL
    return _guarded(run, CGROUP_BUSY, lambda free: _delete(run, map_address, cgroup) if free else -Errno.EBUSY)


HELPERS: dict[int, Helper] = {
    TASK_GET: task_storage_get,
    TASK_DELETE: task_storage_delete,
    HELPER_IDS["bpf_inode_storage_get"]: inode_storage_get,
    HELPER_IDS["bpf_inode_storage_delete"]: inode_storage_delete,
    HELPER_IDS["bpf_cgrp_storage_get"]: cgrp_storage_get,
    HELPER_IDS["bpf_cgrp_storage_delete"]: cgrp_storage_delete,
}
