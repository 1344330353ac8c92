"""Scripts of calls on sockets of AF_INET6 (``socket_cases`` has their answers)."""

from collections.abc import Iterator
from ipaddress import IPv6Address
from struct import pack
from typing import Any

from socket_scripts import Script, data
from unix_cases import message, poll, room, word

UDP: list[Any] = ["socket", 10, 2, 0]
TCP: list[Any] = ["socket", 10, 1, 0]


def at(address: str, port: int, *, scope: int = 0, family: int = 10) -> tuple[dict[str, str], int]:
    """Return ``struct sockaddr_in6`` and its size."""
    words = pack("<H", family) + pack(">HI", port, 0) + IPv6Address(address).packed + pack("<I", scope)
    return data(words), len(words)


def v4(address: int, port: int) -> tuple[dict[str, str], int]:
    """Return ``struct sockaddr_in`` and its size."""
    return data(b"\2\0" + pack(">HI", port, address) + bytes(8)), 16


def recv(fd: int, size: int = 20, flags: int = 0x40) -> list[Any]:
    """Return a step that receives without waiting."""
    return ["recvfrom", fd, room(size), size, flags, room(28), word(28)]


def send(fd: int, what: bytes, *to: Any) -> list[Any]:
    """Return a step that sends."""
    return ["sendto", fd, data(what), len(what), 0, *(to or (0, 0))]


def names(fd: int) -> Script:
    """Return steps that ask for both names."""
    return [["getsockname", fd, room(28), word(28)], ["getpeername", fd, room(28), word(28)]]


def stream_cases() -> Iterator[tuple[str, str, Script]]:
    """Return module, name, and script of streams."""
    local, mapped = 0x7F00_0001, "::ffff:127.0.0.1"
    accept: list[Any] = ["accept", 3, room(28), word(28)]
    heard: Script = [TCP, ["bind", 3, *at("::", 8080)], ["listen", 3, 5], *names(3)]
    talk: Script = [
        accept, *names(5), *names(4), ["getsockopt", 5, 1, 39, room(4), word(4)],
        ["getsockopt", 5, 41, 26, room(4), word(4)], ["getsockopt", 4, 41, 26, room(4), word(4)],
        ["write", 4, data(b"question"), 8], ["read", 5, room(20), 20], ["write", 5, data(b"answer"), 6],
        ["read", 4, room(20), 20], poll(3, 4, 5), ["shutdown", 4, 1], ["read", 5, room(4), 4], ["close", 5],
        ["read", 4, room(4), 4],
    ]  # fmt: skip
    yield "inet6_stream", "one that hears both is called over IPv6", [
        *heard, TCP, ["bind", 4, *at("::1", 6000)], ["connect", 4, *at("::1", 8080)], *talk,
    ]  # fmt: skip
    yield "inet6_stream", "one that hears both is called by an address that is mapped", [
        *heard, TCP, ["bind", 4, *at(mapped, 6000)], ["connect", 4, *at(mapped, 8080)], *talk,
    ]  # fmt: skip
    yield "inet6_stream", "one that hears both is called over IPv4", [
        *heard, ["socket", 2, 1, 0], ["bind", 4, *v4(local, 6000)], ["connect", 4, *v4(local, 8080)], *talk,
    ]  # fmt: skip
    yield "inet6_stream", "one that hears IPv6 only", [
        TCP, ["setsockopt", 3, 41, 26, word(1), 4], ["bind", 3, *at(mapped, 8080)], ["bind", 3, *at("::", 8080)],
        ["listen", 3, 1], ["socket", 2, 1, 0], ["connect", 4, *v4(local, 8080)], ["bind", 4, *v4(0, 8080)],
        ["listen", 4, 1], TCP, ["setsockopt", 5, 41, 26, word(1), 4], ["connect", 5, *at(mapped, 8080)],
        ["connect", 5, *at("::1", 8080)], ["setsockopt", 5, 41, 26, word(0), 4],
    ]  # fmt: skip
    yield "inet6_stream", "ports that are taken", [
        TCP, ["bind", 3, *at("::", 8080)], ["socket", 2, 1, 0], ["bind", 4, *v4(local, 8080)],
        TCP, ["bind", 5, *at("::1", 8080)], ["bind", 5, *at(mapped, 8080)], ["bind", 5, *at("::1", 8081)], *names(5),
        ["getsockopt", 5, 41, 26, room(4), word(4)], ["bind", 4, *v4(local, 8081)], TCP,
        ["bind", 6, *at(mapped, 8081)], ["bind", 6, *at(mapped, 8082)], *names(6),
        ["getsockopt", 6, 41, 26, room(4), word(4)], ["listen", 6, 1], TCP, ["connect", 7, *at("::1", 8082)], TCP,
        ["bind", 8, *at("::", 8082)], ["setsockopt", 8, 41, 26, word(1), 4], ["bind", 8, *at("::", 8082)],
    ]  # fmt: skip
    yield "inet6_stream", "what bind and connect refuse", [
        TCP, ["bind", 3, at("::1", 0)[0], 16], ["bind", 3, *at("::1", 5000, family=2)],
        ["bind", 3, *at("2001:db8::1", 5000)], ["bind", 3, *at("::ffff:9.9.9.9", 5000)],
        ["connect", 3, *at("ff02::1", 80)], ["connect", 3, *at("2001:db8::1", 80)], ["connect", 3, *at("fe80::1", 80)],
        ["connect", 3, *v4(local, 80)], ["connect", 3, at("::1", 80, family=2)[0], 28],
        ["connect", 3, *at("::1", 9)], ["bind", 3, *at(mapped, 5000)], ["connect", 3, *at("::1", 80)], *names(3),
        ["bind", 3, *at("::1", 5000)], ["socket", 2, 1, 0], ["bind", 4, *v4(local, 80)], ["listen", 4, 1],
        ["connect", 3, *at("::", 80)], *names(3), ["connect", 3, *at("::", 80)],
    ]  # fmt: skip
    yield "inet6_stream", "options", [
        TCP, *(["getsockopt", 3, 41, number, room(4), word(4)] for number in (16, 26, 67)),
        ["setsockopt", 3, 41, 67, word(0x20), 4], ["setsockopt", 3, 41, 16, word(7), 4],
        *(["getsockopt", 3, 41, number, room(4), word(4)] for number in (16, 26, 67)),
        ["getsockopt", 3, 0, 1, room(4), word(4)], ["setsockopt", 3, 0, 1, word(8), 4],
        ["getsockopt", 3, 0, 1, room(4), word(4)], ["setsockopt", 3, 6, 1, word(1), 4],
        ["getsockopt", 3, 6, 1, room(4), word(4)], *(["getsockopt", 3, 1, number, room(4), word(4)] for number in
        (3, 38, 39)), ["bind", 3, *at("::", 0)], ["setsockopt", 3, 41, 26, word(1), 4],
    ]  # fmt: skip


