"""Iterators over sockets: those of AF_UNIX (net/unix/af_unix.c, v6.18).

Differs: they come in the order in which they were made, not in that of the kernel's hash table.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from ebpfsim.btf.view import place
from ebpfsim.objects import KernelObject
from hooks.iter import IterKernel, Target

__all__ = ["TARGETS", "UnixTarget"]


class UnixTarget:
    """Every socket of AF_UNIX: ``struct unix_sock`` and who made it."""

    empty: tuple[int, ...] = (0, 0)

    def attach(self, kernel: IterKernel, info: bytes) -> KernelObject | None:
        """Nothing can be chosen."""
        return None

    def details(self, kept: KernelObject | None) -> Mapping[str, object]:
        """There is nothing to tell."""
        return {}

    def objects(self, kernel: IterKernel, kept: KernelObject | None) -> Iterator[tuple[int, ...]]:
        """Yield the sockets."""
        k: Any = cast(Any, kernel)
        offset, size = place("sock", "sk_uid")
        for sk in list(k.sockfs.unix_names.all):
            if not sk.is_dead:
                yield sk.struct_address, k.mem.load(sk.struct_address + offset, size)


TARGETS: Mapping[str, Target] = {"unix": UnixTarget()}
