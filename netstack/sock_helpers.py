"""Helpers that find sockets and tell their kinds (net/core/filter.c, v6.18).

Left out: IPv6, other network namespaces, and references: whoever is found stays while the program runs.
"""

from struct import Struct
from typing import Any, cast

from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import IpProto
from netstack.reuseport import reuseport_select_sock
from netstack.sk_lookup import Ends, bpf_sk_lookup_run_v4, udp4_lib_lookup

__all__ = ["HELPERS"]

# struct sock, whose first member is struct sock_common
SKC_FAMILY, SKC_STATE, SK_PROTOCOL = 16, 18, 532
# include/net/tcp_states.h
_TUPLE = Struct(">IIHH")  # struct bpf_sock_tuple of IPv4: saddr, daddr, sport, dport, all in network order
IPV4_TUPLE, IPV6_TUPLE, S32_MAX = 12, 36, (1 << 31) - 1
TCP_TIME_WAIT, TCP_LISTEN, TCP_NEW_SYN_RECV = 6, 10, 12


def _fullsock(run: Run, sk: int) -> bool:
    return run.mem.load(sk + SKC_STATE, 1) not in (TCP_TIME_WAIT, TCP_NEW_SYN_RECV)


def bpf_sk_fullsock(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the socket if all of ``struct sock`` is there, else 0."""
    return sk if _fullsock(run, sk) else 0


def bpf_tcp_sock(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the socket if it is one of TCP, else 0."""
    return sk if _fullsock(run, sk) and run.mem.load(sk + SK_PROTOCOL, 2) == IpProto.TCP else 0


def bpf_get_listener_sock(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the socket if it listens, else 0."""
    return sk if run.mem.load(sk + SKC_STATE, 1) == TCP_LISTEN else 0


def _ends(run: Run, address: int, size: int, netns: int, flags: int) -> tuple[Any, Ends] | None:
    # __bpf_skc_lookup(): the network, and both ends of struct bpf_sock_tuple
    net = cast(Any, run.kernel).net
    if size == IPV6_TUPLE:
        # there are no sockets of IPv6
        return None
    if size != IPV4_TUPLE or flags or not (s32(u32(netns)) < 0 or netns <= S32_MAX):
        return None
    if s32(u32(netns)) >= 0:
        # no namespace has a number (RTM_NEWNSID)
        return None
    if len(net.namespaces) > 1:
        raise NotModelled("looking for sockets on a host with network namespaces", "net/core/filter.c")
    saddr, daddr, sport, dport = _TUPLE.unpack(run.mem.read(address, IPV4_TUPLE))
    return net, (saddr, sport, daddr, dport)


def _skc_lookup_tcp(run: Run, ends: tuple[Any, Ends] | None) -> Any:
    # __inet_lookup(): who is connected, else who listens
    if ends is None:
        return None
    net, (saddr, sport, daddr, dport) = ends
    found = net.tcp.established.get((saddr, sport, daddr, dport))
    if found is not None:
        return found
    said = bpf_sk_lookup_run_v4(net, None, (saddr, sport, daddr, dport), IpProto.TCP, run.cpu)
    if said.refused:
        return None
    sock = net.tcp.structs.at(said.selected) if said.selected else net.tcp.lookup_listener(daddr, dport)
    if sock is None or said.no_reuseport:
        return sock
    return reuseport_select_sock(sock, None, (saddr, sport, daddr, dport), run.cpu)


def bpf_skc_lookup_tcp(run: Run, _ctx: int, address: int, size: int, netns: int, flags: int) -> int:
    """Return the socket of TCP between two ends, whatever it is of one, 0 for none."""
    found = _skc_lookup_tcp(run, _ends(run, address, u32(size), netns, flags))
    return int(found.struct_address) if found is not None else 0


def bpf_sk_lookup_tcp(run: Run, ctx: int, address: int, size: int, netns: int, flags: int) -> int:
    """Return the socket of TCP between two ends: a full one; of a handshake the one that listens; 0 for none."""
    found = _skc_lookup_tcp(run, _ends(run, address, u32(size), netns, flags))
    if found is None:
        return 0
    if found.state == TCP_NEW_SYN_RECV:
        # sk_to_full_sk()
        found = found.listener
    sk = int(found.struct_address)
    return sk if _fullsock(run, sk) else 0


def bpf_sk_lookup_udp(run: Run, _ctx: int, address: int, size: int, netns: int, flags: int) -> int:
    """Return the socket of UDP that would get a datagram between two ends, 0 for none."""
    ends = _ends(run, address, u32(size), netns, flags)
    found = udp4_lib_lookup(ends[0], None, ends[1], run.cpu) if ends is not None else None
    return int(found.struct_address) if found is not None else 0


def bpf_sk_release(_run: Run, _sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Drop the reference of a lookup; none of the sockets that there are is counted."""
    return 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_sk_fullsock"]: bpf_sk_fullsock,
    HELPER_IDS["bpf_tcp_sock"]: bpf_tcp_sock,
    HELPER_IDS["bpf_get_listener_sock"]: bpf_get_listener_sock,
    HELPER_IDS["bpf_sk_release"]: bpf_sk_release,
    HELPER_IDS["bpf_sk_lookup_tcp"]: bpf_sk_lookup_tcp,
    HELPER_IDS["bpf_skc_lookup_tcp"]: bpf_skc_lookup_tcp,
    HELPER_IDS["bpf_sk_lookup_udp"]: bpf_sk_lookup_udp,
}
