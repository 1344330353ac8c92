"""Helpers that find sockets and tell their kinds (net/core/filter.c, v6.18).

Left out: finding UDP sockets that exist; there are no TCP sockets yet, so looking for one finds nothing.
"""

from typing import Protocol, cast

from ebpfsim.errors import NotModelled
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import IpProto

__all__ = ["HELPERS"]

# struct sock, whose first member is struct sock_common
SKC_FAMILY, SKC_STATE, SK_PROTOCOL = 16, 18, 532
# include/net/tcp_states.h
TCP_TIME_WAIT, TCP_LISTEN, TCP_NEW_SYN_RECV = 6, 10, 12


class _Sockets(Protocol):
    @property
    def any_udp(self) -> bool: ...


class _Net(Protocol):
    sockets: _Sockets


class _NetRuntime(Protocol):
    net: _Net


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


def bpf_sk_lookup_tcp(_run: Run, _ctx: int, _tuple: int, _size: int, _netns: int, _flags: int) -> int:
    """Return 0: there are no sockets of TCP."""
    return 0


def bpf_sk_lookup_udp(run: Run, _ctx: int, _tuple: int, _size: int, _netns: int, _flags: int) -> int:
    """Return 0 where no socket of UDP is open."""
    if cast(_NetRuntime, run.kernel).net.sockets.any_udp:
        raise NotModelled("bpf_sk_lookup_udp() where sockets are open", "net/core/filter.c")
    return 0


def bpf_sk_release(_run: Run, _sk: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Drop the reference of a lookup; none of the sockets that there are is counted."""
    return 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_sk_fullsock"]: bpf_sk_fullsock,
    HELPER_IDS["bpf_tcp_sock"]: bpf_tcp_sock,
    HELPER_IDS["bpf_get_listener_sock"]: bpf_get_listener_sock,
    HELPER_IDS["bpf_sk_release"]: bpf_sk_release,
    HELPER_IDS["bpf_sk_lookup_tcp"]: bpf_sk_lookup_tcp,
    HELPER_IDS["bpf_skc_lookup_tcp"]: bpf_sk_lookup_tcp,
    HELPER_IDS["bpf_sk_lookup_udp"]: bpf_sk_lookup_udp,
}
