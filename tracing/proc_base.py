"""/proc: folders of tasks and what else is there (fs/proc/{base,root,fd,generic,self}.c, fs/seq_file.c, v6.18).

A name is there once somebody asked for it, and goes with what it stands for. Texts are made when a file is read from
its beginning, and read in pieces of whole records, as the buffer of ``seq_file`` has room for.

Differs: processes hide from nobody; what PR_SET_DUMPABLE changes does not matter; an instance mounted elsewhere has no
``sys``; an open folder of a task that is gone is empty (a name in it is ENOENT, not ESRCH).
"""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s64
from ebpfsim.memory.user import UserFault
from tracing import proc_array, proc_misc
from tracing.exec import set_comm
from tracing.filesystems import kmalloc_text
from tracing.fs import dentry_at, file_at, inode_at, task_of
from tracing.functions import kernel_function
from tracing.proc_nodes import FD_LINK, IN_TASK, ProcKernel, names_of, node_at, node_of, threads_of
from tracing.read_write import Kiocb
from tracing.task import PF_KTHREAD, Task
from tracing.vfs import Dentry

__all__ = ["Shown"]

TASK_COMM_LEN = 16
PTRACE_MODE_READ_FSCREDS = 0x9
FD_LINK_BYTES = 64
PAGE = 4096
SEEK_SET, SEEK_CUR = 0, 1


class Shown:
    """The records of an open file."""

    def __init__(self, records: Iterable[str] = ()) -> None:
        self.records = [record.encode(errors="surrogateescape") for record in records]
        self._ends = list(accumulate(map(len, self.records)))

    def piece(self, position: int, count: int) -> bytes:
        """Return the rest of the record at a position, then whole ones as long as they fit into the buffer."""
        at = bisect_right(self._ends, position)
        if at == len(self.records):
            return b""
        found = self.records[at][position - self._ends[at] :]
        for record in self.records[at + 1 :][:PAGE]:
            if len(found) >= count or len(found) + len(record) >= PAGE:
                break
            found += record
        return found[:count]


def _lookup(k: ProcKernel, cpu: Cpu, dentry: int) -> int:
    # ENOENT is what the walk makes of a name that stands for nothing
    entry = dentry_at(k, dentry)
    node = node_of(k, cpu, entry)
    if node is None:
        return 0
    owner = node.task if node.task is not None and not node.task.struct.flags & PF_KTHREAD else None
    uid, gid = (owner.cred.euid, owner.cred.egid) if owner is not None else (0, 0)
    inode = k.vfs.new_inode(entry.sb, node.mode, uid, gid)
    inode.ops = node.ops
    if node.ops is FD_LINK:
        inode.i_size = FD_LINK_BYTES
    entry.in_lookup = False
    k.vfs.instantiate(entry, inode)
    return 0


@kernel_function
def proc_root_lookup(k: ProcKernel, cpu: Cpu, dir_: int, dentry: int, flags: int) -> int:
    """Look for a task, or for something else at the top."""
    return int(k.functions.proc_pid_lookup(cpu, dentry, flags) or k.functions.proc_lookup(cpu, dir_, dentry, flags))


@kernel_function
def proc_pid_lookup(k: ProcKernel, cpu: Cpu, dentry: int, _flags: int) -> int:
    """Look for the folder of a task; 0 as well when there is none."""
    return _lookup(k, cpu, dentry) if dentry_at(k, dentry).name.isdecimal() else 0


@kernel_function
def proc_lookup(k: ProcKernel, cpu: Cpu, _dir: int, dentry: int, _flags: int) -> int:
    """Look for what is no task's."""
    return _lookup(k, cpu, dentry) if dentry_at(k, dentry).inode is None else 0


@kernel_function
def proc_tgid_base_lookup(k: ProcKernel, cpu: Cpu, _dir: int, dentry: int, _flags: int) -> int:
    """Look into the folder of a process."""
    return _lookup(k, cpu, dentry)


