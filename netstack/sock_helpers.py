"""Helpers that find sockets and tell their kinds (net/core/filter.c, v6.18).

Left out: other network namespaces, and references: whoever is found stays while the program runs.
"""

from struct import Struct
from typing import Any, NamedTuple, cast

from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import s32, u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import IpProto
from netstack.reuseport import reuseport_select_sock
from netstack.sk_lookup import Ends, bpf_sk_lookup_run_v4, bpf_sk_lookup_run_v6, udp4_lib_lookup

__all__ = ["HELPERS"]

# struct sock, whose first member is struct sock_common
SKC_FAMILY, SKC_STATE, SK_PROTOCOL = 16, 18, 532
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
# struct bpf_sock_tuple of IPv4 and IPv6: saddr, daddr, sport, dport, all in network order
_TUPLE, _TUPLE6 = Struct(">IIHH"), Struct(">16s16sHH")
IPV4_TUPLE, IPV6_TUPLE, S32_MAX = 12, 36, (1 << 31) - 1
# include/net/tcp_states.h
TCP_TIME_WAIT, TCP_LISTEN, TCP_NEW_SYN_RECV = 6, 10, 12


def _fullsock(run: Run, sk: int) -> bool:
    return run.mem.load(sk + SKC_STATE, 1) not in (TCP_TIME_WAIT, TCP_NEW_SYN_RECV)


def bpf_sk_fullsock(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the socket if all of ``struct sock`` is there, else 0."""
    return sk if _fullsock(run, sk) else 0


def bpf_tcp_sock(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the socket if it is one of TCP, else 0."""
    return sk if _fullsock(run, sk) and run.mem.load(sk + SK_PROTOCOL, 2) == IpProto.TCP else 0


def _cast(family: int | None = None, protocol: IpProto | None = None, states: frozenset[int] = frozenset()) -> Helper:
    # bpf_skc_to_*(): a socket of this kind, a full one unless it is in one of ``states``
    def helper(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
        if not sk or (family is not None and run.mem.load(sk + SKC_FAMILY, 2) != family):
            return 0
        if states:
            # what is no full socket has no protocol: only TCP has such
            return sk if run.mem.load(sk + SKC_STATE, 1) in states else 0
        if not _fullsock(run, sk) or (protocol is not None and run.mem.load(sk + SK_PROTOCOL, 2) != protocol):
            return 0
        return sk

    return helper


def bpf_skc_to_mptcp_sock(_run: Run, _sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the socket that a subflow belongs to: there are none."""
    return 0


def bpf_get_listener_sock(run: Run, sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the socket if it listens, else 0."""
    return sk if run.mem.load(sk + SKC_STATE, 1) == TCP_LISTEN else 0


class _Asked(NamedTuple):
    net: Any
    family: int
    ends: Ends


def _asked(run: Run, address: int, size: int, netns: int, flags: int) -> _Asked | None:
    # __bpf_skc_lookup(): the network, and both ends of struct bpf_sock_tuple
    net = cast(Any, run.kernel).net
    if size not in (IPV4_TUPLE, IPV6_TUPLE) or flags or not (s32(u32(netns)) < 0 or netns <= S32_MAX):
        return None
    if s32(u32(netns)) >= 0:
        # no namespace has a number (RTM_NEWNSID)
        return None
    if len(net.namespaces) > 1:
        raise NotModelled("looking for sockets on a host with network namespaces", "net/core/filter.c")
    if size == IPV4_TUPLE:
        saddr, daddr, sport, dport = _TUPLE.unpack(run.mem.read(address, size))
        return _Asked(net, AF_INET, (saddr, sport, daddr, dport))
    source, dest, sport, dport = _TUPLE6.unpack(run.mem.read(address, size))
    return _Asked(net, AF_INET6, (int.from_bytes(source, "big"), sport, int.from_bytes(dest, "big"), dport))


def _skc_lookup_tcp(run: Run, asked: _Asked | None) -> Any:
    # __inet_lookup(), __inet6_lookup(): who is connected, else who listens
    if asked is None:
        return None
    net, family, ends = asked
    found = net.tcp.established.get(ends)
    if found is not None:
        return found
    ask = bpf_sk_lookup_run_v4 if family == AF_INET else bpf_sk_lookup_run_v6
    said = ask(net, None, ends, IpProto.TCP, run.cpu)
    if said.refused:
        return None
    sock = net.tcp.structs.at(said.selected) if said.selected else net.tcp.lookup_listener(*ends[2:], family)
    return sock if sock is None or said.no_reuseport else reuseport_select_sock(sock, None, ends, run.cpu)


def bpf_skc_lookup_tcp(run: Run, _ctx: int, address: int, size: int, netns: int, flags: int) -> int:
    """Return the socket of TCP between two ends, whatever it is of one, 0 for none."""
    found = _skc_lookup_tcp(run, _asked(run, address, u32(size), netns, flags))
    return int(found.struct_address) if found is not None else 0


def bpf_sk_lookup_tcp(run: Run, ctx: int, address: int, size: int, netns: int, flags: int) -> int:
    """Return the socket of TCP between two ends: a full one; of a handshake the one that listens; 0 for none."""
    found = _skc_lookup_tcp(run, _asked(run, address, u32(size), netns, flags))
    if found is None:
        return 0
    if found.state == TCP_NEW_SYN_RECV:
        # sk_to_full_sk()
        found = found.listener
    sk = int(found.struct_address)
    return sk if _fullsock(run, sk) else 0


def bpf_sk_lookup_udp(run: Run, _ctx: int, address: int, size: int, netns: int, flags: int) -> int:
    """Return the socket of UDP that would get a datagram between two ends, 0 for none."""
    asked = _asked(run, address, u32(size), netns, flags)
    if asked is None:
        return 0
    net, family, ends = asked
    if family == AF_INET:
        found: Any = udp4_lib_lookup(net, None, ends, run.cpu)
    else:
        # programs may say that there is none (__udp6_lib_rcv)
        refused = bpf_sk_lookup_run_v6(net, None, ends, IpProto.UDP, run.cpu).refused
        found = None if refused else next(iter(net.sockets6.receivers(*ends[2:], ends[:2])), None)
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
    HELPER_IDS["bpf_skc_to_tcp6_sock"]: _cast(AF_INET6, IpProto.TCP),
    HELPER_IDS["bpf_skc_to_tcp_sock"]: _cast(None, IpProto.TCP),
    HELPER_IDS["bpf_skc_to_tcp_timewait_sock"]: _cast(states=frozenset({TCP_TIME_WAIT})),
    HELPER_IDS["bpf_skc_to_tcp_request_sock"]: _cast(states=frozenset({TCP_NEW_SYN_RECV})),
    HELPER_IDS["bpf_skc_to_udp6_sock"]: _cast(AF_INET6, IpProto.UDP),
    HELPER_IDS["bpf_skc_to_unix_sock"]: _cast(AF_UNIX),
    HELPER_IDS["bpf_skc_to_mptcp_sock"]: bpf_skc_to_mptcp_sock,
}
