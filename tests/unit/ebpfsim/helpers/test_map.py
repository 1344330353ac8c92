"""Helpers on maps from a program's point of view, asked of both kernels; maps/ has the rest."""

import struct

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.helpers.map import HELPERS
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_IDS


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


# adds keys and values up in the context's u64, and stops at a value of `stop`
FOR_EACH = """
    *(u64 *)(r10 - 8) = 0
    r1 = map_fd[{fd}] ll
    r2 = subprog[each] ll
    r3 = r10
    r3 += -8
    r4 = {flags}
    call bpf_for_each_map_elem
    r1 = *(u64 *)(r10 - 8)
    r1 <<= 8
    r0 += r1
    exit
each:
    r1 = *(u32 *)(r2 + 0)
    r2 = *(u64 *)(r3 + 0)
    r3 = *(u64 *)(r4 + 0)
    r3 += r1
    r3 += r2
    *(u64 *)(r4 + 0) = r3
    r0 = 1
    if r2 == {stop} goto done
    r0 = 0
done:
    exit
"""


def btf_of_two_functions() -> tuple[bytes, bytes]:
    """Callbacks want BTF: return a blob with a program of one argument and a static function of four, and func_info."""
    from ebpfsim.btf.encode import encode_types
    from ebpfsim.btf.types import Func, FuncProto, Int, Param, Ptr

    blob = encode_types(
        [
            Int("int", 4, 32, encoding=1),
            Ptr("", 0),
            FuncProto("", 1, (Param("ctx", 2),)),
            Func("main", 3, 1),
            FuncProto("", 1, (Param("map", 2), Param("key", 2), Param("value", 2), Param("data", 2))),
            Func("each", 5, 0),
        ]
    )
    return blob, struct.pack("<II", 0, 4)


@pytest.fixture
def for_each(bpf):
    """Run FOR_EACH on a map and return (how many elements it saw, the sum of keys and values)."""
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.insn import encode
    from ebpfsim.uapi.bpf import ProgType

    def run(fd: int, stop: int = -1, flags: int = 0) -> tuple[int, int]:
        insns = assemble(FOR_EACH.format(fd=fd, stop=stop, flags=flags))
        start = next(idx for idx, insn in enumerate(insns) if insn.code == 0x95) + 1
        blob, main = btf_of_two_functions()
        loaded = bpf.prog_load(
            ProgType.XDP,
            encode(insns),
            prog_btf_fd=bpf.btf_load(blob),
            func_info=main + struct.pack("<II", start, 6),
        )
        result = bpf.prog_test_run(loaded.fd, bytes(64)).retval
        return (result & 0xFF, result >> 8) if flags == 0 else (result, 0)

    return run


def fill(bpf, fd: int, count: int, cpus: int = 1) -> None:
    for i in range(count):
        bpf.map_update_elem(fd, u32(i), u64(10 * i) * cpus)


def test_every_element_of_an_array(bpf, for_each) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 5)
    fill(bpf, fd, 5)
    assert for_each(fd) == (5, 110)


def test_stopping_early(bpf, for_each) -> None:
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 5)
    fill(bpf, fd, 5)
    assert for_each(fd, stop=20) == (3, 33)


@pytest.mark.parametrize("map_type", [MapType.HASH, MapType.LRU_HASH], ids=lambda t: t.lower)
def test_every_element_of_a_hash(bpf, for_each, map_type) -> None:
    fd = bpf.map_create(map_type, 4, 8, 20)
    assert for_each(fd) == (0, 0)
    fill(bpf, fd, 5)
    assert for_each(fd) == (5, 110)


@pytest.mark.parametrize("map_type", [MapType.PERCPU_HASH, MapType.PERCPU_ARRAY], ids=lambda t: t.lower)
def test_every_value_of_this_cpu(bpf, for_each, nr_cpus, map_type) -> None:
    fd = bpf.map_create(map_type, 4, 8, 5)
    fill(bpf, fd, 5, nr_cpus)
    assert for_each(fd) == (5, 110)


def test_flags_of_for_each(bpf, for_each) -> None:
    assert for_each(bpf.map_create(MapType.ARRAY, 4, 8, 5), flags=1)[0] == -22 & 0xFFFF_FFFF


@pytest.fixture
def run(machine):
    """Return an activation whose helpers may be called one by one."""
    from ebpfsim.progs.runtime import Run

    return Run(machine, machine.prog("r0 = 0; exit"), 0, machine.cpus[0])


def test_spin_lock(run) -> None:
    lock = run.mem.alloc(4)
    take, give = HELPERS[HELPER_IDS["bpf_spin_lock"]], HELPERS[HELPER_IDS["bpf_spin_unlock"]]
    assert take(run, lock, 0, 0, 0, 0) == 0
    assert run.mem.load(lock, 4) == 1
    with pytest.raises(KernelOops, match="deadlock on a bpf_spin_lock in program 'test'"):
        take(run, lock, 0, 0, 0, 0)
    assert give(run, lock, 0, 0, 0, 0) == 0
    assert run.mem.load(lock, 4) == 0
