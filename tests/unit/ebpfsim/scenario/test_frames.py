"""From packet strings to frames: repetition, several values, seeded randomness, bounds."""

import random
import socket

import pytest

from ebpfsim.frames import Sender
from ebpfsim.rng import Rng
from ebpfsim.scenario.frames import build_frames
from ebpfsim.scenario.packets import PacketError, PacketExpr

SENDER = Sender("02:00:00:00:00:01", "10.0.0.1", lambda _address: "02:00:00:00:00:02")


def frames(text: str, count: int = 1, seed: int = 1, stream: str = "s") -> list[bytes]:
    built, copies = build_frames(PacketExpr(text), SENDER, Rng(seed), stream, count)
    return built * copies


def test_names_are_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    text = "Ether()/IP(dst='10.0.0.2')/UDP()/DNS(qr=1, an=DNSRR(rrname='x.org', type='{}', rdata='y.org'))"
    assert frames(text.format("CNAME"))
    with pytest.raises(PacketError, match="packet cannot be built"):
        frames(text.format("A"))


def test_one_packet_is_repeated() -> None:
    assert len(frames("Ether()/IP(dst='10.0.0.2')/UDP()", count=5)) == 5


def test_several_values_are_sent_in_turn() -> None:
    built = frames("Ether()/IP(dst='10.0.0.2')/UDP(sport=7, dport=[1, 2])", count=2)
    assert [frame[36:38] for frame in built] == [b"\0\1", b"\0\2", b"\0\1", b"\0\2"]


def test_random_packets_differ_and_come_again_with_the_seed() -> None:
    text = "Ether()/IP(dst='10.0.0.2')/fuzz(UDP())"
    first = frames(text, count=20, seed=3)
    assert len(set(first)) == 20
    assert first == frames(text, count=20, seed=3)
    assert first != frames(text, count=20, seed=4)
    assert first != frames(text, count=20, seed=3, stream="t")


def test_the_random_module_is_left_as_it_was() -> None:
    random.seed(5)
    want = random.random()
    random.seed(5)
    frames("Ether()/fuzz(IP())/fuzz(UDP())")
    assert random.random() == want


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("Ether()/UDP(dport=(1, 20000))", 1, "stands for more than 10000 packets"),
        ("Ether()/IP(dst=['10.0.0.2']*2)", 1, "repeats text"),
        ("Raw('x')", 1, "frame has 1 bytes, expected 14 to 65535"),
        ("Ether()/fuzz(UDP())", 10_001, "fuzz makes at most 10000 packets"),
        ("Ether()/UDP(dport=(1, 5000))/('x'*60000)", 1, "stands for more than 64 MiB"),
    ],
)
def test_bounds(text: str, count: int, message: str) -> None:
    with pytest.raises(PacketError, match=message):
        frames(text, count)
