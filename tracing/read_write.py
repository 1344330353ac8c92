"""Reading and writing (fs/read_write.c, mm/shmem.c and mm/filemap.c, v6.18)."""

from struct import Struct

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s64
from ebpfsim.memory.user import UserFault, UserMemory
from tracing.fs import FsKernel, borrow, file_at, give_back, task_of
from tracing.functions import kernel_function
from tracing.open import FMODE_READ, FMODE_WRITE, NULL_DEVICES, O_APPEND, file_of
from tracing.permission import MAY_READ, MAY_WRITE
from tracing.vfs import S_IFCHR, S_IFIFO, S_IFMT, File, Inode

__all__ = ["SEEK_CUR", "SEEK_END", "SEEK_SET", "IovIter", "Kiocb"]

MAX_RW_COUNT = 0x7FFF_F000  # INT_MAX & PAGE_MASK
PAGE = 4096
READ, WRITE = 0, 1
SEEK_SET, SEEK_CUR, SEEK_END = range(3)
S_NOSEC = 1 << 12  # include/linux/fs.h
UIO_MAXIOV = 1024
MAX_FILE_BYTES = 1 << 30  # of a file in simulated memory; what is larger is refused as if the disk were full
ITER_UBUF, ITER_IOVEC = 0, 1
_F_POS, _F_PATH = place("file", "f_pos")[0], place("file", "f_path")[0]
_IOVEC = Struct("<QQ")


class Kiocb(KernelStruct):
    """``struct kiocb``: which file is read or written, and where."""

    struct_name = "kiocb"
    ki_filp = Field()
    ki_pos = Field()


class IovIter(KernelStruct):
    """``struct iov_iter``: user memory that bytes come from or go to, piece by piece."""

    __slots__ = ("pieces", "user")
    struct_name = "iov_iter"
    iter_type = Field()
    data_source = Field()
    count = Field()

    user: UserMemory
    pieces: list[tuple[int, int]]

    def put(self, data: bytes) -> int:
        """Copy bytes out (copy_to_iter); how many before the first that cannot be written."""
        return self._copy(len(data), data)[0]

    def get(self, size: int) -> bytes:
        """Copy bytes in (copy_from_iter), up to the first that cannot be read."""
        return self._copy(size, None)[1]

    def _copy(self, size: int, data: bytes | None) -> tuple[int, bytes]:
        done, found = 0, b""
        while done < size and self.pieces:
            address, length = self.pieces[0]
            part = min(length, size - done)
            try:
                if data is not None:
                    self.user.write(address, data[done : done + part])
                else:
                    found += self.user.read(address, part)
            except UserFault:
                break
            done += part
            if part == length:
                self.pieces.pop(0)
            else:
                self.pieces[0] = address + part, length - part
        return done, found


@kernel_function
def ksys_read(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int) -> int:
    """Read from where the file is; bytes or an errno."""
    k.functions.fdget_pos(cpu, fd)
    file = file_of(task_of(k, cpu), fd)
    if file is None:
        return _no_file(task_of(k, cpu).files.lookup(fd))
    # the file's own position, as fdget_pos() and file_ppos() have it
    ret: int = k.functions.vfs_read(cpu, file.address, buf, count, file.address + _F_POS)
    return ret


@kernel_function
def ksys_write(k: FsKernel, cpu: Cpu, fd: int, buf: int, count: int) -> int:
    """Write where the file is; bytes or an errno."""
    k.functions.fdget_pos(cpu, fd)
    file = file_of(task_of(k, cpu), fd)
    if file is None:
        return _no_file(task_of(k, cpu).files.lookup(fd))
    ret: int = k.functions.vfs_write(cpu, file.address, buf, count, file.address + _F_POS)
    return ret


def _no_file(file: object) -> int:
    return -Errno.EBADF if file is None else -Errno.EINVAL


def _begin(k: FsKernel, cpu: Cpu, file: File, pieces: list[tuple[int, int]], pos: int) -> tuple[Kiocb, IovIter]:
    # struct kiocb and struct iov_iter of one call
    user = task_of(k, cpu).user
    assert user is not None
    iocb, iter_ = borrow(k, Kiocb), borrow(k, IovIter)
    iter_.user, iter_.pieces = user, pieces
    iter_.iter_type = ITER_UBUF if len(pieces) == 1 else ITER_IOVEC
    iter_.data_source, iter_.count = 1, sum(length for _, length in pieces)
    iocb.ki_filp = file.address
    iocb.ki_pos = k.mem.load(pos, 8)
    k.walks[iter_.address] = iter_
    return iocb, iter_


