"""Look-ups in maps that Linux puts into the program (``map_gen_lookup``, kernel/bpf/{arraymap,hashtab}.c, v6.18)."""

from collections.abc import Callable, Mapping

from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME
from ebpfsim.maps.map import Map, round_up8
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_INNER_MAP
from ebpfsim.verifier.kernel_calls import call_offset

__all__ = ["gen_lookup", "index_mask", "op"]

R0, R1, R2 = 0, 1, 2
# in the BTF of Linux 6.18: struct bpf_array has its values (or pointers) at 312, struct xsk_map its sockets at 304,
# struct htab_elem its key at 48, and lru_node.ref at 35
ARRAY_VALUE, XSK_MAP, HTAB_ELEM_KEY, LRU_REF = 312, 304, 48, 35
POINTER_SHIFT = 3


def op(name: str, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> Insn:
    """Return an instruction by its name in the table."""
    return BY_NAME[name].insn(dst=dst, src=src, off=off, imm=imm)


def _index(map_: Map, behind: int) -> list[Insn]:
    # R0 = index, to the last instruction of the look-up when it is past the end
    return [op("ldx.u32", R0, R2), op("jge64.imm", R0, off=behind, imm=map_.max_entries)]


def index_mask(map_: Map, regno: int = R0) -> list[Insn]:
    """Return what keeps a guess past the end within the next power of two (``array->index_mask``)."""
    if map_.bypass_spec:
        return []
    return [op("and32.imm", regno, imm=(1 << (map_.max_entries - 1).bit_length()) - 1)]


def _scale(size: int) -> Insn:
    if size & (size - 1):
        return op("mul64.imm", R0, imm=size)
    return op("lsh64.imm", R0, imm=size.bit_length() - 1)


def _end() -> list[Insn]:
    return [op("ja", off=1), op("mov64.imm", R0)]


def _array(map_: Map) -> list[Insn]:
    return [
        op("add64.imm", R1, imm=ARRAY_VALUE),
        *_index(map_, 3 if map_.bypass_spec else 4),
        *index_mask(map_),
        *(_scale(round_up8(map_.value_size)), op("add64.reg", R0, R1), *_end()),
    ]


def _percpu_array(map_: Map) -> list[Insn]:
    return [
        op("add64.imm", R1, imm=ARRAY_VALUE),
        *_index(map_, 5 if map_.bypass_spec else 6),
        *index_mask(map_),
        *(op("lsh64.imm", R0, imm=POINTER_SHIFT), op("add64.reg", R0, R1), op("ldx.u64", R0, R0)),
        *(op("percpu_addr", R0, R0), *_end()),
    ]


def _array_of_maps(map_: Map) -> list[Insn]:
    return [
        op("add64.imm", R1, imm=ARRAY_VALUE),
        *_index(map_, 5 if map_.bypass_spec else 6),
        *index_mask(map_),
        *(op("lsh64.imm", R0, imm=POINTER_SHIFT), op("add64.reg", R0, R1), op("ldx.u64", R0, R0)),
        *(op("jeq64.imm", R0, off=1), *_end()),
    ]


def _xskmap(map_: Map) -> list[Insn]:
    return [
        *_index(map_, 5),
        *(op("lsh64.imm", R0, imm=POINTER_SHIFT), op("add64.imm", R1, imm=XSK_MAP), op("add64.reg", R0, R1)),
        *(op("ldx.u64", R0, R0), *_end()),
    ]


def _hash_call(behind: int) -> list[Insn]:
    return [op("call", imm=call_offset("__htab_map_lookup_elem")), op("jeq64.imm", R0, off=behind)]


def _hash_value(map_: Map) -> Insn:
    return op("add64.imm", R0, imm=HTAB_ELEM_KEY + round_up8(map_.key_size))


def _hash(map_: Map) -> list[Insn]:
    return [*_hash_call(1), _hash_value(map_)]


def _lru_hash(map_: Map) -> list[Insn]:
    # the element is marked as used
    mark = [
        op("ldx.u8", R1, R0, LRU_REF),
        op("jne64.imm", R1, off=1),
        op("st.u8", R0, off=LRU_REF, imm=1),
    ]
    return [*_hash_call(4), *mark, _hash_value(map_)]


def _percpu_hash(map_: Map) -> list[Insn]:
    return [*_hash_call(3), _hash_value(map_), op("ldx.u64", R0, R0), op("percpu_addr", R0, R0)]


def _hash_of_maps(map_: Map) -> list[Insn]:
    return [*_hash_call(2), _hash_value(map_), op("ldx.u64", R0, R0)]


_GEN: Mapping[MapType, Callable[[Map], list[Insn]]] = {
    MapType.ARRAY: _array,
    MapType.PERCPU_ARRAY: _percpu_array,
    MapType.ARRAY_OF_MAPS: _array_of_maps,
    MapType.XSKMAP: _xskmap,
    MapType.HASH: _hash,
    MapType.LRU_HASH: _lru_hash,
    MapType.PERCPU_HASH: _percpu_hash,
    MapType.HASH_OF_MAPS: _hash_of_maps,
}
# these hold their number of elements in the instructions, which differs between inner maps
_FIXED_SIZE = (MapType.ARRAY, MapType.PERCPU_ARRAY)


def gen_lookup(map_: Map) -> list[Insn]:
    """Return a look-up as instructions, nothing when it stays a call (``map_gen_lookup``)."""
    kind = map_.attr.map_type
    if kind not in _GEN or (kind in _FIXED_SIZE and map_.map_flags & BPF_F_INNER_MAP):
        return []
    return _GEN[kind](map_)
