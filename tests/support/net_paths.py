"""Tasks that send between network namespaces, as in the recordings of Linux 6.12 (``recordings``).

Namespace A (10.0.0.1) has a veth pair to B (10.0.0.2), or one to a router R that has one to C (10.0.1.2).
"""

import re
import tarfile
from collections.abc import Callable
from functools import cache
from typing import Any

from call_paths import Watched
from recordings import DATA, known, trees

from netstack.rtnl import add_veth

AF_INET, SOCK_DGRAM = 2, 2
# who takes a lock, allows softirqs, or is woken by what has nothing to do with the packet
NOISE = frozenset(
    (
        *("__local_bh_enable_ip", "lock_sock_nested", "release_sock", "ip4_datagram_release_cb"),
        *("wake_up_process", "schedule", "task_work_run"),
    )
)
# what becomes of a netlink message that somebody listened to when it was recorded
NETLINK = ("consume_skb", "skb_release_head_state", "skb_release_data", "__wake_up", "__wake_up_common", "consume_skb")
_EVENT = re.compile(r"\S+\s+\S+ (\w+): ?(.*)")


def sockaddr(address: str, port: int) -> bytes:
    """Return ``struct sockaddr_in``."""
    packed = bytes(int(part) for part in address.split("."))
    return AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + packed + bytes(8)


@cache
def events(recording: str) -> list[tuple[str, str]]:
    """Return the tracepoints of a recording in their order, and what they said."""
    with tarfile.open(DATA) as archive:
        member = next(each for each in archive.getmembers() if each.name.endswith(f"events/{recording}.txt"))
        file = archive.extractfile(member)
        assert file is not None
        lines = file.read().decode().splitlines()
    return [(found[1], found[2]) for line in lines if (found := _EVENT.fullmatch(line))]


class NetPaths(Watched):
    """The namespaces; ``fired`` are tracepoints in their order with their arguments as objects."""

    def __init__(self) -> None:
        super().__init__()
        self.a = self.kernel.net
        self.events: list[tuple[str, tuple[Any, ...]]] = []

    def pair(self, *, known_neighbours: bool = True) -> Any:
        """Make A and B, and return B."""
        b = self.a.add_namespace("B")
        va, vb = add_veth(
            self.a, "va", b, "vb", addresses="10.0.0.1/24", peer_addresses="10.0.0.2/24",
            mac="02:00:00:00:00:01", peer_mac="02:00:00:00:00:02",
        )  # fmt: skip
        if known_neighbours:
            self.a.neigh.add(va, 0x0A000002, vb.mac)
            b.neigh.add(vb, 0x0A000001, va.mac)
        return b

    def router(self, *, stale: bool = False) -> tuple[Any, Any]:
        """Make A, R and C, and return R and C; with ``stale`` R has A's address from a request."""
        r, c = self.a.add_namespace("R"), self.a.add_namespace("C")
        r.sysctls["net.ipv4.ip_forward"] = 1
        ar, ra = add_veth(self.a, "ar", r, "ra", addresses="10.0.0.1/24", peer_addresses="10.0.0.2/24")
        rc, cr = add_veth(r, "rc", c, "cr", addresses="10.0.1.1/24", peer_addresses="10.0.1.2/24")
        self.a.neigh.add(ar, 0x0A000002, ra.mac)
        r.neigh.add(rc, 0x0A000102, cr.mac)
        if stale:
            r.neigh.event_ns(ra, 0x0A000001, ar.mac, self.kernel.cpus[0])
        else:
            r.neigh.add(ra, 0x0A000001, ar.mac)
        self.a.add_route("default", via="10.0.0.2")
        c.add_route("default", via="10.0.1.1")
        return r, c

    def send(self, to: tuple[str, int], data: bytes = b"hello", *, bound: str = "10.0.0.1", ttl: int = 0) -> None:
        """Let a task of A send, and write down what that does until the call returns."""

        def what(_task: Any, call: Callable[..., int]) -> None:
            call("socket", AF_INET, SOCK_DGRAM, 0)
            call("bind", 3, sockaddr(bound, 6000), 16)
            (sock,) = self.a.sockets.udp_receivers(0x0A000001, 6000, broadcast=False)
            sock.ttl = ttl
            self.watch()
            assert call("sendto", 3, data, len(data), 0, sockaddr(*to), 16) == len(data)
            self.stop()

        self.run(what)

    def watch(self) -> None:
        """Write down functions and tracepoints from now on."""
        super().watch()
        self.kernel.functions.__dict__["watched"] = True
        tracepoints = self.kernel.tracepoints
        tracepoints.watched = True
        for name in TRACEPOINTS:
            setattr(tracepoints, name, self._fire(name))

    def _fire(self, name: str) -> Callable[..., None]:
        def fire(_cpu: Any, *args: Any) -> None:
            if self.watching:
                self.events.append((name, args))

        return fire


TRACEPOINTS = (
    *("fib_table_lookup", "net_dev_queue", "net_dev_start_xmit", "net_dev_xmit", "netif_rx_entry", "netif_rx"),
    *("netif_rx_exit", "netif_receive_skb", "sk_data_ready", "napi_poll", "kfree_skb", "consume_skb", "icmp_send"),
    *("neigh_create", "neigh_update", "neigh_update_done", "neigh_event_send_done", "neigh_timer_handler"),
    *("sock_send_length", "sock_recv_length", "skb_copy_datagram_iovec"),
)


def warm(net: Any) -> None:
    """Let a namespace have used its routes and neighbours before."""
    for neigh in net.neigh.entries():
        neigh.has_header = True
    for route in (*net.fib.local.routes(), *net.fib.main.routes()):
        route.input_cached = route.output_cached = True


def functions(paths: NetPaths, recording: str, start: str = "__x64_sys_sendto") -> tuple[list[str], list[str]]:
    """Return our functions and the recorded ones from ``start`` on, of those that both could have."""
    recorded = trees()[recording]
    recorded = _without_netlink(recorded[recorded.index(start) :])
    modelled = ((set(paths.kernel.functions.names()) | set(paths.calls)) & known()) - NOISE
    return [name for name in paths.calls if name in modelled], [name for name in recorded if name in modelled]


def _without_netlink(names: list[str]) -> list[str]:
    kept: list[str] = []
    for name in names:
        kept.append(name)
        if tuple(kept[-len(NETLINK) :]) == NETLINK:
            del kept[-len(NETLINK) :]
    return kept
