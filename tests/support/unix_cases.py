"""Scripts of calls on AF_UNIX sockets (``socket_cases`` has their answers)."""

from collections.abc import Iterator
from struct import pack
from typing import Any

from socket_scripts import Script, data, text

TYPES = {"stream": 1, "dgram": 2, "seqpacket": 5}
SIZES = (1, 100, 1000, 4000, 8000, 30000, 70000, 100000, 200000, 212992, 300000, 1, 1, 100, 1000, 50000, 50000, 5000)


def room(size: int) -> dict[str, str]:
    """Return memory to be written to."""
    return data(bytes(size))


def word(value: int) -> dict[str, str]:
    """Return an int in memory."""
    return data(value.to_bytes(4, "little"))


def name(value: str) -> tuple[dict[str, str], int]:
    """Return ``struct sockaddr_un`` and its length; a name that begins with @ is abstract."""
    path = b"\0" + value[1:].encode() if value[0] == "@" else value.encode() + b"\0"
    return data(b"\1\0" + path), 2 + len(path)


def poll(*fds: int) -> list[Any]:
    """Return a step that looks at descriptors."""
    return ["poll", data(b"".join(fd.to_bytes(4, "little") + b"\xff\xff\0\0" for fd in fds)), len(fds), 0]


def recv(fd: int, size: int = 4, flags: int = 0x40) -> list[Any]:
    """Return a step that receives without waiting."""
    return ["recvfrom", fd, room(size), size, flags, room(110), word(110)]


def send(fd: int, what: bytes = b"x", *to: Any) -> list[Any]:
    """Return a step that sends without waiting."""
    return ["sendto", fd, data(what), len(what), 0x4040, *(to or (0, 0))]


def names(fd: int) -> Script:
    """Return steps that ask for both names."""
    return [["getsockname", fd, room(110), word(110)], ["getpeername", fd, room(110), word(110)]]


def rights(*fds: int, level: int = 1, kind: int = 1) -> bytes:
    """Return a control message with descriptors."""
    return pack(f"<Qii{len(fds)}i", 16 + 4 * len(fds), level, kind, *fds)


