"""Scripts of calls on sockets by the module that they test, with the answers of Linux 6.18.

``python tests/support/socket_cases.py`` asks the kernel of this machine for all answers anew.
"""

import json
import lzma
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from inet6_cases import inet6_cases
from packet_cases import masked, packet_cases, raw_cases
from socket_scripts import Script, ask_linux, data, simulated, struct
from unix_cases import unix_cases

DATA = Path(__file__).resolve().parents[1] / "data" / "socket_answers_6.18.json.xz"
CASES: dict[str, dict[str, Script]] = {}


def inet(address: str, port: int, family: int = 2) -> dict[str, str]:
    """Return ``struct sockaddr_in``."""
    packed = bytes(int(part) for part in address.split("."))
    return data(family.to_bytes(2, "little") + port.to_bytes(2, "big") + packed + bytes(8))


def room(size: int) -> dict[str, str]:
    """Return memory to be written to."""
    return data(bytes(size))


def word(value: int) -> dict[str, str]:
    """Return an int in memory."""
    return data((value & 0xFFFF_FFFF).to_bytes(4, "little"))


def pollfds(*fds: int) -> dict[str, str]:
    """Return ``struct pollfd`` for all events."""
    return data(b"".join(fd.to_bytes(4, "little") + b"\xff\xff\0\0" for fd in fds))


def msghdr(
    *pieces: dict[str, str], name: Any = 0, namelen: int = 0, control: Any = 0, controllen: int = 0
) -> dict[str, list[Any]]:
    """Return ``struct user_msghdr`` of pieces of memory."""
    return struct(*msghdr_words(*pieces, name=name, namelen=namelen, control=control, controllen=controllen))


