"""Look-up, update and delete of hash maps as eBPF assembly: what ``ebpfsim.maps.hash`` and its kin do in Python.

The texts are those of a shape: sizes and flags are folded in; where the map lies comes in R1, as for the helpers.
Numbers in RAM are offsets of 32 bits, which machine code takes for addresses as they are.

Registers while a chain is searched: R2 key, R3 value, R4 flags, R5 what leads to the element, R6 the element, R7
scratch, R8 the hash. R1 is the map and R9 the bucket; in LRU maps R9 is the map, as ``ebpfsim.jit.routines.lru`` wants
it. A key that fits into a register is in R0.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

from ebpfsim.errnos import Errno
from ebpfsim.jit.routine import ASK_PYTHON
from ebpfsim.jit.routines import lru
from ebpfsim.jit.routines.copy import (
    compare_function,
    compare_text,
    copy_function,
    copy_text,
    pieces,
    zero_function,
    zero_text,
)
from ebpfsim.jit.routines.jhash import jhash_text
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.hash_of_maps import HashOfMapsMap
from ebpfsim.maps.hash_table import BUCKETS, COUNT, FREE, FRESH, FRESH_END, HASH, MASK, MAX, PER_CPU
from ebpfsim.maps.lru import L_REF
from ebpfsim.maps.lru_hash import LruHashMap
from ebpfsim.maps.map import Map
from ebpfsim.memory import KERNEL_BASE
from ebpfsim.uapi.flags import BPF_EXIST, BPF_NOEXIST

__all__ = [
    "Shape",
    "delete",
    "delete_text",
    "find_text",
    "lookup",
    "lookup_percpu",
    "lookup_text",
    "shape_of",
    "update",
    "update_text",
]

CPU = "call bpf_get_smp_processor_id"
HASH_TEMPS = (0, 5, 6, 7, 8, 9)
ELEMENT_MASK = -8  # elements begin at multiples of 8
MAX_VALUE_AT = 1 << 14  # what lies in an element is within 16 bits


@dataclass(frozen=True, slots=True)
class Shape:
    """What texts depend on. ``key_at`` and ``value_at`` count from the start of an element."""

    key_size: int
    value_size: int
    key_at: int
    value_at: int
    elem_size: int
    nr_cpus: int
    stride: int  # from one CPU's value to the next one's, 0 when there is but one
    preallocated: bool
    lru: str  # "", "common" or "percpu"
    of_maps: bool
    all_cpus: bool = False  # an update sets the values of all CPUs

    @property
    def by_cpu(self) -> bool:
        """Tell whether an update sets one of several values."""
        return bool(self.stride) and not self.all_cpus

    @property
    def short_key(self) -> bool:
        """Tell whether a key is one load."""
        return len(pieces(self.key_size)) == 1


def shape_of(map_: Map) -> Shape | None:
    """Return the shape of a map, or None for one whose keys are too large."""
    assert isinstance(map_, HashMap)
    table = map_.table
    if table.value_at > MAX_VALUE_AT:
        return None
    kind = ""
    if isinstance(map_, LruHashMap):
        kind = "common" if map_.common_lru else "percpu"
    stride = map_.cpu_stride if map_.percpu else 0
    sizes = (map_.key_size, map_.value_size, table.key_at, table.value_at, table.elem_size, map_.nr_cpus)
    return Shape(*sizes, stride, map_.preallocated, kind, isinstance(map_, HashOfMapsMap))


# ---- by map ---------------------------------------------------------------------------------------------------------


def lookup(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_map_lookup_elem() on a map, or None when that is Python's."""
    shape = shape_of(map_)
    return lookup_text(shape) if shape is not None else None


