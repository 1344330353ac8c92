"""Sets of CPUs (kernel/bpf/cpumask.c, v6.18), as the kernel's selftests use them (progs/cpumask_success.c)."""

import pytest

import ebpfsim
from ebpfsim.helpers.cpumask import KFUNCS


class Masks:
    """Calls by name on a machine with four CPUs."""

    def __init__(self) -> None:
        host = ebpfsim.Simulation(seed=1).host("h", cpus=4)
        self.mem = host.kernel.mem
        self.run = type("Run", (), {"mem": host.kernel.mem, "kernel": host.kernel})()

    def __call__(self, name: str, *args: int) -> int:
        return KFUNCS[f"bpf_cpumask_{name}"](self.run, *[*args, 0, 0, 0, 0, 0][:5])

    def of(self, *cpus: int) -> int:
        mask = self("create")
        for cpu in cpus:
            self("set_cpu", cpu, mask)
        return mask


@pytest.fixture
def masks() -> Masks:
    return Masks()


def test_single_cpus(masks) -> None:
    mask = masks.of()
    assert (masks("empty", mask), masks("first", mask), masks("first_zero", mask)) == (1, 4, 0)
    masks("set_cpu", 2, mask)
    assert (masks("test_cpu", 2, mask), masks("test_cpu", 1, mask), masks("first", mask)) == (1, 0, 2)
    assert (masks("test_and_set_cpu", 2, mask), masks("test_and_set_cpu", 0, mask)) == (1, 0)
    assert (masks("weight", mask), masks("first_zero", mask)) == (2, 1)
    assert (masks("test_and_clear_cpu", 0, mask), masks("test_and_clear_cpu", 0, mask)) == (1, 0)
    masks("clear_cpu", 2, mask)
    assert masks("empty", mask) == 1


def test_there_is_no_fifth_cpu(masks) -> None:
    mask = masks.of(4)
    assert masks("empty", mask) == 1
    masks("setall", mask)
    assert (masks("full", mask), masks("weight", mask)) == (1, 4)
    masks("clear", mask)
    assert masks("empty", mask) == 1


def test_two_sets(masks) -> None:
    one, two, to = masks.of(0, 1), masks.of(1, 2), masks.of()
    assert masks("and", to, one, two) == 1
    assert masks("equal", to, masks.of(1)) == 1
    masks("or", to, one, two)
    assert masks("equal", to, masks.of(0, 1, 2)) == 1
    masks("xor", to, one, two)
    assert masks("equal", to, masks.of(0, 2)) == 1
    masks("copy", to, two)
    assert (masks("equal", to, two), masks("equal", to, one)) == (1, 0)
    assert (masks("intersects", one, two), masks("intersects", one, masks.of(3))) == (1, 0)
    assert (masks("subset", masks.of(1), one), masks("subset", two, one)) == (1, 0)
    assert (masks("first_and", one, two), masks("any_and_distribute", one, masks.of(3))) == (1, 4)
    assert masks("and", to, one, masks.of(3)) == 0


def test_from_memory(masks) -> None:
    mask, src = masks.of(3), masks.mem.alloc(8)
    masks.mem.store(src, 8, 0xF5)
    assert masks("populate", mask, src, 8) == 0
    assert masks("equal", mask, masks.of(0, 2)) == 1
    assert masks("populate", mask, src, 4) == -13


def test_memory_comes_back(masks) -> None:
    before = masks.mem.allocated_bytes
    mask = masks.of(1)
    assert masks("acquire", mask) == mask
    masks("release", mask)
    assert masks("test_cpu", 1, mask) == 1
    masks("release", mask)
    masks.mem.free_rcu(masks.mem.alloc(8))
    assert masks.mem.allocated_bytes <= before + 4096