def msghdr_words(
    *pieces: dict[str, str], name: Any = 0, namelen: int = 0, control: Any = 0, controllen: int = 0
) -> list[Any]:
    """Return the words of ``struct user_msghdr``."""
    vector: list[Any] = []
    for piece in pieces:
        vector += [piece, len(piece["bytes"]) // 2]
    return [name, namelen, struct(*vector) if vector else 0, len(pieces), control, controllen, 0]


UDP = ("socket", 2, 2, 0)
SERVER: Script = [list(UDP), ["bind", 3, inet("127.0.0.1", 5000), 16]]
CLIENT: Script = [list(UDP), ["bind", 4, inet("127.0.0.1", 6000), 16], ["connect", 4, inet("127.0.0.1", 5000), 16]]
PAIR: Script = [*SERVER, *CLIENT]


def case(module: str, name: str, script: Script) -> None:
    """Have a script for a module."""
    CASES.setdefault(module, {})[name] = script


def _messages() -> None:
    case("socket_msg", "flags", [
        *PAIR, ["write", 4, data(b"hello"), 5], ["recvfrom", 3, room(3), 3, 0x42, room(16), word(16)],
        ["read", 3, room(10), 10], ["write", 4, data(b"xyz"), 3], ["recvfrom", 3, room(2), 2, 0x20, 0, 0],
        ["recvfrom", 3, room(2), 2, 0x2040, 0, 0], ["sendto", 4, data(b"x"), 1, 1, 0, 0],
        ["sendto", 4, data(b"x"), 1, 0, inet("127.0.0.1", 5000), 16], ["recvfrom", 3, 0, 0, 0x40, 0, 0],
    ])  # fmt: skip
    case("socket_msg", "messages of pieces", [
        *PAIR, ["sendmsg", 4, msghdr(data(b"q1"), data(b"q2")), 0],
        ["recvmsg", 3, msghdr(room(3), room(3), name=room(16), namelen=16), 0], ["sendmsg", 4, msghdr(), 0],
        ["recvmsg", 3, msghdr(room(4), name=room(16), namelen=8), 0], ["recvmsg", 3, msghdr(room(4)), 0x40],
        ["sendmsg", 4, struct(0, 0, 0, 2000, 0, 0, 0), 0], ["sendmsg", 4, 1, 0],
        ["sendmsg", 4, struct(0, 0, 1, 1, 0, 0, 0), 0],
        ["sendmsg", 99, msghdr(), 0], ["sendmsg", 0, msghdr(), 0], ["recvmsg", 3, 1, 0x40],
        ["sendmsg", 3, msghdr(data(b"to"), name=inet("127.0.0.1", 6000), namelen=16), 0],
        ["recvmsg", 4, msghdr(room(1), room(4), name=room(16), namelen=16), 0x20],
        ["sendmsg", 3, msghdr(data(b"to"), name=inet("127.0.0.1", 6000), namelen=-1), 0],
        ["sendmsg", 3, msghdr(data(b"to"), name=inet("127.0.0.1", 6000), namelen=8), 0],
        ["sendmsg", 4, msghdr(data(b"x"), control=data(bytes(16)), controllen=16), 0],
    ])  # fmt: skip
    several = struct(*msghdr_words(data(b"a")), 0, *msghdr_words(data(b"bc")), 0, *msghdr_words(data(b"def")), 0)
    rooms = struct(*msghdr_words(room(4), name=room(16), namelen=16), 0, *msghdr_words(room(1)), 0,
                   *msghdr_words(room(4)), 0)  # fmt: skip
    case("socket_msg", "several messages", [
        *PAIR, ["sendmmsg", 4, several, 3, 0], ["recvmmsg", 3, rooms, 2, 0, 0], ["recvmmsg", 3, rooms, 3, 0x10000, 0],
        ["recvmmsg", 3, rooms, 3, 0x40, 0], ["sendmmsg", 4, several, 0, 0], ["recvmmsg", 3, rooms, 0, 0, 0],
        ["sendmmsg", 4, several, 2, 0], ["recvmmsg", 3, rooms, 3, 0x40, struct(0, -1)],
        ["recvmmsg", 3, rooms, 3, 0x40, struct(0, 0)], ["sendmmsg", 99, several, 2, 0],
        ["sendmmsg", 3, several, 2, 0],
    ])  # fmt: skip


def _files() -> None:
    case("socket_file", "datagrams", [
        *PAIR, ["poll", pollfds(3, 4), 2, 0], ["writev", 4, struct(data(b"ab"), 2, data(b"cde"), 3), 2],
        ["poll", pollfds(3), 1, 0], ["ioctl", 3, 0x541B, room(4)], ["ioctl", 4, 0x5411, room(4)],
        ["readv", 3, struct(room(2), 2, room(9), 9), 2], ["ioctl", 3, 0x541B, room(4)], ["ioctl", 3, 0x541B, 1],
        ["write", 4, data(b"xyz"), 3], ["read", 3, room(8), 0], ["read", 3, room(8), 8], ["shutdown", 4, 1],
        ["write", 4, data(b"x"), 1], ["shutdown", 3, 0], ["read", 3, room(1), 1], ["poll", pollfds(3), 1, 0],
        ["shutdown", 4, 2], ["poll", pollfds(4), 1, 0], ["shutdown", 4, 3], ["ioctl", 3, 0x1234, 0],
    ])  # fmt: skip
    case("socket_file", "epoll", [
        *SERVER, ["epoll_create1", 0], ["epoll_ctl", 4, 1, 3, data(b"\x01\0\0\0" + b"\7" * 8)],
        ["epoll_wait", 4, room(24), 2, 0], list(UDP), ["sendto", 5, data(b"x"), 1, 0, inet("127.0.0.1", 5000), 16],
        ["epoll_wait", 4, room(24), 2, 0], ["epoll_wait", 4, room(24), 2, 0], ["read", 3, room(4), 4],
        ["epoll_wait", 4, room(24), 2, 0], ["epoll_ctl", 4, 3, 3, data(b"\x05\0\0\x80" + b"\7" * 8)],
        ["epoll_wait", 4, room(24), 2, 0], ["epoll_wait", 4, room(24), 2, 0],
        ["sendto", 5, data(b"x"), 1, 0, inet("127.0.0.1", 5000), 16], ["epoll_wait", 4, room(24), 2, 0],
        ["epoll_wait", 4, room(24), 2, 0], ["close", 3], ["epoll_wait", 4, room(24), 2, 0],
    ])  # fmt: skip
    case("socket_file", "streams", [
        ["socket", 2, 0x801, 0], ["poll", pollfds(3), 1, 0], ["bind", 3, inet("127.0.0.1", 5000), 16],
        ["listen", 3, 5], ["poll", pollfds(3), 1, 0], ["accept", 3, 0, 0], ["ioctl", 3, 0x541B, room(4)],
        ["socket", 2, 1, 0], ["bind", 4, inet("127.0.0.1", 6000), 16], ["connect", 4, inet("127.0.0.1", 5000), 16],
        ["poll", pollfds(3), 1, 0], ["accept4", 3, room(16), word(8), 0x800], ["poll", pollfds(4, 5), 2, 0],
        ["read", 5, room(4), 4], ["write", 4, data(b"hello"), 5], ["ioctl", 5, 0x541B, room(4)],
        ["read", 5, room(10), 10], ["writev", 4, struct(data(b"ab"), 2, data(b"cde"), 3), 2],
        ["recvmsg", 5, msghdr(room(3), room(3), name=room(16), namelen=16), 0], ["shutdown", 4, 1],
        ["poll", pollfds(4, 5), 2, 0], ["read", 5, room(4), 4], ["write", 5, data(b"x"), 1], ["read", 4, room(4), 4],
        ["close", 5], ["read", 4, room(4), 4], ["poll", pollfds(4), 1, 0], ["recvfrom", 4, room(4), 4, 0x40, 0, 0],
        ["sendto", 4, data(b"x"), 1, 0x4000, 0, 0], ["ioctl", 4, 0x541B, room(4)],
        ["getpeername", 4, room(16), word(16)], ["socketpair", 2, 1, 0, room(8)], ["socketpair", 99, 1, 0, room(8)],
    ])  # fmt: skip


def _options() -> None:
    for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 18, 20, 21, 25, 29, 30, 35, 36, 38, 39, 40, 44, 46, 49):
        get = ["getsockopt", 3, 1, number, room(16), word(16)]
        case("sock_options", f"SOL_SOCKET {number}", [
            list(UDP), get, ["setsockopt", 3, 1, number, word(2), 4], get,
            ["setsockopt", 3, 1, number, data(b"\2\0"), 2],
            ["setsockopt", 3, 1, number, room(16), 16], ["getsockopt", 3, 1, number, room(16), word(3)],
            ["getsockopt", 3, 1, number, room(16), word(-1)], ["setsockopt", 3, 1, number, 1, 4],
        ])  # fmt: skip
    for number in (1, 2, 8, 10, 12, 13, 15, 19, 20, 24, 33, 34):
        get = ["getsockopt", 3, 0, number, room(16), word(16)]
        case("sock_options", f"SOL_IP {number}", [
            list(UDP), get, ["setsockopt", 3, 0, number, word(2), 4], get, ["setsockopt", 3, 0, number, data(b"\5"), 1],
            get, ["setsockopt", 3, 0, number, data(b""), 0], ["setsockopt", 3, 0, number, room(4), 4],
            ["setsockopt", 3, 0, number, word(-1), 4], ["setsockopt", 3, 0, number, word(0x1FF), 4],
            ["getsockopt", 3, 0, number, room(16), word(2)], ["setsockopt", 3, 0, number, 1, 4],
        ])  # fmt: skip
    case("ip_cmsg", "what comes beside datagrams", [
        *PAIR, *(["setsockopt", 3, 0, number, word(1), 4] for number in (8, 12, 13, 20)),
        ["setsockopt", 4, 0, 2, word(9), 4], ["setsockopt", 4, 0, 1, word(0x10), 4], ["write", 4, data(b"x"), 1],
        ["recvmsg", 3, msghdr(room(4), control=room(128), controllen=128), 0], ["write", 4, data(b"y"), 1],
        ["recvmsg", 3, msghdr(room(4), control=room(40), controllen=40), 0], ["write", 4, data(b"z"), 1],
        ["recvmsg", 3, msghdr(room(4), control=room(10), controllen=10), 0],
        ["setsockopt", 3, 0, 8, word(0), 4], ["write", 4, data(b"z"), 1],
        ["recvmsg", 3, msghdr(room(4), control=room(32), controllen=32), 0],
    ])  # fmt: skip


