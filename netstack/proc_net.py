"""The files of /proc/net (net/core/net-procfs.c, net/ipv4/{proc,tcp_ipv4,udp}.c, v6.18): records by name.

Differs: sockets come in the order in which the stack has them, those of UDP with the number of that row as their place
in the table; addresses of sockets, timers, who made them and inode numbers are 0, and each has one user. Of TIME_WAIT
and of requests there are the ends and the state. There are no lines for single types of ICMP messages.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["proc_net_files"]

DEV_HEADER = [
    "Inter-|   Receive                                                |  Transmit\n",
    " face |bytes    packets errs drop fifo frame compressed multicast"
    "|bytes    packets errs drop fifo colls carrier compressed\n",
]
TCP_HEADER = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode".ljust(149) + "\n"
)
UDP_COLUMNS = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
UDP_HEADER = f"{f'{UDP_COLUMNS} ref pointer drops':<127}\n"
AF_INET = 2
TCP_ESTABLISHED, TCP_CLOSE, TCP_LISTEN = 1, 7, 10
USER_HZ_US = 10_000
TCP_INFINITE_SSTHRESH = 0x7FFF_FFFF
# settings and gauges that stand between the counters: RtoAlgorithm, RtoMin, RtoMax, MaxConn
TCP_SETTINGS = {"RtoAlgorithm": 1, "RtoMin": 200, "RtoMax": 120_000, "MaxConn": -1}
UDP_LITE = (
    "InDatagrams", "NoPorts", "InErrors", "OutDatagrams", "RcvbufErrors", "SndbufErrors", "InCsumErrors",
    "IgnoredMulti", "MemErrors",
)  # fmt: skip


def proc_net_files(net: "Net") -> Mapping[str, Callable[[], list[str]]]:
    """Return the records of the files that a namespace has."""
    return {
        "dev": lambda: _dev(net),
        "netstat": lambda: [net.snmp.proc_text("TcpExt", "IpExt")],
        "snmp": lambda: _snmp(net),
        "tcp": lambda: _tcp(net),
        "udp": lambda: _udp(net),
    }


def _dev(net: "Net") -> list[str]:
    # dev_seq_printf_stats()
    lines = []
    for dev in net.devices.values():
        stats: Any = dev.stats
        received = f"{stats.rx_bytes:7d} {stats.rx_packets:7d} {stats.rx_errors:4d}"
        received += f" {stats.rx_dropped + stats.rx_missed_errors:4d} {0:4d} {stats.rx_length_errors:5d} {0:10d}"
        sent = f"{stats.tx_bytes:8d} {stats.tx_packets:7d} {stats.tx_errors:4d} {stats.tx_dropped:4d}"
        sent += f" {0:4d} {0:5d} {0:7d} {0:10d}"
        lines.append(f"{dev.name:>6}: {received} {stats.multicast:9d} {sent}\n")
    return [*DEV_HEADER, *lines]


def _end(address: int, port: int) -> str:
    # addresses as the words that a little-endian machine has
    return f"{int.from_bytes(address.to_bytes(4, 'big'), 'little'):08X}:{port:04X}"


def _tcp(net: "Net") -> list[str]:
    # tcp4_seq_show(): those that listen, then the others
    socks = [*net.tcp.listeners(), *net.tcp.established.values()]
    lines = [_tcp_line(row, sock) for row, sock in enumerate(sock for sock in socks if _family(sock) == AF_INET)]
    return [TCP_HEADER, *lines]


def _family(sock: Any) -> int:
    # of a request that of who listens: what an address of IPv4 is mapped to is among those of IPv6
    owner = sock if hasattr(sock, "sk_family") else sock.listener
    return int(owner.sk_family)


def _tcp_line(row: int, sock: Any) -> str:
    remote = sock.peer or (0, 0)
    state, sent, waiting, tail = int(sock.state), 0, 0, ""
    if hasattr(sock, "write_seq"):
        listens = state == TCP_LISTEN
        if not listens:
            sent, waiting = sock.write_seq - sock.snd_una, max(0, sock.rcv_nxt - sock.copied_seq)
        ssthresh = sock.snd_ssthresh if sock.snd_ssthresh < TCP_INFINITE_SSTHRESH else -1
        quick = sock.ack_quick << 1 | int(sock.ack_pingpong >= 1)
        delay = 0 if listens else sock.ack_ato_us // USER_HZ_US
        tail = f" {sock.rto_us // USER_HZ_US} {delay} {quick} {sock.snd_cwnd} {0 if listens else ssthresh}"
    line = (
        f"{row:4d}: {_end(sock.address, sock.port)} {_end(*remote)} {state:02X} "
        f"{sent & 0xFFFF_FFFF:08X}:{waiting & 0xFFFF_FFFF:08X} 00:00000000 {0:08X} {0:5d} {0:8d} 0 1 {0:016x}{tail}"
    )
    return f"{line:<149}\n"


def _udp(net: "Net") -> list[str]:
    # udp4_format_sock()
    lines = []
    for row, sock in enumerate(net.sockets.udp_sockets()):
        remote = sock.peer or (0, 0)
        state = TCP_ESTABLISHED if sock.peer is not None else TCP_CLOSE
        line = (
            f"{row:5d}: {_end(sock.address, sock.port)} {_end(*remote)} {state:02X} "
            f"{0:08X}:{sock.rmem:08X} 00:00000000 {0:08X} {0:5d} {0:8d} 0 1 {0:016x} {sock.drops}"
        )
        lines.append(f"{line:<127}\n")
    return [UDP_HEADER, *lines]


def _snmp(net: "Net") -> list[str]:
    settings = net.sysctls
    forwarding = 1 if settings["net.ipv4.ip_forward"] else 2
    ip = {"Forwarding": forwarding, "DefaultTTL": settings["net.ipv4.ip_default_ttl"]} | net.snmp.group("Ip")
    tcp = net.snmp.group("Tcp")
    names = list(tcp)
    at = names.index("EstabResets") + 1
    tcp = TCP_SETTINGS | {name: tcp[name] for name in names[:at]} | {"CurrEstab": net.tcp.curr_estab} | tcp
    groups = [("Ip", ip), ("Icmp", net.snmp.group("Icmp")), ("Tcp", tcp), ("Udp", net.snmp.group("Udp"))]
    groups.append(("UdpLite", dict.fromkeys(UDP_LITE, 0)))
    return [
        "".join(
            f"{name}: {' '.join(values)}\n{name}: {' '.join(map(str, values.values()))}\n" for name, values in groups
        )
    ]