def more_stream_cases() -> Iterator[tuple[str, str, Script]]:
    """Return module, name, and script of streams, further ones."""
    local, mapped, nobody = 0x7F00_0001, "::ffff:127.0.0.1", data(bytes(28))
    stream4: list[Any] = ["socket", 2, 1, 0]
    heard: Script = [TCP, ["bind", 3, *at("::", 8080)], ["listen", 3, 5]]

    def on(fd: int, number: int) -> list[Any]:
        return ["setsockopt", fd, 1, number, word(1), 4]

    yield "inet6_stream", "disconnecting", [
        *heard, TCP, ["connect", 4, *at("::1", 8080)], ["connect", 4, nobody, 28],
        ["getpeername", 4, room(28), word(28)], ["bind", 4, *at("::1", 6000)], *names(4),
        ["connect", 4, *at("::1", 8080)], *names(4), ["connect", 4, nobody, 2], ["connect", 4, nobody, 1], *names(4),
    ]  # fmt: skip
    yield "inet6_stream", "disconnecting from an address that is mapped", [
        *heard, TCP, ["connect", 4, *at(mapped, 8080)], ["connect", 4, nobody, 28], ["bind", 4, *at("::1", 6000)],
        *names(4),
    ]  # fmt: skip
    yield "inet6_stream", "without waiting", [
        ["socket", 10, 0x801, 0], ["bind", 3, *at("::", 8080)], ["accept", 3, 0, 0], ["listen", 3, 5],
        ["accept", 3, 0, 0], ["accept4", 3, room(28), word(20), 0x800], ["socket", 10, 0x801, 0],
        ["connect", 4, *at("::1", 8080)], poll(3, 4), ["connect", 4, *at("::1", 8080)],
        ["connect", 4, *at("::1", 8080)], ["connect", 3, *at("::1", 8080)], ["bind", 4, *at("::1", 1)],
        ["listen", 4, 1],
    ]  # fmt: skip
    yield "inet6_stream", "a port that several have", [
        TCP, on(3, 2), ["bind", 3, *at("::", 8080)], stream4, on(4, 2), ["bind", 4, *v4(local, 8080)],
        ["listen", 4, 1], ["listen", 3, 1], TCP, on(5, 2), ["bind", 5, *at("::1", 8080)], ["listen", 5, 1], stream4,
        ["bind", 6, *v4(local, 6000)], ["connect", 6, *v4(local, 8080)], ["accept", 4, room(28), word(28)],
    ]  # fmt: skip
    yield "inet6_stream", "a port that several hear at", [
        TCP, on(3, 15), ["bind", 3, *at("::", 8080)], ["listen", 3, 1], stream4, on(4, 15), ["bind", 4, *v4(0, 8080)],
        ["listen", 4, 1], stream4, ["bind", 5, *v4(local, 6000)], ["connect", 5, *v4(local, 8080)],
        ["accept", 4, room(28), word(28)], TCP, ["bind", 7, *at("::1", 6000)], ["connect", 7, *at("::1", 8080)],
        ["accept", 3, room(28), word(28)],
    ]  # fmt: skip
    yield "inet6_stream", "a port of a connection that was closed", [
        *heard, TCP, ["bind", 4, *at("::1", 6000)], ["connect", 4, *at("::1", 8080)], ["accept", 3, 0, 0],
        ["shutdown", 4, 1], ["close", 5], ["close", 4], TCP, ["bind", 4, *at("::1", 6000)], on(4, 2),
        ["bind", 4, *at("::1", 6000)],
    ]  # fmt: skip
    yield "inet6_stream", "one that hears IPv4 only", [
        TCP, ["bind", 3, *at("::ffff:0.0.0.0", 8080)], *names(3), ["listen", 3, 1], stream4,
        ["bind", 4, *v4(local, 6000)], ["connect", 4, *v4(local, 8080)], ["accept", 3, room(28), word(28)], TCP,
        ["connect", 6, *at("::1", 8080)],
    ]  # fmt: skip
    yield "inet6_stream", "options of a listener and its connection", [
        *heard, ["setsockopt", 3, 41, 67, word(0xFFFF_FFFF), 4], ["setsockopt", 3, 41, 67, word(256), 4],
        ["setsockopt", 3, 41, 16, word(256), 4], ["setsockopt", 3, 41, 67, word(0x28), 4],
        ["setsockopt", 3, 41, 16, word(9), 4], TCP, ["bind", 4, *at("::1", 6000)], ["connect", 4, *at("::1", 8080)],
        ["accept", 3, 0, 0], *(["getsockopt", 5, 41, number, room(4), word(4)] for number in (16, 26, 67)),
        ["setsockopt", 5, 17, 26, word(1), 4], ["getsockopt", 5, 17, 26, room(4), word(4)],
    ]  # fmt: skip


