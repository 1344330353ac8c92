"""Pipes: pipe(2), and those with a name in the file system (fs/pipe.c, v6.18).

Left out: splice(2), packets (O_DIRECT), changing a pipe's size.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.memory.user import UserFault
from tracing.fs import file_at, inode_at, is_err
from tracing.functions import kernel_function
from tracing.open import FMODE_OPENED, FMODE_READ, FMODE_WRITE, O_CLOEXEC, O_NONBLOCK, close_fd, take_fd
from tracing.pseudo_fs import PseudoFs
from tracing.read_write import Kiocb
from tracing.signals import ERESTARTSYS, PIDTYPE_PID, SEND_SIG_NOINFO, interrupted
from tracing.syscalls import syscall
from tracing.vfs import S_IFIFO, File, Inode
from tracing.waiting import WaitHead, wait_for, wake

__all__ = ["PIPE_OPS", "Pipe"]

PIPEFS_MAGIC = 0x5049_5045  # include/uapi/linux/magic.h
PIPE_BYTES, PIPE_BUF, PAGE = 65536, 4096, 4096
O_DIRECT, O_WRONLY, O_RDWR, O_NOTIFICATION = 0o40000, 1, 2, 0o200
SIGPIPE = 13
POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 0x10
PIPE_OPS = {
    "read_iter": "anon_pipe_read",
    "write_iter": "anon_pipe_write",
    "poll": "pipe_poll",
    "release": "pipe_release",
}
FIFO_OPS = {**PIPE_OPS, "read_iter": "fifo_pipe_read", "write_iter": "fifo_pipe_write"}


class Pipe:
    """``struct pipe_inode_info``: what is in a pipe, and who has its ends."""

    def __init__(self, k: Any) -> None:
        self.data = bytearray()
        self.size = PIPE_BYTES
        self.readers = self.writers = self.files = 0
        # how many readers and writers there have been
        self.came = [0, 0]
        self.rd_wait, self.wr_wait = WaitHead(k.mem, k.walks), WaitHead(k.mem, k.walks)

    def poll(self, file: File) -> int:
        """Return what can be done without waiting."""
        mode, mask = file.struct.f_mode, 0
        if mode & FMODE_READ:
            mask |= POLLIN | 0x40 if self.data else 0
            mask |= POLLHUP if not self.writers else 0
        if mode & FMODE_WRITE:
            mask |= POLLOUT | 0x100 if len(self.data) < self.size else 0
            mask |= POLLERR if not self.readers else 0
        return mask

    def heads(self, file: File) -> list[WaitHead]:
        """Return the queues that somebody waits at who waits for this file."""
        mode = file.struct.f_mode
        return [head for head, bit in ((self.rd_wait, FMODE_READ), (self.wr_wait, FMODE_WRITE)) if mode & bit]


def _pipefs(k: Any) -> PseudoFs:
    for fs in k.vfs.pseudo.values():
        if fs.name == "pipefs":
            assert isinstance(fs, PseudoFs)
            return fs
    return PseudoFs(k.vfs, "pipefs", PIPEFS_MAGIC)


def _pipe_of(k: Any, file: int) -> Pipe:
    pipe = file_at(k, file).private
    assert isinstance(pipe, Pipe)
    return pipe


@syscall(22)
def sys_pipe(k: Any, cpu: Cpu, fildes: int) -> int:
    return int(k.functions.do_pipe2(cpu, fildes, 0))


@syscall(293)
def sys_pipe2(k: Any, cpu: Cpu, fildes: int, flags: int) -> int:
    return int(k.functions.do_pipe2(cpu, fildes, u32(flags)))


@kernel_function
def do_pipe2(k: Any, cpu: Cpu, fildes: int, flags: int) -> int:
    """Make a pipe and two descriptors of its ends; EINVAL, EMFILE, EFAULT."""
    functions, task = k.functions, k.sched.current(cpu)
    if flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT | O_NOTIFICATION) or flags & O_NOTIFICATION:
        return -Errno.EINVAL
    room = k.mem.alloc(16)
    ret: int = functions.create_pipe_files(cpu, room, flags)
    files = [k.mem.load(room + 8 * end, 8) for end in range(2)]
    k.mem.free(room)
    if ret:
        return ret
    fds: list[int] = []
    for end in range(2):
        # that for the other end is a part of the function that the compiler put in here
        fd = functions.get_unused_fd_flags(cpu, flags) if not end else take_fd(k, cpu, flags)
        if fd < 0:
            for number in fds:
                functions.put_unused_fd(cpu, number)
            for file in files:
                functions.fput(cpu, file)
            return int(fd)
        fds.append(fd)
    for fd, file in zip(fds, files, strict=True):
        functions.fd_install(cpu, fd, file)
    try:
        task.user.write(fildes, b"".join(fd.to_bytes(4, "little") for fd in fds))
    except UserFault:
        for fd in fds:
            close_fd(k, cpu, fd)
        return -Errno.EFAULT
    return 0


@kernel_function
def create_pipe_files(k: Any, cpu: Cpu, res: int, flags: int) -> int:
    """Make a pipe and the files of its ends: the reading one first."""
    functions, fs, cred = k.functions, _pipefs(k), k.sched.current(cpu).cred
    address = functions.alloc_inode(cpu, fs.sb)
    if not address:
        return -Errno.ENFILE
    inode: Inode = k.vfs.by_address[address]
    functions.get_next_ino(cpu)
    inode.i_mode, inode.i_uid, inode.i_gid = S_IFIFO | 0o600, cred.fsuid, cred.fsgid
    pipe = Pipe(k)
    pipe.readers = pipe.writers = 1
    pipe.files = 2
    functions.alloc_pipe_info(cpu)
    functions.simple_inode_init_ts(cpu, address)
    name = k.mem.alloc(8)
    shared = flags & (O_NONBLOCK | O_DIRECT)
    writer = functions.alloc_file_pseudo(cpu, address, fs.vfsmount, name, O_WRONLY | shared, 0)
    k.mem.free(name)
    if is_err(writer):
        _free(k, pipe)
        k.vfs.put_inode(inode)
        return is_err(writer)
    file_at(k, writer).ops, file_at(k, writer).private = PIPE_OPS, pipe
    reader = functions.alloc_file_clone(cpu, writer, shared, 0)
    if is_err(reader):
        pipe.files = 1
        functions.fput(cpu, writer)
        return is_err(reader)
    file_at(k, reader).ops, file_at(k, reader).private = PIPE_OPS, pipe
    k.mem.store(res, 8, reader)
    k.mem.store(res + 8, 8, writer)
    return 0


@kernel_function
def alloc_file_clone(k: Any, cpu: Cpu, base: int, flags: int, _fops: int) -> int:
    """Return one more file of the same inode and name."""
    functions, other = k.functions, file_at(k, base)
    address: int = functions.alloc_empty_file(cpu, flags, k.sched.current(cpu).cred.address)
    if is_err(address):
        return address
    file = file_at(k, address)
    assert other.dentry is not None
    k.vfs.point(file, other.dentry)
    functions.file_init_path(cpu, address, file.struct.member_address("f_path"), 0)
    file.struct.f_mode |= FMODE_OPENED
    functions.path_get(cpu, file.struct.member_address("f_path"))
    return address


@kernel_function
def fifo_open(k: Any, cpu: Cpu, node: int, filp: int) -> int:
    """Open a pipe that has a name: wait for somebody at the other end; ENXIO for a writer that does not want to."""
    task, file, inode = k.sched.current(cpu), file_at(k, filp), inode_at(k, node)
    pipe = k.vfs.fifos.get(inode.address)
    if pipe is None:
        pipe = k.vfs.fifos[inode.address] = Pipe(k)
    mode, waits = file.struct.f_mode, not file.struct.f_flags & O_NONBLOCK
    if mode & (FMODE_READ | FMODE_WRITE) == FMODE_WRITE and not waits and not pipe.readers:
        if not pipe.files:
            _free(k, k.vfs.fifos.pop(inode.address))
        return -Errno.ENXIO
    file.ops, file.private = FIFO_OPS, pipe
    pipe.files += 1
    pipe.readers += bool(mode & FMODE_READ)
    pipe.writers += bool(mode & FMODE_WRITE)
    wake(k, cpu, pipe.rd_wait)
    wake(k, cpu, pipe.wr_wait)
    pipe.came[0] += bool(mode & FMODE_READ)
    pipe.came[1] += bool(mode & FMODE_WRITE)
    other = 1 if mode & FMODE_READ else 0
    there = pipe.writers if other else pipe.readers
    # who came meanwhile may have gone again
    before = pipe.came[other]
    while waits and not there and pipe.came[other] == before:
        if interrupted(task):
            _leave(k, cpu, file, pipe)
            file.private = None
            return -ERESTARTSYS
        wait_for(k, task, [pipe.rd_wait, pipe.wr_wait])
    return 0


@kernel_function
def anon_pipe_read(k: Any, cpu: Cpu, iocb: int, to: int) -> int:
    """Read what is in a pipe; wait for the first byte, 0 when nobody can write any more; EAGAIN, EFAULT."""
    functions, task, into = k.functions, k.sched.current(cpu), k.walks[to]
    file = file_at(k, Kiocb(k.mem, iocb).ki_filp)
    pipe = _pipe_of(k, file.address)
    if not into.count:
        return 0
    waited = False
    while not pipe.data:
        if not pipe.writers or file.struct.f_flags & O_NONBLOCK:
            functions.kill_fasync(cpu, 0, 29, 4)
            return -Errno.EAGAIN if pipe.writers else 0
        if interrupted(task):
            return -ERESTARTSYS
        if not waited:
            functions.kill_fasync(cpu, 0, 29, 4)
            functions.init_wait_entry(cpu, 0, 0)
        functions.prepare_to_wait_event(cpu, pipe.rd_wait.address, 0, 1)
        wait_for(k, task, [pipe.rd_wait])
        waited = True
    if waited:
        functions.prepare_to_wait_event(cpu, pipe.rd_wait.address, 0, 1)
        functions.finish_wait(cpu, pipe.rd_wait.address, 0)
    full = len(pipe.data) >= pipe.size
    done = into.put(bytes(pipe.data[: into.count]))
    if not done:
        return -Errno.EFAULT
    before = len(pipe.data)
    del pipe.data[:done]
    # buffers that are empty now, of a page each
    for _ in range(-(-before // PAGE) - -(-len(pipe.data) // PAGE)):
        functions.anon_pipe_buf_release(cpu, 0, 0)
    if full:
        wake(k, cpu, pipe.wr_wait)
    functions.kill_fasync(cpu, 0, 29, 4)
    functions.touch_atime(cpu, file.struct.member_address("f_path"))
    return int(done)


@kernel_function
def anon_pipe_write(k: Any, cpu: Cpu, iocb: int, from_: int) -> int:
    """Write to a pipe; wait for room; EPIPE and SIGPIPE when nobody can read any more; EAGAIN, EFAULT."""
    functions, task, source = k.functions, k.sched.current(cpu), k.walks[from_]
    file = file_at(k, Kiocb(k.mem, iocb).ki_filp)
    pipe, wanted, done, ret = _pipe_of(k, file.address), source.count, 0, 0
    if not wanted:
        return 0
    while done < wanted:
        if not pipe.readers:
            functions.do_send_sig_info(cpu, SIGPIPE, SEND_SIG_NOINFO, task.address, PIDTYPE_PID)
            ret = -Errno.EPIPE
            break
        room = pipe.size - len(pipe.data)
        # what is short is written as a whole
        if room and (wanted > PIPE_BUF or room >= wanted):
            data = source.get(min(room, wanted - done))
            if not data:
                ret = -Errno.EFAULT
                break
            empty = not pipe.data
            pipe.data += data
            done += len(data)
            if done < wanted and empty:
                wake(k, cpu, pipe.rd_wait)
            continue
        if file.struct.f_flags & O_NONBLOCK:
            ret = -Errno.EAGAIN
            break
        if interrupted(task):
            ret = -ERESTARTSYS
            break
        wait_for(k, task, [pipe.wr_wait])
    if done:
        wake(k, cpu, pipe.rd_wait)
    if done or ret == -Errno.EPIPE:
        functions.kill_fasync(cpu, 0, 29, 1)
    if done:
        functions.file_update_time(cpu, file.address)
    return done or ret


@kernel_function
def fifo_pipe_read(k: Any, cpu: Cpu, iocb: int, to: int) -> int:
    """Read from a pipe that has a name."""
    return int(k.functions.anon_pipe_read(cpu, iocb, to))


@kernel_function
def fifo_pipe_write(k: Any, cpu: Cpu, iocb: int, from_: int) -> int:
    """Write to a pipe that has a name."""
    return int(k.functions.anon_pipe_write(cpu, iocb, from_))


@kernel_function
def pipe_poll(k: Any, _cpu: Cpu, filp: int, _wait: int) -> int:
    """Return what can be done with an end of a pipe without waiting."""
    return _pipe_of(k, filp).poll(file_at(k, filp))


@kernel_function
def pipe_release(k: Any, cpu: Cpu, _inode: int, file: int) -> int:
    """Let go of an end of a pipe; who waits at the other one is told."""
    _leave(k, cpu, file_at(k, file), _pipe_of(k, file))
    return 0


def _leave(k: Any, cpu: Cpu, file: File, pipe: Pipe) -> None:
    functions, mode = k.functions, file.struct.f_mode
    pipe.readers -= bool(mode & FMODE_READ)
    pipe.writers -= bool(mode & FMODE_WRITE)
    pipe.files -= 1
    if bool(pipe.readers) != bool(pipe.writers):
        wake(k, cpu, pipe.rd_wait, sync=False)
        wake(k, cpu, pipe.wr_wait, sync=False)
        functions.kill_fasync(cpu, 0, 29, 1)
        functions.kill_fasync(cpu, 0, 29, 4)
    if not pipe.files:
        functions.free_pipe_info(cpu, 0)
        for address, other in list(k.vfs.fifos.items()):
            if other is pipe:
                del k.vfs.fifos[address]
        _free(k, pipe)


def _free(_k: Any, pipe: Pipe) -> None:
    pipe.rd_wait.free()
    pipe.wr_wait.free()
