"""Which socket gets a packet: programs of sk_lookup, groups of SO_REUSEPORT, and the tables of sockets
(net/ipv4/{udp,inet_hashtables}.c and include/linux/filter.h, v6.18).

A connected socket comes first; then the programs of the network namespace may choose one or refuse; then sockets that
are bound. All programs run; the last choice counts.
"""

from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import IpProto
from netstack.reuseport import reuseport_select_sock
from netstack.skb import SkBuff

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.sock import UdpSocket

__all__ = ["HELPERS", "Ends", "SkLookup", "bpf_sk_lookup_run_v4", "bpf_sk_lookup_run_v6", "udp4_lib_lookup"]

AF_INET, AF_INET6 = 2, 10
SK_DROP, SK_PASS = 0, 1  # enum sk_action
# struct bpf_sk_lookup_kern: family, protocol, sport (network order), dport, v4.saddr, v4.daddr, v6, selected_sk,
# ingress_ifindex, no_reuseport
_KERN = Struct("<HH2sH4s4sQQQI?3x")
_PROTOCOL, _SELECTED_SK, _NO_REUSEPORT = 2, 32, 44
# include/uapi/linux/bpf.h
BPF_SK_LOOKUP_F_REPLACE, BPF_SK_LOOKUP_F_NO_REUSEPORT = 1 << 0, 1 << 1
# struct sock and include/net/tcp_states.h
_SKC_FAMILY, _SKC_STATE, _SK_PROTOCOL = 16, 18, 532
TCP_CLOSE, TCP_LISTEN = 7, 10
# source address and port, destination address and port
Ends = tuple[int, int, int, int]


class SkLookup(NamedTuple):
    """What programs said: whether they refused, the ``struct sock`` that they chose, whether its group counts."""

    refused: bool = False
    selected: int = 0
    no_reuseport: bool = False


def bpf_sk_lookup_run_v4(net: "Net", skb: SkBuff | None, ends: Ends, protocol: int, cpu: Cpu) -> SkLookup:
    """Ask the namespace's programs about addresses of IPv4."""
    saddr, sport, daddr, dport = ends
    head = AF_INET, protocol, sport.to_bytes(2, "big"), dport, saddr.to_bytes(4, "big"), daddr.to_bytes(4, "big")
    return _run(net, skb, head, b"", cpu)


def bpf_sk_lookup_run_v6(net: "Net", skb: SkBuff | None, ends: Ends, protocol: int, cpu: Cpu) -> SkLookup:
    """Ask the namespace's programs about addresses of IPv6."""
    saddr, sport, daddr, dport = ends
    head = AF_INET6, protocol, sport.to_bytes(2, "big"), dport, bytes(4), bytes(4)
    return _run(net, skb, head, saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big"), cpu)


def _run(net: "Net", skb: SkBuff | None, head: tuple[Any, ...], addresses: bytes, cpu: Cpu) -> SkLookup:
    # BPF_PROG_SK_LOOKUP_RUN_ARRAY(): SK_DROP of one counts unless one chose a socket
    running = (net.hooks[0] if net.netns else net.kernel.netns).running(AttachType.SK_LOOKUP)
    if not running:
        return SkLookup()
    mem, all_pass, selected, no_reuseport = net.kernel.mem, True, 0, False
    ifindex = skb.skb_iif if skb is not None else 0
    ctx = mem.alloc(_KERN.size + len(addresses))
    behind = ctx + _KERN.size
    v6 = (behind, behind + 16) if addresses else (0, 0)
    mem.write(behind, addresses)
    try:
        for prog, stats, label in running:
            mem.write(ctx, _KERN.pack(*head, *v6, selected, ifindex, no_reuseport))
            result = net.sk_filter.run_prog(prog, ctx, cpu, "sk_lookup", stats, label)
            found = mem.load(ctx + _SELECTED_SK, 8)
            if result == SK_PASS and found:
                selected, no_reuseport = found, bool(mem.load(ctx + _NO_REUSEPORT, 1))
            elif result == SK_DROP:
                all_pass = False
    finally:
        mem.free(ctx)
    return SkLookup(not (all_pass or selected), selected, no_reuseport)


def udp4_lib_lookup(net: "Net", skb: SkBuff | None, ends: Ends, cpu: Cpu) -> "UdpSocket | None":
    """Return the socket that gets a datagram which is no broadcast (``__udp4_lib_lookup``), None for nobody."""
    found = net.sockets.udp_receivers(ends[2], ends[3], broadcast=False, source=ends[:2])
    sock = found[0] if found else None
    if sock is not None and sock.peer is not None:
        return sock
    if (net.hooks[0] if net.netns else net.kernel.netns).running(AttachType.SK_LOOKUP):
        said = bpf_sk_lookup_run_v4(net, skb, ends, IpProto.UDP, cpu)
        if said.refused:
            return None
        if said.selected:
            sock = net.sockets.udp_at(said.selected)
            if said.no_reuseport:
                return sock
    if sock is None:
        return None
    return cast("UdpSocket | None", reuseport_select_sock(sock, skb, ends, cpu))


def bpf_sk_assign(run: Run, ctx: int, sk: int, flags: int, _r4: int, _r5: int) -> int:
    """Choose a socket, or none with 0 (``bpf_sk_lookup_assign``)."""
    if run.prog.type != ProgType.SK_LOOKUP:
        raise NotModelled("bpf_sk_assign() of tc", "net/core/filter.c")
    mem = run.mem
    if flags & ~(BPF_SK_LOOKUP_F_REPLACE | BPF_SK_LOOKUP_F_NO_REUSEPORT):
        return -Errno.EINVAL
    if sk:
        protocol, state = mem.load(sk + _SK_PROTOCOL, 2), mem.load(sk + _SKC_STATE, 1)
        if state != (TCP_LISTEN if protocol == IpProto.TCP else TCP_CLOSE):
            return -Errno.ESOCKTNOSUPPORT
        if protocol != mem.load(ctx + _PROTOCOL, 2):
            return -Errno.EPROTOTYPE
        if mem.load(sk + _SKC_FAMILY, 2) != mem.load(ctx, 2):
            return -Errno.EAFNOSUPPORT
    if mem.load(ctx + _SELECTED_SK, 8) and not flags & BPF_SK_LOOKUP_F_REPLACE:
        return -Errno.EEXIST
    mem.store(ctx + _SELECTED_SK, 8, sk)
    mem.store(ctx + _NO_REUSEPORT, 1, int(bool(flags & BPF_SK_LOOKUP_F_NO_REUSEPORT)))
    return 0


HELPERS: dict[int, Helper] = {HELPER_IDS["bpf_sk_assign"]: bpf_sk_assign}
