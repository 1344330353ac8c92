"""Moving data without a buffer of the task: sendfile(2), splice(2), tee(2), copy_file_range(2) (fs/splice.c, v6.18).

Left out: sockets (EINVAL), moving pages instead of what is in them, waiting for room in a pipe (EAGAIN).
"""

from typing import Any, cast

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s64, u32
from ebpfsim.memory.user import UserFault
from tracing.fs import file_at
from tracing.fs_syscalls import opened
from tracing.functions import kernel_function
from tracing.open import FMODE_READ, FMODE_WRITE, O_APPEND
from tracing.pipe import Pipe
from tracing.read_write import PAGE, READ, WRITE, IovIter, Kiocb
from tracing.syscalls import syscall
from tracing.vfs import File
from tracing.waiting import WaitHead, wake

__all__: list[str] = []

# how much one round through a pipe of its own moves (PIPE_DEF_BUFFERS)
ROUND_BYTES = 16 * PAGE
SPLICE_FLAGS, FILE_COPY_MOST = 15, 0x7FFF_F000


class BytesIter(IovIter):
    """Bytes of the kernel that are written to a file."""

    __slots__ = ("data",)

    data: bytes

    def get(self, size: int) -> bytes:
        """Take the next bytes."""
        found, self.data = self.data[:size], self.data[size:]
        return found


def _pipe(file: File) -> Pipe | None:
    return file.private if isinstance(file.private, Pipe) else None


def _is_plain(file: File) -> bool:
    return file.inode is not None and file.inode.is_plain and file.private is None


def _tell(k: Any, cpu: Cpu, head: WaitHead) -> None:
    # whoever waits; nobody is told in vain
    if len(head.queue) or head.watchers:
        wake(k, cpu, head)


def _offset(k: Any, cpu: Cpu, address: int) -> int | None:
    # where a call begins; None is an address that cannot be read
    try:
        return s64(int.from_bytes(k.sched.current(cpu).user.read(address, 8), "little"))
    except UserFault:
        return None


