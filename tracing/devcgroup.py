"""Devices that a task's control group keeps it from (security/device_cgroup.c and kernel/bpf/cgroup.c, v6.18).

Left out: the lists of allowed devices of the first version of control groups.
"""

from struct import Struct

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.bpf import AttachType
from tracing.fs import FsKernel, inode_at, task_of
from tracing.functions import kernel_function
from tracing.vfs import S_IFBLK, S_IFCHR, S_IFMT

__all__ = ["devcgroup_inode_mknod", "devcgroup_inode_permission"]

# include/uapi/linux/bpf.h: types of devices, and what is asked for in the upper half of access_type
DEVICE_TYPES = {S_IFBLK: 1, S_IFCHR: 2}
ACC_MKNOD, ACC_READ, ACC_WRITE = 1, 2, 4
MAY_WRITE, MAY_READ = 2, 4
WHITEOUT_DEV = 0
MINOR_BITS = 20
_CTX = Struct("<III")  # struct bpf_cgroup_dev_ctx: access_type, major, minor


def devcgroup_inode_permission(k: FsKernel, cpu: Cpu, inode: int, mask: int) -> int:
    """Ask whether a task may open a device, for MAY_READ and MAY_WRITE: 0 or a negative errno."""
    node = inode_at(k, inode)
    kind = DEVICE_TYPES.get(node.i_mode & S_IFMT)
    if kind is None or not node.i_rdev:
        return 0
    access = (ACC_WRITE if mask & MAY_WRITE else 0) | (ACC_READ if mask & MAY_READ else 0)
    return int(k.functions.devcgroup_check_permission(cpu, kind, *_numbers(node.i_rdev), access))


def devcgroup_inode_mknod(k: FsKernel, cpu: Cpu, mode: int, dev: int) -> int:
    """Ask whether a task may make a device: 0 or a negative errno."""
    kind = DEVICE_TYPES.get(mode & S_IFMT)
    if kind is None or (mode & S_IFMT == S_IFCHR and dev == WHITEOUT_DEV):
        return 0
    return int(k.functions.devcgroup_check_permission(cpu, kind, *_numbers(dev), ACC_MKNOD))


@kernel_function
def devcgroup_check_permission(k: FsKernel, cpu: Cpu, kind: int, major: int, minor: int, access: int) -> int:
    """Ask the programs of the task's control group."""
    group = task_of(k, cpu).cgroup
    if group is None or not group.effective.get(AttachType.CGROUP_DEVICE):
        return 0
    return int(k.functions.__cgroup_bpf_check_dev_permission(cpu, kind, major, minor, access, AttachType.CGROUP_DEVICE))


@kernel_function
def __cgroup_bpf_check_dev_permission(
    k: FsKernel, cpu: Cpu, dev_type: int, major: int, minor: int, access: int, _atype: int
) -> int:
    """Run them: EPERM unless they set another errno."""
    group, kind = task_of(k, cpu).cgroup, AttachType.CGROUP_DEVICE
    assert group is not None
    ctx = k.mem.alloc(_CTX.size, what="struct bpf_cgroup_dev_ctx")
    try:
        k.mem.write(ctx, _CTX.pack(access << 16 | dev_type, major, minor))
        return k.cgroup_runner.run_array(group.effective[kind], ctx, cpu, kind)[0]
    finally:
        k.mem.free(ctx)


def _numbers(dev: int) -> tuple[int, int]:
    return dev >> MINOR_BITS, dev & (1 << MINOR_BITS) - 1
