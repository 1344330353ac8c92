"""Iterators over tasks and their open files (kernel/bpf/task_iter.c, v6.18).

Threads come in the order of their ids, zombies too. ``task`` of ``union bpf_iter_link_info`` (tid, pid, pid_fd) picks
one thread or one process.

Left out: task_vma, pid_fd. Differs: there are no kernel threads; of an open file that is none of the file system's,
such as the standard ones, ``struct file`` is zero.
"""

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.objects import KernelObject
from hooks.iter import IterKernel, Target
from tracing.fs import FsKernel
from tracing.sched import Scheduler
from tracing.task import Task
from tracing.vfs import File

__all__ = ["TARGETS", "TaskFileTarget", "TaskTarget"]

_INFO = Struct("<III")  # tid, pid, pid_fd


class _Selection(KernelObject):
    # enum bpf_iter_task_type: one thread, one process, or all when both are 0
    def __init__(self, tid: int, pid: int) -> None:
        super().__init__()
        self.tid, self.pid = tid, pid

    def has(self, task: Task) -> bool:
        if self.tid:
            return task.pid == self.tid
        return not self.pid or task.tgid == self.pid


class TaskTarget:
    """All threads, those of one process, or one."""

    empty: tuple[int, ...] = (0,)

    def attach(self, kernel: IterKernel, info: bytes) -> KernelObject | None:
        """Return which tasks ``info`` asks for (bpf_iter_attach_task): EINVAL for more than one way to say it."""
        tid, pid, pid_fd = _INFO.unpack(info[: _INFO.size].ljust(_INFO.size, b"\0"))
        if (tid > 0) + (pid > 0) + (pid_fd > 0) > 1:
            raise KernelError("link_create", Errno.EINVAL, f"tid {tid}, pid {pid}, pid_fd {pid_fd}")
        if pid_fd:
            raise NotModelled("iterator over the tasks of a pidfd", "kernel/bpf/task_iter.c: bpf_iter_attach_task")
        return _Selection(tid, pid)

    def details(self, kept: KernelObject | None) -> Mapping[str, object]:
        """Return the thread or process (bpf_iter_fill_link_info)."""
        assert isinstance(kept, _Selection)
        return {"tid": kept.tid} if kept.tid else {"pid": kept.pid} if kept.pid else {}

    def objects(self, kernel: IterKernel, kept: KernelObject | None) -> Iterator[tuple[int, ...]]:
        """Yield every thread's ``task_struct``."""
        for task in _tasks(kernel, kept):
            yield (task.address,)


class TaskFileTarget(TaskTarget):
    """The open files of tasks: the task, the descriptor, the file."""

    empty: tuple[int, ...] = (0, 0, 0)

    def objects(self, kernel: IterKernel, kept: KernelObject | None) -> Iterator[tuple[int, ...]]:
        """Yield every descriptor; threads have none beside those of their process (skip_if_dup_files)."""
        assert isinstance(kept, _Selection)
        for task in _tasks(kernel, kept):
            if task.leader is not task and task.files is task.leader.files and not kept.tid:
                continue
            fd = task.files.next_fd(0)
            while fd is not None:
                obj = task.files.lookup(fd)
                if isinstance(obj, File):
                    yield task.address, fd, obj.address
                else:
                    bare = File.Struct.alloc(kernel.mem)
                    yield task.address, fd, bare.address
                    bare.free()
                fd = task.files.next_fd(fd + 1)


def _tasks(kernel: IterKernel, kept: KernelObject | None) -> Iterator[Task]:
    # task_seq_get_next(): tasks may come and go between reads
    assert isinstance(kept, _Selection)
    sched: Scheduler = cast(FsKernel, kernel).sched
    last = 0
    while later := [pid for pid in sched.tasks if pid > last]:
        last = min(later)
        task = sched.tasks[last]
        if kept.has(task):
            yield task


TARGETS: Mapping[str, Target] = {"task": TaskTarget(), "task_file": TaskFileTarget()}
