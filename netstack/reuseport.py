"""Groups of SO_REUSEPORT: sockets that share an address, and programs that choose one (net/core/sock_reuseport.c and
filter.c, v6.18).

Without a program, or when it chooses none, a hash of both ends does. Left out: connected members, migration of
requests, classic programs. Differs: the hash depends on the simulation's seed, Linux' on a secret from its boot.
"""

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, cast

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.alu import u32
from ebpfsim.maps.jhash import jhash
from ebpfsim.maps.map import Map
from ebpfsim.maps.reuseport_sockarray import ReuseportSockarrayMap
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.link import HookStats
from netstack.skb import SkBuff
from netstack.skb_run import skb_struct
from netstack.sock_file import SockFile

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["HELPERS", "ReuseportGroup", "reuseport_select_sock"]

SK_DROP, SK_PASS = 0, 1  # enum sk_action
# struct sk_reuseport_kern: skb, sk, selected_sk, migrating_sk, data_end, hash, reuseport_id, bind_inany
_KERN = Struct("<5Q2I?7x")
_SELECTED_SK, _REUSEPORT_ID = 16, 44


class ReuseportGroup:
    """``struct sock_reuseport``: its sockets in the order in which they were bound, and who chooses among them."""

    def __init__(self, net: "Net", number: int, *, bind_inany: bool) -> None:
        self.net = net
        self.number = number
        self.bind_inany = bind_inany
        self.socks: list[Any] = []
        self.prog: Prog | None = None
        self.stats = HookStats()
        self.label = ""

    def add(self, sock: Any) -> None:
        """Take in a socket."""
        self.socks.append(sock)
        sock.reuseport_group = self

    def remove(self, sock: Any) -> None:
        """Let a socket go; the last one takes its place (``__reuseport_detach_sock``)."""
        place, last = self.socks.index(sock), self.socks.pop()
        if last is not sock:
            self.socks[place] = last
        sock.reuseport_group = None
        if not self.socks:
            self._set(None)

    def attach_prog(self, prog: Prog, label: str = "") -> None:
        """Let a program choose, in place of another one (SO_ATTACH_REUSEPORT_EBPF): EINVAL for other types."""
        if prog.type not in (ProgType.SK_REUSEPORT, ProgType.SOCKET_FILTER):
            raise KernelError("setsockopt", Errno.EINVAL, f"program '{prog.name}' is of type {prog.type.lower}")
        prog.get()
        self._set(prog)
        self.stats, self.label = HookStats(), label

    def detach_prog(self) -> None:
        """Let the hash choose again (SO_DETACH_REUSEPORT_BPF): ENOENT without a program."""
        if self.prog is None:
            raise KernelError("setsockopt", Errno.ENOENT, "the group has no program")
        self._set(None)

    def _set(self, prog: Prog | None) -> None:
        old, self.prog = self.prog, prog
        if old is not None:
            old.put()


def reuseport_select_sock(sock: Any, skb: SkBuff | None, ends: tuple[int, int, int, int], cpu: Cpu) -> Any | None:
    """Return the socket of a group that gets a packet of those ends (source, destination), None when nobody may."""
    group = sock.reuseport_group
    if group is None:
        return sock
    words = b"".join(number.to_bytes(4, "big") for number in ends)
    value = jhash(words, u32(group.net.rng.seed))
    chosen = None
    if group.prog is not None and skb is not None:
        run = _run_sk_reuseport if group.prog.type == ProgType.SK_REUSEPORT else _run_bpf_filter
        allowed, chosen = run(group, sock, skb, value, cpu)
        if not allowed:
            return None
    return chosen if chosen is not None else group.socks[value * len(group.socks) >> 32]  # reciprocal_scale()


def _run_sk_reuseport(group: ReuseportGroup, sock: Any, skb: SkBuff, value: int, cpu: Cpu) -> tuple[bool, Any]:
    # bpf_run_sk_reuseport(): what is not SK_PASS drops
    mem, prog = group.net.kernel.mem, group.prog
    assert prog is not None
    with skb_struct(skb, mem, ingress=False, sk=sock.struct_address, network=True) as struct:
        struct.pull(skb.transport_header - skb.network_header)
        ctx = mem.alloc(_KERN.size)
        try:
            end = struct.data + struct.len
            head = struct.address, sock.struct_address, 0, 0, end
            mem.write(ctx, _KERN.pack(*head, value, group.number, group.bind_inany))
            hook = ("sk_reuseport", group.stats, group.label)
            result = group.net.sk_filter.run_prog(prog, ctx, cpu, *hook)
            selected = mem.load(ctx + _SELECTED_SK, 8)
        finally:
            mem.free(ctx)
    chosen = [each for each in group.socks if selected and each.struct_address == selected]
    return result == SK_PASS, chosen[0] if chosen else None


def _run_bpf_filter(group: ReuseportGroup, sock: Any, skb: SkBuff, _value: int, cpu: Cpu) -> tuple[bool, Any]:
    # run_bpf_filter(): a socket filter that returns an index, and sees what is behind the header
    assert group.prog is not None
    with skb_struct(skb, group.net.kernel.mem, ingress=False, sk=sock.struct_address, network=True) as struct:
        struct.pull(skb.transport_header - skb.network_header + sock.header_bytes)
        hook = ("sk_reuseport", group.stats, group.label)
        index = group.net.sk_filter.run_prog(group.prog, struct.address, cpu, *hook, verdict="")
    return True, group.socks[index] if index < len(group.socks) else None


def bpf_sk_select_reuseport(run: Run, ctx: int, map_address: int, key: int, _flags: int, _r5: int) -> int:
    """Choose the socket of a map: ENOENT, or what is wrong with a socket of another group (``sk_select_reuseport``)."""
    map_ = run.kernel.map_at(map_address)
    found = _sock_of(map_, run.mem.read(key, map_.key_size))
    if found is None:
        return -Errno.ENOENT
    group: ReuseportGroup | None = found.sock.reuseport_group
    if group is None:
        return -(Errno.ENOENT if isinstance(map_, ReuseportSockarrayMap) else Errno.EINVAL)
    if group.number != run.mem.load(ctx + _REUSEPORT_ID, 4):
        # bound to something else
        return -Errno.EBADFD
    run.mem.store(ctx + _SELECTED_SK, 8, found.struct_address)
    return 0


def _sock_of(map_: Map, key: bytes) -> SockFile | None:
    if isinstance(map_, ReuseportSockarrayMap):
        return cast(SockFile | None, map_.sock_at(int.from_bytes(key, "little")))
    return cast(SockFile | None, cast(Any, map_).sock_at(key))


def new_group(net: "Net", groups: Sequence[ReuseportGroup], *, bind_inany: bool) -> ReuseportGroup:
    """Return an empty group with a number of its own."""
    return ReuseportGroup(net, max((group.number for group in groups), default=0) + 1, bind_inany=bind_inany)


HELPERS: dict[int, Helper] = {HELPER_IDS["bpf_sk_select_reuseport"]: bpf_sk_select_reuseport}
