"""Grids of calls that both kernels answer: templates of inner maps, access flags, sizes of mappings, names."""

from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.live.sys import possible_cpus
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType as T

# type, bytes of key and value, entries, flags
INNER = [
    (T.ARRAY, 4, 4, 2, 0), (T.ARRAY, 4, 4, 3, 0), (T.ARRAY, 4, 8, 2, 0), (T.ARRAY, 4, 4, 2, f.BPF_F_INNER_MAP),
    (T.ARRAY, 4, 4, 3, f.BPF_F_INNER_MAP), (T.ARRAY, 4, 4, 2, f.BPF_F_MMAPABLE), (T.HASH, 4, 4, 2, 0),
    (T.HASH, 4, 4, 9, 0), (T.HASH, 4, 4, 2, 1), (T.HASH, 8, 4, 2, 0), (T.LRU_HASH, 4, 4, 2, 0),
    (T.PERCPU_ARRAY, 4, 4, 2, 0), (T.PERCPU_ARRAY, 4, 4, 3, 0), (T.PERCPU_HASH, 4, 4, 3, 0), (T.QUEUE, 0, 4, 2, 0),
    (T.QUEUE, 0, 4, 3, 0), (T.STACK, 0, 4, 3, 0), (T.RINGBUF, 0, 0, 4096, 0), (T.RINGBUF, 0, 0, 8192, 0),
    (T.USER_RINGBUF, 0, 0, 4096, 0), (T.BLOOM_FILTER, 0, 4, 2, 0), (T.LPM_TRIE, 8, 4, 4, 1), (T.LPM_TRIE, 8, 4, 5, 1),
    (T.PROG_ARRAY, 4, 4, 2, 0), (T.PERF_EVENT_ARRAY, 4, 4, 2, 0), (T.CGROUP_ARRAY, 4, 4, 2, 0),
    (T.STACK_TRACE, 4, 8, 2, 0), (T.DEVMAP, 4, 4, 2, 0), (T.DEVMAP, 4, 4, 3, 0), (T.DEVMAP_HASH, 4, 4, 2, 0),
    (T.CPUMAP, 4, 4, 2, 0), (T.XSKMAP, 4, 4, 2, 0), (T.XSKMAP, 4, 4, 3, 0), (T.SOCKMAP, 4, 4, 2, 0),
    (T.SOCKHASH, 4, 4, 2, 0), (T.REUSEPORT_SOCKARRAY, 4, 8, 2, 0), (T.ARENA, 0, 0, 4, f.BPF_F_MMAPABLE),
]  # fmt: skip
MAPPED = [
    (T.ARRAY, 4, 4, 1, f.BPF_F_MMAPABLE), (T.ARRAY, 4, 8, 513, f.BPF_F_MMAPABLE), (T.ARRAY, 4, 4, 1, 0),
    (T.RINGBUF, 0, 0, 4096, 0), (T.RINGBUF, 0, 0, 8192, 0), (T.USER_RINGBUF, 0, 0, 4096, 0), (T.HASH, 4, 4, 4, 0),
]  # fmt: skip
PLAIN = [(T.ARRAY, 4, 4, 4), (T.HASH, 4, 4, 4), (T.QUEUE, 0, 4, 4), (T.RINGBUF, 0, 0, 4096), (T.BLOOM_FILTER, 0, 4, 4)]
PLAIN += [(T.STACK_TRACE, 4, 8, 4), (T.DEVMAP, 4, 4, 4), (T.LRU_HASH, 4, 4, 4)]
ACCESS = [f.BPF_F_RDONLY, f.BPF_F_WRONLY, f.BPF_F_RDONLY_PROG, f.BPF_F_WRONLY_PROG]
NAMES = ["a" * 15, "a" * 16, "a b", "a-b", "a.b", "_x", "é", "x/y", "", "1a", "a\x01", "a:b", "x" * 20]


def answer(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the errno of a call, or what it gave: bytes and counts as they are, else that it worked."""
    try:
        found = call(*args, **kwargs)
    except KernelError as error:
        return error.errno_name
    return found if isinstance(found, bytes) else len(found) if isinstance(found, memoryview) else "ok"


@pytest.fixture
def both(live_bpf) -> tuple[Any, Any]:
    """The simulated kernel and the live one."""
    return Simulation(seed=1).host("h", cpus=possible_cpus()).bpf, live_bpf


def inner_maps(bpf: Any, outer: T) -> list[Any]:
    """Ask which maps fit which template."""
    answers: list[Any] = []
    for kind, *sizes, flags in INNER:
        template = bpf.map_create(kind, *sizes, map_flags=flags)
        try:
            fd = bpf.map_create(outer, 4, 4, 2, inner_map_fd=template)
        except KernelError as error:
            answers.append((kind, error.errno_name))
            continue
        for other, *its_sizes, its_flags in INNER:
            inner = bpf.map_create(other, *its_sizes, map_flags=its_flags)
            found = answer(bpf.map_update_elem, fd, bytes(4), inner.to_bytes(4, "little"))
            answers.append((kind, sizes, flags, other, its_sizes, its_flags, found))
            bpf.close(inner)
        bpf.close(fd)
    return answers


def mappings(bpf: Any) -> list[Any]:
    """Ask which parts of maps can be mapped."""
    answers = []
    for kind, *sizes, flags in MAPPED:
        for length in (1, 4095, 4096, 4097, 8192, 12288, 16384, 20480, 28672):
            for writable in (False, True):
                for offset in (0, 4096, 8192, 4095):
                    fd = bpf.map_create(kind, *sizes, map_flags=flags)
                    found = answer(bpf.map_mmap, fd, length, writable=writable, offset=offset)
                    answers.append((kind, sizes, flags, length, writable, offset, found))
                    bpf.close(fd)
    return answers


def accesses(bpf: Any) -> list[Any]:
    """Ask what descriptors that cannot read or write, or programs that cannot, allow."""
    answers = []
    for flag in ACCESS:
        for kind, *sizes in PLAIN:
            try:
                fd = bpf.map_create(kind, *sizes, map_flags=flag)
            except KernelError as error:
                answers.append((flag, kind, error.errno_name))
                continue
            key, value = bytes(4) if sizes[0] else None, bytes(sizes[1])
            calls = [
                answer(bpf.map_update_elem, fd, key, value),
                answer(bpf.map_lookup_elem, fd, key),
                answer(bpf.map_delete_elem, fd, key) if key is not None else None,
                answer(bpf.map_get_next_key, fd, None),
                answer(bpf.map_lookup_and_delete_elem, fd, key),
                answer(bpf.map_freeze, fd),
                bpf.obj_get_info_by_fd(fd).map_flags,
            ]
            answers.append((flag, kind, calls))
            bpf.close(fd)
    return answers


def names(bpf: Any) -> list[Any]:
    """Ask which names maps may have."""
    return [(name, answer(bpf.map_create, T.ARRAY, 4, 4, 1, name=name)) for name in NAMES]


@pytest.mark.live
@pytest.mark.parametrize("outer", [T.ARRAY_OF_MAPS, T.HASH_OF_MAPS], ids=lambda kind: kind.lower)
def test_inner_maps_fit_their_template(both, outer) -> None:
    simulated, live = (inner_maps(bpf, outer) for bpf in both)
    assert simulated == live


@pytest.mark.live
@pytest.mark.parametrize("ask", [mappings, accesses, names], ids=lambda ask: ask.__name__)
def test_answers_are_the_same(both, ask) -> None:
    simulated, live = (ask(bpf) for bpf in both)
    assert simulated == live