def _disconnecting() -> None:
    nobody = data(bytes(16))
    for name, address, family in (("IPv4", inet("127.0.0.1", 5000), 2), ("IPv6", data(
            b"\x0a\0" + (5000).to_bytes(2, "big") + bytes(19) + b"\1" + bytes(4)), 10)):  # fmt: skip
        size = len(address["bytes"]) // 2
        asked: Script = [["getsockname", 3, room(28), word(28)], ["getpeername", 3, room(28), word(28)]]
        case("inet", f"disconnecting, {name}", [
            ["socket", family, 2, 0], ["connect", 3, nobody, 16], ["connect", 3, address, size],
            ["connect", 3, nobody, 16], *asked, ["write", 3, data(b"x"), 1], ["bind", 3, address, size],
            ["connect", 3, address, size], *asked, ["connect", 3, nobody, 2], *asked, ["bind", 3, address, size],
            ["connect", 3, nobody, 1],
        ])  # fmt: skip


for _make in (_disconnecting, _messages, _files, _options):
    _make()
for _module, _name, _script in (*unix_cases(), *raw_cases(), *packet_cases(), *inet6_cases()):
    case(_module, _name, _script)


@cache
def recorded() -> dict[str, Any]:
    """Return what Linux 6.18 answered, by module and name."""
    found: dict[str, Any] = json.loads(lzma.decompress(DATA.read_bytes()))
    return found


def differences(module: str, name: str, answers: Any = None) -> list[str]:
    """Return the steps at which the model answers otherwise than Linux."""
    script = CASES[module][name]
    return list(_differences(script, answers or recorded()[f"{module}: {name}"], simulated(script)))


def _differences(script: Script, linux: list[Any], ours: list[Any]) -> Iterator[str]:
    for number, (step, theirs, mine) in enumerate(zip(script, linux, ours, strict=True)):
        if _plain(theirs) != _plain(mine):
            yield f"step {number}, {step[0]}: Linux {theirs}, ebpfsim {mine}"


def _plain(answer: list[Any]) -> list[Any]:
    return [answer[0], [masked(each) for each in answer[1]]]


def _record() -> None:
    names = [(module, name) for module, cases in CASES.items() for name in cases]
    answers = ask_linux([CASES[module][name] for module, name in names])
    found = {f"{module}: {name}": answer for (module, name), answer in zip(names, answers, strict=True)}
    hung = [name for name, answer in found.items() if answer is None]
    assert not hung, hung
    DATA.write_bytes(lzma.compress(json.dumps(found, separators=(",", ":")).encode(), preset=9))


if __name__ == "__main__":
    sys.exit(_record())
