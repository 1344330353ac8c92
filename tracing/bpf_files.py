"""Files of bpf(2): what a descriptor of a map, a program or a link is to the rest of the kernel (kernel/bpf/syscall.c,
v6.18)."""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.objects import KernelObject
from tracing.fs import file_at, is_err
from tracing.functions import kernel_function
from tracing.open import make_anon_file
from tracing.task import Task

__all__ = ["new_fd"]

# kinds of objects: the name of their files, what lets them go
KINDS = {
    "map": ("bpf-map", {"release": "bpf_map_release"}),
    "prog": ("bpf-prog", {"release": "bpf_prog_release"}),
    "link": ("bpf_link", {"release": "bpf_link_release"}),
}


def new_fd(k: Any, cpu: Cpu, kind: str, obj: KernelObject, fd: int) -> int:
    """Give the object that a descriptor of the running task stands for a file, as the security modules see it.

    The descriptor itself has been taken already; 0, or an errno when there is no file to be had.
    """
    room = k.mem.alloc(8)
    k.walks[room] = (kind, obj, fd)
    ret = k.functions.anon_inode_getfd(cpu, 0, 0, room, 2)
    del k.walks[room]
    k.mem.free(room)
    return is_err(ret)


@kernel_function
def anon_inode_getfd(k: Any, cpu: Cpu, _name: int, _fops: int, priv: int, flags: int) -> int:
    """Return a descriptor of a file that is nothing but what is behind it."""
    kind, obj, fd = k.walks[priv]
    task: Task = k.sched.current(cpu)
    # the descriptor that the object has is given back for the call that takes it
    entry = task.files.file(fd)
    spare = k.functions.get_unused_fd_flags(cpu, flags)
    if spare >= 0:
        task.files.unreserve(spare)
    name, ops = KINDS[kind]
    address = make_anon_file(k, cpu, f"[{name}]", ops, flags, obj)
    if is_err(address):
        return is_err(address)
    assert entry is not None
    task.files.shadows[fd] = file_at(k, address)
    return int(fd)


def drop_shadow(k: Any, file: int) -> None:
    """Let go of what a file of bpf(2) was for, with its last descriptor."""
    obj = file_at(k, file).private
    assert isinstance(obj, KernelObject)
    obj.put_user()


@kernel_function
def bpf_map_release(k: Any, cpu: Cpu, _inode: int, filp: int) -> int:
    """Let a descriptor of a map go."""
    k.functions.bpf_map_put(cpu, getattr(file_at(k, filp).private, "address", 0))
    drop_shadow(k, filp)
    return 0


@kernel_function
def bpf_prog_release(k: Any, cpu: Cpu, _inode: int, filp: int) -> int:
    """Let a descriptor of a program go."""
    k.functions.__bpf_prog_put(cpu, 0)
    drop_shadow(k, filp)
    return 0


@kernel_function
def bpf_link_release(k: Any, cpu: Cpu, _inode: int, filp: int) -> int:
    """Let a descriptor of a link go."""
    k.functions.bpf_link_free(cpu, 0)
    drop_shadow(k, filp)
    return 0
