"""Mounting file systems: mount(2), umount(2) (fs/namespace.c, fs/super.c, v6.18).

Differs: mounts that are moved, bound, changed or made shared are refused (EINVAL); nothing of them is modelled.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.memory.user import UserFault
from tracing.filesystems import FILE_SYSTEMS, FsType, Mount, SuperBlock
from tracing.fs import dentry_at
from tracing.functions import kernel_function
from tracing.namei import AT_FDCWD, LOOKUP_FOLLOW, LOOKUP_MOUNTPOINT
from tracing.syscalls import syscall
from tracing.task import Task

__all__: list[str] = []

MS_REMOUNT, MS_BIND, MS_MOVE, MS_PROPAGATION = 0x20, 0x1000, 0x2000, 0x1E_0000
MNT_FORCE, MNT_DETACH, MNT_EXPIRE, UMOUNT_NOFOLLOW = 1, 2, 4, 8
CAP_SYS_ADMIN = 21


@syscall(165)
def sys_mount(k: Any, cpu: Cpu, dev_name: int, dir_name: int, type: int, flags: int, data: int) -> int:  # noqa: A002
    functions, task = k.functions, k.sched.current(cpu)
    try:
        kind = task.user.read_string(type, 4096) if type else b""
        source = task.user.read_string(dev_name, 4096) if dev_name else b"none"
        functions.copy_mount_options(cpu, data)
    except UserFault:
        return -Errno.EFAULT
    # path, then the texts of the call
    path = k.mem.alloc(16)
    texts = [_text(k, text) for text in (source, kind)]
    ret: int = functions.user_path_at(cpu, AT_FDCWD, dir_name, LOOKUP_FOLLOW, path)
    if not ret:
        ret = functions.path_mount(cpu, texts[0], path, texts[1], flags, data)
        functions.path_put(cpu, path)
    for address in (path, *texts):
        k.mem.free(address)
    return ret


def _text(k: Any, text: bytes) -> int:
    address: int = k.mem.alloc(len(text) + 1)
    k.mem.write(address, text + b"\0")
    return address


@kernel_function
def path_mount(k: Any, cpu: Cpu, dev_name: int, path: int, type_page: int, flags: int, data_page: int) -> int:
    """Mount on a directory: what the security modules say, EPERM, ENODEV, EINVAL."""
    functions, cred = k.functions, k.sched.current(cpu).cred
    ret: int = functions.security_sb_mount(cpu, dev_name, path, type_page, flags, data_page)
    if ret:
        return ret
    if not functions.ns_capable(cpu, cred.user_ns, CAP_SYS_ADMIN):
        return -Errno.EPERM
    if flags & (MS_REMOUNT | MS_BIND | MS_MOVE | MS_PROPAGATION):
        return -Errno.EINVAL
    return _new_mount(k, cpu, path, type_page, dev_name, data_page)


def _new_mount(k: Any, cpu: Cpu, path: int, type_page: int, dev_name: int, data_page: int) -> int:
    # do_new_mount()
    functions = k.functions
    kind = k.mem.read_string(type_page, 4096).decode(errors="replace")
    if not kind:
        return -Errno.EINVAL
    fs: FsType | None = FILE_SYSTEMS.get(kind)
    functions.get_fs_type(cpu, type_page)
    if fs is None or not fs.mountable:
        return -Errno.ENODEV
    functions.fs_context_for_mount(cpu, 0, 0)
    functions.put_filesystem(cpu, 0)
    ret = 0
    for _ in range(2 if data_page else 1):
        functions.vfs_parse_fs_param(cpu, 0, 0)
        # nothing that a module says here, but that it does not know the parameter (ENOPARAM)
        functions.security_fs_context_parse_param(cpu, 0, 0)
    if data_page:
        functions.security_sb_eat_lsm_opts(cpu, 0, 0)
    functions.mount_capable(cpu, 0)
    if not functions.ns_capable(cpu, k.sched.current(cpu).cred.user_ns, CAP_SYS_ADMIN):
        return -Errno.EPERM
    room = k.mem.alloc(8)
    k.walks[room] = fs
    ret = functions.vfs_get_tree(cpu, room)
    sb = k.walks.pop(room)
    k.mem.free(room)
    if ret:
        return int(ret)
    assert isinstance(sb, SuperBlock)
    ret = functions.security_sb_set_mnt_opts(cpu, sb.address, 0, 0, 0)
    ret = ret or functions.security_sb_kern_mount(cpu, sb.address)
    if ret:
        k.vfs.drop_super(sb)
        return int(ret)
    return _attach(k, cpu, path, sb, k.mem.read_string(dev_name, 4096).decode(errors="replace"))


def _attach(k: Any, cpu: Cpu, path: int, sb: SuperBlock, source: str) -> int:
    functions = k.functions
    functions.mount_too_revealing(cpu, sb.address, 0)
    functions.vfs_create_mount(cpu, 0)
    functions.mnt_warn_timestamp_expiry(cpu, path, 0)
    point = dentry_at(k, k.mem.load(path + 8, 8)).top
    functions.lookup_mnt(cpu, path)
    functions.get_mountpoint(cpu, point.address, 0)
    ret = 0
    if point.inode is None or not point.inode.is_dir:
        ret = -Errno.ENOTDIR
    else:
        functions.do_add_mount(cpu, 0, 0, 0)
        k.vfs.new_mount(sb, point, source)
    functions.namespace_unlock(cpu)
    functions.put_fs_context(cpu, 0)
    functions.security_free_mnt_opts(cpu, 0)
    if ret:
        k.vfs.drop_super(sb)
    return ret


@kernel_function
def vfs_get_tree(k: Any, cpu: Cpu, fc: int) -> int:
    """Make an instance of a file system with its root; what the security modules say."""
    functions, fs = k.functions, k.walks[fc]
    if "lookup" in fs.ops:
        functions.shmem_get_tree(cpu, fc)
    ret: int = functions.security_sb_alloc(cpu, 0)
    cred = k.sched.current(cpu).cred
    sb = k.walks[fc] = k.vfs.new_super(fs, 0o1777, cred.fsuid, cred.fsgid)
    ret = ret or functions.security_inode_alloc(cpu, sb.root.d_inode, 0xCC0)
    if ret:
        k.vfs.drop_super(sb)
        return ret
    functions.simple_inode_init_ts(cpu, sb.root.d_inode)
    functions.security_d_instantiate(cpu, sb.root.address, sb.root.d_inode)
    functions.wake_up_var(cpu, 0)
    return 0


@syscall(166)
def sys_umount(k: Any, cpu: Cpu, name: int, flags: int) -> int:
    flags = u32(flags)
    if flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW):
        return -Errno.EINVAL
    path = k.mem.alloc(16)
    how = LOOKUP_MOUNTPOINT | (0 if flags & UMOUNT_NOFOLLOW else LOOKUP_FOLLOW)
    ret: int = k.functions.user_path_at(cpu, AT_FDCWD, name, how, path)
    if not ret:
        ret = k.functions.path_umount(cpu, path, flags)
    k.mem.free(path)
    return ret


@kernel_function
def path_umount(k: Any, cpu: Cpu, path: int, flags: int) -> int:
    """Take a mount away: EINVAL where nothing is mounted, EPERM, EBUSY; the reference of the path goes too."""
    functions, vfs = k.functions, k.vfs
    dentry = dentry_at(k, k.mem.load(path + 8, 8))
    mount: Mount = vfs.mount_of(dentry)
    ret = 0
    if not functions.ns_capable(cpu, k.sched.current(cpu).cred.user_ns, CAP_SYS_ADMIN):
        ret = -Errno.EPERM
    elif dentry is not mount.root or mount.point is None:
        ret = -Errno.EINVAL
    ret = ret or functions.security_sb_umount(cpu, mount.vfsmount, flags)
    dentry.opens -= 1
    if not ret and vfs.is_busy(mount) and not flags & MNT_DETACH:
        ret = -Errno.EBUSY
    dentry.opens += 1
    if not ret:
        functions.umount_tree(cpu, mount.address, 0)
        vfs.unmount(mount)
        functions.namespace_unlock(cpu)
    functions.dput(cpu, dentry.address)
    functions.mntput_no_expire(cpu, mount.address)
    if not ret:
        task: Task = k.sched.current(cpu)
        functions.task_work_add(cpu, task.address, mount.address, 1)
        task.works.append(lambda: functions.__cleanup_mnt(k.sched.cpu_of(task), mount.address))
        vfs.leaving[mount.address] = mount
    return int(ret)


@kernel_function
def __cleanup_mnt(k: Any, cpu: Cpu, head: int) -> None:
    """Let a mount go that nobody has any more."""
    k.functions.cleanup_mnt(cpu, head)


@kernel_function
def cleanup_mnt(k: Any, cpu: Cpu, mnt: int) -> None:
    """Let a mount go, and the file system on it."""
    mount: Mount = k.vfs.leaving.pop(mnt)
    if k.vfs.is_busy(mount):
        # detached: its files stay as long as they are open
        return
    functions = k.functions
    functions.deactivate_super(cpu, mount.sb.address)
    root = mount.root.inode
    if root is not None:
        functions.security_inode_free(cpu, root.address)
    functions.security_sb_delete(cpu, mount.sb.address)
    k.vfs.drop_super(mount.sb)