def _end(k: FsKernel, iocb: Kiocb, iter_: IovIter) -> None:
    del k.walks[iter_.address]
    give_back(k, iter_)
    give_back(k, iocb)


@kernel_function
def vfs_read(k: FsKernel, cpu: Cpu, file: int, buf: int, count: int, pos: int) -> int:
    """Read ``count`` bytes at ``*pos``, which moves on; EBADF, EISDIR, EFAULT."""
    return _read(k, cpu, file, [(buf, count)], pos)


@kernel_function
def vfs_write(k: FsKernel, cpu: Cpu, file: int, buf: int, count: int, pos: int) -> int:
    """Write ``count`` bytes at ``*pos``, which moves on; EBADF, EFAULT, ENOSPC."""
    return _write(k, cpu, file, [(buf, count)], pos)


@kernel_function
def vfs_readv(k: FsKernel, cpu: Cpu, file: int, vec: int, vlen: int, pos: int, _flags: int) -> int:
    """Read into several pieces of memory."""
    pieces = _pieces(k, cpu, vec, vlen)
    return pieces if isinstance(pieces, int) else _read(k, cpu, file, pieces, pos or file + _F_POS)


@kernel_function
def vfs_writev(k: FsKernel, cpu: Cpu, file: int, vec: int, vlen: int, pos: int, _flags: int) -> int:
    """Write from several pieces of memory."""
    pieces = _pieces(k, cpu, vec, vlen)
    return pieces if isinstance(pieces, int) else _write(k, cpu, file, pieces, pos or file + _F_POS)


def _pieces(k: FsKernel, cpu: Cpu, vec: int, count: int) -> list[tuple[int, int]] | int:
    # import_iovec()
    user = task_of(k, cpu).user
    if count > UIO_MAXIOV:
        return -Errno.EINVAL
    try:
        words = user.read(vec, 16 * count) if user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    pieces: list[tuple[int, int]] = list(_IOVEC.iter_unpack(words))
    if any(length >> 63 for _, length in pieces):
        return -Errno.EINVAL
    return [piece for piece in pieces if piece[1]]


def _read(k: FsKernel, cpu: Cpu, file: int, pieces: list[tuple[int, int]], pos: int) -> int:
    opened, functions = file_at(k, file), k.functions
    inode = opened.inode
    if not opened.struct.f_mode & FMODE_READ or inode is None:
        return -Errno.EBADF
    count = _limited(pieces)
    if count < 0 or s64(k.mem.load(pos, 8)) < 0:
        return -Errno.EINVAL
    ret: int = functions.rw_verify_area(cpu, READ, file, pos, count)
    if ret:
        return ret
    direct = opened.ops.get("read") if opened.private is not None else None
    if direct is not None:
        address, size = pieces[0] if pieces else (0, 0)
        return s64(getattr(functions, direct)(cpu, file, address, size, pos))
    own = _own(opened, inode, "read_iter")
    iocb, iter_ = _begin(k, cpu, opened, pieces, pos)
    try:
        if own is not None:
            ret = getattr(functions, own)(cpu, iocb.address, iter_.address)
        else:
            ret = _cannot(inode, "read") or _read_plain(k, iocb.address, iter_.address, inode, count)
        # the position moves on with what was done
        k.mem.store(pos, 8, iocb.ki_pos)
    finally:
        _end(k, iocb, iter_)
    return s64(ret)


