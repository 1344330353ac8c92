"""Opening and closing: fs/open.c, fs/file.c and fs/file_table.c, v6.18."""

from collections.abc import Mapping
from typing import cast

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.objects import FdKind, KernelObject
from tracing.fs import FsKernel, borrow, dentry_at, file_at, give_back, inode_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.namei import LOOKUP_DIRECTORY, LOOKUP_FOLLOW, OpenFlags
from tracing.permission import MAY_READ, MAY_WRITE
from tracing.pseudo_fs import anon_inodes
from tracing.task import Task
from tracing.vfs import S_IFCHR, S_IFIFO, S_IFMT, File, Inode

__all__ = ["FMODE_READ", "FMODE_WRITE", "OpenHow", "close_fd", "make_anon_file"]

O_ACCMODE, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC, O_APPEND, O_CLOEXEC = (
    3, 1, 2, 0o100, 0o200, 0o400, 0o1000, 0o2000, 0o2000000,
)  # fmt: skip
O_NONBLOCK, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_TMPFILE = 0o4000, 0o200000, 0o400000, 0o10000000, 0o20000000
# what open() knows, of which a 64-bit system has O_LARGEFILE set always
VALID_OPEN_FLAGS = 0o37777703 | 0o100
O_LARGEFILE = 0o100000
FMODE_READ, FMODE_WRITE, FMODE_PATH, FMODE_WRITER, FMODE_OPENED = 0x1, 0x2, 0x4000, 0x1_0000, 0x8_0000
NR_OPEN = 1024  # RLIMIT_NOFILE of a task, as systems begin
RESOLVE_KNOWN = 0x3F
NULL_DEVICES = {0x10_0003: "null", 0x10_0005: "zero", 0x10_0007: "full"}
_F_PATH, _F_RA = (place("file", name)[0] for name in ("f_path", "f_ra"))


class OpenHow(KernelStruct):
    """``struct open_how``: what openat2() is asked for."""

    struct_name = "open_how"
    flags = Field()
    mode = Field()
    resolve = Field()


@kernel_function
def do_sys_openat2(k: FsKernel, cpu: Cpu, dfd: int, filename: int, how: int) -> int:
    """Open a path; a descriptor or an errno."""
    functions, asked = k.functions, OpenHow(k.mem, how)
    op = borrow(k, OpenFlags)
    fd = _build_open_flags(asked.flags, asked.mode, asked.resolve, op)
    name = fd or functions.getname_flags(cpu, filename, 0)
    fd = is_err(name)
    if not fd:
        fd = functions.get_unused_fd_flags(cpu, asked.flags & 0xFFFF_FFFF)
        if fd >= 0:
            file = functions.do_filp_open(cpu, dfd, name, op.address)
            if is_err(file):
                functions.put_unused_fd(cpu, fd)
                fd = is_err(file)
            else:
                functions.fd_install(cpu, fd, file)
        functions.putname(cpu, name)
    give_back(k, op)
    return fd


def _build_open_flags(flags: int, mode: int, resolve: int, op: OpenFlags) -> int:
    if flags & ~(VALID_OPEN_FLAGS | O_LARGEFILE | O_PATH | O_TMPFILE) or resolve & ~RESOLVE_KNOWN:
        return -Errno.EINVAL
    if flags & O_TMPFILE:
        return -(Errno.EINVAL if flags & (O_CREAT | O_PATH) or not flags & O_ACCMODE else Errno.EOPNOTSUPP)
    if flags & O_PATH:
        flags &= O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC
    op.open_flag = flags
    op.mode = mode & 0o7777 if flags & O_CREAT else 0
    acc_mode = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)[flags & O_ACCMODE]
    op.acc_mode = 0 if flags & O_PATH else acc_mode | MAY_WRITE * bool(flags & O_TRUNC)
    follows = not flags & O_NOFOLLOW and flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL
    op.lookup_flags = LOOKUP_FOLLOW * follows | LOOKUP_DIRECTORY * bool(flags & O_DIRECTORY)
    return 0


@kernel_function
def get_unused_fd_flags(k: FsKernel, cpu: Cpu, flags: int) -> int:
    """Take the lowest free descriptor; EMFILE."""
    return cast(int, k.functions.alloc_fd(cpu, 0, NR_OPEN, flags))


