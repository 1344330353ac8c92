"""Who may do what: mode bits, capabilities, security modules (fs/namei.c, kernel/capability.c, v6.18)."""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from tracing.devcgroup import devcgroup_inode_permission
from tracing.fs import FsKernel, inode_at, task_of
from tracing.functions import kernel_function
from tracing.vfs import S_IFDIR, S_IFMT

__all__ = ["MAY_EXEC", "MAY_NOT_BLOCK", "MAY_READ", "MAY_WRITE"]

MAY_EXEC, MAY_WRITE, MAY_READ, MAY_NOT_BLOCK = 1, 2, 4, 0x80
ACL_TYPE_ACCESS = 0x8000
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER = 1, 2, 3


@kernel_function
def capable(k: FsKernel, cpu: Cpu, cap: int) -> int:
    """Whether the task has a capability in the initial user namespace."""
    cred = task_of(k, cpu).cred
    return int(not k.functions.security_capable(cpu, cred.address, k.sched.namespaces.user_ns, cap, 0))


@kernel_function
def ns_capable(k: FsKernel, cpu: Cpu, ns: int, cap: int) -> int:
    """Whether the task has a capability in a user namespace."""
    return int(not k.functions.security_capable(cpu, task_of(k, cpu).cred.address, ns, cap, 0))


@kernel_function
def ns_capable_setid(k: FsKernel, cpu: Cpu, ns: int, cap: int) -> int:
    """Whether the task has a capability for changing its ids."""
    return int(not k.functions.security_capable(cpu, task_of(k, cpu).cred.address, ns, cap, 4))


@kernel_function
def generic_permission(k: FsKernel, cpu: Cpu, idmap: int, inode: int, mask: int) -> int:
    """Compare the mode bits with who the task is, then ask for capabilities; EACCES."""
    node = inode_at(k, inode)
    mode, waits, mask = node.i_mode, not mask & MAY_NOT_BLOCK, mask & 7
    if mask & ~(mode & mode >> 3 & mode >> 6) & 7 and mode & 0o070 and task_of(k, cpu).cred.fsuid != node.i_uid:
        # check_acl(): there is none
        (k.functions.get_cached_acl if waits else k.functions.get_cached_acl_rcu)(cpu, inode, ACL_TYPE_ACCESS)
    if mode_allows(k, cpu, mode, node.i_uid, node.i_gid, mask):
        return 0
    capable = k.functions.capable_wrt_inode_uidgid
    for cap in _overriding(mode, mask):
        if capable(cpu, idmap, inode, cap):
            return 0
    return -Errno.EACCES


def mode_allows(k: FsKernel, cpu: Cpu, mode: int, uid: int, gid: int, mask: int) -> bool:
    """Whether the bits of a mode let the task do this (acl_permission_check)."""
    if not mask & ~(mode & mode >> 3 & mode >> 6) & 7:
        # everybody may
        return True
    cred = task_of(k, cpu).cred
    shift = 6 if cred.fsuid == uid else 3 if cred.fsgid == gid else 0
    return not mask & ~(mode >> shift) & 7


def _overriding(mode: int, mask: int) -> list[int]:
    # the capabilities with either of which mode bits do not matter
    is_dir = mode & S_IFMT == S_IFDIR
    search = [CAP_DAC_READ_SEARCH] if mask == MAY_READ or (is_dir and not mask & MAY_WRITE) else []
    override = [CAP_DAC_OVERRIDE] if is_dir or not mask & MAY_EXEC or mode & 0o111 else []
    return search + override


@kernel_function
def capable_wrt_inode_uidgid(k: FsKernel, cpu: Cpu, idmap: int, inode: int, cap: int) -> int:
    """Whether the task has a capability, as far as it concerns an inode."""
    cred = task_of(k, cpu).cred
    refused = k.functions.security_capable(cpu, cred.address, cred.user_ns, cap, 0)
    return int(not refused and bool(k.functions.privileged_wrt_inode_uidgid(cpu, cred.user_ns, idmap, inode)))


@kernel_function
def inode_permission(k: FsKernel, cpu: Cpu, idmap: int, inode: int, mask: int) -> int:
    """Ask the file system, most often for the mode bits, then the security modules."""
    node, functions = inode_at(k, inode), k.functions
    own = node.sb.fs.ops.get("permission")
    if own is not None:
        ret: int = getattr(functions, own)(cpu, idmap, inode, mask)
    else:
        mode = node.i_mode
        # what everybody may needs no look at who asks
        everybody = not mask & ~(mode & mode >> 3 & mode >> 6) & 7
        ret = 0 if everybody else _permission(k, cpu, mode, node.i_uid, node.i_gid, mask & 7)
    ret = ret or devcgroup_inode_permission(k, cpu, inode, mask)
    return ret or functions.security_inode_permission(cpu, inode, mask)


def _permission(k: FsKernel, cpu: Cpu, mode: int, uid: int, gid: int, mask: int) -> int:
    # of file systems whose functions are their own
    if mode_allows(k, cpu, mode, uid, gid, mask):
        return 0
    effective = task_of(k, cpu).cred.cap_effective
    return 0 if any(effective >> cap & 1 for cap in _overriding(mode, mask)) else -Errno.EACCES


@kernel_function
def inode_owner_or_capable(k: FsKernel, cpu: Cpu, _idmap: int, inode: int) -> int:
    """Whether a task may do what owners may."""
    cred = task_of(k, cpu).cred
    return int(cred.fsuid == inode_at(k, inode).i_uid or k.functions.ns_capable(cpu, cred.user_ns, CAP_FOWNER))
