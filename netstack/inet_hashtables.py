"""Who owns which port and which connection of TCP (net/ipv4/inet_hashtables.c, inet_connection_sock.c, v6.18).

Differs: free ports are given in ascending order, even ones to those who connect and odd ones to those who bind first;
Linux begins at a place that depends on a secret.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from netstack.headers import format_ip, format_ip6
from netstack.reuseport import ReuseportGroup
from netstack.sock import FIRST_FREE_PORT, LAST_FREE_PORT
from netstack.tcp_hdr import M32
from netstack.tcp_states import TcpState
from netstack.tcp_struct import TcpStructs
from netstack.tcp_sysctl import read_triple

if TYPE_CHECKING:
    from netstack.fib import Route
    from netstack.net import Net
    from netstack.tcp_sock import TcpSock

__all__ = ["FourTuple", "InetHashinfo"]

# those that TCP calls
AF_INET = 2
TRACEPOINTS = (
    "inet_sock_set_state", "sk_data_ready", "tcp_bad_csum", "tcp_cong_state_set", "tcp_destroy_sock", "tcp_probe",
    "tcp_rcv_space_adjust", "tcp_receive_reset", "tcp_retransmit_skb", "tcp_retransmit_synack", "tcp_send_reset",
)  # fmt: skip
# remote address and port, local address and port
FourTuple = tuple[int, int, int, int]


def _hears_both(sock: Any) -> bool:
    # a socket of IPv6 that takes what comes over IPv4 as well
    return bool(sock.family != AF_INET and not sock.address and not sock.v6only)


def _alike(sock: Any, other: Any) -> bool:
    # inet_reuseport_add_sock(): whether two that share a port hear exactly the same
    names = ("sk_family", "family", "address", "v6only")
    return all(getattr(sock, name) == getattr(other, name) for name in names)


def _overlap(sock: Any, address: int, other: Any) -> bool:
    # inet_rcv_saddr_equal(): whether both could hear the same packet
    if sock.family == other.family:
        return not address or not other.address or address == other.address
    both = other if sock.family == AF_INET else sock
    return bool(not (address if both is sock else other.address) and not both.v6only)


class InetHashinfo:
    """The TCP sockets of one host (``struct inet_hashinfo``).

    ``established`` has everything with two ends: connections, requests that wait for their ACK, and TIME_WAIT.
    """

    def __init__(self, net: "Net") -> None:
        self._net = net
        self.structs = TcpStructs(net.kernel.mem)
        net.tracepoints.declare(*TRACEPOINTS)
        settings = net.kernel.config.sysctl
        self.rmem, self.wmem = (read_triple(settings, f"net.ipv4.tcp_{each}") for each in ("rmem", "wmem"))
        # connections that are established or wait to be closed (CurrEstab)
        self.curr_estab = 0
        self.established: dict[FourTuple, Any] = {}
        self._nr_groups = 0
        self._listeners: dict[int, list[TcpSock]] = {}
        # users of a port (struct inet_bind_bucket): sockets, also those that connected from it
        self._bound: dict[int, list[Any]] = {}
        self.secret = net.rng.stream(f"{net.name} tcp").getrandbits(128).to_bytes(16, "little")
        self._next_free = [FIRST_FREE_PORT, FIRST_FREE_PORT + 1]

    def secure_seq_and_ts_off(self, ends: FourTuple, now_ns: int) -> tuple[int, int]:
        """Return the initial sequence number of a connection and the offset of its timestamps."""
        size = 16 if (ends[0] | ends[2]) >> 32 else 4
        widths = (size, 4, size, 4)
        remote, rport, local, lport = (end.to_bytes(width, "big") for end, width in zip(ends, widths, strict=True))
        number = int.from_bytes(sha256(self.secret + remote + rport + local + lport).digest()[:4], "little")
        offset = int.from_bytes(sha256(self.secret + remote + local).digest()[:4], "little")
        return (number + (now_ns >> 6)) & M32, offset

    def pmtu(self, route: "Route", daddr: int, family: int = 2) -> int:
        """Return the longest packet that gets to an address, as far as is known (``dst_mtu``)."""
        if family != AF_INET:
            return self._net.path_mtu6.of(route, daddr)
        return self._net.path_mtu.of(route, daddr)

    def learn_pmtu(self, daddr: int, mtu: int) -> None:
        """Note what a router said (``ipv4_update_pmtu``)."""
        self._net.path_mtu.learn(daddr, mtu)

    def random(self, bits: int) -> int:
        """Return random bits."""
        return self._net.rng.stream(f"{self._net.name} tcp").getrandbits(bits)

    def lookup_listener(self, daddr: int, port: int, family: int = 2) -> "TcpSock | None":
        """Return who listens: one bound to the address before one bound to any; of several, the first."""
        found = None
        for sock in self._listeners.get(port, ()):
            if sock.family != family:
                # one of IPv6 that is bound to any address hears IPv4 when there is none of IPv4 alone
                if found is None and family == AF_INET and _hears_both(sock):
                    found = sock
                continue
            if sock.address == daddr:
                return sock
            if not sock.address and (found is None or found.sk_family != sock.sk_family == family):
                found = sock
        return found

    def listeners(self) -> "list[TcpSock]":
        """Return all that listen."""
        return [sock for socks in self._listeners.values() for sock in socks]

    def requests_of(self, sock: "TcpSock") -> list[Any]:
        """Return what waits for its ACK at a listener."""
        new = TcpState.NEW_SYN_RECV
        return [each for each in self.established.values() if each.state == new and each.listener is sock]

    def listen(self, sock: "TcpSock") -> None:
        """Let a socket be found by its port; those that share it are a group (``inet_reuseport_add_sock``)."""
        others = self._listeners.setdefault(sock.port, [])
        if sock.reuseport:
            same = [other.reuseport_group for other in others if other.reuseport and _alike(sock, other)]
            group = next((each for each in same if each is not None), None)
            if group is None:
                self._nr_groups += 1
                group = ReuseportGroup(self._net, self._nr_groups, bind_inany=not sock.address)
            group.add(sock)
        others.append(sock)

    def unhash(self, sock: "TcpSock") -> None:
        """Let a socket not be found any more (``inet_unhash``)."""
        socks = self._listeners.get(sock.port, [])
        if sock in socks:
            socks.remove(sock)
            if sock.reuseport_group is not None:
                sock.reuseport_group.remove(sock)
        if sock.peer is not None:
            ends = (*sock.peer, sock.address, sock.port)
            if self.established.get(ends) is sock:
                del self.established[ends]

    def get_port(self, sock: "TcpSock", address: int, port: int) -> None:
        """Bind a socket to an address and a port, 0 for a free one: EADDRINUSE (``inet_csk_get_port``)."""
        if not port:
            port = self._free_port(sock, address, 1)
        elif self._conflict(sock, address, port):
            raise KernelError("bind", Errno.EADDRINUSE, f"TCP port {port} of {self._net.name}")
        sock.address, sock.port = address, port
        self._bound.setdefault(port, []).append(sock)

    def listen_conflict(self, sock: "TcpSock") -> bool:
        """Whether a socket that was bound may not listen, because somebody else does."""
        return any(
            other is not sock and not (sock.reuseport and other.reuseport) and _overlap(sock, sock.address, other)
            for other in self._listeners.get(sock.port, ())
        )  # fmt: skip

    def _conflict(self, sock: "TcpSock", address: int, port: int) -> bool:
        # inet_bind_conflict(): SO_REUSEADDR among those that do not listen
        return any(
            _overlap(sock, address, other)
            and not (sock.reuse and other.reuse and other.state != TcpState.LISTEN)
            and not (sock.reuseport and other.reuseport)
            for other in self._bound.get(port, ())
        )

    def _free_port(self, sock: "TcpSock", address: int, parity: int) -> int:
        for first in (parity, 1 - parity):
            for port in range(FIRST_FREE_PORT + first, LAST_FREE_PORT + 1, 2):
                if not self._bound.get(port):
                    return port
        raise KernelError("bind", Errno.EADDRINUSE, "no free port is left")

    def connect_port(self, sock: "TcpSock", peer: tuple[int, int]) -> None:
        """Give a socket that connects a port and enter its connection: EADDRNOTAVAIL (``inet_hash_connect``)."""
        if sock.port:
            ends = (*peer, sock.address, sock.port)
            if self._in_use(ends):
                shown = format_ip(peer[0]) if sock.family == AF_INET else f"[{format_ip6(peer[0])}]"
                raise KernelError("connect", Errno.EADDRNOTAVAIL, f"{shown}:{peer[1]} is connected to")
            self.established[ends] = sock
            return
        for parity in (0, 1):
            start, count = self._next_free[parity], (LAST_FREE_PORT - FIRST_FREE_PORT + 1) // 2
            for step in range(count):
                port = FIRST_FREE_PORT + parity + (start - FIRST_FREE_PORT - parity + 2 * step) % (2 * count)
                ends = (*peer, sock.address, port)
                # a port that others connect from is shared with them, one that somebody is bound to is not
                if self._in_use(ends) or not all(user.ephemeral for user in self._bound.get(port, ())):
                    continue
                self._next_free[parity] = port + 2
                sock.port, sock.ephemeral = port, True
                self._bound.setdefault(port, []).append(sock)
                self.established[ends] = sock
                return
        raise KernelError("connect", Errno.EADDRNOTAVAIL, "no free port is left")

    def _in_use(self, ends: FourTuple) -> bool:
        # __inet_check_established(): TIME_WAIT may be taken over with timestamps, which is tcp_tw_reuse (loopback only)
        return ends in self.established

    def inherit_port(self, sock: "TcpSock", child: "TcpSock") -> None:
        """Let the child of a listener use its port (``__inet_inherit_port``)."""
        self._bound.setdefault(sock.port, []).append(child)

    def put_port(self, sock: Any) -> None:
        """Give a port back (``inet_put_port``)."""
        users = self._bound.get(sock.port, [])
        if sock in users:
            users.remove(sock)
            if not users:
                del self._bound[sock.port]

    def replace_user(self, sock: "TcpSock", other: Any) -> None:
        """Let what is left of a connection keep its port (``inet_twsk_hashdance``)."""
        users = self._bound.get(sock.port, [])
        if sock in users:
            users[users.index(sock)] = other
