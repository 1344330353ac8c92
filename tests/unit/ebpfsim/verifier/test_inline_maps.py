"""Look-ups as instructions: what Linux 6.18 shows of programs that look into such a map (xlated_prog_insns)."""

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_INNER_MAP
from ebpfsim.verifier.inline_maps import gen_lookup
from ebpfsim.verifier.kernel_calls import call_offset

PERCPU = Insn(0xBF, 0, 0, -1, 0)  # r0 = &(void __percpu *)(r0)


class _Env:
    def object_by_fd(self, fd, kind):
        raise AssertionError

    prog_by_fd = map_by_fd = device_by_ifindex = object_by_fd


def _map(kind: MapType, key: int, value: int, entries: int, flags: int = 0):
    return create_map(MapAttr(kind, key, value, entries, flags), Memory(1 << 26), 2, _Env())


@pytest.mark.parametrize(
    ("value_size", "scale"), [(8, "r0 <<= 3"), (4, "r0 <<= 3"), (20, "r0 *= 24"), (64, "r0 <<= 6")]
)
def test_array(value_size: int, scale: str) -> None:
    text = f"r1 += 312; r0 = *(u32 *)(r2 + 0); if r0 >= 7 goto +3; {scale}; r0 += r1; goto +1; r0 = 0"
    assert gen_lookup(_map(MapType.ARRAY, 4, value_size, 7)) == list(assemble(text))


def test_percpu_array() -> None:
    text = "r1 += 312; r0 = *(u32 *)(r2 + 0); if r0 >= 7 goto +5; r0 <<= 3; r0 += r1; r0 = *(u64 *)(r0 + 0)"
    end = "goto +1; r0 = 0"
    assert gen_lookup(_map(MapType.PERCPU_ARRAY, 4, 8, 7)) == [*assemble(text), PERCPU, *assemble(end)]


@pytest.mark.parametrize(("key_size", "value_at"), [(4, 56), (8, 56), (9, 64)])
def test_hash(key_size: int, value_at: int) -> None:
    call = Insn(0x85, 0, 0, 0, call_offset("__htab_map_lookup_elem"))
    assert gen_lookup(_map(MapType.HASH, key_size, 8, 7)) == [call, *assemble(f"if r0 == 0 goto +1; r0 += {value_at}")]
    found = gen_lookup(_map(MapType.LRU_HASH, key_size, 8, 7))
    text = "if r0 == 0 goto +4; r1 = *(u8 *)(r0 + 35); if r1 != 0 goto +1; *(u8 *)(r0 + 35) = 1"
    assert found == [call, *assemble(f"{text}; r0 += {value_at}")]


def test_maps_without() -> None:
    assert gen_lookup(_map(MapType.LRU_PERCPU_HASH, 4, 8, 7)) == []
    # the number of elements of an inner map is not known
    assert gen_lookup(_map(MapType.ARRAY, 4, 8, 7, BPF_F_INNER_MAP)) == []