@kernel_function
def alloc_fd(k: FsKernel, cpu: Cpu, start: int, end: int, flags: int) -> int:
    """Take the lowest free descriptor from ``start`` on; EMFILE when it is ``end``."""
    task = task_of(k, cpu)
    k.functions.expand_files(cpu, task.struct.files_ptr, start)
    return take_fd(k, cpu, flags, start, end)


def take_fd(k: FsKernel, cpu: Cpu, flags: int, start: int = 0, end: int = NR_OPEN) -> int:
    """Take the lowest free descriptor from ``start`` on; EMFILE when it is ``end``."""
    task = task_of(k, cpu)
    fd = task.files.reserve(start)
    if fd >= end:
        task.files.unreserve(fd)
        return -Errno.EMFILE
    if flags & O_CLOEXEC:
        task.files.close_on_exec.add(fd)
    return fd


@kernel_function
def put_unused_fd(k: FsKernel, cpu: Cpu, fd: int) -> None:
    """Give a descriptor back that was taken and not used."""
    task_of(k, cpu).files.unreserve(fd)


@kernel_function
def fd_install(k: FsKernel, cpu: Cpu, fd: int, file: int) -> None:
    """Let a descriptor stand for a file; bpf(2) finds the events that files are behind it."""
    opened, files = file_at(k, file), task_of(k, cpu).files
    mode = opened.struct.f_mode
    event = opened.private
    if isinstance(event, KernelObject) and getattr(event, "fd_kind", None) is FdKind.PERF_EVENT:
        files.install_at(fd, event)
        files.shadows[fd] = opened
        return
    files.install_at(fd, opened, readable=bool(mode & FMODE_READ), writable=bool(mode & FMODE_WRITE))


@kernel_function
def alloc_empty_file(k: FsKernel, cpu: Cpu, flags: int, cred: int) -> int:
    """Return a new ``struct file`` that is not open yet, or an errno."""
    file = File(k.mem, lambda file: _last_put(k, file))
    k.vfs.by_address[file.address] = file
    ret = k.functions.init_file(cpu, file.address, flags, cred)
    if ret:
        k.vfs.forget(file)
    return ret or file.address


def _last_put(k: FsKernel, file: File) -> None:
    # a reference that is dropped without a function of its own
    cpu = k.sched.running_cpu()
    if file.struct.f_mode & FMODE_OPENED:
        k.functions.__fput(cpu, file.address)
    else:
        _file_free(k, cpu, file)


@kernel_function
def init_file(k: FsKernel, cpu: Cpu, f: int, flags: int, cred: int) -> int:
    """Fill in what a file has before it is open."""
    struct = file_at(k, f).struct
    struct.f_cred, struct.f_flags = cred, flags
    # OPEN_FMODE
    struct.f_mode = flags + 1 & O_ACCMODE
    ret: int = k.functions.security_file_alloc(cpu, f)
    return ret


@kernel_function
def vfs_open(k: FsKernel, cpu: Cpu, path: int, file: int) -> int:
    """Open the file at ``struct path``."""
    k.vfs.point(file_at(k, file), dentry_at(k, k.mem.load(path + 8, 8)))
    ret: int = k.functions.do_dentry_open(cpu, file, 0)
    return ret


@kernel_function
def do_dentry_open(k: FsKernel, cpu: Cpu, f: int, _open: int) -> int:
    """Ask the security modules, then the file system."""
    functions, file = k.functions, file_at(k, f)
    struct, inode = file.struct, file.inode
    assert inode is not None
    functions.path_get(cpu, f + _F_PATH)
    if struct.f_flags & O_PATH:
        struct.f_mode = FMODE_PATH | FMODE_OPENED
        return 0
    mode = struct.f_mode
    if mode & FMODE_WRITE and not inode.is_dir:
        functions.mnt_get_write_access(cpu, struct.f_path_mnt)
        mode |= FMODE_WRITER
    ret: int = functions.security_file_open(cpu, f)
    own = file.ops.get("open") if inode.is_plain else None
    if not ret and own is not None:
        ret = getattr(functions, own)(cpu, inode.address, f)
    elif not ret and not inode.is_plain and not inode.is_dir:
        ret = _open_special(k, cpu, file, inode)
    if not ret:
        struct.f_mode = mode | FMODE_OPENED | struct.f_mode
        struct.f_flags &= ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC)
        functions.file_ra_state_init(cpu, f + _F_RA, struct.f_mapping)
        return 0
    functions.path_put(cpu, f + _F_PATH)
    file.dentry = None
    return ret


