"""Sets of CPUs of programs (kernel/bpf/cpumask.c, v6.18): ``struct bpf_cpumask`` is the bits, then a count of users."""

from collections.abc import Callable

from ebpfsim.btf.view import place, size_of
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["KFUNCS"]


def _bytes() -> int:
    return place("bpf_cpumask", "usage")[0]


def _usage(mask: int) -> int:
    return mask + place("bpf_cpumask", "usage")[0]


def _load(run: Run, mask: int) -> int:
    # of the CPUs that there can be
    return int.from_bytes(run.mem.read(mask, _bytes()), "little") & (1 << len(run.kernel.cpus)) - 1


def _store(run: Run, mask: int, bits: int) -> None:
    run.mem.write(mask, bits.to_bytes(_bytes(), "little"))


def create(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return a new, empty set, with a reference."""
    mask = run.mem.alloc(size_of("bpf_cpumask"), what="struct bpf_cpumask")
    run.mem.store(_usage(mask), 4, 1)
    return mask


def acquire(run: Run, mask: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take a reference."""
    run.mem.store(_usage(mask), 4, run.mem.load(_usage(mask), 4) + 1)
    return mask


def release(run: Run, mask: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Drop a reference."""
    left = run.mem.load(_usage(mask), 4) - 1
    run.mem.store(_usage(mask), 4, left)
    if not left:
        run.mem.free_rcu(mask)
    return 0


def _first(bits: int, cpus: int) -> int:
    # nr_cpu_ids when there is none
    return (bits & -bits).bit_length() - 1 if bits else cpus


# of one set: what comes of its bits and the number of CPUs
_ASKED: dict[str, Callable[[int, int], int]] = {
    "first": _first,
    "first_zero": lambda bits, cpus: _first(~bits & (1 << cpus) - 1, cpus),
    "any_distribute": _first,
    "empty": lambda bits, cpus: int(not bits),
    "full": lambda bits, cpus: int(bits == (1 << cpus) - 1),
    "weight": lambda bits, cpus: bits.bit_count(),
}
# of two sets
_COMPARED: dict[str, Callable[[int, int, int], int]] = {
    "first_and": lambda one, two, cpus: _first(one & two, cpus),
    "any_and_distribute": lambda one, two, cpus: _first(one & two, cpus),
    "equal": lambda one, two, cpus: int(one == two),
    "intersects": lambda one, two, cpus: int(bool(one & two)),
    "subset": lambda one, two, cpus: int(not one & ~two),
}
# of two sets, for a third one
_COMBINED: dict[str, Callable[[int, int], int]] = {
    "and": lambda one, two: one & two,
    "or": lambda one, two: one | two,
    "xor": lambda one, two: one ^ two,
}
# of one CPU's bit: what it becomes, and whether the answer is what it was
_CHANGED: dict[str, tuple[bool | None, bool]] = {
    "set_cpu": (True, False),
    "clear_cpu": (False, False),
    "test_cpu": (None, True),
    "test_and_set_cpu": (True, True),
    "test_and_clear_cpu": (False, True),
}


def _ask(call: Callable[[int, int], int]) -> Helper:
    def helper(run: Run, mask: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
        return call(_load(run, mask), len(run.kernel.cpus))

    return helper


def _compare(call: Callable[[int, int, int], int]) -> Helper:
    def helper(run: Run, one: int, two: int, _r3: int, _r4: int, _r5: int) -> int:
        return call(_load(run, one), _load(run, two), len(run.kernel.cpus))

    return helper


def _combine(call: Callable[[int, int], int]) -> Helper:
    def helper(run: Run, dst: int, one: int, two: int, _r4: int, _r5: int) -> int:
        bits = call(_load(run, one), _load(run, two))
        _store(run, dst, bits)
        # only cpumask_and() says something: whether a CPU is left
        return int(bool(bits))

    return helper


def _change(becomes: bool | None, answers: bool) -> Helper:
    def helper(run: Run, cpu: int, mask: int, _r3: int, _r4: int, _r5: int) -> int:
        number = u32(cpu)
        if number >= len(run.kernel.cpus):
            return 0
        bits = _load(run, mask)
        if becomes is not None:
            _store(run, mask, bits | 1 << number if becomes else bits & ~(1 << number))
        return bits >> number & 1 if answers else 0

    return helper


def setall(run: Run, mask: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take all CPUs."""
    _store(run, mask, (1 << len(run.kernel.cpus)) - 1)
    return 0


def clear(run: Run, mask: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take none."""
    _store(run, mask, 0)
    return 0


def copy(run: Run, dst: int, src: int, _r3: int, _r4: int, _r5: int) -> int:
    """Take those of another set."""
    _store(run, dst, _load(run, src))
    return 0


def populate(run: Run, mask: int, src: int, size: int, _r4: int, _r5: int) -> int:
    """Take the CPUs whose bits are set in memory: 0, EACCES when that is too short."""
    words = -(-len(run.kernel.cpus) // 64)
    if size < 8 * words:
        return -Errno.EACCES
    _store(run, mask, int.from_bytes(run.mem.read(src, 8 * words), "little") & (1 << len(run.kernel.cpus)) - 1)
    return 0


KFUNCS: dict[str, Helper] = {
    "bpf_cpumask_create": create,
    "bpf_cpumask_acquire": acquire,
    "bpf_cpumask_release": release,
    "bpf_cpumask_setall": setall,
    "bpf_cpumask_clear": clear,
    "bpf_cpumask_copy": copy,
    "bpf_cpumask_populate": populate,
    **{f"bpf_cpumask_{name}": _ask(call) for name, call in _ASKED.items()},
    **{f"bpf_cpumask_{name}": _compare(call) for name, call in _COMPARED.items()},
    **{f"bpf_cpumask_{name}": _combine(call) for name, call in _COMBINED.items()},
    **{f"bpf_cpumask_{name}": _change(*row) for name, row in _CHANGED.items()},
}