def inet6_cases() -> Iterator[tuple[str, str, Script]]:
    """Return module, name, and script."""
    yield from stream_cases()
    yield from more_stream_cases()
    local, mapped = 0x7F00_0001, "::ffff:127.0.0.1"
    yield "inet6", "making and binding", [
        *(["socket", 10, kind, protocol] for kind, protocol in ((2, 6), (5, 0), (2, -1), (2, 300), (1, 17))), UDP,
        *names(3), ["bind", 3, at("::1", 0)[0], 16], ["bind", 3, *at("::1", 5000, family=2)],
        ["bind", 3, *at("2001:db8::1", 5000)], ["bind", 3, *at("fe80::1", 5000)], ["bind", 3, *at("::1", 5000)],
        *names(3), ["bind", 3, *at("::1", 5001)], UDP, ["bind", 4, *at("::1", 5000)], ["bind", 4, *at("::", 5000)],
        ["bind", 4, *at(mapped, 5000)], *names(4), UDP, ["bind", 5, *at("::", 6000)], *names(5),
        ["socket", 2, 2, 0], ["bind", 6, *v4(local, 6000)], ["bind", 6, *v4(local, 5000)],
        ["bind", 6, *v4(local, 7000)],
        UDP, ["bind", 7, *at("::", 7000)], ["setsockopt", 7, 41, 26, word(1), 4], ["bind", 7, *at(mapped, 7001)],
        ["bind", 7, *at("::", 7000)], ["setsockopt", 7, 41, 26, word(0), 4], ["bind", 7, *at("::ffff:9.9.9.9", 1)],
        ["listen", 3, 1], ["accept", 3, 0, 0], ["getsockopt", 3, 1, 39, room(4), word(4)],
    ]  # fmt: skip
    yield "udpv6", "datagrams", [
        UDP, ["bind", 3, *at("::1", 5000)], UDP, ["bind", 4, *at("::1", 6000)], send(4, b"one", *at("::1", 5000)),
        recv(3, 20, 0x42), recv(3, 2), send(4, b"x"), send(4, b"x", *at("::1", 0)), send(4, b"x", at("::1", 1)[0], 20),
        send(4, b"x", *at("::1", 5000, family=7)), send(4, b"x", *at("fe80::1", 5000)),
        ["connect", 4, *at("::1", 5000)],
        *names(4), send(4, b"two"), recv(3), send(3, b"back", *at("::1", 6000)), recv(4), poll(3, 4),
        ["socket", 10, 2, 0], ["bind", 5, *at("::1", 6001)], send(5, b"other", *at("::1", 6000)), recv(4),
        ["connect", 5, *at("::1", 9)], send(5, b"refused"), send(5, b"refused"), recv(5), ["close", 3],
        send(4, b"gone"),
        recv(4), send(5, bytes(65537), *at("::1", 9)), ["connect", 5, at("::1", 9)[0], 10],
        ["connect", 5, *at("::1", 9, family=7)], send(4, b"x", *at(mapped, 5000)), ["shutdown", 4, 1], send(4, b"x"),
    ]  # fmt: skip
    yield "udpv6", "IPv4 in IPv6", [
        UDP, ["bind", 3, *at("::", 5000)], ["socket", 2, 2, 0], ["bind", 4, *v4(local, 6000)],
        send(4, b"four", *v4(local, 5000)), recv(3), send(3, b"back", *at(mapped, 6000)), recv(4),
        send(3, b"plain", *v4(local, 6000)), recv(4), ["connect", 3, *at(mapped, 6000)], *names(3), send(3, b"con"),
        recv(4), send(4, b"again", *v4(local, 5000)), recv(3), UDP, ["bind", 5, *at(mapped, 5001)], *names(5),
        send(5, b"m", *v4(local, 6000)), recv(4), UDP, ["setsockopt", 6, 41, 26, word(1), 4],
        ["connect", 6, *at(mapped, 6000)], send(6, b"no", *at(mapped, 6000)), ["connect", 6, *v4(local, 6000)],
        send(6, b"no", *v4(local, 6000)), UDP, ["bind", 7, *at("::", 7007)], ["connect", 7, *v4(local, 6000)],
        send(7, b"v4"), recv(4, 20, 0x42),
    ]  # fmt: skip
    for number in (16, 18, 23, 26, 49, 51, 66, 67):
        get: list[Any] = ["getsockopt", 3, 41, number, room(8), word(8)]
        yield "inet6", f"option {number}", [
            UDP, get, ["setsockopt", 3, 41, number, word(2), 4], get, ["setsockopt", 3, 41, number, data(b"\1"), 1],
            ["setsockopt", 3, 41, number, word(0x1FF), 4], get,
            ["setsockopt", 3, 41, number, word(0xFFFF_FFFF), 4], get,
        ]  # fmt: skip
    yield "inet6", "what comes beside datagrams", [
        UDP, ["bind", 3, *at("::", 5000)], UDP, ["bind", 4, *at("::1", 6000)],
        *(["setsockopt", 3, 41, number, word(1), 4] for number in (49, 51, 66)), ["setsockopt", 4, 41, 16, word(9), 4],
        send(4, b"x", *at("::1", 5000)), ["recvmsg", 3, message(room(4), room(128), 128), 0x40],
        ["socket", 2, 2, 0], send(5, b"y", *v4(local, 5000)), ["recvmsg", 3, message(room(4), room(128), 128), 0x40],
    ]  # fmt: skip
