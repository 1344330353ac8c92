"""What the names in /proc stand for: tables of files and links, and the functions that are their operations (v6.18).

Differs: functions that make the text of one file are none of the kernel's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ebpfsim.cpu import Cpu
from tracing import proc_array, proc_misc
from tracing.fs import FsKernel
from tracing.open import file_of
from tracing.task import Task
from tracing.vfs import S_IFDIR, S_IFLNK, S_IFREG, Dentry, File

__all__ = ["FD_LINK", "IN_TASK", "Node", "ProcKernel", "names_of", "node_at", "node_of", "threads_of"]

FMODE_READ, FMODE_WRITE = 1, 2
Ops = Mapping[str, str]

_PERMISSION = {"permission": "generic_permission"}


def _dir(prefix: str, reader: str = "") -> dict[str, str]:
    return {**_PERMISSION, "lookup": f"{prefix}_lookup", "iterate_shared": reader or f"{prefix}_readdir"}


_OF_TASK = {**_PERMISSION, "d_revalidate": "pid_revalidate"}
TGID_DIR, TID_DIR = ({**_OF_TASK, **_dir(f"proc_{each}_base")} for each in ("tgid", "tid"))
TASK_DIR, NET_DIR = {**_OF_TASK, **_dir("proc_task")}, {**_OF_TASK, **_dir("proc_tgid_net")}
FD_DIR = {**_OF_TASK, "lookup": "proc_lookupfd", "iterate_shared": "proc_fd_iterate"}
PID_FILE = {**_OF_TASK, "read_iter": "seq_read_iter", "llseek": "seq_lseek"}
MAPS, COMM = {**PID_FILE, "open": "pid_maps_open"}, {**PID_FILE, "open": "comm_open", "write": "comm_write"}
PID_LINK = {**_OF_TASK, "get_link": "proc_pid_get_link", "readlink": "proc_pid_readlink"}
FD_LINK = {**PID_LINK, "d_revalidate": "tid_fd_revalidate"}
REGULAR = {
    **_PERMISSION, "open": "proc_reg_open", "read_iter": "proc_reg_read_iter", "write": "proc_reg_write",
    "llseek": "proc_reg_llseek",
}  # fmt: skip


class ProcKernel(FsKernel, Protocol):
    """A kernel that tells about itself."""

    @property
    def proc_net(self) -> Mapping[str, Callable[[], list[str]]]:
        """The files of ``net``: records by name."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """What a name stands for: who it belongs to, and its records, the path of a link or the file that it leads to."""

    mode: int
    ops: Ops
    task: Task | None = None
    show: Callable[[Cpu], list[str]] | None = None
    path: str = ""
    target: "Callable[[], Dentry | str | None] | None" = None


def names_of(dentry: Dentry) -> list[str]:
    """Return the names that lead to a dentry from the root of its mount."""
    names: list[str] = []
    while dentry.parent is not dentry:
        names.insert(0, dentry.name)
        dentry = dentry.parent
    return names


def node_of(k: ProcKernel, cpu: Cpu, dentry: Dentry) -> Node | None:
    """Return what a dentry of /proc stands for now; None when there is nothing."""
    return node_at(k, cpu, names_of(dentry))


def node_at(k: ProcKernel, cpu: Cpu, names: list[str]) -> Node | None:
    """Return what a path in /proc stands for now."""
    first = names[0]
    if first == "self":
        return Node(S_IFLNK | 0o777, {"get_link": "proc_self_get_link"}) if len(names) == 1 else None
    if first == "thread-self":
        return Node(S_IFLNK | 0o777, {"get_link": "proc_thread_self_get_link"}) if len(names) == 1 else None
    if not first.isdecimal() or (first.startswith("0")):
        return _system_node(k, names)
    task = k.sched.tasks.get(int(first))
    if task is None or task.released:
        return None
    if len(names) == 1:
        # a thread's own folder is there, and not listed
        return Node(S_IFDIR | 0o555, TGID_DIR, task)
    if names[1] != "task":
        return _task_node(k, task, names[1:], whole=True)
    if len(names) == 2:
        return Node(S_IFDIR | 0o555, TASK_DIR, task)
    thread = next((each for each in threads_of(task) if str(each.pid) == names[2]), None)
    if thread is None:
        return None
    if len(names) == 3:
        return Node(S_IFDIR | 0o555, TID_DIR, thread)
    return _task_node(k, thread, names[3:], whole=False)


def threads_of(task: Task) -> list[Task]:
    """Return the threads of a process that were not waited for."""
    return [each for each in (task.leader, *task.leader.threads) if not each.released]


def _system_node(k: ProcKernel, names: list[str]) -> Node | None:
    if len(names) != 1:
        return None
    (name,) = names
    if name in proc_misc.LINKS:
        return Node(S_IFLNK | 0o777, {"get_link": "proc_get_link"}, path=proc_misc.LINKS[name])
    show = proc_misc.FILES.get(name)
    return Node(S_IFREG | 0o444, REGULAR, show=lambda cpu: show(k, cpu)) if show is not None else None


def _task_node(k: ProcKernel, task: Task, names: list[str], *, whole: bool) -> Node | None:
    name = names[0]
    if len(names) == 2:
        if name == "fd":
            return _fd_node(k, task, names[1])
        text = k.proc_net.get(names[1]) if name == "net" else None
        return Node(S_IFREG | 0o444, REGULAR, show=lambda _cpu: text()) if text is not None else None
    if len(names) > 2:
        return None
    if name == "fd":
        return Node(S_IFDIR | 0o500, FD_DIR, task)
    if name == "net":
        return Node(S_IFDIR | 0o555, NET_DIR)
    if name in TASK_LINKS:
        return Node(S_IFLNK | 0o777, PID_LINK, task, target=lambda: TASK_LINKS[name](k, task))
    if name not in TASK_FILES:
        return None
    mode, ops, show = TASK_FILES[name]
    return Node(S_IFREG | mode, ops, task, show=lambda cpu: show(k, cpu, task, whole))


def _fd_node(k: ProcKernel, task: Task, name: str) -> Node | None:
    opened = task.files.file(int(name)) if name.isdecimal() and str(int(name)) == name else None
    if opened is None:
        return None
    file = file_of(task, int(name))
    mode = file.struct.f_mode if file is not None else FMODE_READ | FMODE_WRITE
    bits = (0o500 if mode & FMODE_READ else 0) | (0o300 if mode & FMODE_WRITE else 0)

    def target() -> Dentry | str | None:
        if file is not None:
            return file.dentry
        kind = opened.obj.fd_kind
        return f"anon_inode:bpf-{kind.value}" if kind is not None else "/dev/null"

    return Node(S_IFLNK | bits, FD_LINK, task, target=target)


def _exe(k: ProcKernel, task: Task) -> Dentry | None:
    file = k.vfs.by_address.get(task.mm.exe_file) if task.mm is not None else None
    return file.dentry if isinstance(file, File) else None


# mode, operations, records; asked with the kernel, the CPU, the task and whether it is about all threads
TASK_FILES: dict[str, tuple[int, Ops, Callable[[Any, Cpu, Task, bool], list[str]]]] = {
    "cgroup": (0o444, PID_FILE, lambda _k, _cpu, task, _whole: [proc_array.cgroup_text(task)]),
    "cmdline": (0o444, PID_FILE, lambda _k, _cpu, task, _whole: [proc_array.cmdline_text(task)]),
    "comm": (0o644, COMM, lambda _k, _cpu, task, _whole: [proc_array.comm_text(task)]),
    "maps": (0o444, MAPS, lambda _k, _cpu, task, _whole: proc_array.maps_records(task)),
    "mountinfo": (0o444, PID_FILE, lambda k, _cpu, _task, _whole: proc_misc.mountinfo_records(k)),
    "mounts": (0o444, PID_FILE, lambda k, _cpu, _task, _whole: proc_misc.mounts_records(k)),
    "stat": (0o444, PID_FILE, lambda k, cpu, task, whole: [proc_array.stat_text(k, cpu, task, whole=whole)]),
    "status": (0o444, PID_FILE, lambda k, cpu, task, _whole: [proc_array.status_text(k, cpu, task)]),
}
TASK_LINKS: dict[str, Callable[[ProcKernel, Task], Dentry | None]] = {
    "cwd": lambda k, task: task.cwd or task.root or k.vfs.root,
    "exe": _exe,
    "root": lambda k, task: task.root or k.vfs.root,
}
# as Linux lists them
IN_TASK = (
    "fd",
    "net",
    "status",
    "comm",
    "cmdline",
    "stat",
    "maps",
    "cwd",
    "root",
    "exe",
    "mounts",
    "mountinfo",
    "cgroup",
)
