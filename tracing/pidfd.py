"""Descriptors of processes: pidfd_open() (kernel/pid.c, v6.18); of files without opening them (O_PATH).

Left out: signals by pidfds, waiting for them.
"""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.objects import FdKind, KernelObject
from tracing.fs import FsKernel, task_of
from tracing.syscalls import syscall
from tracing.task import Task
from tracing.vfs import Dentry, Inode, Vfs

__all__ = ["PathFd", "PidFd"]

PIDFD_NONBLOCK, PIDFD_THREAD = 0o4000, 0o200  # include/uapi/linux/pidfd.h


class PidFd(KernelObject):
    """The file behind a descriptor of a process."""

    fd_kind = FdKind.PIDFD

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    @property
    def storage_owner(self) -> int:
        """What values of maps belong to: the address of ``struct task_struct``, 0 when the process has gone."""
        return 0 if self.task.released else self.task.address


class PathFd(KernelObject):
    """A place in the tree of files; the inode stays as long as it is open."""

    def __init__(self, vfs: Vfs, dentry: Dentry) -> None:
        super().__init__()
        assert dentry.inode is not None
        self._vfs, self._dentry = vfs, dentry
        self.inode: Inode = dentry.inode
        vfs.hold(dentry)

    @property
    def storage_owner(self) -> int:
        """What values of maps belong to: the address of ``struct inode``."""
        return self.inode.address

    def on_release(self) -> None:
        """Let go of it."""
        self._vfs.unhold(self._dentry)


@syscall(434)
def sys_pidfd_open(k: FsKernel, cpu: Cpu, pid: int, flags: int) -> int:
    """Return a descriptor of a process: EINVAL, ESRCH, ENOENT of a thread that leads none."""
    if u32(flags) & ~(PIDFD_NONBLOCK | PIDFD_THREAD) or s32(pid) <= 0:
        return -Errno.EINVAL
    task = k.sched.tasks.get(s32(pid))
    if task is None:
        return -Errno.ESRCH
    if task.leader is not task and not flags & PIDFD_THREAD:
        return -Errno.ENOENT
    return task_of(k, cpu).files.install(PidFd(task))
