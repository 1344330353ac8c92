"""Special fields of values (btf_parse_fields of kernel/bpf/btf.c, v6.18), asked of both kernels.

Each case is a struct: its members in C order, what BPF_BTF_LOAD says of it, and whether an array of such values has
special fields. A map with special fields cannot be frozen, which shows them from outside.
"""

from dataclasses import dataclass, field

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import (
    Array,
    Const,
    Datasec,
    DatasecVar,
    DeclTag,
    Int,
    Kind,
    Member,
    Ptr,
    Struct,
    Typedef,
    TypeTag,
    Union,
    Var,
    Volatile,
)
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError
from ebpfsim.maps.record import MAP_FIELDS, OBJECT_FIELDS, parse
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType

T = MapType
# sizes in 6.18
SPECIAL = {
    "bpf_spin_lock": 4,
    "bpf_res_spin_lock": 4,
    "bpf_refcount": 4,
    "bpf_timer": 16,
    "bpf_wq": 16,
    "bpf_task_work": 8,
    "bpf_list_head": 16,
    "bpf_list_node": 24,
    "bpf_rb_root": 16,
    "bpf_rb_node": 32,
}
NODES = {"node": "bpf_list_node u64", "tail": "u64 bpf_list_node", "leaf": "bpf_rb_node u64"}