def _open_special(k: FsKernel, cpu: Cpu, file: File, inode: Inode) -> int:
    # pipes with a name, devices; there is no driver for any other device, and no way to open a socket
    kind = inode.i_mode & S_IFMT
    if kind == S_IFIFO:
        ret: int = k.functions.fifo_open(cpu, inode.address, file.address)
        return ret
    return 0 if kind == S_IFCHR and inode.i_rdev in NULL_DEVICES else -Errno.ENXIO


@kernel_function
def generic_file_open(k: FsKernel, _cpu: Cpu, inode: int, _filp: int) -> int:
    """Nothing to refuse: O_LARGEFILE is set on 64-bit systems."""
    inode_at(k, inode)
    return 0


@kernel_function
def alloc_file_pseudo(k: FsKernel, cpu: Cpu, inode: int, mnt: int, name: int, flags: int, _fops: int) -> int:
    """Return an open file under a name in no directory, or an errno."""
    functions, fs = k.functions, k.vfs.pseudo[mnt]
    qstr = k.mem.alloc(16)
    k.mem.store(qstr, 8, len(k.mem.read_string(name, 255)) << 32)
    k.mem.store(qstr + 8, 8, name)
    dentry = dentry_at(k, functions.d_alloc_pseudo(cpu, fs.sb, qstr))
    k.mem.free(qstr)
    functions.mntget(cpu, mnt)
    functions.d_instantiate(cpu, dentry.address, inode)
    address: int = functions.alloc_empty_file(cpu, flags, task_of(k, cpu).cred.address)
    if is_err(address):
        functions.dput(cpu, dentry.address)
        return address
    file = file_at(k, address)
    k.vfs.point(file, dentry)
    functions.file_init_path(cpu, address, file.struct.member_address("f_path"), 0)
    file.struct.f_mode |= FMODE_OPENED
    return address


def make_anon_file(k: FsKernel, cpu: Cpu, name: str, ops: Mapping[str, str], flags: int, private: object) -> int:
    """Return a file that is nothing but what ``private`` is (anon_inode_getfile), or an errno."""
    fs, inode = anon_inodes(k.vfs)
    k.functions.ihold(cpu, inode.address)
    # the name has its own
    inode.opens -= 1
    text = k.mem.alloc(64)
    k.mem.write(text, name.encode() + b"\0")
    address: int = k.functions.alloc_file_pseudo(cpu, inode.address, fs.vfsmount, text, flags, 0)
    k.mem.free(text)
    if not is_err(address):
        file = file_at(k, address)
        file.ops, file.private = ops, private
    return address


def _file_of(k: FsKernel, cpu: Cpu, fd: int) -> int:
    file = file_of(task_of(k, cpu), fd)
    return file.address if file is not None else 0


def file_of(task: Task, fd: int) -> File | None:
    """Return the open file of a descriptor, that of an object of bpf(2) as well; None when it is none."""
    file = task.files.lookup(fd)
    if not isinstance(file, File):
        file = task.files.shadows.get(fd)
    return file if isinstance(file, File) else None


@kernel_function
def fdget(k: FsKernel, cpu: Cpu, fd: int) -> int:
    """Return the file of a descriptor (``struct fd``), 0 when it is none."""
    return _file_of(k, cpu, fd)


@kernel_function
def fdget_raw(k: FsKernel, cpu: Cpu, fd: int) -> int:
    """Return the file of a descriptor, which may be one without being open (O_PATH)."""
    return _file_of(k, cpu, fd)


@kernel_function
def fdget_pos(k: FsKernel, cpu: Cpu, fd: int) -> int:
    """Return the file of a descriptor, whose position is going to be used."""
    return _file_of(k, cpu, fd)


@kernel_function
def fget(k: FsKernel, cpu: Cpu, fd: int) -> int:
    """Return the file of a descriptor, with a reference."""
    file = task_of(k, cpu).files.lookup(fd)
    if not isinstance(file, File):
        return 0
    file.get()
    return file.address


