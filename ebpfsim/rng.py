"""Named random streams, all derived from one seed: adding a consumer never changes what another one draws."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Rng"]


class Rng:
    """The source of every random number in a simulation."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, random.Random] = {}

    def stream(self, name: str) -> random.Random:
        """Return the stream of that name, for instance ``"link a/eth0-b/eth0 loss"``; the same object every time."""
        found = self._streams.get(name)
        if found is None:
            digest = hashlib.sha256(f"{self.seed}\0{name}".encode()).digest()
            found = self._streams[name] = random.Random(int.from_bytes(digest[:16], "little"))
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
