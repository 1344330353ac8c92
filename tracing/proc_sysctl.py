"""/proc/sys: switches as files of one number each (fs/proc/proc_sysctl.c and kernel/sysctl.c, v6.18).

A file or folder is there once somebody asked for it. Differs: /proc/sys is a mount of its own, with the switches of the
first network namespace; numbers have the limits of an int but for those in ``RANGES``; some are looked at when a host
is made only.
"""

from collections.abc import MutableMapping
from typing import Protocol

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from tracing.cgroup_sysctl import run_filter_sysctl
from tracing.fs import FsKernel, dentry_at, file_at, inode_at, task_of
from tracing.functions import kernel_function
from tracing.read_write import Kiocb
from tracing.vfs import S_IFDIR, S_IFREG, Dentry

__all__ = ["SysctlKernel"]

MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4
CAP_NET_ADMIN = 12
KMALLOC_MAX_SIZE = 4 << 20
TMPBUFLEN = 22
INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1
SPACES = b" \t\n"
# extra1 and extra2 of the tables
RANGES = {"net.ipv4.ip_default_ttl": (1, 255)}


class SysctlKernel(FsKernel, Protocol):
    """A kernel with switches."""

    @property
    def sysctl_values(self) -> MutableMapping[str, int]:
        """Names with dots, and values."""
        ...


def name_of(dentry: Dentry) -> str:
    """Return the name of a switch, or how those of a folder begin."""
    names: list[str] = []
    while dentry.parent is not dentry:
        names.insert(0, dentry.name)
        dentry = dentry.parent
    return ".".join(names)


@kernel_function
def proc_sys_lookup(k: SysctlKernel, cpu: Cpu, _dir: int, dentry: int, _flags: int) -> int:
    """Let a name stand for a switch, or for a folder of some."""
    entry = dentry_at(k, dentry)
    entry.hashed = True
    name = name_of(entry)
    if name in k.sysctl_values:
        mode = S_IFREG | 0o644
    elif any(each.startswith(f"{name}.") for each in k.sysctl_values):
        mode = S_IFDIR | 0o555
    else:
        return 0
    k.vfs.instantiate(entry, k.vfs.new_inode(entry.sb, mode, 0, 0))
    return 0


@kernel_function
def proc_sys_readdir(k: SysctlKernel, cpu: Cpu, file: int, ctx: int) -> int:
    """Go through a folder."""
    dentry = file_at(k, file).dentry
    assert dentry is not None
    prefix = name_of(dentry)
    prefix += "." if prefix else ""
    for name in dict.fromkeys(
        each[len(prefix) :].partition(".")[0] for each in k.sysctl_values if each.startswith(prefix)
    ):
        if name not in dentry.children:
            proc_sys_lookup(k, cpu, 0, k.vfs.d_alloc(dentry, name, dentry.sb).address, 0)
    ret: int = k.functions.offset_readdir(cpu, file, ctx)
    return ret


@kernel_function
def proc_sys_permission(k: SysctlKernel, cpu: Cpu, _idmap: int, inode: int, mask: int) -> int:
    """Whether a task may read or write: EACCES; capabilities other than that for the network do not matter."""
    node = inode_at(k, inode)
    if mask & MAY_EXEC and not node.is_dir:
        return -Errno.EACCES
    return sysctl_perm(k, cpu, node.i_mode, mask)


def sysctl_perm(k: SysctlKernel, cpu: Cpu, mode: int, mask: int) -> int:
    """Test the mode bits of root, of its group, or of others (``net_ctl_permissions``)."""
    cred = task_of(k, cpu).cred
    if cred.fsuid == 0 or cred.cap_effective >> CAP_NET_ADMIN & 1:
        mode >>= 6
    elif cred.fsgid == 0:
        mode >>= 3
    return -Errno.EACCES if mask & (MAY_READ | MAY_WRITE | MAY_EXEC) & ~mode else 0


@kernel_function
def proc_sys_open(_k: SysctlKernel, _cpu: Cpu, _inode: int, _file: int) -> int:
    """Open a switch."""
    return 0


@kernel_function
def proc_sys_read(k: SysctlKernel, cpu: Cpu, iocb: int, iter_: int) -> int:
    """Read a switch."""
    return int(k.functions.proc_sys_call_handler(cpu, iocb, iter_, 0))


@kernel_function
def proc_sys_write(k: SysctlKernel, cpu: Cpu, iocb: int, iter_: int) -> int:
    """Turn a switch."""
    return int(k.functions.proc_sys_call_handler(cpu, iocb, iter_, 1))


@kernel_function
def proc_sys_call_handler(k: SysctlKernel, cpu: Cpu, iocb: int, iter_: int, write: int) -> int:
    """Ask the programs of the control group, then read or write: EPERM, EINVAL, ENOMEM, EFAULT."""
    asked, pieces = Kiocb(k.mem, iocb), k.walks[iter_]
    dentry = file_at(k, asked.ki_filp).dentry
    assert dentry is not None
    assert dentry.inode is not None
    if sysctl_perm(k, cpu, dentry.inode.i_mode, MAY_WRITE if write else MAY_READ):
        return -Errno.EPERM
    count = sum(length for _, length in pieces.pieces)
    if count >= KMALLOC_MAX_SIZE:
        return -Errno.ENOMEM
    name, data = name_of(dentry), b""
    if write:
        data = pieces.get(count)
        if len(data) != count:
            return -Errno.EFAULT
    err, data = run_filter_sysctl(k, cpu, name, _shown(k, name), data, iocb, is_write=bool(write))
    if err:
        return err
    if not write:
        shown = _shown(k, name)[:count] if not asked.ki_pos else b""
        done = pieces.put(shown)
        asked.ki_pos += done
        return -Errno.EFAULT if done < len(shown) else done
    if asked.ki_pos:
        # sysctl_writes_strict: what does not begin at the beginning is ignored
        asked.ki_pos += len(data)
    elif data:
        number = _dointvec(data, *RANGES.get(name, (INT_MIN, INT_MAX)))
        if number is None:
            return -Errno.EINVAL
        # measured: the file stays at its beginning
        k.sysctl_values[name] = number
    return len(data)


def _shown(k: SysctlKernel, name: str) -> bytes:
    return b"%d\n" % k.sysctl_values[name]


def _dointvec(data: bytes, least: int, most: int) -> int | None:
    """Return the first number, None where there is none in the limits (``proc_dointvec_minmax``, ``proc_get_long``)."""
    text = data.lstrip(SPACES)
    digits = text[: TMPBUFLEN - 1].removeprefix(b"-")
    negative = len(digits) < len(text[: TMPBUFLEN - 1])
    end = next((at for at, char in enumerate(digits) if not chr(char).isalnum()), len(digits))
    try:
        number = _strtoul(digits[:end])
    except ValueError:
        return None
    rest = text[end + negative :]
    if end + negative == TMPBUFLEN - 1 or (rest and rest[:1] not in (b" ", b"\t", b"\n")):
        return None
    number = -number if negative else number
    return number if least <= number <= most else None


def _strtoul(digits: bytes) -> int:
    # base 0, as of the kernel: 0x and a leading 0
    if digits[:2].lower() == b"0x":
        return int(digits[2:], 16)
    return int(digits, 8 if digits[:1] == b"0" and len(digits) > 1 else 10)
