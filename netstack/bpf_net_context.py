"""``struct bpf_net_context``: what XDP keeps between a program and the end of a poll (include/linux/filter.h, v6.18).

The kernel has it on the stack of whoever processes packets, found through the current task; here it hangs on the CPU.
``struct bpf_redirect_info``, a part of it, is in RAM at one place for each CPU, where machine code finds it; a context
that another one takes the place of keeps the bytes meanwhile.
It lives for one run of the receive softirq, so what a program asked for by ``bpf_redirect`` without returning
XDP_REDIRECT is still there for the next frame of the run, as in Linux.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from ebpfsim.cpu import REDIRECT_INFO_BYTES, Cpu
from ebpfsim.errors import InternalError
from ebpfsim.memory import KERNEL_BASE
from ebpfsim.uapi.flags import BPF_F_BROADCAST

if TYPE_CHECKING:
    from netstack.cpumap import CpuMapThread, Waiting
    from netstack.redirect import BulkQueue
    from netstack.xsk import XdpSock

__all__ = [
    "BY_IFINDEX",
    "FLAGS",
    "KERN_FLAGS",
    "MAP",
    "MAP_ID",
    "MAP_TYPE",
    "NEXTHOP",
    "NEXTHOP6",
    "TGT_INDEX",
    "TGT_VALUE",
    "BpfNetContext",
    "BpfRedirectInfo",
    "RedirectTarget",
    "bpf_net_context",
    "bpf_net_ctx_clear",
    "bpf_net_ctx_get",
    "bpf_net_ctx_set",
    "bpf_net_ctx_swap",
]

BY_IFINDEX = (1 << 31) - 1  # INT_MAX as map_id: the target is an interface index, not an entry of a map
_KEY = "bpf_net_context"


# struct bpf_redirect_info (include/linux/filter.h): offsets of the members that the helpers write
TGT_INDEX, TGT_VALUE, MAP, FLAGS, MAP_ID, MAP_TYPE, NEXTHOP, KERN_FLAGS = 0, 8, 16, 24, 28, 32, 36, 56
RI_INIT = 1  # BPF_RI_F_RI_INIT in kern_flags: there is a context, and this is its
_EMPTY = bytes(REDIRECT_INFO_BYTES)
_NEW = bytes(KERN_FLAGS) + RI_INIT.to_bytes(REDIRECT_INFO_BYTES - KERN_FLAGS, "little")
_TARGET = Struct("<QQQIII")
_NOTHING = bytes(12)  # flags, map_id and map_type
_NEXTHOP = Struct("<I16s")  # struct bpf_nh_params: family and address
AF_INET, AF_INET6 = 2, 10  # include/linux/socket.h
# beside a next hop: it is an address of IPv6
NEXTHOP6 = 1 << 128


def _member(offset: int, size: str) -> property:
    number = Struct(f"<{size}")

    def load(ri: "BpfRedirectInfo") -> int:
        value: int = number.unpack_from(ri.buf, ri.at + offset)[0]
        return value

    def store(ri: "BpfRedirectInfo", value: int) -> None:
        number.pack_into(ri.buf, ri.at + offset, value)

    return property(load, store)


class RedirectTarget(NamedTuple):
    """What ``struct bpf_redirect_info`` says; ``tgt_value`` and ``map`` are addresses."""

    tgt_index: int
    tgt_value: int
    map: int
    flags: int
    map_id: int
    map_type: int


class BpfRedirectInfo:
    """``struct bpf_redirect_info`` of a CPU: where the last redirect helper wants the frame.

    ``tgt_value`` is the address of a target (``ebpfsim.maps.targets``), ``map`` that of the map of a broadcast.
    """

    __slots__ = ("at", "buf")

    def __init__(self, cpu: Cpu) -> None:
        self.buf, self.at = cpu.mem.buf, cpu.redirect_info ^ KERNEL_BASE

    tgt_index = _member(TGT_INDEX, "Q")
    tgt_value = _member(TGT_VALUE, "Q")
    map = _member(MAP, "Q")
    flags = _member(FLAGS, "I")
    map_id = _member(MAP_ID, "I")
    map_type = _member(MAP_TYPE, "I")

    @property
    def nexthop(self) -> int:
        """The next hop of bpf_redirect_neigh(): an address, with ``NEXTHOP6`` one of IPv6; 0 without one."""
        family, address = _NEXTHOP.unpack_from(self.buf, self.at + NEXTHOP)
        if family == AF_INET6:
            return NEXTHOP6 | int.from_bytes(address, "big")
        return int.from_bytes(address[:4], "big")

    @nexthop.setter
    def nexthop(self, hop: int) -> None:
        if hop & NEXTHOP6:
            family, address = AF_INET6, (hop ^ NEXTHOP6).to_bytes(16, "big")
        else:
            family, address = AF_INET if hop else 0, hop.to_bytes(4, "big")
        _NEXTHOP.pack_into(self.buf, self.at + NEXTHOP, family, address)

    def take(self) -> RedirectTarget:
        """Return what XDP is to do, and forget it, as every redirect does first; a target's address stays."""
        target = RedirectTarget._make(_TARGET.unpack_from(self.buf, self.at))
        map_ = 0 if target.flags & BPF_F_BROADCAST else target.map
        _TARGET.pack_into(self.buf, self.at, target.tgt_index, target.tgt_value, map_, 0, 0, 0)
        return target

    def asked(self) -> bytes:
        """Return all that ``take`` would."""
        return bytes(self.buf[self.at : self.at + _TARGET.size])

    def forget(self) -> None:
        """Be as behind a redirect."""
        self.buf[self.at + FLAGS : self.at + FLAGS + 12] = _NOTHING

    def swap(self, content: bytes) -> bytes:
        """Give the structure another content and return the one that it had."""
        before = bytes(self.buf[self.at : self.at + REDIRECT_INFO_BYTES])
        self.buf[self.at : self.at + REDIRECT_INFO_BYTES] = content
        return before