@dataclass
class Types:
    """BTF in the making: ids and sizes by name."""

    builder: BtfBuilder = field(default_factory=BtfBuilder)
    known: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add("u32", Int("unsigned int", 4, 32), 4)
        self.add("u64", Int("unsigned long", 8, 64), 8)
        for name, size in SPECIAL.items():
            unit = "u64" if size % 8 == 0 else "u32"
            data = Array("", self.id(unit), self.id("u32"), size // self.size(unit))
            self.add(name, Struct(name, size, (Member("opaque", self.builder.add(data), 0),)), size)
        for name in ("task_struct", "file", "my_own"):
            self.struct(name, "u64")

    def add(self, name: str, type_, size: int) -> int:
        number = self.builder.add(type_)
        self.known[name] = (number, size)
        return number

    def id(self, word: str) -> int:
        """Return the id of a type: a name, ``tag*name`` a pointer, ``name[3]`` an array."""
        if word not in self.known:
            name, _, count = word.partition("[")
            if count:
                number = int(count.rstrip("]"))
                self.add(word, Array("", self.id(name), self.id("u32"), number), self.size(name) * number)
            else:
                tag, _, target = word.partition("*")
                self.add(word, Ptr("", self.builder.add(TypeTag(tag, self.id(target)))), 8)
        return self.known[word][0]

    def size(self, word: str) -> int:
        self.id(word)
        return self.known[word][1]

    def struct(self, name: str, text: str, tags: tuple[str, ...] = ()) -> int:
        """Add a struct; a member is a type, ``4:type`` at an offset, ``type=contains`` with a tag."""
        members, end, contains = [], 0, {}
        for number, word in enumerate(text.split()):
            word, _, what = word.partition("=")
            place, colon, rest = word.partition(":")
            word = rest if colon else word
            align = min(8, self.size(word) & -self.size(word))
            off = int(place) if colon else -(-end // align) * align
            members.append(Member(f"m{number}", self.id(word), 8 * off))
            end = off + self.size(word)
            if what:
                contains[number] = what.replace(".", ":")
        size = -(-end // 8) * 8
        number = self.add(name, Struct(name, size, tuple(members)), size)
        for index, what in contains.items():
            self.builder.add(DeclTag(f"contains:{what}", number, index))
        return number


PLAIN, RECORD = "", "record"
# fmt: off
CASES = [
    ("u64 bpf_spin_lock", RECORD), ("u64 bpf_res_spin_lock", RECORD), ("u64 bpf_timer", RECORD),
    ("u64 bpf_wq", RECORD), ("u64 bpf_task_work", RECORD), ("u64 bpf_refcount", RECORD),
    ("u64 bpf_list_node", PLAIN), ("u64 bpf_rb_node", PLAIN),
    # unique ones
    ("bpf_spin_lock u32 bpf_spin_lock", "E2BIG"), ("bpf_timer bpf_timer", PLAIN), ("bpf_wq bpf_wq", PLAIN),
    ("bpf_refcount bpf_refcount", RECORD), ("bpf_timer bpf_wq", RECORD), ("bpf_spin_lock bpf_timer", RECORD),
    ("bpf_spin_lock bpf_res_spin_lock", "EINVAL"),
    # alignment, arrays
    ("u32 6:bpf_spin_lock u32", "EFAULT"), ("u32 4:bpf_timer", PLAIN),
    ("u64 bpf_spin_lock[2]", PLAIN), ("u64 bpf_spin_lock[1]", RECORD),
    # pointers
    ("kptr*task_struct", RECORD), ("kptr*my_own", RECORD), ("kptr*file", "ENOENT"), ("kptr*u64", PLAIN),
    ("kptr_untrusted*task_struct", RECORD), ("kptr_untrusted*file", RECORD), ("percpu_kptr*my_own", RECORD),
    ("user*task_struct", PLAIN), ("rcu*task_struct", PLAIN), ("uptr*u64", PLAIN),
    ("u32 4:kptr*task_struct u32", "EFAULT"),
    ("kptr*task_struct[11]", RECORD), ("kptr*task_struct[12]", PLAIN),
    (" ".join(["kptr*task_struct"] * 11), RECORD), (" ".join(["kptr*task_struct"] * 12), "E2BIG"),
    # lists and trees
    ("bpf_spin_lock bpf_list_head=node.m0", RECORD), ("bpf_res_spin_lock bpf_list_head=node.m0", RECORD),
    ("bpf_spin_lock bpf_list_head=tail.m1", RECORD), ("bpf_spin_lock bpf_list_head", "EINVAL"),
    ("bpf_spin_lock bpf_list_head=node.zz", "ENOENT"), ("bpf_spin_lock bpf_list_head=nope.m0", "ENOENT"),
    ("bpf_spin_lock bpf_list_head=node", "EINVAL"), ("bpf_spin_lock bpf_list_head=node.", "EINVAL"),
    ("bpf_spin_lock bpf_list_head=node.m1", "EINVAL"), ("bpf_spin_lock bpf_list_head=leaf.m0", "EINVAL"),
    ("u32 bpf_list_head=node.m0", "EINVAL"), ("bpf_spin_lock bpf_rb_root=leaf.m0", RECORD),
    ("bpf_spin_lock bpf_rb_root=node.m0", "EINVAL"),
    ("bpf_spin_lock bpf_list_head=node.m0 bpf_list_head=tail.m1", RECORD),
    # all fields are found before the nodes of lists are looked for
    ("bpf_spin_lock bpf_list_head=node.zz bpf_spin_lock", "E2BIG"),
    ("bpf_spin_lock bpf_list_head=nope.m0 bpf_spin_lock", "ENOENT"),
    ("bpf_list_node bpf_rb_node", "EINVAL"), ("bpf_list_node bpf_rb_node bpf_refcount", RECORD),
    ("bpf_list_node bpf_spin_lock bpf_list_head=value.m0", "ELOOP"),
]
# fmt: on


def freezes(bpf, fd: int) -> bool:
    try:
        bpf.map_freeze(fd)
    except KernelError as error:
        if error.errno_name != "ENOTSUPP":
            raise
        return False
    return True


def make_map(bpf, types: Types, name: str, map_type: MapType = T.ARRAY, flags: int = 0, entries: int = 1) -> int:
    attributes = {"btf_key_type_id": types.id("u32"), "btf_value_type_id": types.id(name), "map_flags": flags}
    btf_fd = bpf.btf_load(types.builder.build())
    return bpf.map_create(map_type, 4, types.size(name), entries, btf_fd=btf_fd, **attributes)


def answer(bpf, types: Types) -> str:
    try:
        return PLAIN if freezes(bpf, make_map(bpf, types, "value")) else RECORD
    except KernelError as error:
        return error.errno_name


@pytest.mark.parametrize(("members", "expected"), CASES)
def test_structs(bpf, members, expected) -> None:
    types = Types()
    for name, text in NODES.items():
        types.struct(name, text)
    types.struct("value", members)
    assert answer(bpf, types) == expected


WRAPPED = {
    "nested struct": (lambda t: t.struct("inner", "u64 bpf_spin_lock"), RECORD),
    "typedef": (lambda t: t.add("inner", Typedef("lock_t", t.id("bpf_spin_lock")), 4), PLAIN),
    "const": (lambda t: t.add("inner", Const("", t.id("bpf_spin_lock")), 4), PLAIN),
    "union": (lambda t: t.add("inner", Union("u", 8, (Member("l", t.id("bpf_spin_lock"), 0),)), 8), PLAIN),
    "wrong size": (lambda t: t.add("inner", Struct("bpf_timer", 8, (Member("o", t.id("u64"), 0),)), 8), PLAIN),
    "volatile pointer": (lambda t: t.add("inner", Volatile("", t.id("kptr_untrusted*task_struct")), 8), RECORD),
    "const pointer": (lambda t: t.add("inner", Const("", t.id("kptr_untrusted*task_struct")), 8), PLAIN),
}


@pytest.mark.parametrize("what", list(WRAPPED))
def test_wrapped(bpf, what) -> None:
    make, expected = WRAPPED[what]
    types = Types()
    make(types)
    types.struct("value", "u64 inner")
    assert answer(bpf, types) == expected


def test_locks_of_two_nested_structs_are_two(bpf) -> None:
    types = Types()
    types.struct("inner", "u64 bpf_spin_lock")
    types.struct("value", "inner inner")
    assert answer(bpf, types) == RECORD
    assert [s.off for s in parsed(types, "value")] == [8, 24]


def test_bitfields_spoil_it(bpf) -> None:
    types = Types()
    members = (Member("a", types.id("u32"), 0, 3), Member("b", types.id("u32"), 3, 5))
    timer = Member("t", types.id("bpf_timer"), 64)
    types.add("value", Struct("value", 24, (*members, timer), kflag=True), 24)
    assert answer(bpf, types) == PLAIN


@pytest.mark.parametrize(
    ("variables", "expected"),
    [(["bpf_spin_lock"], RECORD), (["bpf_spin_lock"] * 2, PLAIN), (["u64", "kptr*task_struct"], RECORD)],
)
def test_sections(bpf, variables, expected) -> None:
    types = Types()
    entries, off = [], 0
    for number, name in enumerate(variables):
        var = types.builder.add(Var(f"v{number}", types.id(name), 1))
        entries.append(DatasecVar(var, off, types.size(name)))
        off += types.size(name)
    types.add("value", Datasec(".data", off, tuple(entries)), off)
    assert answer(bpf, types) == expected


def parsed(types: Types, name: str, wanted=MAP_FIELDS):
    btf = Btf(types.builder.build())
    return parse(btf, types.id(name), wanted, types.size(name))


def test_what_a_pointer_leads_to() -> None:
    types = Types()
    types.struct("value", "u64 kptr*task_struct percpu_kptr*my_own")
    task, own = parsed(types, "value")
    assert (task.kind, task.tag, task.off, task.size) == ("kptr", "kptr", 8, 8)
    assert (task.btf, task.type_id) == (vmlinux(), vmlinux().find("task_struct", Kind.STRUCT))
    assert (own.kind, own.type_id, own.btf is not vmlinux()) == ("percpu_kptr", types.id("my_own"), True)


def test_what_a_list_holds() -> None:
    types = Types()
    types.struct("tail", NODES["tail"])
    types.struct("value", "bpf_spin_lock bpf_list_head=tail.m1")
    _, head = parsed(types, "value")
    assert (head.kind, head.off, head.type_id, head.node, head.node_off) == (
        "bpf_list_head", 8, types.id("tail"), "m1", 8
    )  # fmt: skip
    assert [s.kind for s in parsed(types, "tail", OBJECT_FIELDS)] == ["bpf_list_node"]


LOCKS = {T.HASH, T.ARRAY}
TIMERS = {T.HASH, T.LRU_HASH, T.ARRAY}
ALL = {T.HASH, T.PERCPU_HASH, T.LRU_HASH, T.LRU_PERCPU_HASH, T.ARRAY, T.PERCPU_ARRAY}
HOLDERS = [
    ("bpf_spin_lock u32", LOCKS),
    ("bpf_res_spin_lock u32", LOCKS),
    ("bpf_timer", TIMERS),
    ("bpf_wq", TIMERS),
    ("bpf_task_work", TIMERS),
    ("bpf_refcount u32", ALL),
    ("kptr*task_struct", ALL),
    ("kptr_untrusted*file", ALL),
    ("percpu_kptr*my_own", ALL),
    ("uptr*my_own", set()),
]


@pytest.mark.parametrize("map_type", sorted(ALL), ids=lambda t: t.lower)
@pytest.mark.parametrize(("members", "holders"), HOLDERS)
def test_which_maps_hold_what(bpf, refused, members, holders, map_type) -> None:
    types = Types()
    types.struct("value", members)
    if map_type in holders:
        assert not freezes(bpf, make_map(bpf, types, "value", map_type))
    else:
        assert refused(make_map, bpf, types, "value", map_type) == "EOPNOTSUPP"


@pytest.mark.parametrize(("target", "errno"), [("my_own", ""), ("task_struct", "EINVAL"), ("large", "E2BIG")])
def test_user_pointers_of_tasks(bpf, refused, target, errno) -> None:
    types = Types()
    types.struct("large", "u64[513]")
    types.struct("value", f"uptr*{target}")
    make = (bpf, types, "value", T.TASK_STORAGE, f.BPF_F_NO_PREALLOC, 0)
    if errno:
        assert refused(make_map, *make) == errno
    else:
        assert not freezes(bpf, make_map(*make))


def test_programs_must_be_able_to_use_them(bpf, refused) -> None:
    types = Types()
    types.struct("value", "bpf_spin_lock")
    for flag in (f.BPF_F_RDONLY_PROG, f.BPF_F_WRONLY_PROG):
        assert refused(make_map, bpf, types, "value", T.ARRAY, flag) == "EACCES"