def _write(k: FsKernel, cpu: Cpu, file: int, pieces: list[tuple[int, int]], pos: int) -> int:
    opened, functions = file_at(k, file), k.functions
    inode = opened.inode
    if not opened.struct.f_mode & FMODE_WRITE or inode is None:
        return -Errno.EBADF
    count = _limited(pieces)
    if count < 0 or s64(k.mem.load(pos, 8)) < 0:
        return -Errno.EINVAL
    ret: int = functions.rw_verify_area(cpu, WRITE, file, pos, count)
    if ret:
        return ret
    direct = opened.ops.get("write") if opened.private is not None else None
    if direct is not None:
        address, size = pieces[0] if pieces else (0, 0)
        return s64(getattr(functions, direct)(cpu, file, address, size, pos))
    own = _own(opened, inode, "write_iter")
    iocb, iter_ = _begin(k, cpu, opened, pieces, pos)
    try:
        if own is not None:
            ret = getattr(functions, own)(cpu, iocb.address, iter_.address)
        else:
            ret = _cannot(inode, "write") or _write_plain(k, iocb.address, iter_.address, inode, count)
        k.mem.store(pos, 8, iocb.ki_pos)
    finally:
        _end(k, iocb, iter_)
    return s64(ret)


def _own(file: File, inode: Inode, op: str) -> str | None:
    # devices and the like have other operations than the files of their system
    return file.ops.get(op) if inode.is_plain or file.private is not None else None


def _limited(pieces: list[tuple[int, int]]) -> int:
    # what one call may do; a negative length is wrong
    total = 0
    for index, (address, length) in enumerate(pieces):
        if length >> 63:
            return -1
        pieces[index] = address, min(length, MAX_RW_COUNT - total)
        total += pieces[index][1]
    return total


def _cannot(inode: Inode, what: str) -> int:
    if inode.is_socket:
        raise NotModelled(f"{what}() on sockets", "net/socket.c")
    if inode.is_dir:
        return -Errno.EISDIR
    kind = inode.i_mode & S_IFMT
    if kind == S_IFIFO:
        raise NotModelled(f"{what}() on pipes with a name", "fs/pipe.c")
    # what makes what is read, and takes nothing, has operations of its own
    told = inode.ops is not None
    return -Errno.EINVAL if told or (kind == S_IFCHR and inode.i_rdev not in NULL_DEVICES) else 0


def _read_plain(k: FsKernel, iocb: int, iter_: int, inode: Inode, count: int) -> int:
    # of files whose system does not tell how
    asked, into = Kiocb(k.mem, iocb), k.walks[iter_]
    device = NULL_DEVICES.get(inode.i_rdev) if inode.i_mode & S_IFMT == S_IFCHR else None
    pos = asked.ki_pos
    if device is not None:
        data = b"" if device == "null" else bytes(count)
    else:
        data = bytes(inode.data[pos : pos + count])
    done: int = into.put(data)
    asked.ki_pos = pos + done
    return done if done or not data else -Errno.EFAULT


def _write_plain(k: FsKernel, iocb: int, iter_: int, inode: Inode, count: int) -> int:
    asked, source = Kiocb(k.mem, iocb), k.walks[iter_]
    if inode.i_mode & S_IFMT == S_IFCHR:
        return -Errno.ENOSPC if NULL_DEVICES.get(inode.i_rdev) == "full" else count
    pos = start_of(k, asked, inode)
    if pos + count > MAX_FILE_BYTES:
        return -Errno.ENOSPC
    data = source.get(count)
    k.vfs.put_data(inode, pos, data)
    asked.ki_pos = pos + len(data)
    return len(data) if data or not count else -Errno.EFAULT


def start_of(k: FsKernel, iocb: Kiocb, inode: Inode) -> int:
    """Return where a write begins: at the end with O_APPEND."""
    file = file_at(k, iocb.ki_filp)
    return len(inode.data) if file.struct.f_flags & O_APPEND else iocb.ki_pos


@kernel_function
def rw_verify_area(k: FsKernel, cpu: Cpu, read_write: int, file: int, _ppos: int, _count: int) -> int:
    """Ask the security modules."""
    ret: int = k.functions.security_file_permission(cpu, file, MAY_READ if read_write == READ else MAY_WRITE)
    return ret


