"""Every operation of user space on every map type, right and wrong, asked of the simulated and of the live kernel."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Int
from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.errors import KernelError
from ebpfsim.kernel import Kernel
from ebpfsim.live import Bpf
from ebpfsim.live.sys import possible_cpus
from ebpfsim.maps.map import BatchError
from ebpfsim.memory import Memory
from ebpfsim.recorder import Recorder
from ebpfsim.rng import Rng
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

T = MapType

# fmt: off
ATTRS = {
    # key, value, entries, flags
    T.HASH:                  (4, 4, 4, 0),
    T.ARRAY:                 (4, 4, 4, 0),
    T.PROG_ARRAY:            (4, 4, 4, 0),
    T.PERF_EVENT_ARRAY:      (4, 4, 4, 0),
    T.PERCPU_ARRAY:          (4, 4, 4, 0),
    T.STACK_TRACE:           (4, 8, 4, 0),
    T.CGROUP_ARRAY:          (4, 4, 4, 0),
    T.LRU_HASH:              (4, 4, 4, 0),
    T.LPM_TRIE:              (8, 4, 4, f.BPF_F_NO_PREALLOC),
    T.DEVMAP:                (4, 4, 4, 0),
    T.SOCKMAP:               (4, 4, 4, 0),
    T.CPUMAP:                (4, 4, 2, 0),
    T.XSKMAP:                (4, 4, 4, 0),
    T.SOCKHASH:              (4, 8, 4, 0),
    T.CGROUP_STORAGE:        (16, 4, 0, 0),
    T.REUSEPORT_SOCKARRAY:   (4, 8, 4, 0),
    T.PERCPU_CGROUP_STORAGE: (16, 4, 0, 0),
    T.QUEUE:                 (0, 4, 4, 0),
    T.STACK:                 (0, 4, 4, 0),
    T.SK_STORAGE:            (4, 4, 0, f.BPF_F_NO_PREALLOC),
    T.DEVMAP_HASH:           (4, 4, 4, 0),
    T.RINGBUF:               (0, 0, 4096, 0),
    T.INODE_STORAGE:         (4, 4, 0, f.BPF_F_NO_PREALLOC),
    T.TASK_STORAGE:          (4, 4, 0, f.BPF_F_NO_PREALLOC),
    T.BLOOM_FILTER:          (0, 4, 4, 0),
    T.USER_RINGBUF:          (0, 0, 4096, 0),
    T.CGRP_STORAGE:          (4, 4, 0, f.BPF_F_NO_PREALLOC),
    T.ARENA:                 (0, 0, 4, f.BPF_F_MMAPABLE),
}
# fmt: on
BY_BTF = {T.SK_STORAGE, T.INODE_STORAGE, T.TASK_STORAGE, T.CGRP_STORAGE}


class Asked:
    """The answers of one kernel, by question."""

    def __init__(self, bpf: Any, map_type: MapType, nr_cpus: int) -> None:
        self.bpf = bpf
        self.answers: dict[str, object] = {}
        self.map_type = map_type
        self.key_size, value_size, self.entries, self.flags = ATTRS[map_type]
        percpu = map_type in (T.PERCPU_ARRAY, T.PERCPU_CGROUP_STORAGE)
        self.value_size = 8 * nr_cpus if percpu else value_size
        self.fd = self.make()

    def make(self) -> int:
        btf: dict[str, int] = {}
        if self.map_type in BY_BTF:
            builder = BtfBuilder()
            number = builder.add(Int("int", 4, 32, encoding=1))
            btf = {"btf_fd": self.bpf.btf_load(builder.build()), "btf_key_type_id": number, "btf_value_type_id": number}
        sizes = (self.key_size, ATTRS[self.map_type][1], self.entries)
        fd: int = self.bpf.map_create(self.map_type, *sizes, map_flags=self.flags, **btf)
        return fd

    def ask(self, question: str, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        try:
            self.answers[question] = call(*args, **kwargs)
        except BatchError as error:
            self.answers[question] = f"{error.errno_name} after {error.count}"
        except KernelError as error:
            self.answers[question] = error.errno_name

    def elements(self) -> None:
        bpf, fd = self.bpf, self.fd
        some = (
            (b"\x08\0\0\0\1\2\3\4" if self.map_type == T.LPM_TRIE else bytes(self.key_size)) if self.key_size else None
        )
        keys = {"some": some, "large": b"\xff" * self.key_size or b"what", "none": None}
        array = bpf.map_create(T.ARRAY, 4, 4, 1)
        values = {number: number.to_bytes(4, "little").ljust(self.value_size, b"\0") for number in (0, 1, array)}
        values[-1] = b"\xff" * self.value_size
        for what, key in keys.items():
            for flags in (0, 1, 4, 8):
                self.ask(f"lookup {what} {flags}", bpf.map_lookup_elem, fd, key, flags=flags)
                self.ask(f"take {what} {flags}", bpf.map_lookup_and_delete_elem, fd, key, flags=flags)
            for number, value in enumerate(values.values()):
                for flags in (0, 1, 2, 3, 4, 8, 1 << 32):
                    text = f"{what} {number} {flags}"
                    self.ask(f"update {text}", bpf.map_update_elem, fd, key, value[: self.value_size], flags=flags)
                    self.ask(f"delete {text}", bpf.map_delete_elem, fd, key)
            self.ask(f"next {what}", bpf.map_get_next_key, fd, key)
        bpf.close(array)

    def batches(self) -> None:
        bpf, fd = self.bpf, self.fd
        key = b"\x08\0\0\0\1\2\3\4" if self.map_type == T.LPM_TRIE else bytes(self.key_size)
        for flags in (0, 1, 4):
            for elem_flags in (0, 1, 4):
                kwargs = {"flags": flags, "elem_flags": elem_flags}
                for count in (0, 1):
                    text = f"{count} {flags} {elem_flags}"
                    values = [bytes(self.value_size)] * count
                    self.ask(f"update batch {text}", bpf.map_update_batch, fd, [key] * count, values, **kwargs)
                    self.ask(f"lookup batch {text}", self.lookup_batch, bpf.map_lookup_batch, count, kwargs)
                    self.ask(f"delete batch {text}", bpf.map_delete_batch, fd, [key] * count, **kwargs)
                    self.ask(f"take batch {text}", self.lookup_batch, bpf.map_lookup_and_delete_batch, count, kwargs)

    def lookup_batch(self, call: Callable[..., Any], count: int, kwargs: dict[str, int]) -> object:
        batch = call(self.fd, 2 * count, **kwargs)
        return batch.keys, batch.values, batch.done

    def mappings(self) -> None:
        for length in (100, 4096, 8192, 16384, 1 << 20):
            for writable in (False, True):
                for offset in (0, 4096):
                    # a mapping settles where an arena lies, so each takes a map of its own
                    fd = self.make()
                    self.ask(f"mmap {length} {writable} {offset}", self.map_it, fd, length, writable, offset)
                    self.bpf.close(fd)

    def map_it(self, fd: int, length: int, writable: bool, offset: int = 0) -> str:
        self.bpf.map_munmap(self.bpf.map_mmap(fd, length, writable=writable, offset=offset))
        return "mapped"

    def frozen(self) -> None:
        bpf, fd = self.bpf, self.fd
        key, value = bytes(self.key_size) or None, bytes(self.value_size)
        self.ask("freeze", bpf.map_freeze, fd)
        self.ask("freeze again", bpf.map_freeze, fd)
        self.ask("update frozen", bpf.map_update_elem, fd, key, value)
        self.ask("delete frozen", bpf.map_delete_elem, fd, key)
        self.ask("lookup frozen", bpf.map_lookup_elem, fd, key)
        self.ask("take frozen", bpf.map_lookup_and_delete_elem, fd, key)
        self.ask("update batch frozen", bpf.map_update_batch, fd, [key or b""], [value])
        self.ask("next frozen", bpf.map_get_next_key, fd, None)
        self.ask("mmap frozen", self.map_it, fd, 4096, False)
        self.ask("mmap frozen writable", self.map_it, fd, 4096, True)

    def inner(self) -> None:
        for outer in (T.ARRAY_OF_MAPS, T.HASH_OF_MAPS):
            self.ask(f"in {outer.lower}", self.put_in, outer)

    def put_in(self, outer: MapType) -> str:
        inner = self.make()
        fd = self.bpf.map_create(outer, 4, 4, 2, inner_map_fd=inner)
        self.bpf.map_update_elem(fd, bytes(4), inner.to_bytes(4, "little"))
        return "inner map"


@pytest.fixture
def live_and_simulated() -> Iterator[tuple[Any, Any]]:
    before, cpus = open_fds(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    config = KernelConfig(cpus=possible_cpus())
    try:
        yield Bpf(), Kernel("host", config, Memory(), Clock(), Rng(1), Recorder(), 0).bpf
    finally:
        os.sched_setaffinity(0, cpus)
        for fd in open_fds() - before:
            with contextlib.suppress(OSError):
                os.close(fd)


def open_fds() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}


@pytest.mark.live
@pytest.mark.parametrize("family", ["elements", "batches", "mappings", "frozen", "inner"])
@pytest.mark.parametrize("map_type", list(ATTRS), ids=lambda map_type: map_type.lower)
def test_operation(live_and_simulated, map_type, family) -> None:
    answers = []
    for bpf in live_and_simulated:
        asked = Asked(bpf, map_type, possible_cpus())
        getattr(asked, family)()
        answers.append(asked.answers)
    assert answers[0]
    assert answers[0] == answers[1]
