"""``struct bpf_net_context``: what XDP keeps between a program and the end of a poll (include/linux/filter.h, v6.18).

The kernel has it on the stack of whoever processes packets, found through the current task; here it hangs on the CPU.
It lives for one run of the receive softirq, so what a program asked for by ``bpf_redirect`` without returning
XDP_REDIRECT is still there for the next frame of the run, as in Linux.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.maps.cpumap import CpumapEntry
from ebpfsim.maps.devmap import DevmapEntry, DevmapMap
from ebpfsim.memory import KERNEL_BASE, Memory
from ebpfsim.uapi.bpf import MapType

if TYPE_CHECKING:
    from netstack.cpumap import CpuMapThread, Waiting
    from netstack.redirect import BulkQueue
    from netstack.xsk import XdpSock

__all__ = [
    "BY_IFINDEX",
    "BpfNetContext",
    "BpfRedirectInfo",
    "bpf_net_context",
    "bpf_net_ctx_clear",
    "bpf_net_ctx_get",
    "bpf_net_ctx_set",
    "bpf_net_ctx_swap",
    "redirect_room",
    "redirect_rooms",
]

BY_IFINDEX = (1 << 31) - 1  # INT_MAX as map_id: the target is an interface index, not an entry of a map
_KEY, _ROOM = "bpf_net_context", "bpf_redirect_info"
# what machine code asks for: index, target and map, then whether that counts
ROOM_BYTES, ROOM_VALID = 64, 24
_ASKED = Struct("<QQQI")
ASKED_BYTES = _ASKED.size


class RedirectRoom(NamedTuple):
    """Where machine code writes what it asks for on one CPU: index, target, map, and 1; ``maps`` finds a map."""

    mem: Memory
    address: int
    maps: Callable[[int], object]

    def forget(self) -> None:
        """Let what is there not count any more."""
        at = (self.address ^ KERNEL_BASE) + ROOM_VALID
        self.mem.buf[at : at + 4] = bytes(4)


def redirect_room(cpu: Cpu) -> RedirectRoom | None:
    """Return the room of a CPU, None where no machine code asks for anything."""
    room = cpu.scratch.get(_ROOM)
    return room if isinstance(room, RedirectRoom) else None


def redirect_rooms(cpus: Sequence[Cpu], mem: Memory, maps: Callable[[int], object]) -> int:
    """Return where the rooms of all CPUs lie, one behind the other, made when first asked for."""
    room = redirect_room(cpus[0])
    if room is None:
        address = mem.alloc(ROOM_BYTES * len(cpus), what="struct bpf_redirect_info")
        for number, cpu in enumerate(cpus):
            cpu.scratch[_ROOM] = RedirectRoom(mem, address + number * ROOM_BYTES, maps)
        room = redirect_room(cpus[0])
        assert room is not None
    return room.address


class BpfRedirectInfo:
    """``struct bpf_redirect_info``: where the last redirect helper wants the frame."""

    __slots__ = ("_room", "flags", "map", "map_id", "map_type", "nexthop", "tgt_index", "tgt_value")

    def __init__(self) -> None:
        self.tgt_index = 0
        self.tgt_value: DevmapEntry | CpumapEntry | XdpSock | None = None
        self.map: DevmapMap | None = None
        self.flags = 0
        # of bpf_redirect_neigh(): an IPv4 address, 0 without one
        self.nexthop = 0
        self.map_id = 0
        self.map_type = MapType.UNSPEC
        self._room: RedirectRoom | None = None

    @classmethod
    def of(cls, cpu: Cpu) -> "BpfRedirectInfo":
        """Return a new one for a CPU."""
        ri = cls()
        ri._room = redirect_room(cpu)
        ri.forget_native()
        return ri

    def forget_native(self) -> None:
        """Let what machine code has asked for not count: somebody else has."""
        if self._room is not None:
            self._room.forget()

    def fetch(self) -> "BpfRedirectInfo":
        """Return this with what machine code has asked for, if it was the last to do so."""
        room = self._room
        if room is not None and room.mem.load(room.address + ROOM_VALID, 4):
            index, target, map_at, valid = _ASKED.unpack(room.mem.read(room.address, _ASKED.size))
            map_ = room.maps(map_at)
            assert isinstance(map_, DevmapMap)
            assert valid
            self.tgt_index, self.tgt_value, self.map = index, map_.entry_of(target), None
            self.map_id, self.map_type, self.flags = map_.id, map_.type, 0
            self.forget_native()
        return self


class BpfNetContext:
    """Redirect state and the bulk queues that wait for the end of the poll, the latest device first."""

    __slots__ = ("bulk_queues", "cpu_queues", "dev_flush_list", "ri", "xsk_flush_list")

    def __init__(self, cpu: Cpu) -> None:
        self.ri = BpfRedirectInfo.of(cpu)
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
    cpu.scratch[_KEY] = BpfNetContext(cpu)
    return True


def bpf_net_ctx_clear(cpu: Cpu) -> None:
    """End the context of a CPU; frames that were not flushed are our bug (xdp_do_check_flushed)."""
    context = cpu.scratch.pop(_KEY, None)
    if isinstance(context, BpfNetContext) and (context.dev_flush_list or context.cpu_queues or context.xsk_flush_list):
        raise InternalError("redirected frames were not flushed at the end of the poll")


def bpf_net_ctx_get(cpu: Cpu) -> BpfNetContext:
    """Return the context of a CPU; InternalError outside one."""
    context = cpu.scratch.get(_KEY)
    if not isinstance(context, BpfNetContext):
        raise InternalError(f"no bpf_net_context on cpu {cpu.number}")
    return context


def bpf_net_ctx_swap(cpu: Cpu, context: BpfNetContext | None) -> BpfNetContext | None:
    """Give a CPU another context, or none, and return the one that it had."""
    before = cpu.scratch.get(_KEY)
    if context is None:
        cpu.scratch.pop(_KEY, None)
    else:
        cpu.scratch[_KEY] = context
    return before if isinstance(before, BpfNetContext) else None


@contextmanager
def bpf_net_context(cpu: Cpu) -> Iterator[BpfNetContext]:
    """Give a task a context of its own on a CPU whose softirq may be in the middle of one (a test run does)."""
    outer = cpu.scratch.pop(_KEY, None)
    try:
        bpf_net_ctx_set(cpu)
        yield bpf_net_ctx_get(cpu)
        bpf_net_ctx_clear(cpu)
    finally:
        cpu.scratch.pop(_KEY, None)
        if outer is not None:
            cpu.scratch[_KEY] = outer