def lookup_percpu(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_map_lookup_percpu_elem() on a map, or None when that is Python's."""
    shape = shape_of(map_)
    return lookup_text(shape, percpu_elem=True) if shape is not None else None


def update(map_: Map, replaced: int = 0) -> str | None:
    """Return the text of bpf_map_update_elem() on a map, or None when that is Python's: special fields are."""
    shape = shape_of(map_) if not map_.record else None
    return update_text(shape, replaced) if shape is not None else None


def delete(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_map_delete_elem() on a map, or None when that is Python's: special fields are."""
    shape = shape_of(map_) if not map_.record else None
    return delete_text(shape) if shape is not None else None


# ---- look-up --------------------------------------------------------------------------------------------------------


@lru_cache
def lookup_text(shape: Shape, *, percpu_elem: bool = False) -> str:
    """Return the text of bpf_map_lookup_elem(), or of bpf_map_lookup_percpu_elem()."""
    elem = "r0" if shape.short_key else "r6"
    used = f"*(u8 *)({elem} + {L_REF}) = 1" if shape.lru else ""
    address = _value_address(shape, elem, percpu_elem)
    if not percpu_elem:
        return _search(shape, elem, f"{used}\n{address}")
    # R3 is the CPU
    return f"r0 = 0; if w3 >= {shape.nr_cpus} goto out\n" + _search(shape, elem, f"{used}\n{address}", temp=8)


@lru_cache
def find_text(shape: Shape) -> str:
    """Return the text of a look-up that is no use of the element and returns the element itself, or 0."""
    return _search(shape, "r0", "") if shape.short_key else _search(shape, "r6", "r0 = r6")


def _search(shape: Shape, elem: str, found: str, temp: int = 3) -> str:
    # what to do with the element of the key; R0 is 0 when there is none
    lines = [
        jhash_text(shape.key_size, 2, (0, temp, 4, 5, 6, 7)),
        "" if shape.short_key else "r4 = r0",
        _bucket("r0", "r1", "r5"),
        _load_key(shape, "r4") if shape.short_key else "r6 = r0",
        f"next: {elem} = *(u32 *)({elem} + 0)",
        "" if shape.short_key else "r0 = 0",
        f"if {elem} == 0 goto out",
        _differs(shape, elem, "r4", "next", ("r5", "r7")),
        found,
        "out: exit",
        compare_function("same", shape.key_size, ("r6", shape.key_at), "r2"),
    ]
    return "\n".join(lines)


def _value_address(shape: Shape, elem: str, percpu_elem: bool) -> str:
    if shape.of_maps:
        return f"r0 = *(u64 *)({elem} + {shape.value_at})"
    address = f"r5 = {KERNEL_BASE + shape.value_at:#x} ll; r0 += r5"
    if not shape.stride:
        return address if elem == "r0" else f"r0 = {elem}; {address}"
    cpu = "w0 = w3" if percpu_elem else CPU
    return f"r6 = {elem}; {cpu}; r0 *= {shape.stride}; r0 += r6; {address}"


# ---- update ---------------------------------------------------------------------------------------------------------


@lru_cache
def update_text(shape: Shape, replaced: int, *, by_user: bool = False) -> str:
    """Return the text of bpf_map_update_elem().

    ``replaced`` is what it returns, in place of 0, when there are as many elements as before. User space sets the
    values of all CPUs.
    """
    if by_user and shape.stride:
        shape = replace(shape, value_size=shape.nr_cpus * shape.stride, all_cpus=True)
    return "\n".join(
        [
            f"if r4 > {BPF_EXIST} goto invalid",
            *(_update_lru(shape, replaced) if shape.lru else _update(shape, replaced)),
            f"invalid: r0 = {-Errno.EINVAL}; exit",
            compare_function("same", shape.key_size, ("r6", shape.key_at), "r2"),
            copy_function("copy_key", shape.key_size, ("r6", shape.key_at), "r2"),
            copy_function("copy_value", shape.value_size, ("r6", 0 if shape.by_cpu else shape.value_at), "r3"),
            zero_function("zero", shape.nr_cpus * shape.stride, ("r6", shape.value_at)),
            lru.functions(shape.lru, shape.elem_size, shape.nr_cpus) if shape.lru else "",
        ]
    )


def _update(shape: Shape, replaced: int) -> list[str]:
    full = -Errno.E2BIG if shape.preallocated else ASK_PYTHON
    return [
        jhash_text(shape.key_size, 2, HASH_TEMPS),
        "r8 = r0",
        _bucket("r0", "r1", "r7"),
        "r9 = r0; r6 = r0",
        _load_key(shape, "r0") if shape.short_key else "",
        _walk(shape, "absent"),
        f"if r4 == {BPF_NOEXIST} goto exists",
        *(_store(shape) if shape.stride else _replace(shape)),
        f"r0 = {replaced}; exit",
        f"absent: if r4 == {BPF_EXIST} goto missing",
        "" if shape.preallocated else f"r6 = *(u32 *)(r1 + {COUNT}); r7 = *(u32 *)(r1 + {MAX}); if r6 >= r7 goto many",
        *_take(shape, "new"),
        f"r7 = 1; lock *(u32 *)(r1 + {COUNT}) += r7",
        *_fill(shape),
        _put_into("r9", "r6"),
        "r0 = 0; exit",
        f"full: r0 = {full}; exit",
        "" if shape.preallocated else f"many: r0 = {-Errno.E2BIG}; exit",
        f"exists: r0 = {-Errno.EEXIST}; exit",
        f"missing: r0 = {-Errno.ENOENT}; exit",
    ]


def _replace(shape: Shape) -> list[str]:
    # another element comes to the head of the chain, in place of r6, to which r5 leads
    if shape.preallocated:
        exchange = f"r7 = *(u32 *)(r0 + {PER_CPU}); *(u32 *)(r0 + {PER_CPU}) = r6; r6 = r7"
        return [CPU, "r0 <<= 2; r0 += r1", _take_out(), exchange, *_fill(shape), _put_into("r9", "r6")]
    take_out = "r7 = *(u32 *)(r0 + 0); *(u32 *)(r5 + 0) = r7; r5 = r0"
    return ["r0 = r6", *_take(shape, "other"), take_out, *_fill(shape), _put_into("r9", "r6"), _give_back("r5")]


def _take(shape: Shape, label: str) -> list[str]:
    # r6: an element that nobody uses
    return [
        f"r6 = *(u32 *)(r1 + {FREE}); if r6 == 0 goto fresh_{label}",
        f"r7 = *(u32 *)(r6 + 0); *(u32 *)(r1 + {FREE}) = r7; goto {label}",
        f"fresh_{label}: r6 = *(u32 *)(r1 + {FRESH}); r7 = *(u32 *)(r1 + {FRESH_END}); if r6 == r7 goto full",
        f"r7 = r6; r7 += {shape.elem_size}; *(u32 *)(r1 + {FRESH}) = r7",
        f"{label}:",
    ]


def _fill(shape: Shape) -> list[str]:
    # hash, key and value into the element r6
    key = copy_text("copy_key", shape.key_size, ("r6", shape.key_at), "r2", "r7")
    return [f"*(u32 *)(r6 + {HASH}) = r8", key, *_init(shape)]


def _init(shape: Shape) -> list[str]:
    if not shape.by_cpu:
        return _store(shape)
    return [zero_text("zero", shape.nr_cpus * shape.stride, ("r6", shape.value_at)), *_store(shape)]


def _store(shape: Shape) -> list[str]:
    # the value of the element r6, that of this CPU if there are several; r7 and r0 change
    if not shape.by_cpu:
        return [copy_text("copy_value", shape.value_size, ("r6", shape.value_at), "r3", "r7")]
    value = f"{CPU}; r0 *= {shape.stride}; r0 += r6; r0 += {shape.value_at}; r7 = r6; r6 = r0; r0 = r7"
    return [value, copy_text("copy_value", shape.value_size, ("r6", 0), "r3", "r7"), "r6 = r0"]


def _update_lru(shape: Shape, replaced: int) -> list[str]:
    # r1 is how many there were; r4 the flags and, in its other bits, the new element, if any
    pop = [
        "call pop; if r0 == 0 goto no_memory",
        f"r4 |= r0; r6 = r0; *(u32 *)(r6 + {HASH}) = r8",
        copy_text("copy_key", shape.key_size, ("r6", shape.key_at), "r2", "r7"),
        *([] if shape.stride else [*_init(shape), f"r2 = r6; r2 += {shape.key_at}"]),
    ]
    return [
        jhash_text(shape.key_size, 2, HASH_TEMPS),
        f"r8 = r0; r9 = r1; r1 = *(u32 *)(r9 + {COUNT})",
        f"if r4 == {BPF_EXIST} goto popped" if shape.stride else "",
        *pop,
        "popped: r6 = r8",
        _bucket("r6", "r9", "r7"),
        _load_key(shape, "r0") if shape.short_key else "",
        _walk(shape, "absent"),
        f"r7 = r4; r7 &= {~ELEMENT_MASK}; r4 &= {ELEMENT_MASK}; if r7 == {BPF_NOEXIST} goto exists",
        *(_store_lru(shape) if shape.stride else _replace_lru()),
        "goto through",
        f"absent: r7 = r4; r7 &= {~ELEMENT_MASK}; r4 &= {ELEMENT_MASK}; if r7 == {BPF_EXIST} goto missing",
        f"r7 = 1; lock *(u32 *)(r9 + {COUNT}) += r7",
        "r6 = r4",
        *(_init(shape) if shape.stride else []),
        _bucket("r8", "r9", "r7"),
        _put_into("r8", "r6"),
        f"through: r0 = 0; r7 = *(u32 *)(r9 + {COUNT}); if r7 != r1 goto out; r0 = {replaced}",
        "out: exit",
        f"no_memory: r0 = {-Errno.ENOMEM}; exit",
        f"exists: r5 = {-Errno.EEXIST}; goto refuse",
        f"missing: r5 = {-Errno.ENOENT}",
        "refuse: if r4 == 0 goto refused; r2 = r4; call push_free",
        "refused: r0 = r5; exit",
    ]


def _replace_lru() -> list[str]:
    place = [_bucket("r8", "r9", "r7"), _put_into("r8", "r4")]
    return [_take_out(), *place, f"*(u8 *)(r4 + {L_REF}) = 1", "r2 = r6; call push_free"]


def _store_lru(shape: Shape) -> list[str]:
    back = "if r4 == 0 goto through; r2 = r4; call push_free"
    return [f"*(u8 *)(r6 + {L_REF}) = 1", *_store(shape), back]


# ---- delete ---------------------------------------------------------------------------------------------------------


@lru_cache
def delete_text(shape: Shape) -> str:
    """Return the text of bpf_map_delete_elem()."""
    lines = [
        jhash_text(shape.key_size, 2, HASH_TEMPS),
        "r9 = r1; r8 = r0",
        _bucket("r0", "r9", "r7"),
        "r6 = r0",
        _load_key(shape, "r0") if shape.short_key else "",
        _walk(shape, "absent"),
        _take_out(),
        f"r7 = -1; lock *(u32 *)(r9 + {COUNT}) += r7",
        "r2 = r6; call push_free" if shape.lru else _give_back("r6"),
        "r0 = 0; exit",
        f"absent: r0 = {-Errno.ENOENT}; exit",
        compare_function("same", shape.key_size, ("r6", shape.key_at), "r2"),
        lru.push_functions(shape.lru) if shape.lru else "",
    ]
    return "\n".join(lines)


# ---- parts ----------------------------------------------------------------------------------------------------------


def _bucket(reg: str, map_: str, temp: str) -> str:
    # from a hash to its bucket
    mask = f"{temp} = *(u32 *)({map_} + {MASK}); {reg} &= {temp}; {reg} <<= 2"
    return f"{mask}; {temp} = *(u32 *)({map_} + {BUCKETS}); {reg} += {temp}"


def _load_key(shape: Shape, reg: str) -> str:
    return f"{reg} = *(u{8 * shape.key_size} *)(r2 + 0)"


def _differs(shape: Shape, elem: str, want: str, unequal: str, temps: tuple[str, str]) -> str:
    # go on unless the element has the key; ``want`` is the key if it is short, else its hash
    temp = temps[0]
    if shape.short_key:
        return f"{temp} = *(u{8 * shape.key_size} *)({elem} + {shape.key_at}); if {temp} != {want} goto {unequal}"
    hashes = f"{temp} = *(u32 *)({elem} + {HASH}); if {temp} != {want} goto {unequal}\n"
    return hashes + compare_text("same", shape.key_size, (elem, shape.key_at), "r2", unequal, temps)


def _walk(shape: Shape, absent: str) -> str:
    # r6 is the bucket, then the element; r5 leads to it
    step = f"walk: r5 = r6; r6 = *(u32 *)(r5 + 0); if r6 == 0 goto {absent}\n"
    return step + _differs(shape, "r6", "r0" if shape.short_key else "r8", "walk", ("r7", "r0"))


def _take_out() -> str:
    return "r7 = *(u32 *)(r6 + 0); *(u32 *)(r5 + 0) = r7"


def _put_into(bucket: str, elem: str) -> str:
    return f"r7 = *(u32 *)({bucket} + 0); *(u32 *)({elem} + 0) = r7; *(u32 *)({bucket} + 0) = {elem}"


def _give_back(elem: str) -> str:
    # to the free elements of the map r1
    return f"r7 = *(u32 *)(r1 + {FREE}); *(u32 *)({elem} + 0) = r7; *(u32 *)(r1 + {FREE}) = {elem}"