def message(what: dict[str, str], control: Any = 0, size: int = 0) -> dict[str, list[Any]]:
    """Return ``struct user_msghdr``."""
    return {"struct": [0, 0, {"struct": [what, len(what["bytes"]) // 2]}, 1, control, size, 0]}


def sent(fd: int, control: bytes) -> list[Any]:
    """Return a step that sends a byte with a control message."""
    return ["sendmsg", fd, message(data(b"f"), data(control), len(control)), 0]


def got(fd: int, size: int, flags: int = 0x40) -> list[Any]:
    """Return a step that receives with room for control messages."""
    return ["recvmsg", fd, message(room(9), room(size) if size else 0, size), flags]


def of_type(kind: int) -> Iterator[tuple[str, str, Script]]:
    """Return module, what it is about, and script, for a type of sockets."""
    pair: list[Any] = ["socketpair", 1, kind, 0, room(8)]
    new: list[Any] = ["socket", 1, kind, 0]
    late: list[Any] = ["socket", 1, kind | 0x800, 0]
    yield "unix_data", "data", [
        pair, poll(3, 4), send(3, b"hello"), poll(3, 4), recv(4, 3, 0x42), recv(4, 3), recv(4, 10), send(3, b"ab"),
        send(3, b"cde"), ["ioctl", 4, 0x541B, room(4)], recv(4, 10, 0x42), recv(4, 10), recv(4, 10),
        ["ioctl", 3, 0x5411, room(4)], send(4, b""), recv(3, 10), recv(3, 0), ["read", 3, room(4), 0],
        send(3, b"toolong"),
        recv(4, 3, 0x60), recv(4, 9), ["sendto", 3, 1, 4, 0, 0, 0], send(3, b"y"), ["recvfrom", 4, 1, 4, 0x40, 0, 0],
    ]  # fmt: skip
    yield "unix_data", "buffers", [
        pair, *(["sendto", 3, room(size), size, 0x4040, 0, 0] for size in SIZES), poll(3),
        ["ioctl", 3, 0x5411, room(4)], *([["recvfrom", 4, room(300000), 300000, 0x40, 0, 0]] * 4),
        ["ioctl", 3, 0x5411, room(4)], poll(3),
    ]  # fmt: skip
    yield "unix_data", "files", [
        pair, ["pipe2", room(8), 0], sent(3, rights(6, 5)), got(4, 64), ["write", 7, data(b"pipe"), 4],
        ["read", 5, room(8), 8], ["write", 7, data(b"pipe"), 4], ["read", 8, room(8), 8], sent(3, rights(6, 99)),
        sent(3, rights(6) + bytes(4)), send(3, b"more"), got(4, 64, 0x42), got(4, 18), got(4, 0),
        sent(3, rights(6, level=9)), sent(3, rights(6, kind=7)), sent(3, rights(6, 5)), got(4, 0),
        sent(3, rights(*[6] * 254)), sent(3, rights(*[6] * 253)), got(4, 32), ["close", 3], ["close", 4],
        ["read", 5, room(8), 0],
    ]  # fmt: skip
    yield "af_unix", "shutdown", [
        pair, ["shutdown", 3, 0], send(4), poll(3, 4), recv(3), ["shutdown", 3, 1], send(3), poll(3, 4), recv(4),
        ["shutdown", 4, 3], ["close", 4], send(3), recv(3), poll(3), send(3, b"x", *name("@q")), ["listen", 3, 5],
        ["accept", 3, 0, 0], ["bind", 3, *name("@x")], ["connect", 3, *name("@x")],
    ]  # fmt: skip
    yield "af_unix", "a peer that closes", [
        pair, send(3, b"hello"), ["close", 4], recv(3), recv(3), send(3), send(3), *names(3), poll(3),
        ["getsockopt", 3, 1, 4, room(4), word(4)],
    ]  # fmt: skip
    yield "af_unix", "a peer that closes with an empty packet", [
        pair, send(3, b""), ["close", 4], send(3), ["getsockopt", 3, 1, 4, room(4), word(4)],
    ]  # fmt: skip
    yield "af_unix", "abstract names", [
        new, poll(3), ["bind", 3, *name("@srv")], ["bind", 3, *name("@srv2")], new, ["bind", 4, *name("@srv")],
        *names(3), *names(4), ["connect", 4, *name("@none")], ["connect", 4, *name("@srv")], ["listen", 3, 1],
        ["listen", 4, 1], ["connect", 4, *name("@srv")], ["connect", 4, *name("@srv")], poll(3, 4),
        ["accept4", 3, room(110), word(110), 0x800], *names(4), *names(5), send(4, b"hi"), recv(5), recv(3),
        send(4, b"to", *name("@srv")), send(4, b"to", *name("@none")), recv(3), late,
        ["connect", 6, *name("@srv")], late, ["connect", 7, *name("@srv")], late, ["connect", 8, *name("@srv")], late,
        ["connect", 9, *name("@srv")],
        poll(3), ["close", 3], poll(4, 6), send(6), recv(6), recv(6),
    ]  # fmt: skip
    yield "unix_path", "paths", [
        new, ["bind", 3, *name("sock")], ["bind", 3, *name("sock2")], new, ["bind", 4, *name("sock")],
        ["bind", 4, *name("empty")], ["bind", 4, *name("no/where")], ["bind", 4, *name("empty/x")],
        ["connect", 4, *name("empty")], ["connect", 4, *name("nothing")], ["connect", 4, *name("sock")],
        ["listen", 3, 4], ["connect", 4, *name("sock")], *names(4), ["getsockname", 3, room(110), word(5)],
        ["accept4", 3, room(110), word(110), 0x800], ["close", 3], new, ["connect", 3, *name("sock")],
        ["unlink", text("sock")], ["connect", 3, *name("sock")], ["bind", 3, *name("sock")],
        ["bind", 3, data(b"\1\0" + b"x" * 108), 110], ["bind", 3, data(b"\1\0" + b"x" * 109), 111],
        ["bind", 3, data(b"\1\0"), 2], ["bind", 3, data(b"\2\0abc\0"), 6], *names(3), ["connect", 3, data(b"\0\0"), 2],
        ["connect", 3, data(b"\0\0"), 1],
    ]  # fmt: skip
    yield "unix_sock", "options", [pair, *(
        step for number in (2, 3, 6, 7, 8, 9, 12, 13, 15, 16, 18, 20, 29, 30, 31, 38, 39, 40, 59)
        for step in (["getsockopt", 3, 1, number, room(16), word(16)], ["setsockopt", 3, 1, number, word(1), 4],
                     ["getsockopt", 3, 1, number, room(16), word(16)])
    ), ["setsockopt", 3, 0, 1, word(1), 4], ["getsockopt", 3, 6, 1, room(4), word(4)]]  # fmt: skip


def unix_cases() -> Iterator[tuple[str, str, Script]]:
    """Return module, name, and script."""
    for kind, number in TYPES.items():
        for module, about, script in of_type(number):
            yield module, f"{kind}: {about}", script
    new: list[Any] = ["socket", 1, 2, 0]
    yield "af_unix", "a full queue of datagrams", [
        new, ["bind", 3, *name("@q")], new, ["connect", 4, *name("@q")], *[send(4)] * 13, poll(3, 4), recv(3), send(4),
        send(4), new, send(5, b"x", *name("@q")), ["connect", 3, *name("@nope")], ["bind", 5, *name("@p")],
        ["connect", 3, *name("@p")], send(4), send(4, b"x", *name("@q")), ["connect", 4, *name("@q")],
        ["connect", 4, data(b"\0\0"), 2], send(4), ["close", 5], send(3), send(3),
    ]  # fmt: skip
    yield "af_unix", "making", [
        *(["socket", 1, kind, protocol] for kind, protocol in (
            (1, 1), (1, 2), (3, 0), (4, 0), (2, 1), (5, 1), (6, 0), (10, 0), (11, 0))),
        ["getsockopt", 5, 1, 3, room(4), word(4)], ["socketpair", 1, 1, 0, 1], ["socketpair", 1, 9, 0, room(8)],
        ["socketpair", 1, 0x801, 0, room(8)], ["fcntl", 6, 3, 0], ["socket", 1, 1, 0],
    ]  # fmt: skip
    yield "af_unix", "types that do not fit", [
        ["socket", 1, 1, 0], ["bind", 3, *name("@s")], ["listen", 3, 3], new, ["connect", 4, *name("@s")],
        send(4, b"x", *name("@s")), ["socket", 1, 5, 0], ["connect", 5, *name("@s")], ["socket", 1, 1, 0], send(6),
        recv(6), send(6, b"x", *name("@s")), ["accept", 6, 0, 0], ["listen", 4, 3], ["accept", 4, 0, 0], recv(3),
        send(3), ["shutdown", 6, 2], poll(6), ["connect", 6, *name("@s")], poll(3, 6), send(6),
    ]  # fmt: skip
