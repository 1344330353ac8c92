"""Scripts of calls on raw and packet sockets (``socket_cases`` has their answers)."""

import re
from collections.abc import Iterator
from struct import pack, unpack
from typing import Any

from socket_scripts import Script, data
from unix_cases import message, poll, room, word

LOCAL = 0x7F00_0001


def inet(address: int, port: int, family: int = 2) -> dict[str, str]:
    """Return ``struct sockaddr_in``."""
    return data(family.to_bytes(2, "little") + port.to_bytes(2, "big") + address.to_bytes(4, "big") + bytes(8))


def link(protocol: int, ifindex: int = 1, mac: bytes = b"", family: int = 17) -> dict[str, str]:
    """Return ``struct sockaddr_ll``."""
    return data(
        pack("<H", family) + pack(">H", protocol) + pack("<iHBB", ifindex, 0, 0, len(mac)) + mac.ljust(8, b"\0")
    )


def echo(ident: int, sequence: int, payload: bytes = b"abcd") -> bytes:
    """Return an ICMP echo request (RFC 792)."""
    message = pack(">BBHHH", 8, 0, 0, ident, sequence) + payload
    total = sum(unpack(f">{len(message) // 2}H", message))
    total = (total >> 16) + (total & 0xFFFF)
    check = ~(total + (total >> 16)) & 0xFFFF
    return message[:2] + pack(">H", check) + message[4:]


def ip(protocol: int, payload: bytes, *, source: int = 0, ttl: int = 64) -> bytes:
    """Return an IPv4 packet whose checksum is not filled in (RFC 791)."""
    return pack(">BBHHHBBHII", 0x45, 0, 20 + len(payload), 7, 0, ttl, protocol, 0, source, LOCAL) + payload


UDP = pack(">HHHH", 6000, 5000, 12, 0) + b"data"
L = inet(LOCAL, 0)
ETHERNET = bytes(12) + b"\x08\0" + ip(17, UDP, source=LOCAL)
SENDER: Script = [
    ["socket", 2, 2, 0], ["bind", 4, inet(LOCAL, 5000), 16], ["socket", 2, 2, 0], ["bind", 5, inet(LOCAL, 6000), 16],
    ["setsockopt", 5, 0, 10, word(0), 4],
]  # fmt: skip


def recv(fd: int, size: int = 100, flags: int = 0x40, name: int = 20) -> list[Any]:
    """Return a step that receives without waiting."""
    return ["recvfrom", fd, room(size), size, flags, room(name), word(name)]


def send(what: bytes) -> list[Any]:
    """Return a step by which the sender sends a datagram."""
    return ["sendto", 5, data(what), len(what), 0, inet(LOCAL, 5000), 16]


def to(fd: int, what: bytes, *where: Any) -> list[Any]:
    """Return a step that sends."""
    return ["sendto", fd, data(what), len(what), 0, *(where or (0, 0))]


def masked(hexadecimal: str) -> str:
    """Return bytes without ids and checksums of IP, checksums of UDP, and ports that the kernel has chosen."""
    hexadecimal = re.sub(r"^(02|0a)00[89a-f]...", r"\g<1>00port", hexadecimal)
    hexadecimal = re.sub(r"^((?:0{24}0800)?45.{6}).{4}", r"\1~~~~", hexadecimal)
    hexadecimal = re.sub(r"^((?:0{24}0800)?45.{6}~~~~.{8}).{4}", r"\1~~~~", hexadecimal)
    return re.sub(r"(~~~~7f00000.7f00000117701388.{4}).{4}", r"\1~~~~", hexadecimal)


def raw_cases() -> Iterator[tuple[str, str, Script]]:
    """Return module, name, and script, of raw sockets."""
    get: list[Any] = ["getsockopt", 3, 255, 1, room(4), word(4)]
    names: Script = [["getsockname", 3, room(16), word(16)], ["getpeername", 3, room(16), word(16)]]
    request = echo(5, 1)
    yield "raw_calls", "making", [
        *(["socket", 2, 3, protocol] for protocol in (0, 1, 255, 17, 300)), ["socket", 2, 2, 1],
        *(["getsockopt", 3, level, number, room(4), word(4)] for level, number in ((1, 3), (1, 38), (0, 3))),
        ["getsockopt", 4, 0, 3, room(4), word(4)], ["setsockopt", 3, 0, 3, word(1), 4], get,
        ["setsockopt", 3, 255, 1, word(5), 4], get, ["setsockopt", 5, 255, 1, word(5), 4],
        ["getsockopt", 3, 255, 2, room(4), word(4)], poll(3), ["listen", 3, 1], ["accept", 3, 0, 0], *names,
        ["bind", 3, inet(LOCAL, 77), 16], *names, ["bind", 3, inet(0x08080808, 0), 16],
        ["connect", 3, inet(LOCAL, 99), 16], *names, ["bind", 3, L, 16], ["ioctl", 3, 0x541B, room(4)],
        ["setsockopt", 3, 6, 1, word(1), 4],
    ]  # fmt: skip
    yield "raw_calls", "echo requests", [
        ["socket", 2, 3, 1], to(3, request, L, 16), recv(3, name=16), recv(3, 20, 0x42, 16), recv(3, 10, 0x60, 16),
        recv(3), to(3, request), to(3, request, L, 8), to(3, request, inet(LOCAL, 0, 10), 16),
        to(3, bytes(65536), L, 16), ["connect", 3, L, 16], to(3, request), ["ioctl", 3, 0x541B, room(4)], poll(3),
        ["setsockopt", 3, 255, 1, word(1), 4], to(3, request), *[recv(3)] * 4, ["shutdown", 3, 1], to(3, request),
    ]  # fmt: skip
    other = ip(17, UDP, source=LOCAL + 1)
    yield "raw", "headers", [
        ["socket", 2, 3, 255], ["socket", 2, 2, 0], ["bind", 4, inet(LOCAL, 5000), 16], to(3, ip(17, UDP), L, 16),
        recv(4), to(3, ip(17, UDP)[:10], L, 16), to(3, b"\x4f" + ip(17, UDP)[1:], L, 16), ["socket", 2, 3, 17],
        to(3, other, L, 16), recv(4), recv(5), recv(3), to(5, UDP, L, 16), recv(5), recv(4),
        ["setsockopt", 5, 0, 3, word(1), 4], to(5, ip(17, UDP, ttl=3), L, 16), recv(4), recv(5), ["socket", 2, 3, 200],
        to(6, b"zzz", L, 16), recv(6), *(["setsockopt", 6, 0, number, word(value), 4] for number, value in (
            (2, 9), (1, 8), (12, 1), (8, 1))), to(6, b"zzz", L, 16),
        ["recvmsg", 6, message(room(60), room(100), 100), 0x40], to(5, ip(199, b"q"), L, 16),
        ["socket", 2, 3, 1], recv(7),
    ]  # fmt: skip


