"""Operations of user space on hash maps by machine code: those of Python, with the same results and the same RAM."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import KernelError
from ebpfsim.jit.routines.user import hash_calls
from ebpfsim.maps.hash import OFTEN
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_NO_PREALLOC

KINDS = (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
FIRST = 1 << 24  # where the allocator begins


def make(kind: MapType, flags: int, *, native: bool) -> Any:
    map_ = create_map(MapAttr(kind, 5, 11, 6, flags), Memory(), 2)
    if native:
        map_._native = hash_calls(map_)
        assert map_._native is not None
    return map_


def outcome(work: Any, *args: Any) -> Any:
    try:
        return work(*args)
    except KernelError as error:
        return str(error)


def do(map_: Any, operation: str, key: bytes, value: bytes, flag: int) -> Any:
    works = {
        "u": lambda: map_.sys_update(key, value, flag),
        "l": lambda: map_.sys_lookup(key),
        "d": lambda: map_.sys_delete(key),
        "t": lambda: map_.sys_lookup_and_delete(key),
        "n": lambda: map_.get_next_key(key),
        "b": lambda: map_.sys_delete_batch([key, b"key.1"]),
    }
    return outcome(works[operation])


FLAGS = st.sampled_from((0, 0, 0, 1, 2, 3))
STEPS = st.lists(st.tuples(st.sampled_from("uuuldtnb"), st.integers(0, 9), FLAGS), max_size=50)


@pytest.mark.parametrize(
    ("kind", "flags"),
    [*((kind, 0) for kind in KINDS), (MapType.HASH, BPF_F_NO_PREALLOC), (MapType.PERCPU_HASH, BPF_F_NO_PREALLOC)],
)
@given(STEPS)
def test_same_results_and_same_ram(kind, flags, steps) -> None:
    sides = [make(kind, flags, native=native) for native in (False, True)]
    scratch = slice(sides[0].scratch - sides[0].address, sides[0].struct_bytes)
    for number, (operation, key_number, flag) in enumerate(steps):
        key, value = b"key.%d" % key_number, bytes([number + 1]) * sides[0].user_value_size
        python, native = (do(map_, operation, key, value, flag) for map_ in sides)
        assert python == native
    for map_ in sides:
        map_.mem.fill(map_.address + scratch.start, scratch.stop - scratch.start)
    rams = [bytes(map_.mem.buf[FIRST : map_.mem._next_page]) for map_ in sides]
    assert rams[0] == rams[1]


def test_maps_that_are_pythons() -> None:
    assert hash_calls(create_map(MapAttr(MapType.HASH, 4, 5000, 6), Memory(), 2)) is None
    assert hash_calls(create_map(MapAttr(MapType.HASH, 20_000, 5, 6), Memory(), 2)) is None


def calls_of(engine: str) -> tuple[Any, Any]:
    from ebpfsim.config import KernelConfig
    from ebpfsim.kernel import Kernel
    from ebpfsim.simulation import Simulation

    simulation = Simulation(seed=1)
    own = simulation.host("h").kernel
    kernel = Kernel("k", KernelConfig(engine=engine), own.mem, own.clock, own.rng, own.recorder, 1)
    return kernel.bpf, kernel


@pytest.mark.parametrize("engine", ["interp", "jit"])
def test_machine_code_comes_with_use_and_with_the_engine(engine) -> None:
    bpf, kernel = calls_of(engine)
    fd = bpf.map_create(MapType.HASH, 4, 8, 4)
    map_ = kernel.fds.lookup(fd)
    for number in range(OFTEN):
        assert map_._native is None
        bpf.map_update_elem(fd, b"abcd", number.to_bytes(8, "little"))
    assert (map_._native is not None) == (engine == "jit")
    assert bpf.map_lookup_elem(fd, b"abcd") == (OFTEN - 1).to_bytes(8, "little")
    bpf.map_delete_elem(fd, b"abcd")
    with pytest.raises(KernelError, match="ENOENT"):
        bpf.map_delete_elem(fd, b"abcd")
    with pytest.raises(KernelError, match="ENOENT"):
        bpf.map_update_elem(fd, b"abcd", bytes(8), flags=2)