def _store(k: Any, cpu: Cpu, address: int, value: int) -> int:
    try:
        k.sched.current(cpu).user.write(address, value.to_bytes(8, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0


def _write(k: Any, cpu: Cpu, file: File, data: bytes, pos: int) -> int:
    # what iter_file_splice_write() asks the file to do
    iocb, iter_ = Kiocb.alloc(k.mem), BytesIter.alloc(k.mem)
    iter_.data, iter_.pieces, iter_.count = data, [], len(data)
    iocb.ki_filp, iocb.ki_pos = file.address, pos
    k.walks[iter_.address] = iter_
    own = file.ops.get("write_iter")
    try:
        if own is None:
            assert file.inode is not None
            k.vfs.put_data(file.inode, pos, data)
            return len(data)
        return s64(getattr(k.functions, own)(cpu, iocb.address, iter_.address))
    finally:
        del k.walks[iter_.address]
        iter_.free()
        iocb.free()


@kernel_function
def do_splice_read(k: Any, cpu: Cpu, in_: int, ppos: int, pipe: int, length: int, flags: int) -> int:
    """Let a file put what it holds into a pipe."""
    own = file_at(k, in_).ops.get("splice_read", "")
    return int(getattr(k.functions, own)(cpu, in_, ppos, pipe, length, flags)) if own else length


@kernel_function
def shmem_file_splice_read(k: Any, cpu: Cpu, in_: int, ppos: int, _pipe_: int, length: int, _flags: int) -> int:
    """Put pages of a file in memory into a pipe."""
    functions, file = k.functions, file_at(k, in_)
    assert file.inode is not None
    for page in range(ppos // PAGE, -(-(ppos + length) // PAGE)):
        functions.shmem_get_folio_gfp(cpu, file.inode.address, page, 0, 0, 0, 0, 0, 0)
        functions.folio_unlock(cpu, 0)
        functions.folio_mark_accessed(cpu, 0)
        functions.splice_folio_into_pipe(cpu, 0, 0, ppos, length)
    functions.touch_atime(cpu, file.struct.member_address("f_path"))
    return length


@kernel_function
def do_splice_direct(k: Any, cpu: Cpu, in_: int, ppos: int, out: int, opos: int, length: int, _flags: int) -> int:
    """Move bytes from one file to another one, through a pipe of the kernel's own."""
    functions, source, sink = k.functions, file_at(k, in_), file_at(k, out)
    assert source.inode is not None
    functions.splice_direct_to_actor(cpu, in_, 0, 0)
    functions.alloc_pipe_info(cpu)
    done, ret = 0, 0
    while done < length:
        at = k.mem.load(ppos, 8) + done
        data = bytes(source.inode.data[at : at + min(length - done, ROUND_BYTES)])
        if not data:
            break
        functions.do_splice_read(cpu, in_, at, 0, len(data), 0)
        functions.direct_splice_actor(cpu, 0, 0)
        for _ in range(-(-(at % PAGE + len(data)) // PAGE)):
            functions.page_cache_pipe_buf_confirm(cpu, 0, 0)
        ret = _into(k, cpu, sink, data, k.mem.load(opos, 8) + done)
        if ret <= 0:
            break
        functions.pipe_unlock(cpu, 0)
        done += ret
    if done:
        functions.touch_atime(cpu, source.struct.member_address("f_path"))
    k.mem.store(ppos, 8, k.mem.load(ppos, 8) + done)
    k.mem.store(opos, 8, k.mem.load(opos, 8) + done)
    return done or ret


def _into(k: Any, cpu: Cpu, sink: File, data: bytes, pos: int) -> int:
    pipe = _pipe(sink)
    if pipe is None:
        return _write(k, cpu, sink, data, pos)
    room = pipe.size - len(pipe.data)
    if not pipe.readers or not room:
        return -(Errno.EAGAIN if pipe.readers else Errno.EPIPE)
    pipe.data += data[:room]
    _tell(k, cpu, pipe.rd_wait)
    return min(room, len(data))


# ---- sendfile --------------------------------------------------------------------------------------------------------


@syscall(40)
def sys_sendfile64(k: Any, cpu: Cpu, out_fd: int, in_fd: int, offset: int, count: int) -> int:
    start = _offset(k, cpu, offset) if offset else 0
    if start is None:
        return -Errno.EFAULT
    room = k.mem.alloc(8)
    k.mem.store(room, 8, start & (1 << 64) - 1)
    ret: int = k.functions.do_sendfile(cpu, u32(out_fd), u32(in_fd), room if offset else 0, count, 0)
    end = k.mem.load(room, 8)
    k.mem.free(room)
    return (_store(k, cpu, offset, end) if offset else 0) or s64(ret)


@kernel_function
def do_sendfile(k: Any, cpu: Cpu, out_fd: int, in_fd: int, ppos: int, count: int, _max: int) -> int:
    """Move bytes of a file to another descriptor: EBADF, EINVAL, ESPIPE."""
    functions = k.functions
    functions.fdget(cpu, in_fd)
    source = opened(k, cpu, in_fd)
    if source is None or not source.struct.f_mode & FMODE_READ:
        return -Errno.EBADF
    if ppos and _pipe(source) is not None:
        return -Errno.ESPIPE
    pos = ppos or source.struct.member_address("f_pos")
    ret: int = functions.rw_verify_area(cpu, READ, source.address, pos, count)
    if ret:
        return ret
    functions.fdget(cpu, out_fd)
    sink = opened(k, cpu, out_fd)
    if sink is None or not sink.struct.f_mode & FMODE_WRITE:
        return -Errno.EBADF
    functions.get_pipe_info(cpu, sink.address, 1)
    if not _is_plain(source) or (not _is_plain(sink) and _pipe(sink) is None) or sink.struct.f_flags & O_APPEND:
        return -Errno.EINVAL
    opos = sink.struct.member_address("f_pos")
    ret = functions.rw_verify_area(cpu, WRITE, sink.address, opos, count)
    most = min(count, FILE_COPY_MOST)
    return ret or s64(functions.do_splice_direct(cpu, source.address, pos, sink.address, opos, most, 0))


# ---- splice and tee --------------------------------------------------------------------------------------------------


@syscall(275)
def sys_splice(k: Any, cpu: Cpu, fd_in: int, off_in: int, fd_out: int, off_out: int, len: int, flags: int) -> int:  # noqa: A002
    if not len:
        return 0
    if flags & ~SPLICE_FLAGS:
        return -Errno.EINVAL
    for fd in (fd_in, fd_out):
        k.functions.fdget(cpu, u32(fd))
    source, sink = opened(k, cpu, fd_in), opened(k, cpu, fd_out)
    if source is None or sink is None:
        return -Errno.EBADF
    return s64(k.functions.__do_splice(cpu, source.address, off_in, sink.address, off_out, len, flags))


@kernel_function
def __do_splice(k: Any, cpu: Cpu, in_: int, off_in: int, out: int, off_out: int, length: int, flags: int) -> int:
    """Take offsets from the task, and give them back: ESPIPE, EFAULT."""
    functions = k.functions
    pipes = [_pipe(file_at(k, file)) for file in (in_, out)]
    for file in (in_, out):
        functions.get_pipe_info(cpu, file, 1)
    if any(offset and pipe is not None for offset, pipe in zip((off_in, off_out), pipes, strict=True)):
        return -Errno.ESPIPE
    starts = [_offset(k, cpu, offset) if offset else 0 for offset in (off_in, off_out)]
    if None in starts:
        return -Errno.EFAULT
    room = k.mem.alloc(16)
    for index, start in enumerate(starts):
        k.mem.store(room + 8 * index, 8, (start or 0) & (1 << 64) - 1)
    places = [room + 8 * index if offset else 0 for index, offset in enumerate((off_in, off_out))]
    ret: int = functions.do_splice(cpu, in_, places[0], out, places[1], length, flags)
    for index, offset in enumerate((off_in, off_out)):
        if offset and s64(ret) > 0:
            ret = _store(k, cpu, offset, k.mem.load(room + 8 * index, 8)) or ret
    k.mem.free(room)
    return ret


@kernel_function
def do_splice(k: Any, cpu: Cpu, in_: int, off_in: int, out: int, off_out: int, length: int, _flags: int) -> int:
    """Move bytes between a pipe and something else: EBADF, EINVAL, EAGAIN, EPIPE."""
    functions, source, sink = k.functions, file_at(k, in_), file_at(k, out)
    if not source.struct.f_mode & FMODE_READ or not sink.struct.f_mode & FMODE_WRITE:
        return -Errno.EBADF
    for file in (in_, out):
        functions.get_pipe_info(cpu, file, 1)
    from_pipe, to_pipe = _pipe(source), _pipe(sink)
    if from_pipe is not None and to_pipe is not None:
        return -Errno.EINVAL if from_pipe is to_pipe else _between(k, cpu, from_pipe, to_pipe, length, keeps=False)
    if from_pipe is not None and _is_plain(sink) and not sink.struct.f_flags & O_APPEND:
        pos = off_out or sink.struct.member_address("f_pos")
        ret: int = functions.rw_verify_area(cpu, WRITE, out, pos, length)
        return ret or _from_pipe(k, cpu, from_pipe, sink, pos, length)
    if to_pipe is not None and _is_plain(source):
        pos = off_in or source.struct.member_address("f_pos")
        ret = functions.rw_verify_area(cpu, READ, in_, pos, length)
        return ret or _to_pipe(k, cpu, source, to_pipe, pos, length)
    return -Errno.EINVAL


def _to_pipe(k: Any, cpu: Cpu, source: File, pipe: Pipe, pos: int, length: int) -> int:
    # splice_file_to_pipe()
    functions, at = k.functions, k.mem.load(pos, 8)
    functions.splice_file_to_pipe(cpu, source.address, 0, 0, length, 0)
    room = pipe.size - len(pipe.data)
    if not pipe.readers or not room:
        return -(Errno.EAGAIN if pipe.readers else Errno.EPIPE)
    assert source.inode is not None
    data = bytes(source.inode.data[at : at + min(length, room)])
    if data:
        functions.do_splice_read(cpu, source.address, at, 0, len(data), 0)
    functions.pipe_unlock(cpu, 0)
    pipe.data += data
    k.mem.store(pos, 8, at + len(data))
    if data:
        _tell(k, cpu, pipe.rd_wait)
        functions.kill_fasync(cpu, 0, 29, 1)
    return len(data)


def _from_pipe(k: Any, cpu: Cpu, pipe: Pipe, sink: File, pos: int, length: int) -> int:
    # do_splice_from()
    functions, data = k.functions, bytes(pipe.data[:length])
    if not data:
        return -Errno.EAGAIN if pipe.writers else 0
    functions.iter_file_splice_write(cpu, 0, sink.address, pos, length, 0)
    ret = _write(k, cpu, sink, data, k.mem.load(pos, 8))
    if ret > 0:
        del pipe.data[:ret]
        functions.anon_pipe_buf_release(cpu, 0, 0)
        functions.kill_fasync(cpu, 0, 29, 4)
        functions.pipe_unlock(cpu, 0)
        k.mem.store(pos, 8, k.mem.load(pos, 8) + ret)
        _tell(k, cpu, pipe.wr_wait)
    return ret


def _between(k: Any, cpu: Cpu, source: Pipe, sink: Pipe, length: int, *, keeps: bool) -> int:
    functions = k.functions
    functions.pipe_double_lock(cpu, 0, 0)
    room = sink.size - len(sink.data)
    data = bytes(source.data[: min(length, room)])
    if data and keeps:
        functions.generic_pipe_buf_get(cpu, 0, 0)
    if data and not keeps:
        del source.data[: len(data)]
    sink.data += data
    for _ in range(2):
        functions.pipe_unlock(cpu, 0)
    if data:
        _tell(k, cpu, sink.rd_wait)
        functions.kill_fasync(cpu, 0, 29, 1)
        return len(data)
    return -Errno.EAGAIN if source.writers else 0


@syscall(276)
def sys_tee(k: Any, cpu: Cpu, fdin: int, fdout: int, len: int, flags: int) -> int:  # noqa: A002
    if flags & ~SPLICE_FLAGS:
        return -Errno.EINVAL
    if not len:
        return 0
    for fd in (fdin, fdout):
        k.functions.fdget(cpu, u32(fd))
    source, sink = opened(k, cpu, fdin), opened(k, cpu, fdout)
    if source is None or sink is None:
        return -Errno.EBADF
    return s64(k.functions.do_tee(cpu, source.address, sink.address, len, flags))


@kernel_function
def do_tee(k: Any, cpu: Cpu, in_: int, out: int, length: int, _flags: int) -> int:
    """Put what is in a pipe into another one as well: EBADF, EINVAL, EAGAIN."""
    source, sink = file_at(k, in_), file_at(k, out)
    if not source.struct.f_mode & FMODE_READ or not sink.struct.f_mode & FMODE_WRITE:
        return -Errno.EBADF
    for file in (in_, out):
        k.functions.get_pipe_info(cpu, file, 1)
    first, second = _pipe(source), _pipe(sink)
    if first is None or second is None or first is second:
        return -Errno.EINVAL
    return _between(k, cpu, first, second, length, keeps=True)


# ---- copy_file_range -------------------------------------------------------------------------------------------------


@syscall(326)
def sys_copy_file_range(
    k: Any, cpu: Cpu, fd_in: int, off_in: int, fd_out: int, off_out: int, len: int, flags: int  # noqa: A002
) -> int:  # fmt: skip
    for fd in (fd_in, fd_out):
        k.functions.fdget(cpu, u32(fd))
    source, sink = opened(k, cpu, fd_in), opened(k, cpu, fd_out)
    if source is None or sink is None:
        return -Errno.EBADF
    places = [_offset(k, cpu, offset) if offset else file.struct.f_pos for offset, file in
              ((off_in, source), (off_out, sink))]  # fmt: skip
    if None in places:
        return -Errno.EFAULT
    if flags:
        return -Errno.EINVAL
    start, to = cast(int, places[0]), cast(int, places[1])
    ret = s64(k.functions.vfs_copy_file_range(cpu, source.address, start, sink.address, to, len, 0))
    if ret > 0:
        for offset, file, place in ((off_in, source, start), (off_out, sink, to)):
            if offset:
                ret = _store(k, cpu, offset, place + ret) or ret
            else:
                file.struct.f_pos = place + ret
    return ret


@kernel_function
def vfs_copy_file_range(
    k: Any, cpu: Cpu, in_: int, pos_in: int, out: int, pos_out: int, length: int, _flags: int
) -> int:
    """Copy part of a file: EBADF, EINVAL, EISDIR, EOPNOTSUPP for what is no file."""
    functions, source, sink = k.functions, file_at(k, in_), file_at(k, out)
    functions.generic_file_rw_checks(cpu, in_, out)
    for file in (source, sink):
        if file.inode is None or file.inode.is_dir:
            return -Errno.EISDIR
        if not _is_plain(file):
            return -Errno.EINVAL
    if not source.struct.f_mode & FMODE_READ or not sink.struct.f_mode & FMODE_WRITE or sink.struct.f_flags & O_APPEND:
        return -Errno.EBADF
    functions.generic_write_check_limits(cpu, out, pos_out, 0)
    if source.inode is sink.inode and pos_out < pos_in + length and pos_in < pos_out + length:
        return -Errno.EINVAL
    room = k.mem.alloc(16)
    k.mem.store(room, 8, pos_in)
    k.mem.store(room + 8, 8, pos_out)
    ret: int = functions.rw_verify_area(cpu, READ, in_, room, length)
    ret = ret or functions.rw_verify_area(cpu, WRITE, out, room + 8, length)
    ret = ret or s64(functions.do_splice_direct(cpu, in_, room, out, room + 8, min(length, FILE_COPY_MOST), 0))
    k.mem.free(room)
    return ret
