"""Putting programs together; the resulting bytes are compared with libbpf's in the loader's tests."""

from dataclasses import replace
from pathlib import Path

import pytest

from ebpfsim.btf.core import POISON_IMM, CoreRelocator
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.elf.link import LinkedProgram, Linker
from ebpfsim.elf.reader import read_object
from ebpfsim.elf.spec import RelocKind
from ebpfsim.errors import ElfError

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


def link(name: str, program: str) -> LinkedProgram:
    spec = read_object(DATA / name)

    def relocator() -> CoreRelocator:
        assert spec.btf is not None
        return CoreRelocator(spec.btf, vmlinux())

    return Linker(spec, relocator).link(program)


def test_subprograms_follow_in_the_order_of_their_calls() -> None:
    assert list(link("subprogs.bpf.o", "first").subprograms) == ["first", "global_fn", "twice", "add", "weak_fn"]
    assert list(link("subprogs.bpf.o", "second").subprograms) == ["second", "hidden_fn", "add", "twice"]
    # callbacks are reached through their address
    assert list(link("subprogs.bpf.o", "third").subprograms) == ["third", "step", "add", "each"]


def test_calls_lead_to_their_functions() -> None:
    linked = link("subprogs.bpf.o", "first")
    starts = set(linked.subprograms.values())
    calls = [(at, insn) for at, insn in enumerate(linked.insns) if insn.code == 0x85 and insn.src == 1]
    assert len(calls) == 4
    assert {at + insn.imm + 1 for at, insn in calls} == starts - {0}


def test_addresses_of_functions_are_marked() -> None:
    linked = link("subprogs.bpf.o", "third")
    marked = [(at, insn) for at, insn in enumerate(linked.insns) if insn.code == 0x18 and insn.src == 4]
    assert {at + insn.imm + 1 for at, insn in marked} == {linked.subprograms["step"], linked.subprograms["each"]}


def test_relocations_of_subprograms_move_with_them() -> None:
    linked = link("subprogs.bpf.o", "first")
    for reloc in linked.relocs:
        assert reloc.kind is RelocKind.DATA
        assert linked.insns[reloc.insn_idx].code == 0x18
    add, end = linked.subprograms["add"], linked.subprograms["weak_fn"]
    assert any(add <= reloc.insn_idx < end for reloc in linked.relocs)


def test_function_info_starts_each_function() -> None:
    linked = link("subprogs.bpf.o", "first")
    offs = [int.from_bytes(linked.func_info[at : at + 4], "little") for at in range(0, len(linked.func_info), 8)]
    assert offs == list(linked.subprograms.values())
    assert len(linked.line_info) % 16 == 0


def test_unresolved_relocations_are_poisoned_and_remembered() -> None:
    linked = link("core.bpf.o", "types")
    assert linked.poisoned
    for slot, text in linked.poisoned.items():
        assert linked.insns[slot].imm == POISON_IMM
        assert text.startswith("<enumval_value> ")


def test_calls_into_nothing_name_the_place() -> None:
    spec = read_object(DATA / "subprogs.bpf.o", "x.o")
    first = spec.programs["first"].function
    call = next(r for r in first.relocs if r.kind is RelocKind.CALL)
    moved = replace(first, relocs=(replace(call, off=8 * 4000),))
    functions = tuple(moved if f.name == "first" else f for f in spec.functions)
    changed = replace(spec, functions=functions, programs={"first": replace(spec.programs["first"], function=moved)})
    with pytest.raises(ElfError, match=r"x\.o: section xdp\+0x8: error: call of instruction 4000 of section \d+, no"):
        Linker(changed, lambda: CoreRelocator(vmlinux(), vmlinux())).link("first")
