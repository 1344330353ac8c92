"""Facts about links of iterators that Linux 6.18 told: errnos, replacement, whose elements can be shown."""

from typing import Any

import iter_questions
import pytest

from ebpfsim import Simulation

LINUX: dict[str, Any] = {
    "flags 1": "EINVAL",
    "flags 2": "EINVAL",
    "target 5": "EINVAL",
    "target a map": "EINVAL",
    "info of 4 bytes": "ok",
    "info of a pointer to nothing": "EINVAL",
    "info of no pointer": "EINVAL",
    "info of 64 bytes": "ok",
    "info of 64 bytes, the last not 0": "E2BIG",
    "update to another target": "EINVAL",
    "update": "ok",
    "update, wrong old": "EPERM",
    "update, right old": "ok",
    "update, old without flag": "EINVAL",
    "update to XDP": "EINVAL",
    "detach": "EOPNOTSUPP",
    "iterator of flags": "EINVAL",
    "iterator of a program": "EINVAL",
    "iterator of an iterator": "EINVAL",
    "read 2": b"XX",
    "read 1": b"X",
    "read 0": b"",
    "read of one that stops, 1": "EAGAIN",
    "read of one that stops, 2": "EAGAIN",
    "a program that returns 2": "EINVAL",
    "elements of 0": "EBADF",
    "elements of 999": "EBADF",
    "elements of a program": "EINVAL",
    "elements of HASH": "ok",
    "elements of ARRAY": "ok",
    "elements of PROG_ARRAY": "EINVAL",
    "elements of PERCPU_HASH": "ok",
    "elements of PERCPU_ARRAY": "ok",
    "elements of STACK_TRACE": "EINVAL",
    "elements of LRU_HASH": "ok",
    "elements of LRU_PERCPU_HASH": "ok",
    "elements of LPM_TRIE": "EINVAL",
    "elements of ARRAY_OF_MAPS": "EINVAL",
    "elements of HASH_OF_MAPS": "EINVAL",
    "elements of DEVMAP": "EINVAL",
    "elements of SOCKMAP": "EINVAL",
    "elements of CPUMAP": "EINVAL",
    "elements of SOCKHASH": "EINVAL",
    "elements of QUEUE": "EINVAL",
    "elements of RINGBUF": "EINVAL",
    "elements of BLOOM_FILTER": "EINVAL",
    "elements of DEVMAP_HASH": "EINVAL",
    "elements of CGROUP_ARRAY": "EINVAL",
    "elements of PERF_EVENT_ARRAY": "EINVAL",
    "8 bytes of a key of 4": "EACCES",
    "8 bytes of a key of 8": "ok",
    "8 bytes of a value of 4": "EACCES",
    "8 bytes of 8": "ok",
    "8 bytes of a value of 5": "EACCES",
    "8 of an array's 4": "EACCES",
    "8 bytes of 5 for each CPU": "ok",
    "a store": "ok",
    "a store for each CPU": "ok",
    "elements of no map": "EBADF",
}


def test_answers_are_those_of_linux() -> None:
    assert iter_questions.answers(iter_questions.Simulated(Simulation(seed=1).host("h").bpf)) == LINUX


@pytest.mark.live
def test_this_kernel_says_the_same() -> None:
    assert iter_questions.answers(iter_questions.Live()) == LINUX
