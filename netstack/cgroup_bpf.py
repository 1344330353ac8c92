"""Programs of control groups on the paths of sockets and their packets (``__cgroup_bpf_run_filter_*``, v6.18).

A socket belongs to the cgroup of the task that made it. All programs of its effective array run, also after one has
refused; the first refusal gives EPERM unless a program set another errno (``bpf_set_retval``). Left out: programs for
IPv6 and Unix sockets, options, sysctls and devices have nothing to run on yet.
"""

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.maps.cgroup_storage import CgroupStorageMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.cgroup import Cgroup, CgroupItem
from hooks.run import Execute, bpf_prog_run
from netstack.skb import SkBuff
from netstack.skb_run import skb_struct
from netstack.skb_xmit import NET_XMIT_CN, NET_XMIT_DROP

if TYPE_CHECKING:
    from netstack.net import NetKernel

__all__ = ["HELPERS", "CgroupBpf", "CgroupSock", "SockAddr"]

BPF_RET_SET_CN = 1 << 0  # include/linux/bpf.h
MAX_ERRNO = 4095  # include/linux/err.h
AF_INET = 2
_SOCKADDR_IN = Struct("<H2s4s8x")
_SOCK_ADDR_KERN = Struct("<QQQQI4x")  # struct bpf_sock_addr_kern: sk, uaddr, tmp_reg, t_ctx, uaddrlen
# where it has uaddrlen; sizeof(struct sockaddr_un) and a NUL
SOCK_ADDR_LEN, UNIX_NAME_BYTES, UNIX_PATH_MAX = 32, 112, 108
_KEY = "bpf_cg_run_ctx"
# per CPU: whose value of a map the program under way gets
STORAGE = "bpf_cgroup_storage"


class CgroupSock(Protocol):
    """A socket that belongs to a cgroup."""

    @property
    def cgroup(self) -> Cgroup:
        """The cgroup of the task that made it."""
        ...

    @property
    def struct_address(self) -> int:
        """Where its ``struct sock`` lies."""
        ...


@dataclass(slots=True)
class SockAddr:
    """What programs made of an address: errno (0 or negative), address, port, source address, and result flags."""

    err: int
    address: int
    port: int
    source: int = 0
    flags: int = 0


class _RunCtx:
    # struct bpf_cg_run_ctx: what bpf_get_retval() reads and bpf_set_retval() writes
    __slots__ = ("retval",)

    def __init__(self, retval: int) -> None:
        self.retval = retval