def packet_cases() -> Iterator[tuple[str, str, Script]]:
    """Return module, name, and script, of packet sockets."""
    every, get = 0x300, ["getsockopt", 4, 263, 8, room(4), word(4)]
    yield "af_packet", "making", [
        ["socket", 17, 3, every], *(["socket", 17, kind, 0] for kind in (2, 1, 5)), ["bind", 4, link(0x800), 20],
        *(["getsockname", fd, room(20), word(20)] for fd in (4, 3)), ["getpeername", 3, room(20), word(20)],
        ["bind", 4, link(0x800, 99), 20], ["bind", 4, link(0x800), 18], ["bind", 4, link(0x800, family=2), 20],
        ["connect", 4, link(0x800), 20], ["listen", 4, 1], ["accept", 4, 0, 0], ["shutdown", 4, 1],
        *(["getsockopt", 4, 1, number, room(4), word(4)] for number in (3, 38, 39)),
        ["getsockopt", 4, 263, 6, room(8), word(8)], get, ["setsockopt", 4, 263, 8, word(1), 4], get,
        ["setsockopt", 4, 263, 23, word(2), 4], ["setsockopt", 4, 263, 23, word(1), 4],
        ["setsockopt", 4, 263, 99, word(1), 4], ["setsockopt", 4, 0, 1, word(1), 4],
        ["getsockopt", 4, 0, 1, room(4), word(4)], poll(3, 4), recv(4, 4, 0x41), ["ioctl", 4, 0x541B, room(4)],
        ["setsockopt", 4, 263, 1, data(pack("<iHH8s", 1, 1, 0, b"")), 16], ["setsockopt", 4, 263, 18, word(7), 4],
        *(["setsockopt", 3, 263, 18, word(value), 4] for value in (7 | 9 << 16, 7, 7)),
        ["getsockopt", 3, 263, 18, room(4), word(4)], ["bind", 3, link(0x800), 20],
        ["setsockopt", 3, 263, 22, word(99), 4],
    ]  # fmt: skip
    statistics: list[Any] = ["getsockopt", 3, 263, 6, room(8), word(8)]
    yield "packet_sock", "what comes and goes", [
        ["socket", 17, 3, every], *SENDER, send(b"hello"), *[recv(3)] * 3, send(b"hi"), recv(3, 20, 0x42),
        recv(3, 20, 0x60), recv(3, 20), statistics, statistics, ["bind", 3, link(0x800), 20], send(b"only"),
        *[recv(3)] * 3, ["setsockopt", 3, 263, 8, word(1), 4], send(b"aux"),
        ["recvmsg", 3, message(room(9), room(64), 64), 0x40], ["bind", 3, link(0x806), 20], send(b"arp"), recv(3),
    ]  # fmt: skip
    yield "packet_sock", "without link-layer headers", [
        ["socket", 17, 2, every], *SENDER, send(b"hello"), recv(3), recv(3), ["setsockopt", 3, 263, 23, word(1), 4],
        send(b"in"), recv(3), recv(3),
    ]  # fmt: skip
    yield "packet_sock", "sharing", [
        ["socket", 17, 2, every], *SENDER, ["socket", 17, 2, every], ["bind", 3, link(0x800), 20],
        ["bind", 6, link(0x800), 20], ["setsockopt", 3, 263, 18, word(7 | 1 << 16), 4],
        ["setsockopt", 6, 263, 18, word(7), 4], ["setsockopt", 6, 263, 18, word(7 | 1 << 16), 4], send(b"one"),
        send(b"two"), send(b"three"), *[recv(3)] * 3, *[recv(6)] * 2, ["close", 3], send(b"four"), recv(6), recv(6),
    ]  # fmt: skip
    cooked = ETHERNET[14:]
    yield "af_packet", "sending", [
        ["socket", 17, 3, 0], *SENDER, to(3, ETHERNET, link(0x800), 20), recv(4), to(3, ETHERNET, link(0x800, 99), 20),
        to(3, ETHERNET), to(3, ETHERNET[:10], link(0x800), 20), to(3, ETHERNET, link(0x800), 10),
        ["bind", 3, link(0x800), 20], to(3, ETHERNET), recv(3), recv(4), ["socket", 17, 2, 0],
        to(6, cooked, link(0x800, 1, bytes(6)), 20), recv(4), to(6, cooked, link(0x800, 1, bytes(4)), 20),
        to(3, bytes(70000), link(0x800), 20),
    ]  # fmt: skip