@kernel_function
def proc_tid_base_lookup(k: ProcKernel, cpu: Cpu, _dir: int, dentry: int, _flags: int) -> int:
    """Look into the folder of a thread."""
    return _lookup(k, cpu, dentry)


@kernel_function
def proc_task_lookup(k: ProcKernel, cpu: Cpu, _dir: int, dentry: int, _flags: int) -> int:
    """Look for a thread of a process."""
    return _lookup(k, cpu, dentry)


@kernel_function
def proc_tgid_net_lookup(k: ProcKernel, cpu: Cpu, _dir: int, dentry: int, _flags: int) -> int:
    """Look for a file of the network."""
    return _lookup(k, cpu, dentry)


@kernel_function
def proc_lookupfd(k: ProcKernel, cpu: Cpu, _dir: int, dentry: int, _flags: int) -> int:
    """Look for a descriptor."""
    return _lookup(k, cpu, dentry)


@kernel_function
def pid_revalidate(k: ProcKernel, cpu: Cpu, _dir: int, _name: int, dentry: int, _flags: int) -> int:
    """Whether what a name stands for is still there; it belongs to whom the task is now."""
    entry = dentry_at(k, dentry)
    node = node_of(k, cpu, entry)
    if node is None:
        return 0
    if node.task is not None and entry.inode is not None and not node.task.struct.flags & PF_KTHREAD:
        entry.inode.i_uid, entry.inode.i_gid = node.task.cred.euid, node.task.cred.egid
    return 1


@kernel_function
def tid_fd_revalidate(k: ProcKernel, cpu: Cpu, _dir: int, _name: int, dentry: int, _flags: int) -> int:
    """Whether a descriptor is still open, and for what it was."""
    entry = dentry_at(k, dentry)
    node = node_of(k, cpu, entry)
    if node is None or entry.inode is None:
        return 0
    entry.inode.i_mode = node.mode
    return 1


@kernel_function
def proc_flush_pid(k: ProcKernel, cpu: Cpu, pid: int) -> None:
    """Forget what is known of a task that is gone."""
    k.functions.proc_invalidate_siblings_dcache(cpu, pid, 0)


@kernel_function
def proc_invalidate_siblings_dcache(k: ProcKernel, cpu: Cpu, pid: int, _lock: int) -> None:
    """Forget its folders."""
    task = next((each for each in k.sched.tasks.values() if each.struct.thread_pid == pid), None)
    for sb in k.vfs.supers.values():
        if task is not None and sb.fs.ops.get("lookup") == "proc_root_lookup":
            found = sb.root.children.get(str(task.pid))
            if found is not None:
                k.functions.d_invalidate(cpu, found.address)


def _fill(k: ProcKernel, cpu: Cpu, file: int, ctx: int, names: Iterable[str]) -> int:
    # the names as they are now, in their order (proc_fill_cache); what is mounted on some stays
    dentry = file_at(k, file).dentry
    assert dentry is not None
    before = dict(dentry.children)
    ordered: dict[str, Dentry] = {}
    above = names_of(dentry)
    for name in names:
        child = before.pop(name, None)
        if child is None and node_at(k, cpu, [*above, name]) is not None:
            child = k.vfs.d_alloc(dentry, name, dentry.sb)
            _lookup(k, cpu, child.address)
        if child is not None:
            ordered[name] = child
    for name, child in before.items():
        if child.inode is None or child.inode.ops is None:
            ordered[name] = child
        elif node_of(k, cpu, child) is None:
            k.functions.d_invalidate(cpu, child.address)
    dentry.children = ordered
    ret: int = k.functions.offset_readdir(cpu, file, ctx)
    return ret


