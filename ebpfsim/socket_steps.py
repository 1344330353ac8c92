"""What steps of tasks say about sockets: words of socket(), addresses, options, control messages.

Addresses are ``10.0.0.2:53``, ``[fd00::2]:53``, ``[fe80::1%2]:53`` with a device's index, ``unix:/run/app.sock``,
``unix:@name`` for abstract names, and ``link:2`` or ``link:2/0x0800`` for packet sockets.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address
from struct import pack

from ebpfsim.errors import InputError

__all__ = ["SENDER_BYTES", "SOCKET_CONSTANTS", "SOCKET_WORDS", "endpoint", "int_option", "rights"]

# linux/socket.h, asm-generic/socket.h, linux/in.h, linux/in6.h, linux/if_packet.h, linux/tcp.h, asm-generic/poll.h
SOCKET_CONSTANTS = {
    "AF_UNSPEC": 0, "AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_PACKET": 17, "SOCK_STREAM": 1, "SOCK_DGRAM": 2,
    "SOCK_RAW": 3, "SOCK_SEQPACKET": 5, "SOCK_NONBLOCK": 0o4000, "SOCK_CLOEXEC": 0o2000000, "IPPROTO_IP": 0,
    "IPPROTO_ICMP": 1, "IPPROTO_TCP": 6, "IPPROTO_UDP": 17, "IPPROTO_IPV6": 41, "IPPROTO_RAW": 255, "MSG_PEEK": 2,
    "MSG_TRUNC": 0x20, "MSG_DONTWAIT": 0x40, "MSG_WAITALL": 0x100, "MSG_NOSIGNAL": 0x4000, "SHUT_RD": 0, "SHUT_WR": 1,
    "SHUT_RDWR": 2, "SOL_SOCKET": 1, "SO_REUSEADDR": 2, "SO_TYPE": 3, "SO_ERROR": 4, "SO_BROADCAST": 6, "SO_SNDBUF": 7,
    "SO_RCVBUF": 8, "SO_KEEPALIVE": 9, "SO_PRIORITY": 12, "SO_REUSEPORT": 15, "SO_PASSCRED": 16, "SO_PEERCRED": 17,
    "SO_RCVLOWAT": 18, "SO_RCVTIMEO": 20, "SO_SNDTIMEO": 21, "SO_TIMESTAMP": 29, "SO_TIMESTAMPNS": 35, "SO_MARK": 36,
    "SO_ATTACH_BPF": 50, "SO_DETACH_FILTER": 27, "SO_ATTACH_REUSEPORT_EBPF": 52, "IP_TOS": 1, "IP_TTL": 2,
    "IP_HDRINCL": 3, "IP_PKTINFO": 8, "IP_MTU_DISCOVER": 10, "IP_RECVTTL": 12, "IP_RECVTOS": 13, "IPV6_V6ONLY": 26,
    "IPV6_UNICAST_HOPS": 16, "IPV6_RECVPKTINFO": 49, "IPV6_TCLASS": 67, "TCP_NODELAY": 1, "TCP_KEEPIDLE": 4,
    "SOL_PACKET": 263, "PACKET_AUXDATA": 8, "PACKET_FANOUT": 18, "PACKET_FANOUT_DATA": 22, "PACKET_IGNORE_OUTGOING": 23,
    "POLLIN": 1, "POLLPRI": 2, "POLLOUT": 4, "POLLERR": 8, "POLLHUP": 0x10, "POLLRDHUP": 0x2000, "EPOLL_CTL_ADD": 1,
    "EPOLL_CTL_DEL": 2, "EPOLL_CTL_MOD": 3,
}  # fmt: skip
# what people write for socket()'s arguments
SOCKET_WORDS = {
    "inet": "AF_INET", "inet6": "AF_INET6", "unix": "AF_UNIX", "packet": "AF_PACKET", "dgram": "SOCK_DGRAM",
    "stream": "SOCK_STREAM", "raw": "SOCK_RAW", "seqpacket": "SOCK_SEQPACKET", "icmp": "IPPROTO_ICMP",
    "tcp": "IPPROTO_TCP", "udp": "IPPROTO_UDP",
}  # fmt: skip
SENDER_BYTES = 128  # sizeof(struct sockaddr_storage)
SUN_PATH_BYTES = 108
_HINT = "for instance '10.0.0.2:53', '[fd00::2]:53', 'unix:/run/app.sock' or 'unix:@name'"


def endpoint(value: object) -> bytes:
    """Return the ``struct sockaddr`` that a text means: InputError for others."""
    if isinstance(value, str):
        kind, _, rest = value.partition(":")
        if kind == "unix" and rest:
            return _unix(rest)
        if kind == "link":
            return _link(rest)
        try:
            return _inet(value)
        except ValueError:
            pass
    raise InputError("", f"{value!r} is no address with a port", _HINT)


def _unix(path: str) -> bytes:
    name = b"\0" + path[1:].encode() if path[0] == "@" else path.encode() + b"\0"
    if len(name) > SUN_PATH_BYTES:
        raise InputError("", f"name of {len(name)} bytes is too long", f"at most {SUN_PATH_BYTES}")
    return b"\1\0" + name


def _inet(text: str) -> bytes:
    host, _, port = text.rpartition(":")
    number = int(port)
    if not 0 <= number <= 0xFFFF or not port.isdigit():
        raise ValueError
    bracketed = host.startswith("[") and host.endswith("]")
    name, _, scope = host[1:-1].partition("%") if bracketed else (host, "", "")
    address = ip_address(name)
    if isinstance(address, IPv4Address) == bracketed:
        raise ValueError
    if isinstance(address, IPv4Address):
        return b"\2\0" + pack(">H", number) + address.packed + bytes(8)
    return b"\x0a\0" + pack(">HI", number, 0) + address.packed + pack("<I", int(scope or 0))


def _link(text: str) -> bytes:
    index, _, protocol = text.partition("/")
    try:
        return b"\x11\0" + pack(">H", int(protocol or "0", 0)) + pack("<iHBB8x", int(index), 0, 0, 6)
    except (ValueError, OverflowError):
        raise InputError(
            "", f"'link:{text}' is no device's index", "for instance 'link:2' or 'link:2/0x0800'"
        ) from None


def rights(fds: Sequence[int]) -> bytes:
    """Return a control message with descriptors (SCM_RIGHTS)."""
    return pack("<Qii", 16 + 4 * len(fds), 1, 1) + b"".join(fd.to_bytes(4, "little") for fd in fds)


def int_option(value: int) -> bytes:
    """Return the value of an option that is a number."""
    return (value & 0xFFFF_FFFF).to_bytes(4, "little")