class CgroupBpf:
    """Runs the programs of cgroups of one simulated kernel."""

    def __init__(self, kernel: "NetKernel", execute: Execute) -> None:
        self.kernel = kernel
        self._execute = execute
        row = "call.indirect" if kernel.config.mitigations == "off" else "call.indirect.retpoline"
        self._call_ps = kernel.costs.ps(row)

    def run_filter_skb(self, sk: CgroupSock, skb: SkBuff, kind: AttachType, cpu: Cpu) -> int:
        """Ask about a packet that a socket sends or receives: 0, NET_XMIT_*, or a negative errno."""
        items = sk.cgroup.effective.get(kind)
        if not items:
            return 0
        with skb_struct(skb, self.kernel.mem, ingress=False, sk=sk.struct_address, network=True) as struct:
            struct.compute_data_pointers()
            err, flags = self._run_array(items, struct.address, cpu, kind, split=kind == AttachType.CGROUP_INET_EGRESS)
        if kind != AttachType.CGROUP_INET_EGRESS:
            return err
        if not err:
            return NET_XMIT_CN if flags & BPF_RET_SET_CN else 0
        return NET_XMIT_DROP if flags & BPF_RET_SET_CN else err

    def run_filter_sk(self, sk: CgroupSock, kind: AttachType, cpu: Cpu) -> int:
        """Ask about a socket that is made, was bound or goes away: 0 or a negative errno."""
        items = sk.cgroup.effective.get(kind)
        return self._run_array(items, sk.struct_address, cpu, kind)[0] if items else 0

    def run_lsm(self, items: tuple[CgroupItem, ...], ctx: int, cpu: Cpu) -> int:
        """Ask on behalf of a hook of the LSM: 0 or a negative errno (__cgroup_bpf_run_lsm_current)."""
        return self._run_array(items, ctx, cpu, AttachType.LSM_CGROUP)[0]

    def run_filter_sock_ops(self, sk: CgroupSock, ctx: int, cpu: Cpu) -> int:
        """Tell programs of an event of a TCP socket: 0 or a negative errno."""
        kind = AttachType.CGROUP_SOCK_OPS
        return self._run_array(sk.cgroup.effective[kind], ctx, cpu, kind)[0]

    def run_filter_sock_addr(
        self, sk: CgroupSock, kind: AttachType, address: int, port: int, cpu: Cpu, source: int = 0
    ) -> SockAddr:
        """Ask about an address that a task gives or gets; programs may change it."""
        items = sk.cgroup.effective.get(kind)
        if not items:
            return SockAddr(0, address, port, source)
        mem = self.kernel.mem
        place = mem.alloc(_SOCK_ADDR_KERN.size + _SOCKADDR_IN.size + 4)
        uaddr = place + _SOCK_ADDR_KERN.size
        t_ctx = uaddr + _SOCKADDR_IN.size
        mem.write(place, _SOCK_ADDR_KERN.pack(sk.struct_address, uaddr, 0, t_ctx, _SOCKADDR_IN.size))
        mem.write(uaddr, _SOCKADDR_IN.pack(AF_INET, port.to_bytes(2, "big"), address.to_bytes(4, "big")))
        mem.write(t_ctx, source.to_bytes(4, "big"))
        try:
            split = kind == AttachType.CGROUP_INET4_BIND
            err, flags = self._run_array(items, place, cpu, kind, split=split)
            _, port_be, address_be = _SOCKADDR_IN.unpack(mem.read(uaddr, _SOCKADDR_IN.size))
            source_be = mem.read(t_ctx, 4)
        finally:
            mem.free(place)
        address, port, source = (int.from_bytes(each, "big") for each in (address_be, port_be, source_be))
        return SockAddr(err, address, port, source, flags)

    def run_filter_unix(self, sk: CgroupSock, kind: AttachType, name: bytes, cpu: Cpu) -> bytes | int:
        """Ask about the name of an AF_UNIX socket (``struct sockaddr_un``): it or another one, or -errno."""
        items = sk.cgroup.effective.get(kind)
        if not items:
            return name
        mem = self.kernel.mem
        place = mem.alloc(_SOCK_ADDR_KERN.size + UNIX_NAME_BYTES)
        uaddr = place + _SOCK_ADDR_KERN.size
        mem.write(place, _SOCK_ADDR_KERN.pack(sk.struct_address, uaddr, 0, 0, len(name)))
        mem.write(uaddr, name)
        try:
            err, _ = self._run_array(items, place, cpu, kind)
            size = mem.load(place + SOCK_ADDR_LEN, 4)
            return err or bytes(mem.read(uaddr, size))
        finally:
            mem.free(place)

    def _run_array(
        self, items: tuple[CgroupItem, ...], ctx: int, cpu: Cpu, kind: AttachType, *, split: bool = False
    ) -> tuple[int, int]:
        # bpf_prog_run_array_cg(): with ``split`` only bit 0 says yes or no, the others are flags
        run_ctx, flags = _RunCtx(0), 0
        outer = cpu.scratch.get(_KEY)
        cpu.scratch[_KEY] = run_ctx
        try:
            for item in items:
                result = self._bpf_prog_run(item, ctx, cpu, kind)
                if split:
                    flags |= result >> 1
                    result &= 1
                if not result and not -MAX_ERRNO <= run_ctx.retval < 0:
                    run_ctx.retval = -Errno.EPERM
        finally:
            cpu.scratch[_KEY] = outer
        # a retval that is no error stands for a bad address (ret && !IS_ERR_VALUE)
        return run_ctx.retval if -MAX_ERRNO <= run_ctx.retval <= 0 else -Errno.EFAULT, flags

    def _bpf_prog_run(self, item: CgroupItem, ctx: int, cpu: Cpu, kind: AttachType) -> int:
        kernel, prog, time_ns = self.kernel, item.prog, cpu.now_ns
        before, cpu.scratch[STORAGE] = cpu.scratch.get(STORAGE), (item.cgroup_id, kind)
        try:
            ran = bpf_prog_run(kernel, prog, ctx, cpu, self._execute, self._call_ps)
        finally:
            cpu.scratch[STORAGE] = before
        verdict = "allow" if ran.retval & 1 else "deny"
        item.stats.count(verdict, self._call_ps + ran.cost_ps, self._call_ps + ran.cost_ps)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                time_ns, kernel.name, cpu.number, kind.lower, "", item.label, prog.id, prog.name,
                ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        return ran.retval


def _run_ctx(run: Run) -> _RunCtx:
    found = run.cpu.scratch.get(_KEY)
    return found if isinstance(found, _RunCtx) else _RunCtx(0)


def bpf_get_retval(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return what the system call would return as things stand."""
    return u64(_run_ctx(run).retval)


def bpf_set_retval(run: Run, retval: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Set what the system call returns; the program's own result still says yes or no."""
    _run_ctx(run).retval = s32(u32(retval))
    return 0


def bpf_get_local_storage(run: Run, map_address: int, _flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of the value of the attachment by which the program runs, and of the CPU."""
    key, map_ = run.cpu.scratch.get(STORAGE), run.kernel.map_at(map_address)
    assert isinstance(map_, CgroupStorageMap)
    if not isinstance(key, tuple):
        raise NotModelled("storage of control groups in test runs", "net/bpf/test_run.c")
    return map_.attach(*key) + (run.cpu.number * map_.cpu_stride if map_.percpu else 0)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_get_local_storage"]: bpf_get_local_storage,
    HELPER_IDS["bpf_get_retval"]: bpf_get_retval,
    HELPER_IDS["bpf_set_retval"]: bpf_set_retval,
}
