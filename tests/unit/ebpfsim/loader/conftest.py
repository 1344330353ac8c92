"""A bpf(2) that only remembers: maps as dicts, programs as they were handed over."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.uapi.bpf import MapType

CPUS = 2
PERCPU = (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)


@dataclass
class Remembered:
    """What was made: ``maps`` and ``progs`` by descriptor, ``created`` all maps made, ``open`` what is not closed."""

    open: set[int] = field(default_factory=set)
    maps: dict[int, dict[str, Any]] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    progs: dict[int, dict[str, Any]] = field(default_factory=dict)
    blobs: list[bytes] = field(default_factory=list)
    frozen: list[int] = field(default_factory=list)
    bound: list[tuple[int, int]] = field(default_factory=list)
    pins: dict[str, int] = field(default_factory=dict)
    refuse: str = ""

    def _new(self) -> int:
        fd = 3
        while fd in self.open:
            fd += 1
        self.open.add(fd)
        return fd

    def map_create(self, map_type: int, key_size: int, value_size: int, max_entries: int, **rest: Any) -> int:
        if rest.get("name") and rest["name"] == self.refuse:
            raise KernelError("map_create", Errno.EINVAL)
        fd = self._new()
        self.maps[fd] = {"type": map_type, "key": key_size, "value": value_size, "entries": max_entries} | rest
        self.maps[fd]["content"] = {}
        self.created.append(self.maps[fd])
        if map_type in (MapType.ARRAY, MapType.PERCPU_ARRAY) and max_entries < 1000:
            self.maps[fd]["content"] = {i.to_bytes(4, "little"): self._zero(fd) for i in range(max_entries)}
        return fd

    def _zero(self, fd: int) -> bytes:
        size = self.maps[fd]["value"]
        return bytes((size + 7 & ~7) * CPUS) if self.maps[fd]["type"] in PERCPU else bytes(size)

    def map_lookup_elem(self, fd: int, key: bytes, *, flags: int = 0) -> bytes:
        if key not in self.maps[fd]["content"]:
            raise KernelError("map_lookup_elem", Errno.ENOENT)
        return bytes(self.maps[fd]["content"][key])

    def map_update_elem(self, fd: int, key: bytes, value: bytes, *, flags: int = 0) -> None:
        if fd in self.frozen:
            raise KernelError("map_update_elem", Errno.EPERM)
        assert len(key) == self.maps[fd]["key"]
        assert len(value) == len(self._zero(fd))
        self.maps[fd]["content"][key] = value

    def map_delete_elem(self, fd: int, key: bytes) -> None:
        if self.maps[fd]["content"].pop(key, None) is None:
            raise KernelError("map_delete_elem", Errno.ENOENT)

    def map_get_next_key(self, fd: int, key: bytes | None) -> bytes:
        keys = list(self.maps[fd]["content"])
        at = keys.index(key) + 1 if key in keys else 0
        if at == len(keys):
            raise KernelError("map_get_next_key", Errno.ENOENT)
        return bytes(keys[at])

    def map_mmap(self, fd: int, length: int, *, writable: bool) -> memoryview:
        self.maps[fd]["mapped"] = bytearray(length)
        return memoryview(self.maps[fd]["mapped"])

    def map_freeze(self, fd: int) -> None:
        self.frozen.append(fd)

    def prog_load(self, prog_type: int, insns: bytes, **rest: Any) -> SimpleNamespace:
        if rest["name"] == self.refuse:
            raise VerifierError("prog_load", Errno.EACCES, "0: (95) exit\nR0 !read_ok\nprocessed 1 insns\n", 0)
        fd = self._new()
        self.progs[fd] = {"type": prog_type, "insns": insns} | rest
        return SimpleNamespace(fd=fd, log="log", verified_insns=len(insns) // 8)

    def btf_load(self, data: bytes, *, log_level: int = 0) -> int:
        self.blobs.append(data)
        return self._new()

    def btf_get_next_id(self, start_id: int) -> int:
        raise KernelError("btf_get_next_id", Errno.ENOENT)

    def btf_get_fd_by_id(self, object_id: int) -> int:
        raise KernelError("btf_get_fd_by_id", Errno.ENOENT)

    def obj_get_info_by_fd(self, fd: int) -> SimpleNamespace:
        if fd in self.progs:
            return SimpleNamespace(id=fd + 100, tag=b"\x01" * 8, btf_id=0)
        found = self.maps[fd]
        return SimpleNamespace(
            id=fd + 200,
            type=found["type"],
            key_size=found["key"],
            value_size=found["value"],
            max_entries=found["entries"],
            map_flags=found["map_flags"],
            map_extra=found["map_extra"],
        )

    def obj_pin(self, fd: int, path: str) -> None:
        self.pins[path] = fd

    def obj_get(self, path: str, *, file_flags: int = 0) -> int:
        if path not in self.pins:
            raise KernelError("obj_get", Errno.ENOENT)
        fd = self._new()
        self.maps[fd] = self.maps[self.pins[path]]
        return fd

    def prog_bind_map(self, prog_fd: int, map_fd: int, *, flags: int = 0) -> None:
        self.bound.append((prog_fd, map_fd))

    def close(self, fd: int) -> None:
        self.open.remove(fd)

    def named(self, name: str) -> int:
        """Return the descriptor of the map or program of a name."""
        return next(fd for fd, made in {**self.maps, **self.progs}.items() if made.get("name") == name)


@pytest.fixture
def remembered() -> Remembered:
    """A bpf(2) that only remembers."""
    return Remembered()


__all__: Sequence[str] = ["Remembered", "remembered"]
