"""Changing a blob in place."""

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.edit import BtfEditor, resize_datasec
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import (
    FUNC_GLOBAL,
    FUNC_STATIC,
    VAR_GLOBAL,
    VAR_STATIC,
    Array,
    Datasec,
    DatasecVar,
    Func,
    FuncProto,
    Int,
    Param,
    Var,
)

BTF = Btf(
    encode_types(
        [
            Int("int", 4, 32),
            Var("x", 1, VAR_GLOBAL),
            Datasec(".data", 0, (DatasecVar(2, 0, 4),)),
            FuncProto("", 1, (Param("", 1),)),
            Func("f", 4, FUNC_GLOBAL),
        ]
    )
)


def test_nothing_changed_gives_the_same_object() -> None:
    editor = BtfEditor(BTF)
    editor.set_linkage(2, VAR_GLOBAL)
    assert editor.finish() is BTF


def test_records_are_overwritten() -> None:
    editor = BtfEditor(BTF)
    editor.set_datasec(3, 64, [DatasecVar(2, 8, 4)])
    editor.set_linkage(2, VAR_STATIC)
    editor.set_linkage(5, FUNC_STATIC)
    editor.set_type(2, 4)
    changed = editor.finish()
    assert changed.type(3) == Datasec(".data", 64, (DatasecVar(2, 8, 4),))
    assert changed.type(2) == Var("x", 4, VAR_STATIC)
    assert changed.type(5) == Func("f", 4, FUNC_STATIC)
    assert BTF.type(5) == Func("f", 4, FUNC_GLOBAL)


def test_a_variable_is_appended_with_its_name() -> None:
    editor = BtfEditor(BTF)
    new_id, name_off = editor.add_var("dummy", 1, VAR_GLOBAL)
    editor.set_param_name(4, 0, name_off)
    changed = editor.finish()
    assert changed.type(new_id) == Var("dummy", 1, VAR_GLOBAL)
    assert changed.type(4) == FuncProto("", 1, (Param("dummy", 1),))
    assert [changed.type(i) for i in (1, 2, 3, 5)] == [BTF.type(i) for i in (1, 2, 3, 5)]


def test_a_longer_header_is_kept() -> None:
    raw = bytearray(BTF.raw)
    raw[4] = 32
    raw[24:24] = bytes(8)
    editor = BtfEditor(Btf(bytes(raw)))
    new_id, _ = editor.add_var("dummy", 1, VAR_GLOBAL)
    changed = editor.finish()
    assert changed.raw[4] == 32
    assert changed.type(new_id) == Var("dummy", 1, VAR_GLOBAL)


def test_sections_end_with_an_array_that_may_grow() -> None:
    # map_btf_datasec_resize, tools/lib/bpf/libbpf.c
    types = [Int("int", 4, 32), Array("", 1, 1, 3), Var("numbers", 2, 1), Datasec(".bss", 16, (DatasecVar(3, 4, 12),))]
    resized = resize_datasec(Btf(encode_types(types)), 4, 24)
    assert resized is not None
    assert resized.type(4) == Datasec(".bss", 24, (DatasecVar(3, 4, 20),))
    assert resized.type(3) == Var("numbers", 5, 1)
    assert resized.type(5) == Array("", 1, 1, 5)
    for size in (0, 23):
        assert resize_datasec(Btf(encode_types(types)), 4, size) is None
    assert resize_datasec(Btf(encode_types(types)), 1, 24) is None
