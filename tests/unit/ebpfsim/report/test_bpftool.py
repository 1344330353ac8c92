"""Maps, programs and BTF as bpftool prints them: the real bpftool on the live kernel, ours on the simulated one."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import (
    Array,
    Const,
    Datasec,
    DatasecVar,
    DeclTag,
    Enum,
    Enum64,
    EnumValue,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Param,
    Ptr,
    Struct,
    Typedef,
    TypeTag,
    Union,
    Var,
)
from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.kernel import Kernel
from ebpfsim.live.sys import possible_cpus
from ebpfsim.memory import Memory
from ebpfsim.recorder import Recorder
from ebpfsim.report import bpftool
from ebpfsim.rng import Rng
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType, ProgType

T = MapType


def types() -> tuple[BtfBuilder, dict[str, int]]:
    builder, ids = BtfBuilder(), {}

    def add(name: str, type_) -> int:
        ids[name] = builder.add(type_)
        return ids[name]

    u32 = add("u32", Int("unsigned int", 4, 32))
    i32 = add("i32", Int("int", 4, 32, encoding=1))
    u64 = add("u64", Int("unsigned long", 8, 64))
    char = add("char", Int("char", 1, 8, encoding=2))
    flag = add("bool", Int("_Bool", 1, 8, encoding=4))
    big = add("big", Int("__int128", 16, 128, encoding=1))
    ptr = add("ptr", Ptr("", u32))
    text = add("text", Array("", char, u32, 4))
    pair = add("pair", Array("", u32, u32, 2))
    color = add("color", Enum("color", 4, (EnumValue("RED", 1), EnumValue("BLUE", 2))))
    both = add("both", Union("both", 4, (Member("u", u32, 0), Member("i", i32, 0))))
    inner = add("inner", Struct("", 8, (Member("p", u32, 0), Member("q", i32, 32))))
    number = add("number", Typedef("number", add("const", Const("", u32))))
    names = ("u64", "ptr", "pair", "text", "color", "both", "", "number", "i32", "bool")
    kinds = (u64, ptr, pair, text, color, both, inner, number, i32, flag)
    sizes = (8, 8, 8, 4, 4, 4, 8, 4, 4, 1)
    members, off = [], 0
    for name, kind, size in zip(names, kinds, sizes, strict=True):
        members.append(Member(name, kind, 8 * off))
        off += size
    members += [Member("b1", u32, 8 * off, 3), Member("b2", u32, 8 * off + 3, 5), Member("big", big, 8 * 64)]
    add("all", Struct("all", 80, tuple(members), kflag=True))
    add("float", Float("float", 4))
    add("e64", Enum64("e64", 8, (EnumValue("HUGE", 1 << 40),)))
    add("tag", TypeTag("kptr", inner))
    add("fwd", Fwd("later", is_union=True))
    proto = add("proto", FuncProto("", u32, (Param("a", u64), Param("b", ptr))))
    add("func", Func("work", proto, 1))
    add("var", Var("counter", u64, 1))
    add("sec", Datasec(".bss", 8, (DatasecVar(ids["var"], 0, 8),)))
    add("decl", DeclTag("hot", ids["all"], 2))
    return builder, ids


def build(bpf, nr_cpus: int) -> dict[str, int]:
    """Make the same objects on a kernel; return descriptors by name."""
    builder, ids = types()
    btf = bpf.btf_load(builder.build())

    def typed_map(kind: MapType, name: str, value: str, size: int, entries: int = 1, **more) -> int:
        attributes = {"btf_fd": btf, "btf_key_type_id": ids["u32"], "btf_value_type_id": ids[value]}
        return bpf.map_create(kind, 4, size, entries, name=name, **attributes, **more)

    made = {
        "all": typed_map(T.ARRAY, "all", "all", 80),
        "words": typed_map(T.HASH, "words", "u64", 8, 4, map_flags=f.BPF_F_NO_PREALLOC),
        "percpu": typed_map(T.PERCPU_ARRAY, "percpu", "i32", 4, 2),
        "plain": bpf.map_create(T.LRU_HASH, 3, 5, 10),
        "queue": bpf.map_create(T.QUEUE, 0, 4, 2, name="queue"),
        "ring": bpf.map_create(T.RINGBUF, 0, 0, 4096, name="ring"),
        "mapped": bpf.map_create(T.ARRAY, 4, 8, 3, name="mapped", map_flags=f.BPF_F_MMAPABLE),
        "progs": bpf.map_create(T.PROG_ARRAY, 4, 4, 3, name="progs"),
        "lpm": bpf.map_create(T.LPM_TRIE, 8, 4, 3, name="lpm", map_flags=f.BPF_F_NO_PREALLOC),
        "btf": btf,
    }
    value = bytearray(range(1, 81))
    value[24:28], value[28:32] = b"ab\0\0", (2).to_bytes(4, "little")
    bpf.map_update_elem(made["all"], bytes(4), bytes(value))
    for number in (7, 1):
        bpf.map_update_elem(made["words"], number.to_bytes(4, "little"), bytes(range(8)))
    bpf.map_update_elem(made["percpu"], bytes(4), b"\xff" * 8 * nr_cpus)
    bpf.map_update_elem(made["plain"], b"abc", b"defgh")
    bpf.map_update_elem(made["lpm"], b"\x08\0\0\0\x0a\0\0\0", bytes(4))
    bpf.map_freeze(made["mapped"])
    code = f"r1 = map_fd[{made['all']}] ll; r2 = map_fd[{made['ring']}] ll; r0 = 2; exit"
    made["prog"] = bpf.prog_load(ProgType.XDP, encode(assemble(code)), name="passes").fd
    bpf.map_update_elem(made["progs"], bytes(4), made["prog"].to_bytes(4, "little"))
    return made


@pytest.fixture
def live(live_bpf) -> tuple[Any, dict[str, int]]:
    if shutil.which("bpftool") is None:
        pytest.skip("no bpftool here")
    return live_bpf, build(live_bpf, possible_cpus())


@pytest.fixture
def simulated() -> tuple[Kernel, dict[str, int]]:
    config = KernelConfig(cpus=possible_cpus() if os.path.exists("/sys/devices/system/cpu/possible") else 2)
    kernel = Kernel("host", config, Memory(), Clock(), Rng(1), Recorder(), 0)
    return kernel, build(kernel.bpf, config.cpus)


def real(*arguments: str) -> Any:
    # maps without keys are dumped as an empty list, and that is an error
    done = subprocess.run(["bpftool", "-j", *arguments], capture_output=True, check=False)
    return json.loads(done.stdout)


# values that differ from kernel to kernel
OWN = {"id", "btf_id", "map_ids", "loaded_at", "bytes_xlated", "bytes_jited", "jited", "prog_ids", "pids"}


def shape(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in OWN}


MAPS = ["all", "words", "percpu", "plain", "queue", "ring", "mapped", "progs", "lpm"]


@pytest.mark.live
@pytest.mark.parametrize("name", MAPS)
def test_map(live, simulated, name) -> None:
    bpf, fds = live
    kernel, ours = simulated
    number = str(bpf.obj_get_info_by_fd(fds[name]).id)
    map_ = kernel.fds.lookup(ours[name])
    row = next(row for row in bpftool.map_list(kernel) if row["id"] == map_.id)
    theirs = real("map", "show", "id", number)
    assert shape(row) == shape(theirs)
    assert [key for key in row if key not in OWN] == [key for key in theirs if key not in OWN]
    dump = bpftool.map_dump(kernel, map_)
    if name == "progs":
        assert [row["key"] for row in dump] == [row["key"] for row in real("map", "dump", "id", number)]
    else:
        by_key = lambda rows: sorted(rows, key=lambda row: row["key"])  # noqa: E731
        assert by_key(dump) == by_key(real("map", "dump", "id", number))


@pytest.mark.live
def test_program(live, simulated) -> None:
    bpf, fds = live
    kernel, _ = simulated
    theirs = real("prog", "show", "id", str(bpf.obj_get_info_by_fd(fds["prog"]).id))
    (row,) = bpftool.prog_list(kernel)
    assert shape(row) == shape(theirs)
    assert set(theirs) - set(row) <= {"bytes_jited", "pids"}


@pytest.mark.live
def test_btf(live, simulated) -> None:
    bpf, fds = live
    kernel, ours = simulated
    number = str(bpf.obj_get_info_by_fd(fds["btf"]).id)
    row = bpftool.btf_list(kernel)[-1]
    theirs = real("btf", "show", "id", number)
    # newer versions give one object, older ones a list of one
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    assert shape(row) == shape(theirs)
    assert len(row["map_ids"]) == len(theirs["map_ids"])
    rows = bpftool.btf_types(kernel.fds.lookup(ours["btf"]).btf)
    assert rows == real("btf", "dump", "id", number)["types"]
    text = subprocess.run(["bpftool", "btf", "dump", "id", number], capture_output=True, text=True, check=True)
    assert "\n".join(bpftool.btf_text(rows)) == text.stdout.rstrip("\n")


def test_pins(simulated) -> None:
    kernel, fds = simulated
    kernel.bpf.obj_pin(fds["ring"], "/sys/fs/bpf/ring")
    rows = {row.get("name"): row for row in bpftool.map_list(kernel)}
    assert rows["ring"]["pinned"] == ["/sys/fs/bpf/ring"]
    assert "pinned" not in rows["all"]


def test_listing_leaves_no_descriptors(simulated) -> None:
    kernel, fds = simulated
    before = [kernel.fds.lookup(fd).refs for fd in fds.values()]
    bpftool.prog_list(kernel)
    bpftool.map_list(kernel)
    assert [kernel.fds.lookup(fd).refs for fd in fds.values()] == before


def test_links_of_struct_ops_name_their_map() -> None:
    # show_link_close_json and show_link_header_plain of tools/bpf/bpftool/link.c
    from ebpfsim import Simulation

    data = Path(__file__).resolve().parents[3] / "data" / "bpf" / "struct_ops.bpf.o"
    host = Simulation(seed=1).host("h")
    obj = host.load(data)
    host.attach_struct_ops(obj.struct_ops["second"])
    (row,) = bpftool.link_list(host.kernel)
    map_id = obj.maps["second"].id
    assert row == {"id": 1, "type": "struct_ops", "prog_id": 0, "map_id": map_id}
    assert list(bpftool.link_text(row)) == [f"1: struct_ops  map {map_id}"]
