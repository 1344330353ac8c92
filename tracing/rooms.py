"""The modules of this package that have functions of the kernel, and those that have system calls."""

from types import ModuleType

from tracing import attr, dcache, fs_syscalls, name_syscalls, namei, names, permission, process, read_write, shmem
from tracing import open as open_

__all__ = ["FUNCTION_ROOMS", "SYSCALL_ROOMS"]

FUNCTION_ROOMS: tuple[ModuleType, ...] = (
    attr, dcache, fs_syscalls, namei, names, open_, permission, process, read_write, shmem,
)  # fmt: skip
SYSCALL_ROOMS: tuple[ModuleType, ...] = (attr, fs_syscalls, name_syscalls, process)
