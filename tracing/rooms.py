"""The modules of this package that have functions of the kernel, and those that have system calls."""

from types import ModuleType

from tracing import (
    attr,
    bpf_files,
    cred,
    dcache,
    devcgroup,
    exec,  # noqa: A004 - the kernel's name for it
    exit,  # noqa: A004
    faults,
    fork,
    fs_syscalls,
    futex,
    limits,
    mm,
    mount,
    mremap,
    name_syscalls,
    namei,
    names,
    perf_open,
    permission,
    pipe,
    poll,
    proc_base,
    proc_sysctl,
    process,
    ranges,
    read_write,
    shmem,
    signal_syscalls,
    signals,
    splice,
    stat,
    waiting,
    xattr,
)
from tracing import open as open_

__all__ = ["FUNCTION_ROOMS", "SYSCALL_ROOMS"]

SYSCALL_ROOMS: tuple[ModuleType, ...] = (
    attr, cred, exec, exit, fork, fs_syscalls, futex, limits, mm, mount, mremap, name_syscalls, perf_open, pipe,
    poll, process, ranges, signal_syscalls, splice, stat, xattr,
)  # fmt: skip
FUNCTION_ROOMS: tuple[ModuleType, ...] = (
    *(*SYSCALL_ROOMS, bpf_files, dcache, devcgroup, faults, namei, names, open_, permission, proc_base),
    *(proc_sysctl, read_write, shmem, signals, waiting),
)  # fmt: skip
