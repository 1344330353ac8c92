"""Named random streams, all derived from one seed: adding a consumer never changes what another one draws."""

import hashlib
import random
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Numbers", "Rng", "Stream"]

# one named source of random numbers
Stream = random.Random


class Numbers:
    """Numbers of 32 bits of a stream, drawn in advance: the first word tells how many of the others are used up."""

    SIZE = 256

    def __init__(self, stream: random.Random) -> None:
        self._stream = stream
        self.words = array("I", [self.SIZE] * (1 + self.SIZE))

    def take(self) -> int:
        """Return the next number."""
        words = self.words
        used = words[0]
        if used == self.SIZE:
            for place in range(1, 1 + used):
                words[place] = self._stream.getrandbits(32)
            used = 0
        words[0] = used + 1
        return words[1 + used]


class Rng:
    """The source of every random number in a simulation."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, random.Random] = {}
        self._numbers: dict[str, Numbers] = {}

    def stream(self, name: str) -> random.Random:
        """Return the stream of that name, for instance ``"link a/eth0-b/eth0 loss"``; the same object every time."""
        found = self._streams.get(name)
        if found is None:
            digest = hashlib.sha256(f"{self.seed}\0{name}".encode()).digest()
            found = self._streams[name] = random.Random(int.from_bytes(digest[:16], "little"))
        return found

    def numbers(self, name: str) -> Numbers:
        """Return the numbers of the stream of that name, which nobody else may draw from."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = Numbers(self.stream(name))
        return found

    @contextmanager
    def lent(self, name: str) -> Iterator[None]:
        """Let a library that draws from the ``random`` module (scapy's fuzz) draw from the stream of that name."""
        stream, state = self.stream(name), random.getstate()
        random.setstate(stream.getstate())
        try:
            yield
        finally:
            stream.setstate(random.getstate())
            random.setstate(state)
