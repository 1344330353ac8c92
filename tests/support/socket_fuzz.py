"""Random scripts of calls on sockets of one family, which Linux and the model are to answer alike."""

import re
from random import Random
from typing import Any

import inet6_cases as six
import unix_cases as local
from packet_cases import inet
from socket_scripts import Script, data
from unix_cases import room, word

FAMILIES = ("AF_UNIX", "AF_INET", "AF_INET6")
_NAMES: dict[str, list[tuple[Any, int]]] = {
    "AF_UNIX": [local.name(text) for text in ("@a", "@b", "p", "q", "empty")],
    "AF_INET": [(inet(0x7F00_0001, port), 16) for port in (5000, 5001, 5002)] + [(inet(0, 5003), 16)],
    "AF_INET6": [six.at("::1", 5000), six.at("::1", 5001), six.at("::", 5002), six.at("::ffff:127.0.0.1", 5003),
                 six.v4(0x7F00_0001, 5004)],
}  # fmt: skip


def script(family: str, seed: int) -> Script:
    """Return a script of 43 calls."""
    rng = Random(f"{family} {seed}")
    return [*(_made(rng, family) for _ in range(3)), *(_call(rng, family) for _ in range(40))]


def _made(rng: Random, family: str) -> list[Any]:
    if family != "AF_UNIX":
        return ["socket", 2 if family == "AF_INET" else rng.choice((10, 10, 2)), 2, 0]
    if rng.random() < 0.5:
        return ["socketpair", 1, rng.choice((1, 2, 5)), 0, room(8)]
    return ["socket", 1, rng.choice((1, 1, 2, 2, 5)), 0]


def _call(rng: Random, family: str) -> list[Any]:
    fd, name = rng.randrange(3, 9), rng.choice(_NAMES[family])
    sent = bytes(rng.randrange(256) for _ in range(rng.choice((0, 1, 5, 9))))
    address: list[Any] = [room(110), word(110)]
    rows: list[tuple[int, list[Any]]] = [
        (12, ["bind", fd, *name]), (12, ["connect", fd, *name]),
        (14, ["sendto", fd, data(sent), len(sent), 0x4040, 0, 0]),
        (12, ["sendto", fd, data(sent), len(sent), 0x4040, *name]),
        (16, ["recvfrom", fd, room(8), rng.choice((8, 3, 0)), 0x40 | rng.choice((0, 0, 2, 0x20)), *address]),
        (4, ["getsockname", fd, *address]), (4, ["getpeername", fd, *address]), (3, ["shutdown", fd, rng.randrange(4)]),
        (4, local.poll(fd)), (2, ["getsockopt", fd, 1, rng.choice((3, 4, 6)), room(4), word(4)]), (2, ["close", fd]),
        (5, _made(rng, family)),
    ]  # fmt: skip
    if family == "AF_UNIX":
        rows += [(6, ["listen", fd, rng.choice((0, 1, 5))]), (6, ["accept4", fd, *address, 0x800])]
    return rng.choices([row for _, row in rows], [weight for weight, _ in rows])[0]


def plain(answer: list[Any]) -> list[Any]:
    """Return an answer without the ports that the kernel has chosen."""
    return [answer[0], [re.sub(r"^(02|0a)00[89a-f]...", r"\g<1>00port", each) for each in answer[1]]]
