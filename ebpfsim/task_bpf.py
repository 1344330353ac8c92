"""bpf(2) as tasks call it: ``__x64_sys_bpf()``, the security hooks on the way, descriptors of the task
(kernel/bpf/syscall.c, v6.18).

What a command does is done by ``ebpfsim.syscall``; who may do it is asked here. Differs: the hooks of new maps and
programs are asked when these have been made, and a refusal takes them away again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct, Text
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.alu import s32, u32
from ebpfsim.maps.map import Map
from ebpfsim.memory.user import UserFault
from ebpfsim.objects import FdTable
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.task import TaskBpf, capabilities
from ebpfsim.uapi.bpf import BpfCmd
from tracing.bpf_files import new_fd
from tracing.functions import kernel_function
from tracing.syscalls import syscall
from tracing.task import Task

__all__: list[str] = []

SIZEOF_BPF_ATTR, MAX_ATTR = 168, 4096
FMODE_RW = 3
CAPS = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
# what a command of some name makes
MAKES = {BpfCmd.MAP_CREATE: "map", BpfCmd.PROG_LOAD: "prog"}
LINKS = (BpfCmd.LINK_CREATE, BpfCmd.RAW_TRACEPOINT_OPEN, BpfCmd.LINK_GET_FD_BY_ID)
GETS = {BpfCmd.MAP_GET_FD_BY_ID: "map", BpfCmd.PROG_GET_FD_BY_ID: "prog"}


class _BpfProg(KernelStruct):
    struct_name = "bpf_prog"
    type = Field()
    expected_attach_type = Field()
    len = Field()
    aux = Field()


class _Aux(KernelStruct):
    struct_name = "bpf_prog_aux"
    name = Text()
    id = Field()


@contextmanager
def _of_task(k: Any, task: Task) -> Iterator[Any]:
    # bpf(2) with the task's descriptors, memory and capabilities; calls do not wait, so nobody sees it in between
    fds: FdTable = k.fds
    user = k.bpf.user
    held = [name for bit, name in CAPS.items() if task.cred.cap_effective >> bit & 1]
    k.fds, k.bpf.user = task.files, task.user
    try:
        yield k.bpf if len(held) == len(CAPS) else TaskBpf(k.bpf, capabilities(held))
    finally:
        k.fds, k.bpf.user = fds, user


@syscall(321)
def sys_bpf(k: Any, cpu: Cpu, cmd: int, uattr: int, size: int) -> int:
    return s32(k.functions.__sys_bpf(cpu, u32(cmd), uattr, 0, u32(size)))


@kernel_function
def __sys_bpf(k: Any, cpu: Cpu, cmd: int, uattr: int, _is_kernel: int, size: int) -> int:
    """Do a command: EFAULT, E2BIG, what the security modules say, and what the command comes to."""
    functions, task = k.functions, k.sched.current(cpu)
    functions.bpf_check_uarg_tail_zero(cpu, uattr, 0, SIZEOF_BPF_ATTR, size)
    if size > MAX_ATTR:
        return -Errno.E2BIG
    try:
        attr = bytearray(task.user.read(uattr, size))
    except UserFault:
        return -Errno.EFAULT
    room = k.mem.alloc(max(SIZEOF_BPF_ATTR, size))
    k.mem.write(room, attr)
    try:
        ret: int = functions.security_bpf(cpu, s32(cmd), room, size, 0)
        ret = ret or _command(k, cpu, task, cmd, attr, room)
    finally:
        k.mem.free(room)
    try:
        task.user.write(uattr, attr)
    except UserFault:
        return -Errno.EFAULT
    return ret


def _command(k: Any, cpu: Cpu, task: Task, cmd: int, attr: bytearray, room: int) -> int:
    functions = k.functions

    def call() -> int:
        with _of_task(k, task) as bpf:
            try:
                return int(bpf.raw(cmd, attr))
            except KernelError as error:
                return -abs(error.errno)

    k.walks[room] = call
    try:
        if cmd == BpfCmd.MAP_CREATE:
            return s32(functions.map_create(cpu, room, 0, 0))
        if cmd == BpfCmd.PROG_LOAD:
            return s32(functions.bpf_prog_load(cpu, room, 0, 0, len(attr)))
        if cmd == BpfCmd.MAP_UPDATE_ELEM:
            return s32(functions.map_update_elem(cpu, room, 0, 0))
        if cmd == BpfCmd.MAP_LOOKUP_ELEM:
            return s32(functions.map_lookup_elem(cpu, room))
        ret = call()
    finally:
        del k.walks[room]
    kind = "link" if cmd in LINKS else GETS.get(cmd, "")  # type: ignore[call-overload]
    return _with_file(k, cpu, task, kind, ret) if kind and ret >= 0 else ret


def _with_file(k: Any, cpu: Cpu, task: Task, kind: str, fd: int) -> int:
    obj = task.files.lookup(fd)
    assert obj is not None
    ret = new_fd(k, cpu, kind, obj, fd)
    if ret:
        task.files.close(fd)
    return ret or fd


def _refused(task: Task, fd: int, ret: int) -> int:
    task.files.close(fd)
    return ret


@kernel_function
def map_create(k: Any, cpu: Cpu, attr: int, _uattr: int, _is_kernel: int) -> int:
    """Make a map and its descriptor."""
    functions, task = k.functions, k.sched.current(cpu)
    fd: int = k.walks[attr]()
    if fd < 0:
        return fd
    map_ = task.files.lookup(fd)
    assert isinstance(map_, Map)
    functions.bpf_map_area_alloc(cpu, map_.value_size, -1)
    functions.bpf_map_init_from_attr(cpu, map_.address, attr)
    functions.bpf_obj_name_cpy(cpu, 0, 0, 16)
    ret: int = functions.security_bpf_map_create(cpu, map_.address, attr, 0, 0)
    if ret:
        return _refused(task, fd, ret)
    functions.bpf_token_put(cpu, 0)
    ret = functions.security_bpf_map(cpu, map_.address, FMODE_RW)
    return _refused(task, fd, ret) if ret else _with_file(k, cpu, task, "map", fd)


@kernel_function
def bpf_prog_load(k: Any, cpu: Cpu, attr: int, _uattr: int, _is_kernel: int, _size: int) -> int:
    """Verify a program and make its descriptor."""
    functions, task = k.functions, k.sched.current(cpu)
    for cap in (39, 38):
        functions.bpf_token_capable(cpu, 0, cap)
    functions.bpf_prog_alloc(cpu, 0, 0)
    functions.bpf_obj_name_cpy(cpu, 0, 0, 16)
    prog, aux = _BpfProg.alloc(k.mem), _Aux.alloc(k.mem)
    prog.aux = aux.address
    _describe(k, prog, aux, attr)
    try:
        ret: int = functions.security_bpf_prog_load(cpu, prog.address, attr, 0, 0)
        if ret:
            return ret
        fd: int = functions.bpf_check(cpu, prog.address, attr, 0, 0, 0)
        if fd < 0:
            return fd
        loaded = task.files.lookup(fd)
        assert isinstance(loaded, Prog)
        aux.id = loaded.id
        functions.bpf_prog_select_runtime(cpu, prog.address, 0)
        functions.bpf_prog_kallsyms_add(cpu, prog.address)
        functions.perf_event_bpf_event(cpu, prog.address, 1, 0)
        k.walks[prog.address] = fd
        try:
            return s32(functions.bpf_prog_new_fd(cpu, prog.address))
        finally:
            del k.walks[prog.address]
    finally:
        aux.free()
        prog.free()


def _describe(k: Any, prog: _BpfProg, aux: _Aux, attr: int) -> None:
    # union bpf_attr: prog_type, insn_cnt, at 48 prog_name, at 68 expected_attach_type
    load = k.mem.load
    prog.type, prog.len, prog.expected_attach_type = load(attr, 4), load(attr + 4, 4), load(attr + 68, 4)
    aux.name = k.mem.read(attr + 48, 16).partition(b"\0")[0].decode(errors="replace")


@kernel_function
def bpf_check(k: Any, _cpu: Cpu, _prog: int, attr: int, _uattr: int, _is_kernel: int, _size: int) -> int:
    """Verify a program; its descriptor or an errno."""
    call: Callable[[], int] = k.walks[attr]
    return call()


@kernel_function
def bpf_prog_new_fd(k: Any, cpu: Cpu, prog: int) -> int:
    """Return a descriptor of a program, unless the security modules refuse."""
    task, fd = k.sched.current(cpu), k.walks[prog]
    ret: int = k.functions.security_bpf_prog(cpu, prog)
    return _refused(task, fd, ret) if ret else _with_file(k, cpu, task, "prog", fd)


@kernel_function
def map_update_elem(k: Any, cpu: Cpu, attr: int, _uattr: int, _is_kernel: int) -> int:
    """Change an element of a map."""
    functions = k.functions
    functions.fdget(cpu, k.mem.load(attr, 4))
    functions.bpf_map_value_size(cpu, 0)
    call: Callable[[], int] = k.walks[attr]
    return call()


@kernel_function
def map_lookup_elem(k: Any, cpu: Cpu, attr: int) -> int:
    """Read an element of a map."""
    functions = k.functions
    functions.fdget(cpu, k.mem.load(attr, 4))
    call: Callable[[], int] = k.walks[attr]
    return call()