@kernel_function
def file_close_fd(k: FsKernel, cpu: Cpu, fd: int) -> int:
    """Take a descriptor away; the address of its file, 0 when it is not open."""
    return cast(int, k.functions.file_close_fd_locked(cpu, task_of(k, cpu).struct.files_ptr, fd))


@kernel_function
def file_close_fd_locked(k: FsKernel, cpu: Cpu, _files: int, fd: int) -> int:
    """Take a descriptor away; the address of its file, 0 when it is not open."""
    files = task_of(k, cpu).files
    file = files.take(fd)
    if file is None:
        return 0
    # what is no File (standard input) has no struct file here
    return file.address if isinstance(file, File) else _release_other(file)


def _release_other(file: object) -> int:
    file.put_user()  # type: ignore[attr-defined]
    return -1


def close_fd(k: FsKernel, cpu: Cpu, fd: int) -> int:
    """close(2): EBADF for what is not open."""
    functions = k.functions
    file = functions.file_close_fd(cpu, fd)
    if not file:
        return -Errno.EBADF
    if file == -1 or file == (1 << 64) - 1:
        return 0
    ret: int = functions.filp_flush(cpu, file, task_of(k, cpu).struct.files_ptr)
    functions.fput_close_sync(cpu, file)
    return ret


@kernel_function
def filp_flush(k: FsKernel, cpu: Cpu, filp: int, id_: int) -> int:
    """Do what closing a descriptor means for its file."""
    if not file_at(k, filp).struct.f_mode & FMODE_PATH:
        k.functions.dnotify_flush(cpu, filp, id_)
        k.functions.locks_remove_posix(cpu, filp, id_)
    return 0


@kernel_function
def dnotify_flush(k: FsKernel, cpu: Cpu, filp: int, _id: int) -> None:
    """Forget who wanted to know of changes in a directory."""
    inode = file_at(k, filp).inode
    if inode is not None and inode.is_dir:
        k.functions.fsnotify_find_mark(cpu, inode.address, 0, 0)


@kernel_function
def filp_close(k: FsKernel, cpu: Cpu, filp: int, id_: int) -> int:
    """Close a file that a descriptor stood for."""
    ret: int = k.functions.filp_flush(cpu, filp, id_)
    k.functions.fput(cpu, filp)
    return ret


@kernel_function
def fput_close_sync(k: FsKernel, _cpu: Cpu, file: int) -> None:
    """Drop a reference of a file at close(2)."""
    file_at(k, file).put_user()


@kernel_function
def fput(k: FsKernel, cpu: Cpu, file: int) -> None:
    """Drop a reference of a file; an open one goes when the task returns from the kernel."""
    opened = file_at(k, file)
    if opened.refs > 1 or not opened.struct.f_mode & FMODE_OPENED:
        opened.put()
        return
    task = task_of(k, cpu)
    k.functions.task_work_add(cpu, task.address, file, 1)
    task.works.append(lambda: k.functions.____fput(k.sched.cpu_of(task), file))


@kernel_function
def ____fput(k: FsKernel, _cpu: Cpu, work: int) -> None:
    """Let a file go, later than its last reference."""
    file_at(k, work).put()


@kernel_function
def __fput(k: FsKernel, cpu: Cpu, file: int) -> None:
    """Let a file go that nobody has open any more."""
    functions, opened = k.functions, file_at(k, file)
    struct = opened.struct
    functions.locks_remove_file(cpu, file)
    functions.security_file_release(cpu, file)
    if not struct.f_mode & FMODE_PATH:
        for head in getattr(opened.private, "heads", lambda _file: ())(opened):
            for watcher in list(head.watchers):
                watcher.drop(opened)
        release = opened.release or opened.ops.get("release")
        if release:
            getattr(functions, release)(cpu, struct.f_inode, file)
    functions.file_f_owner_release(cpu, file)
    if struct.f_mode & FMODE_WRITER:
        functions.mnt_put_write_access(cpu, struct.f_path_mnt)
    opened.dentry = None
    functions.dput(cpu, struct.f_path_dentry)
    functions.mntput(cpu, struct.f_path_mnt)
    _file_free(k, cpu, opened)


def _file_free(k: FsKernel, cpu: Cpu, file: File) -> None:
    k.functions.security_file_free(cpu, file.address)
    k.vfs.forget(file)
