"""More that is done with open files: preadv(2), fallocate(2), posix_fadvise(2), readahead(2), sync(2), flock(2), memfds
(fs/read_write.c, fs/open.c, mm/fadvise.c, fs/sync.c, fs/locks.c, mm/memfd.c, v6.18).

Left out: sealing, huge pages, collapsing and inserting ranges (EOPNOTSUPP), leases.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s64, u32
from ebpfsim.memory.user import UserFault
from tracing.fs import file_at, inode_at
from tracing.fs_syscalls import call_at, opened
from tracing.functions import kernel_function
from tracing.open import FMODE_WRITE
from tracing.read_write import MAX_FILE_BYTES, PAGE
from tracing.signals import ERESTARTSYS, interrupted
from tracing.syscalls import syscall
from tracing.vfs import File

__all__: list[str] = []

FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 0x10
ADVICE_MOST = 5  # POSIX_FADV_NOREUSE
LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8


@syscall(295)
def sys_preadv(k: Any, cpu: Cpu, fd: int, vec: int, vlen: int, pos_l: int, pos_h: int) -> int:
    return call_at(k, cpu, "vfs_readv", fd, vec, vlen, pos_l, 0)


@syscall(296)
def sys_pwritev(k: Any, cpu: Cpu, fd: int, vec: int, vlen: int, pos_l: int, pos_h: int) -> int:
    return call_at(k, cpu, "vfs_writev", fd, vec, vlen, pos_l, 0)


# ---- space and advice ------------------------------------------------------------------------------------------------


@syscall(285)
def sys_fallocate(k: Any, cpu: Cpu, fd: int, mode: int, offset: int, len: int) -> int:  # noqa: A002
    k.functions.fdget(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None:
        return -Errno.EBADF
    return s64(k.functions.vfs_fallocate(cpu, file.address, u32(mode), offset, len))


@kernel_function
def vfs_fallocate(k: Any, cpu: Cpu, file: int, mode: int, offset: int, length: int) -> int:
    """Give a part of a file room, or take it away: EINVAL, EOPNOTSUPP, EBADF, ESPIPE, ENODEV, EFBIG."""
    functions, found = k.functions, file_at(k, file)
    inode = found.inode
    if s64(offset) < 0 or s64(length) <= 0:
        return -Errno.EINVAL
    if mode & ~(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE):
        return -Errno.EOPNOTSUPP
    if mode & FALLOC_PUNCH_HOLE and not mode & FALLOC_KEEP_SIZE:
        return -Errno.EOPNOTSUPP
    if not found.struct.f_mode & FMODE_WRITE:
        return -Errno.EBADF
    ret: int = functions.security_file_permission(cpu, file, 2)
    if ret:
        return ret
    if inode is None or found.private is not None or not inode.is_plain:
        is_dir = inode is not None and inode.is_dir
        return -(Errno.EISDIR if is_dir else Errno.ESPIPE if found.private is not None else Errno.ENODEV)
    if offset + length > MAX_FILE_BYTES:
        return -Errno.EFBIG
    own = found.ops.get("fallocate")
    return int(getattr(functions, own)(cpu, file, mode, offset, length)) if own else -Errno.EOPNOTSUPP


@kernel_function
def shmem_fallocate(k: Any, cpu: Cpu, file: int, mode: int, offset: int, length: int) -> int:
    """Give a part of a file in memory pages, or take them away."""
    functions, inode = k.functions, file_at(k, file).inode
    assert inode is not None
    size, end = len(inode.data), offset + length
    if mode & FALLOC_ZERO_RANGE:
        return -Errno.EOPNOTSUPP
    if mode & FALLOC_PUNCH_HOLE:
        functions.unmap_mapping_range(cpu, 0, offset, length, 0)
        if offset < size:
            inode.data[offset : min(end, size)] = bytes(min(end, size) - offset)
        functions.inode_maybe_inc_iversion(cpu, inode.address, 0)
        functions.file_modified(cpu, file)
        return 0
    functions.inode_newsize_ok(cpu, inode.address, end)
    for page in range(offset // PAGE, -(-end // PAGE)):
        functions.shmem_get_folio_gfp(cpu, inode.address, page, 0, 0, 0, 0, 0, 0)
        if page * PAGE >= size:
            functions.shmem_allowable_huge_orders(cpu, inode.address, 0, 0, 0, 0)
            functions.shmem_alloc_and_add_folio(cpu, 0, 0, inode.address, page, 0, 0)
            ret = functions.shmem_inode_acct_blocks(cpu, inode.address, 1)
            functions.shmem_recalc_inode(cpu, inode.address, 1, 0)
            if ret:
                return int(ret)
        functions.folio_mark_dirty(cpu, 0)
        functions.folio_unlock(cpu, 0)
    if end > size and not mode & FALLOC_KEEP_SIZE:
        k.vfs.put_data(inode, end, b"")
    functions.file_modified(cpu, file)
    return 0


@syscall(221)
def sys_fadvise64(k: Any, cpu: Cpu, fd: int, offset: int, len: int, advice: int) -> int:  # noqa: A002
    return s64(k.functions.ksys_fadvise64_64(cpu, u32(fd), offset, len, u32(advice)))


@kernel_function
def ksys_fadvise64_64(k: Any, cpu: Cpu, fd: int, offset: int, length: int, advice: int) -> int:
    """Say how a file is going to be used: EBADF, ESPIPE, EINVAL."""
    k.functions.fdget(cpu, fd)
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    if file.private is not None:
        return -Errno.ESPIPE
    ret: int = k.functions.generic_fadvise(cpu, file.address, offset, length, advice)
    return ret if s64(length) >= 0 and advice <= ADVICE_MOST else -Errno.EINVAL


@syscall(187)
def sys_readahead(k: Any, cpu: Cpu, fd: int, offset: int, count: int) -> int:
    return s64(k.functions.ksys_readahead(cpu, u32(fd), offset, count))


@kernel_function
def ksys_readahead(k: Any, cpu: Cpu, fd: int, offset: int, count: int) -> int:
    """Read a file before somebody asks for it: EBADF, EINVAL for what has no pages."""
    k.functions.fdget(cpu, fd)
    file = opened(k, cpu, fd)
    if file is None or file.inode is None or not file.struct.f_mode & 1:
        return -Errno.EBADF
    if not file.inode.is_plain or file.private is not None:
        return -Errno.EINVAL
    ret: int = k.functions.vfs_fadvise(cpu, file.address, offset, count, 3)
    return ret


@syscall(162)
def sys_sync(k: Any, cpu: Cpu) -> int:
    k.functions.ksys_sync(cpu)
    return 0


@kernel_function
def ksys_sync(k: Any, cpu: Cpu) -> None:
    """Write everything back; files in memory have nowhere to go."""
    k.functions.wakeup_flusher_threads(cpu, 1)
    for _ in range(3):
        k.functions.iterate_supers(cpu, 0, 0)


@syscall(306)
def sys_syncfs(k: Any, cpu: Cpu, fd: int) -> int:
    k.functions.fdget(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None or file.dentry is None:
        return -Errno.EBADF
    return int(k.functions.sync_filesystem(cpu, file.dentry.sb.address))


# ---- flock and memfd_create ------------------------------------------------------------------------------------------


@syscall(73)
def sys_flock(k: Any, cpu: Cpu, fd: int, cmd: int) -> int:
    functions, kind = k.functions, u32(cmd) & ~LOCK_NB
    if kind not in (LOCK_SH, LOCK_EX, LOCK_UN):
        return -Errno.EINVAL
    functions.fdget(cpu, u32(fd))
    file = opened(k, cpu, fd)
    if file is None or file.inode is None:
        return -Errno.EBADF
    functions.locks_init_lock(cpu, 0)
    ret: int = functions.security_file_lock(cpu, file.address, {LOCK_SH: 0, LOCK_EX: 1, LOCK_UN: 2}[kind])
    if not ret:
        functions.locks_lock_inode_wait(cpu, file.inode.address, 0)
        ret = _locked(k, cpu, file, kind, waits=not u32(cmd) & LOCK_NB)
    functions.locks_release_private(cpu, 0)
    return ret


def _locked(k: Any, cpu: Cpu, file: File, kind: int, *, waits: bool) -> int:
    # flock_lock_inode(): locks belong to open files, and a task that waits looks again from time to time
    task, inode = k.sched.current(cpu), file.inode
    assert inode is not None
    held: dict[File, int] = k.vfs.flocks.setdefault(inode.address, {})
    held.pop(file, None)
    if kind == LOCK_UN:
        return 0
    while any(kind == LOCK_EX or other == LOCK_EX for other in held.values()):
        if not waits:
            return -Errno.EAGAIN
        if interrupted(task):
            return -ERESTARTSYS
        k.sched.wait(None, timeout_ns=1_000_000)
    held[file] = kind
    return 0


@syscall(319)
def sys_memfd_create(k: Any, cpu: Cpu, uname: int, flags: int) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    if u32(flags) & ~0x1F:
        return -Errno.EINVAL
    try:
        name = task.user.read_string(uname, 250)
    except UserFault:
        return -Errno.EFAULT
    if len(name) > 249:
        return -Errno.EINVAL
    functions.task_active_pid_ns(cpu, task.address)
    fd: int = functions.get_unused_fd_flags(cpu, 0o2000000 if flags & 1 else 0)
    if fd < 0:
        return fd
    tmpfs = k.vfs.lookup("/tmp")
    dentry = k.vfs.d_alloc(None, "memfd:" + name.decode(errors="surrogateescape"), tmpfs.sb)
    made = functions.__shmem_get_inode(cpu, 0, tmpfs.sb.address, 0, 0o100777, 0, 0)
    if not made:
        functions.put_unused_fd(cpu, fd)
        k.vfs.free_dentry(dentry)
        return -Errno.ENOSPC
    functions.clear_nlink(cpu, made)
    k.vfs.instantiate(dentry, inode_at(k, made))
    inode_at(k, made).i_nlink = 0
    address = functions.alloc_empty_file(cpu, 2, task.cred.address)
    file = file_at(k, address)
    k.vfs.opened(file, dentry)
    file.struct.f_mode |= 3 | 0x8_0000
    functions.fd_install(cpu, fd, address)
    return fd
