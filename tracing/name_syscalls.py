"""System calls that make, move and remove names (fs/namei.c, v6.18)."""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from tracing.fs import FsKernel, is_err
from tracing.namei import AT_FDCWD, LOOKUP_EMPTY
from tracing.names import AT_EMPTY_PATH, AT_REMOVEDIR
from tracing.syscalls import syscall

__all__: list[str] = []


def _with_name(k: FsKernel, cpu: Cpu, pathname: int, what: str, dfd: int, *args: int) -> int:
    # the functions take a path that could not be copied as the errno it is
    name = k.functions.getname_flags(cpu, pathname, 0)
    ret: int = is_err(name) or getattr(k.functions, what)(cpu, dfd, name, *args)
    return ret


@syscall(83)
def sys_mkdir(k: FsKernel, cpu: Cpu, pathname: int, mode: int) -> int:
    return _with_name(k, cpu, pathname, "do_mkdirat", AT_FDCWD, u32(mode) & 0xFFFF)


@syscall(258)
def sys_mkdirat(k: FsKernel, cpu: Cpu, dfd: int, pathname: int, mode: int) -> int:
    return _with_name(k, cpu, pathname, "do_mkdirat", s32(dfd), u32(mode) & 0xFFFF)


@syscall(133)
def sys_mknod(k: FsKernel, cpu: Cpu, filename: int, mode: int, dev: int) -> int:
    return _with_name(k, cpu, filename, "do_mknodat", AT_FDCWD, u32(mode) & 0xFFFF, u32(dev))


@syscall(259)
def sys_mknodat(k: FsKernel, cpu: Cpu, dfd: int, filename: int, mode: int, dev: int) -> int:
    return _with_name(k, cpu, filename, "do_mknodat", s32(dfd), u32(mode) & 0xFFFF, u32(dev))


@syscall(84)
def sys_rmdir(k: FsKernel, cpu: Cpu, pathname: int) -> int:
    return _with_name(k, cpu, pathname, "do_rmdir", AT_FDCWD)


@syscall(87)
def sys_unlink(k: FsKernel, cpu: Cpu, pathname: int) -> int:
    return _with_name(k, cpu, pathname, "do_unlinkat", AT_FDCWD)


@syscall(263)
def sys_unlinkat(k: FsKernel, cpu: Cpu, dfd: int, pathname: int, flag: int) -> int:
    if u32(flag) & ~AT_REMOVEDIR:
        return -Errno.EINVAL
    return _with_name(k, cpu, pathname, "do_rmdir" if flag & AT_REMOVEDIR else "do_unlinkat", s32(dfd))


def _two(k: FsKernel, cpu: Cpu, old: int, new: int, flags: int = 0) -> tuple[int, int, int]:
    # two paths, or what was wrong with one of them
    functions = k.functions
    first = functions.getname_flags(cpu, old, flags)
    second = functions.getname_flags(cpu, new, 0)
    wrong = is_err(first) or is_err(second)
    if wrong:
        functions.putname(cpu, first)
        functions.putname(cpu, second)
    return wrong, first, second


@syscall(82)
def sys_rename(k: FsKernel, cpu: Cpu, oldname: int, newname: int) -> int:
    wrong, old, new = _two(k, cpu, oldname, newname)
    return wrong or k.functions.do_renameat2(cpu, AT_FDCWD, old, AT_FDCWD, new, 0)


@syscall(264)
def sys_renameat(k: FsKernel, cpu: Cpu, olddfd: int, oldname: int, newdfd: int, newname: int) -> int:
    wrong, old, new = _two(k, cpu, oldname, newname)
    return wrong or k.functions.do_renameat2(cpu, s32(olddfd), old, s32(newdfd), new, 0)


@syscall(316)
def sys_renameat2(k: FsKernel, cpu: Cpu, olddfd: int, oldname: int, newdfd: int, newname: int, flags: int) -> int:
    wrong, old, new = _two(k, cpu, oldname, newname)
    return wrong or k.functions.do_renameat2(cpu, s32(olddfd), old, s32(newdfd), new, u32(flags))


@syscall(86)
def sys_link(k: FsKernel, cpu: Cpu, oldname: int, newname: int) -> int:
    wrong, old, new = _two(k, cpu, oldname, newname)
    return wrong or k.functions.do_linkat(cpu, AT_FDCWD, old, AT_FDCWD, new, 0)


@syscall(265)
def sys_linkat(k: FsKernel, cpu: Cpu, olddfd: int, oldname: int, newdfd: int, newname: int, flags: int) -> int:
    wrong, old, new = _two(k, cpu, oldname, newname, LOOKUP_EMPTY if flags & AT_EMPTY_PATH else 0)
    return wrong or k.functions.do_linkat(cpu, s32(olddfd), old, s32(newdfd), new, u32(flags))


@syscall(88)
def sys_symlink(k: FsKernel, cpu: Cpu, oldname: int, newname: int) -> int:
    wrong, old, new = _two(k, cpu, oldname, newname)
    return wrong or k.functions.do_symlinkat(cpu, old, AT_FDCWD, new)


@syscall(266)
def sys_symlinkat(k: FsKernel, cpu: Cpu, oldname: int, newdfd: int, newname: int) -> int:
    wrong, old, new = _two(k, cpu, oldname, newname)
    return wrong or k.functions.do_symlinkat(cpu, old, s32(newdfd), new)
