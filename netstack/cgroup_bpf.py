"""Programs of control groups on the paths of sockets and their packets (``__cgroup_bpf_run_filter_*``, v6.18).

A socket belongs to the cgroup of the task that made it.
"""

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from ebpfsim.cpu import Cpu
from ebpfsim.uapi.bpf import AttachType
from hooks.cgroup import Cgroup, CgroupItem
from hooks.cgroup_run import CgroupRunner
from hooks.run import Execute
from netstack.skb import SkBuff
from netstack.skb_run import skb_struct
from netstack.skb_xmit import NET_XMIT_CN, NET_XMIT_DROP

if TYPE_CHECKING:
    from netstack.net import NetKernel

__all__ = ["CgroupBpf", "CgroupSock", "SockAddr"]

BPF_RET_SET_CN = 1 << 0  # include/linux/bpf.h
AF_INET, AF_INET6 = 2, 10
_SOCKADDR_IN = Struct("<H2s4s8x")
_SOCKADDR_IN6 = Struct("<H2sI16sI")
_SOCK_ADDR_KERN = Struct("<QQQQI4x")  # struct bpf_sock_addr_kern: sk, uaddr, tmp_reg, t_ctx, uaddrlen
# where it has uaddrlen; sizeof(struct sockaddr_un) and a NUL
SOCK_ADDR_LEN, UNIX_NAME_BYTES, UNIX_PATH_MAX = 32, 112, 108


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


class CgroupBpf(CgroupRunner):
    """Runs the programs of cgroups of one simulated kernel."""

    def __init__(self, kernel: "NetKernel", execute: Execute) -> None:
        super().__init__(kernel, execute)
        self.kernel = kernel

    def run_filter_skb(self, sk: CgroupSock, skb: SkBuff, kind: AttachType, cpu: Cpu) -> int:
        """Ask about a packet that a socket sends or receives: 0, NET_XMIT_*, or a negative errno."""
        items = sk.cgroup.effective.get(kind)
        if not items:
            return 0
        with skb_struct(skb, self.kernel.mem, ingress=False, sk=sk.struct_address, network=True) as struct:
            struct.compute_data_pointers()
            err, flags = self.run_array(items, struct.address, cpu, kind, split=kind == AttachType.CGROUP_INET_EGRESS)
        if kind != AttachType.CGROUP_INET_EGRESS:
            return err
        if not err:
            return NET_XMIT_CN if flags & BPF_RET_SET_CN else 0
        return NET_XMIT_DROP if flags & BPF_RET_SET_CN else err

    def run_filter_sk(self, sk: CgroupSock, kind: AttachType, cpu: Cpu) -> int:
        """Ask about a socket that is made, was bound or goes away: 0 or a negative errno."""
        items = sk.cgroup.effective.get(kind)
        return self.run_array(items, sk.struct_address, cpu, kind)[0] if items else 0

    def run_lsm(self, items: tuple[CgroupItem, ...], ctx: int, cpu: Cpu) -> int:
        """Ask on behalf of a hook of the LSM: 0 or a negative errno (__cgroup_bpf_run_lsm_current)."""
        return self.run_array(items, ctx, cpu, AttachType.LSM_CGROUP)[0]

    def run_filter_sock_ops(self, sk: CgroupSock, ctx: int, cpu: Cpu) -> int:
        """Tell programs of an event of a TCP socket: 0 or a negative errno."""
        kind = AttachType.CGROUP_SOCK_OPS
        return self.run_array(sk.cgroup.effective[kind], ctx, cpu, kind)[0]

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
            err, flags = self.run_array(items, place, cpu, kind, split=split)
            _, port_be, address_be = _SOCKADDR_IN.unpack(mem.read(uaddr, _SOCKADDR_IN.size))
            source_be = mem.read(t_ctx, 4)
        finally:
            mem.free(place)
        address, port, source = (int.from_bytes(each, "big") for each in (address_be, port_be, source_be))
        return SockAddr(err, address, port, source, flags)

    def run_filter_sock_addr6(
        self, sk: CgroupSock, kind: AttachType, address: int, port: int, cpu: Cpu, source: int = 0
    ) -> SockAddr:
        """Ask about an IPv6 address that a task gives or gets; programs may change it."""
        items = sk.cgroup.effective.get(kind)
        if not items:
            return SockAddr(0, address, port, source)
        mem = self.kernel.mem
        place = mem.alloc(_SOCK_ADDR_KERN.size + _SOCKADDR_IN6.size + 4 + 16)
        uaddr = place + _SOCK_ADDR_KERN.size
        t_ctx = uaddr + _SOCKADDR_IN6.size + 4
        mem.write(place, _SOCK_ADDR_KERN.pack(sk.struct_address, uaddr, 0, t_ctx, _SOCKADDR_IN6.size))
        mem.write(uaddr, _SOCKADDR_IN6.pack(AF_INET6, port.to_bytes(2, "big"), 0, address.to_bytes(16, "big"), 0))
        mem.write(t_ctx, source.to_bytes(16, "big"))
        try:
            err, flags = self.run_array(items, place, cpu, kind, split=kind == AttachType.CGROUP_INET6_BIND)
            _, port_be, _, address_be, _ = _SOCKADDR_IN6.unpack(mem.read(uaddr, _SOCKADDR_IN6.size))
            source_be = mem.read(t_ctx, 16)
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
            err, _ = self.run_array(items, place, cpu, kind)
            size = mem.load(place + SOCK_ADDR_LEN, 4)
            return err or bytes(mem.read(uaddr, size))
        finally:
            mem.free(place)