@kernel_function
def proc_root_readdir(k: ProcKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through the top: what is no task's by the length of its name, then processes by number."""
    others = sorted({"sys", *proc_misc.FILES, *proc_misc.LINKS}, key=lambda name: (len(name), name))
    processes = (str(pid) for pid, task in sorted(k.sched.tasks.items()) if task.leader is task)
    return _fill(k, cpu, file, ctx, ([*others, "self", "thread-self", *processes]))


@kernel_function
def proc_tgid_base_readdir(k: ProcKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through the folder of a process."""
    return _fill(k, cpu, file, ctx, (("task", *IN_TASK)))


@kernel_function
def proc_tid_base_readdir(k: ProcKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through the folder of a thread."""
    return _fill(k, cpu, file, ctx, (IN_TASK))


@kernel_function
def proc_task_readdir(k: ProcKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through the threads of a process."""
    task = _task_behind(k, cpu, file)
    return _fill(k, cpu, file, ctx, (str(each.pid) for each in (threads_of(task) if task is not None else ())))


@kernel_function
def proc_tgid_net_readdir(k: ProcKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through the files of the network."""
    return _fill(k, cpu, file, ctx, (sorted(k.proc_net, key=lambda name: (len(name), name))))


@kernel_function
def proc_fd_iterate(k: ProcKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through the descriptors of a task."""
    task = _task_behind(k, cpu, file)
    return _fill(k, cpu, file, ctx, (str(fd) for fd in (task.files.numbers() if task is not None else ())))


def _task_behind(k: ProcKernel, cpu: Cpu, file: int) -> Task | None:
    dentry = file_at(k, file).dentry
    node = node_of(k, cpu, dentry) if dentry is not None else None
    return node.task if node is not None else None


@kernel_function
def proc_self_get_link(k: ProcKernel, cpu: Cpu, _dentry: int, _inode: int, _done: int) -> int:
    """Return the path of the process that asks."""
    return kmalloc_text(k.mem, str(task_of(k, cpu).tgid).encode())


@kernel_function
def proc_thread_self_get_link(k: ProcKernel, cpu: Cpu, _dentry: int, _inode: int, _done: int) -> int:
    """Return the path of the thread that asks."""
    task = task_of(k, cpu)
    return kmalloc_text(k.mem, f"{task.tgid}/task/{task.pid}".encode())


@kernel_function
def proc_get_link(k: ProcKernel, cpu: Cpu, dentry: int, _inode: int, _done: int) -> int:
    """Return the path of a link that always leads to the same."""
    node = node_of(k, cpu, dentry_at(k, dentry))
    return kmalloc_text(k.mem, node.path.encode()) if node is not None else -Errno.ENOENT


def _target(k: ProcKernel, cpu: Cpu, dentry: int) -> Dentry | str | int:
    # proc_fd_access_allowed(), then where the link leads
    node = node_of(k, cpu, dentry_at(k, dentry))
    if node is None or node.task is None or node.target is None:
        return -Errno.ENOENT
    if not k.functions.ptrace_may_access(cpu, node.task.address, PTRACE_MODE_READ_FSCREDS):
        return -Errno.EACCES
    found = node.target()
    return found if found is not None else -Errno.ENOENT


@kernel_function
def proc_pid_get_link(k: ProcKernel, cpu: Cpu, dentry: int, _inode: int, _done: int) -> int:
    """Go where a link of a task leads, whatever its path says: EACCES, ENOENT, ENXIO for what has no file here."""
    found = _target(k, cpu, dentry)
    if not isinstance(found, Dentry):
        return found if isinstance(found, int) else -Errno.ENXIO
    path = k.mem.alloc(16)
    k.mem.store(path, 8, found.sb.mount.vfsmount if found.sb.mount is not None else 0)
    k.mem.store(path + 8, 8, found.address)
    k.functions.path_get(cpu, path)
    ret: int = k.functions.nd_jump_link(cpu, path)
    k.mem.free(path)
    return ret


@kernel_function
def proc_pid_readlink(k: ProcKernel, cpu: Cpu, dentry: int, buffer: int, buflen: int) -> int:
    """Copy the path of what a link of a task leads to."""
    found = _target(k, cpu, dentry)
    if isinstance(found, int):
        return found
    text = found if isinstance(found, str) else proc_array.link_text(found)
    link = kmalloc_text(k.mem, text.encode(errors="surrogateescape"))
    ret: int = k.functions.readlink_copy(cpu, buffer, buflen, link, len(text.encode(errors="surrogateescape")))
    k.mem.free(link)
    return ret


@kernel_function
def pid_maps_open(k: ProcKernel, cpu: Cpu, _inode: int, file: int) -> int:
    """Open the areas of a task: EACCES, ESRCH."""
    task = _task_behind(k, cpu, file)
    if task is None:
        return -Errno.ESRCH
    return 0 if k.functions.ptrace_may_access(cpu, task.address, PTRACE_MODE_READ_FSCREDS) else -Errno.EACCES


@kernel_function
def comm_open(k: ProcKernel, cpu: Cpu, inode: int, filp: int) -> int:
    """Open the name of a task."""
    inode_at(k, inode)
    file_at(k, filp).private = Shown()
    return 0


@kernel_function
def comm_write(k: ProcKernel, cpu: Cpu, file: int, buf: int, count: int, _offset: int) -> int:
    """Give a thread of the own process another name: EINVAL, EFAULT, ESRCH."""
    task, own = _task_behind(k, cpu, file), task_of(k, cpu)
    assert own.user is not None
    try:
        text = bytes(own.user.read(buf, min(count, TASK_COMM_LEN - 1))).split(b"\0")[0]
    except UserFault:
        return -Errno.EFAULT
    if task is None:
        return -Errno.ESRCH
    if task.leader is not own.leader:
        return -Errno.EINVAL
    set_comm(k, cpu, task, text, exec_=False)
    k.functions.proc_comm_connector(cpu, task.address)
    return count


@kernel_function
def proc_reg_open(k: ProcKernel, _cpu: Cpu, inode: int, file: int) -> int:
    """Open a file that is no task's."""
    inode_at(k, inode)
    file_at(k, file).private = Shown()
    return 0


@kernel_function
def proc_reg_read_iter(k: ProcKernel, cpu: Cpu, iocb: int, iter_: int) -> int:
    """Read a file that is no task's."""
    return int(k.functions.seq_read_iter(cpu, iocb, iter_))


@kernel_function
def proc_reg_write(_k: ProcKernel, _cpu: Cpu, _file: int, _buf: int, _count: int, _ppos: int) -> int:
    """Nothing of it is written (EIO)."""
    return -Errno.EIO


@kernel_function
def proc_reg_llseek(k: ProcKernel, cpu: Cpu, file: int, offset: int, whence: int) -> int:
    """Move where a file that is no task's is read."""
    return int(k.functions.seq_lseek(cpu, file, offset, whence))


@kernel_function
def seq_lseek(k: ProcKernel, _cpu: Cpu, file: int, offset: int, whence: int) -> int:
    """Move where records are read; they have no end that one could begin at (EINVAL)."""
    struct = file_at(k, file).struct
    place = s64(offset) + (struct.f_pos if whence == SEEK_CUR else 0)
    if whence not in (SEEK_SET, SEEK_CUR) or place < 0:
        return -Errno.EINVAL
    struct.f_pos = place
    return place


@kernel_function
def seq_read_iter(k: ProcKernel, cpu: Cpu, iocb: int, iter_: int) -> int:
    """Read records; ESRCH when what they are about is gone."""
    asked, pieces = Kiocb(k.mem, iocb), k.walks[iter_]
    file = file_at(k, asked.ki_filp)
    assert file.dentry is not None
    if not asked.ki_pos or not isinstance(file.private, Shown) or not file.private.records:
        node = node_of(k, cpu, file.dentry)
        if node is None or node.show is None:
            return -Errno.ESRCH
        file.private = Shown(node.show(cpu))
    count = sum(length for _, length in pieces.pieces)
    piece = file.private.piece(asked.ki_pos, count)
    done = int(pieces.put(piece)) if piece else 0
    asked.ki_pos += done
    return -Errno.EFAULT if done < len(piece) and not done else done