@kernel_function
def shmem_file_read_iter(k: FsKernel, cpu: Cpu, iocb: int, to: int) -> int:
    """Read from a file in memory, page by page."""
    functions, asked, into = k.functions, Kiocb(k.mem, iocb), k.walks[to]
    file = file_at(k, asked.ki_filp)
    inode = file.inode
    assert inode is not None
    start, wanted, done, failed = asked.ki_pos, into.count, 0, False
    while done < wanted and start + done < len(inode.data) and not failed:
        at = start + done
        size = min(wanted - done, PAGE - at % PAGE, len(inode.data) - at)
        functions.shmem_get_folio_gfp(cpu, inode.address, at // PAGE, 0, 0, 0, 0, 0, 0)
        functions.folio_unlock(cpu, 0)
        if not at % PAGE:
            functions.folio_mark_accessed(cpu, 0)
        copied = into.put(bytes(inode.data[at : at + size]))
        done += copied
        failed = copied < size
    asked.ki_pos = start + done
    functions.touch_atime(cpu, file.address + _F_PATH)
    return done if done or not failed else -Errno.EFAULT


@kernel_function
def shmem_file_write_iter(k: FsKernel, cpu: Cpu, iocb: int, from_: int) -> int:
    """Write to a file in memory."""
    functions, asked, source = k.functions, Kiocb(k.mem, iocb), k.walks[from_]
    inode = file_at(k, asked.ki_filp).inode
    assert inode is not None
    asked.ki_pos = start_of(k, asked, inode)
    functions.generic_write_checks(cpu, iocb, from_)
    if not source.count:
        return 0
    if asked.ki_pos + source.count > MAX_FILE_BYTES:
        return -Errno.ENOSPC
    functions.file_remove_privs(cpu, asked.ki_filp)
    functions.file_update_time(cpu, asked.ki_filp)
    ret: int = functions.generic_perform_write(cpu, iocb, from_)
    return ret


@kernel_function
def file_remove_privs_flags(k: FsKernel, cpu: Cpu, file: int, _flags: int) -> int:
    """Take set-id bits and capabilities from a file that is written; an inode without any remembers that."""
    inode, functions = file_at(k, file).inode, k.functions
    assert inode is not None
    if inode.i_flags & S_NOSEC or not inode.is_plain:
        return 0
    functions.setattr_should_drop_suidgid(cpu, 0, inode.address)
    needed = functions.security_inode_need_killpriv(cpu, file_at(k, file).struct.f_path_dentry)
    if not needed:
        inode.i_flags |= S_NOSEC
    return 0


@kernel_function
def generic_perform_write(k: FsKernel, cpu: Cpu, iocb: int, i: int) -> int:
    """Write page by page."""
    functions, asked, source = k.functions, Kiocb(k.mem, iocb), k.walks[i]
    inode = file_at(k, asked.ki_filp).inode
    assert inode is not None
    mapping, wanted, done = inode.address + place("inode", "i_data")[0], source.count, 0
    while done < wanted:
        at = asked.ki_pos
        size = min(wanted - done, PAGE - at % PAGE)
        address = source.pieces[0][0] if source.pieces else 0
        if source.pieces:
            functions.fault_in_readable(cpu, address, size)
        data = source.get(size)
        if not data:
            return done or -Errno.EFAULT
        ret = functions.shmem_write_begin(cpu, iocb, mapping, at, size, 0, 0)
        if ret:
            return done or ret
        k.vfs.put_data(inode, at, data)
        functions.shmem_write_end(cpu, iocb, mapping, at, size, len(data), 0, 0)
        done += len(data)
        asked.ki_pos = at + len(data)
    return done


@kernel_function
def shmem_write_begin(
    k: FsKernel, cpu: Cpu, iocb: int, _mapping: int, pos: int, _len: int, _foliop: int, _fsdata: int
) -> int:
    """Find or make the page that is written; ENOMEM when a security module says so."""
    functions = k.functions
    inode = file_at(k, Kiocb(k.mem, iocb).ki_filp).inode
    assert inode is not None
    functions.shmem_get_folio_gfp(cpu, inode.address, pos // PAGE, 0, 0, 0, 0, 0, 0)
    if pos // PAGE * PAGE < len(inode.data):
        functions.folio_mark_accessed(cpu, 0)
    else:
        functions.shmem_allowable_huge_orders(cpu, inode.address, 0, 0, 0, 0)
        functions.shmem_alloc_and_add_folio(cpu, 0, 0, inode.address, pos // PAGE, 0, 0)
        ret: int = functions.shmem_inode_acct_blocks(cpu, inode.address, 1)
        functions.shmem_recalc_inode(cpu, inode.address, 1, 0)
        return ret
    return 0