class BpfNetContext:
    """Redirect state and the bulk queues that wait for the end of the poll, the latest device first."""

    __slots__ = ("bulk_queues", "cpu_queues", "dev_flush_list", "kept", "ri", "xsk_flush_list")

    def __init__(self, cpu: Cpu) -> None:
        self.ri = BpfRedirectInfo(cpu)
        # the redirect info while another context is under way
        self.kept = _NEW
        self.bulk_queues: dict[int, BulkQueue] = {}
        self.dev_flush_list: list[BulkQueue] = []
        # AF_XDP sockets that have got frames
        self.xsk_flush_list: list[XdpSock] = []
        # of cpumaps: (map id, CPU) to its thread and what waits for it
        self.cpu_queues: dict[tuple[int, int], tuple[CpuMapThread, list[Waiting]]] = {}


def bpf_net_ctx_set(cpu: Cpu) -> bool:
    """Begin a context on a CPU; False when one is under way, which then goes on being used."""
    if _KEY in cpu.scratch:
        return False
    _begin(cpu, BpfNetContext(cpu))
    return True


def _begin(cpu: Cpu, context: BpfNetContext) -> None:
    cpu.scratch[_KEY] = context
    context.ri.swap(context.kept)


def _end(cpu: Cpu) -> BpfNetContext | None:
    context = cpu.scratch.pop(_KEY, None)
    if not isinstance(context, BpfNetContext):
        return None
    context.kept = context.ri.swap(_EMPTY)
    return context


def bpf_net_ctx_clear(cpu: Cpu) -> None:
    """End the context of a CPU; frames that were not flushed are our bug (xdp_do_check_flushed)."""
    context = _end(cpu)
    if context is not None and (context.dev_flush_list or context.cpu_queues or context.xsk_flush_list):
        raise InternalError("redirected frames were not flushed at the end of the poll")


def bpf_net_ctx_get(cpu: Cpu) -> BpfNetContext:
    """Return the context of a CPU; InternalError outside one."""
    context = cpu.scratch.get(_KEY)
    if not isinstance(context, BpfNetContext):
        raise InternalError(f"no bpf_net_context on cpu {cpu.number}")
    return context


def bpf_net_ctx_swap(cpu: Cpu, context: BpfNetContext | None) -> BpfNetContext | None:
    """Give a CPU another context, or none, and return the one that it had."""
    before = _end(cpu)
    if context is not None:
        _begin(cpu, context)
    return before


@contextmanager
def bpf_net_context(cpu: Cpu) -> Iterator[BpfNetContext]:
    """Give a task a context of its own on a CPU whose softirq may be in the middle of one (a test run does)."""
    outer = _end(cpu)
    try:
        bpf_net_ctx_set(cpu)
        yield bpf_net_ctx_get(cpu)
        bpf_net_ctx_clear(cpu)
    finally:
        _end(cpu)
        if outer is not None:
            _begin(cpu, outer)
