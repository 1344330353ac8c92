"""Externs, and the BTF that goes to the kernel; its bytes are compared with libbpf's in the loader's tests."""

from pathlib import Path

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import INT_BOOL, INT_SIGNED, Array, Enum, EnumValue, Func, Int, Kind, Struct, Var
from ebpfsim.elf.externs import kcfg_type
from ebpfsim.elf.reader import read_object
from ebpfsim.elf.spec import ExternKind

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


def test_kernel_symbols_are_sorted_by_name() -> None:
    spec = read_object(DATA / "ksyms.bpf.o")
    assert [extern.name for extern in spec.externs] == sorted(extern.name for extern in spec.externs)
    by_name = {extern.name: extern for extern in spec.externs}
    assert all(extern.kind is ExternKind.KSYM for extern in spec.externs)
    assert by_name["bpf_iter_num_new"].is_func
    assert not by_name["bpf_iter_num_new"].weak
    assert by_name["bpf_no_such_kfunc"].weak
    assert (by_name["bpf_prog_array_no_such"].type_id, by_name["bpf_prog_array_no_such"].is_func) == (0, False)
    assert spec.btf is not None
    assert spec.btf.name_of(by_name["runqueues"].type_id) == "rq___any"


def test_configuration_values_are_placed_by_alignment_then_size() -> None:
    # cmp_externs of libbpf.c: descending alignment, ascending size, name
    spec = read_object(DATA / "kconfig.bpf.o")
    assert [(extern.name, extern.data_off, extern.size) for extern in spec.externs] == [
        ("CONFIG_NO_SUCH_OPTION", 0, 8),
        ("CONFIG_BPF_JIT", 8, 4),
        ("CONFIG_HZ", 12, 4),
        ("LINUX_KERNEL_VERSION", 16, 4),
        ("CONFIG_BPF_SYSCALL", 20, 1),
        ("CONFIG_X86_64", 21, 1),
        ("LINUX_HAS_BPF_COOKIE", 22, 1),
        ("LINUX_UNKNOWN_VIRTUAL", 23, 1),
        ("CONFIG_DEFAULT_HOSTNAME", 24, 8),
    ]
    assert spec.maps["kconfig.kconfig"].value_size == 32


def test_linkage_of_hidden_functions_and_variables() -> None:
    # bpf_object__sanitize_and_load_btf and btf_fixup_datasec: hidden ones become static
    functions = read_object(DATA / "subprogs.bpf.o").btf
    assert functions is not None
    linkage = {t.name: t.linkage for _, t in functions.types() if isinstance(t, Func)}
    assert (linkage["hidden_fn"], linkage["global_fn"], linkage["weak_fn"], linkage["add"]) == (0, 1, 1, 0)
    variables = read_object(DATA / "globals.bpf.o").btf
    assert variables is not None
    linkage = {t.name: t.linkage for _, t in variables.types() if isinstance(t, Var)}
    assert (linkage["hidden_var"], linkage["hits"], linkage["quiet"]) == (0, 1, 0)


@pytest.mark.parametrize(
    ("type_id", "kind"), [(1, "int"), (2, "bool"), (3, "char"), (4, "chars"), (5, "tristate"), (6, None), (7, None)]
)
def test_types_of_configuration_values(type_id: int, kind: str | None) -> None:
    btf = Btf(
        encode_types(
            [
                Int("int", 4, 32, 0, INT_SIGNED),
                Int("bool", 1, 8, 0, INT_BOOL),
                Int("char", 1, 8, 0, INT_SIGNED),
                Array("", 3, 1, 8),
                Enum("libbpf_tristate", 4, (EnumValue("TRI_NO", 0),)),
                Enum("other", 4, ()),
                Struct("s", 4, ()),
            ]
        )
    )
    assert kcfg_type(btf, type_id) == kind


def test_every_object_has_valid_btf_afterwards() -> None:
    for path in sorted(DATA.glob("*.bpf.o")):
        btf = read_object(path).btf
        assert btf is not None
        btf.validate()
        for type_id in btf.ids_of_kind(Kind.DATASEC):
            assert btf.type(type_id).size > 0  # type: ignore[union-attr]
