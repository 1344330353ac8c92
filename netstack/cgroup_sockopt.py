"""Programs of control groups on options of sockets (``__cgroup_bpf_run_filter_{set,get}sockopt``, v6.18).

Programs see the option's bytes in a buffer of at least 16 and at most 4,096 bytes. One that sets ``optlen`` to -1 keeps
setsockopt() from the kernel; one that leaves a longer option alone sets it to 0, and what user space gave counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory import Memory
from ebpfsim.memory.user import UserFault, UserMemory
from ebpfsim.uapi.bpf import AttachType
from hooks.cgroup_run import RunCtx
from netstack.cgroup_bpf import CgroupBpf, CgroupSock
from tracing.task import Task

__all__ = ["SetSockopt", "run_filter_getsockopt", "run_filter_setsockopt"]

PAGE_SIZE = 4096
LEAST_OPTLEN = 16  # max_t(int, 16, *optlen): room for the longest name of a congestion control
_INT = Struct("<i")
# struct bpf_sockopt_kern: sk, optval, optval_end, level, optname, optlen, current_task, tmp_reg
KERN = Struct("<QQQiii4xQQ")
LEVEL_AT = 24
_LEVEL_NAME_LEN = Struct("<iii")
# struct bpf_cg_run_ctx: run_ctx, prog_item, retval
RUN_CTX_BYTES, RETVAL_AT = 16, 8


class _RunCtxInMemory(RunCtx):
    # programs read and write it through the task that they run for (ctx->retval)
    def __init__(self, mem: Memory, address: int, retval: int) -> None:
        self._mem, self._at = mem, address + RETVAL_AT
        self.retval = retval

    @property
    def retval(self) -> int:
        return s32(self._mem.load(self._at, 4))

    @retval.setter
    def retval(self, value: int) -> None:
        self._mem.store(self._at, 4, u32(value))


@dataclass(frozen=True, slots=True)
class SetSockopt:
    """What programs made of a setsockopt(): an errno, 1 where the kernel is left out, or what to set instead.

    ``value`` is None where what user space gave counts.
    """

    err: int
    level: int
    optname: int
    optlen: int
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Sockopt:
    # struct bpf_sockopt_kern in memory
    mem: Memory
    address: int
    buffer: int
    room: int
    run_ctx: RunCtx

    @property
    def fields(self) -> tuple[int, int, int]:
        level, optname, optlen = _LEVEL_NAME_LEN.unpack(self.mem.read(self.address + LEVEL_AT, _LEVEL_NAME_LEN.size))
        return level, optname, optlen


def run_filter_setsockopt(
    runner: CgroupBpf, cpu: Cpu, task: Task, sk: CgroupSock, level: int, optname: int, optval: int, optlen: int
) -> SetSockopt:
    """Ask the programs of a socket's cgroup about an option that a task sets; they may change it."""
    kind, mem = AttachType.CGROUP_SETSOCKOPT, runner.kernel.mem
    items = sk.cgroup.effective.get(kind)
    same = SetSockopt(0, level, optname, optlen)
    if not items:
        return same
    room = min(max(LEAST_OPTLEN, optlen), PAGE_SIZE)
    given = _read(task.user, optval, min(optlen, room))
    if given is None:
        return SetSockopt(-Errno.EFAULT, level, optname, optlen)
    with _sockopt(mem, task, sk, (level, optname, optlen), room, given, 0) as ctx:
        ret, _ = runner.run_with(ctx.run_ctx, items, ctx.address, cpu, kind)
        new_level, new_optname, new_optlen = ctx.fields
        if ret:
            return SetSockopt(ret, level, optname, optlen)
        if new_optlen == -1:
            return SetSockopt(1, level, optname, optlen)
        if not 0 <= new_optlen <= room:
            # the program left an option alone that is longer than what it could see
            ignored = optlen > PAGE_SIZE and new_optlen >= 0
            return same if ignored else SetSockopt(-Errno.EFAULT, level, optname, optlen)
        if not new_optlen:
            return SetSockopt(0, new_level, new_optname, optlen)
        return SetSockopt(0, new_level, new_optname, new_optlen, bytes(mem.read(ctx.buffer, new_optlen)))


def run_filter_getsockopt(
    runner: CgroupBpf, cpu: Cpu, task: Task, sk: CgroupSock, level: int, optname: int, optval: int, optlen_at: int,
    max_optlen: int, retval: int,
) -> int:  # fmt: skip
    """Show the programs of a socket's cgroup what getsockopt() gave, and return what it returns.

    ``max_optlen`` is how much room there was before, ``retval`` 0 or the kernel's own errno.
    """
    kind, mem, user = AttachType.CGROUP_GETSOCKOPT, runner.kernel.mem, task.user
    items = sk.cgroup.effective.get(kind)
    if not items:
        return retval
    if max_optlen < 0:
        return -Errno.EINVAL
    room, optlen, shown = min(max_optlen, PAGE_SIZE), max_optlen, b""
    if not retval:
        length = _read(user, optlen_at, _INT.size)
        optlen = _INT.unpack(length)[0] if length is not None else -1
        given = _read(user, optval, min(optlen, room)) if optlen >= 0 else None
        if given is None:
            return -Errno.EFAULT
        shown = given
    with _sockopt(mem, task, sk, (level, optname, optlen), room, shown, retval) as ctx:
        ret, _ = runner.run_with(ctx.run_ctx, items, ctx.address, cpu, kind)
        _level, _optname, new_optlen = ctx.fields
        if ret < 0:
            return ret
        if not 0 <= new_optlen <= room:
            return retval if optlen > PAGE_SIZE and new_optlen >= 0 else -Errno.EFAULT
        if not new_optlen:
            return ret
        value = bytes(mem.read(ctx.buffer, new_optlen))
    written = _write(user, optval, value) and _write(user, optlen_at, _INT.pack(new_optlen))
    return ret if written else -Errno.EFAULT


@contextmanager
def _sockopt(
    mem: Memory, task: Task, sk: CgroupSock, fields: tuple[int, int, int], room: int, value: bytes, retval: int
) -> Iterator[_Sockopt]:
    place = mem.alloc(KERN.size + RUN_CTX_BYTES + max(room, 1), what="struct bpf_sockopt_kern")
    run_ctx, buffer = place + KERN.size, place + KERN.size + RUN_CTX_BYTES
    before = task.struct.bpf_ctx
    try:
        mem.write(place, KERN.pack(sk.struct_address, buffer, buffer + room, *fields, task.address, 0))
        mem.write(buffer, value.ljust(room, b"\0"))
        task.struct.bpf_ctx = run_ctx
        yield _Sockopt(mem, place, buffer, room, _RunCtxInMemory(mem, run_ctx, retval))
    finally:
        task.struct.bpf_ctx = before
        mem.free(place)


def _read(user: UserMemory | None, address: int, size: int) -> bytes | None:
    if not size:
        return b""
    try:
        return bytes(user.read(address, size)) if user is not None else None
    except UserFault:
        return None


def _write(user: UserMemory | None, address: int, data: bytes) -> bool:
    try:
        assert user is not None
        user.write(address, data)
    except UserFault:
        return False
    return True
