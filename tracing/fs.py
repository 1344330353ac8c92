"""What the files that model the kernel's fs/ share: the kernel around them, ERR_PTR, functions of one kernel."""

from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol, TypeVar

from ebpfsim.btf.view import KernelStruct
from ebpfsim.cpu import Cpu
from ebpfsim.memory import Memory
from hooks.cgroup_run import CgroupRunner
from tracing.sched import Scheduler
from tracing.task import Task
from tracing.vfs import Dentry, File, Inode, Vfs

__all__ = ["FsKernel", "borrow", "bound", "fs_call", "give_back", "is_err", "task_of"]

StructT = TypeVar("StructT", bound=KernelStruct)

MAX_ERRNO = 4095
_FIRST_ERR = (1 << 64) - MAX_ERRNO


class FsKernel(Protocol):
    """What functions of the file system need of a kernel."""

    mem: Memory
    # walks under way by the address of their ``struct nameidata``
    walks: dict[int, Any]

    def trace(self, cpu: Cpu, name: str, *args: int) -> None:
        """Fire a tracepoint."""
        ...

    @property
    def sched(self) -> Scheduler:
        """Its tasks."""
        ...

    @property
    def vfs(self) -> Vfs:
        """Its files."""
        ...

    @property
    def functions(self) -> Any:
        """Its functions, to be called through their slots."""
        ...

    @property
    def cgroup_runner(self) -> CgroupRunner:
        """What runs programs of control groups."""
        ...


def is_err(value: int) -> int:
    """Return the negative errno that a pointer carries (IS_ERR, PTR_ERR), 0 when it is a pointer."""
    if value >= _FIRST_ERR:
        return value - (1 << 64)
    return value if -MAX_ERRNO <= value < 0 else 0


def borrow(k: FsKernel, kind: type[StructT]) -> StructT:
    """Return a structure that lives as long as a call, as on the stack: what was there before is still in it."""
    spare = k.vfs.spare.get(kind)
    return spare.pop() if spare else kind.alloc(k.mem)


def give_back(k: FsKernel, struct: KernelStruct) -> None:
    """Let others have a structure that was borrowed."""
    k.vfs.spare.setdefault(type(struct), []).append(struct)


def task_of(k: FsKernel, cpu: Cpu) -> Task:
    """Return the task whose system call this is."""
    return k.sched.queues[cpu.number].current


def dentry_at(k: FsKernel, address: int) -> Dentry:
    """Return the dentry at an address."""
    found = k.vfs.by_address[address]
    assert isinstance(found, Dentry)
    return found


def inode_at(k: FsKernel, address: int) -> Inode:
    """Return the inode at an address."""
    found = k.vfs.by_address[address]
    assert isinstance(found, Inode)
    return found


def file_at(k: FsKernel, address: int) -> File:
    """Return the open file at an address."""
    found = k.vfs.by_address[address]
    assert isinstance(found, File)
    return found


def fs_call(k: FsKernel, cpu: Cpu, inode: Inode, op: str, *args: int) -> int:
    """Call the function of the kernel that is an operation of an inode's file system."""
    ret: int = getattr(k.functions, inode.sb.fs.ops[op])(cpu, *args)
    return ret


def bound(module: ModuleType, kernel: object) -> SimpleNamespace:
    """Return the kernel functions of a module, which take their kernel first, as functions of one kernel."""
    found = SimpleNamespace()
    for name, function in vars(module).items():
        if callable(function) and getattr(function, "kernel_function", False) is True:
            call: Callable[..., Any] = partial(function, kernel)
            call.__dict__["kernel_function"] = True
            setattr(found, name, call)
    return found
