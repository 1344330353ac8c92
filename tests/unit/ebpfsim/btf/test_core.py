"""CO-RE: values, candidates, instructions. Whole objects are compared with libbpf in the loader's tests."""

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.core import POISON_IMM, CoreRelocator, CoreResult, describe, patch
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.ext import CoreRelo, CoreRelocKind
from ebpfsim.btf.types import INT_SIGNED, Array, Enum, EnumValue, Int, Member, Ptr, Struct
from ebpfsim.errors import BtfError
from ebpfsim.isa.insn import Insn

K = CoreRelocKind
COMMON = [Int("u8", 1, 8), Int("int", 4, 32, 0, INT_SIGNED), Int("u32", 4, 32), Int("u64", 8, 64), Ptr("", 0)]
LOCAL = Btf(
    encode_types(
        [
            *COMMON,
            Array("", 1, 3, 16),
            Struct("task___old", 32, (Member("pid", 2, 0), Member("comm", 6, 64), Member("next", 5, 192))),
            Enum("state", 4, (EnumValue("RUN", 0), EnumValue("STOP", 9))),
            Struct("gone", 4, (Member("x", 2, 0),)),
            Struct("bits", 4, (Member("a", 3, 0, 3), Member("b", 2, 3, 5)), True),
            Struct("wide", 4, (Member("n", 3, 0), Member("s", 2, 32))),
            Struct("", 4, (Member("x", 2, 0),)),
        ]
    )
)
TARGET = Btf(
    encode_types(
        [
            *COMMON,
            Array("", 1, 3, 16),
            Struct("", 32, (Member("comm", 6, 0), Member("next", 5, 128))),
            Struct("task", 64, (Member("flags", 4, 0), Member("", 7, 128), Member("pid", 2, 64))),
            Enum("state", 4, (EnumValue("STOP", 2), EnumValue("RUN", 1))),
            Struct("bits", 8, (Member("pad", 3, 0), Member("a", 3, 32, 3), Member("b", 2, 61, 3)), True),
            Struct("wide", 16, (Member("n", 4, 0), Member("s", 4, 64))),
        ]
    )
)
TASK, STATE, GONE, BITS, WIDE, ANON = 7, 8, 9, 10, 11, 12


def resolve(type_id: int, access: str, kind: K, target: Btf = TARGET) -> CoreResult:
    return CoreRelocator(LOCAL, target).resolve(CoreRelo(0, type_id, access, kind))


@pytest.mark.parametrize(
    ("type_id", "access", "kind", "orig", "new"),
    [
        (TASK, "0:0", K.FIELD_BYTE_OFFSET, 0, 8),
        (TASK, "0:1", K.FIELD_BYTE_OFFSET, 8, 16),
        (TASK, "0:1:5", K.FIELD_BYTE_OFFSET, 13, 21),
        (TASK, "2:0", K.FIELD_BYTE_OFFSET, 64, 136),
        (TASK, "0:1", K.FIELD_BYTE_SIZE, 16, 16),
        (TASK, "0:0", K.FIELD_SIGNED, 1, 1),
        (TASK, "0:1", K.FIELD_EXISTS, 1, 1),
        (GONE, "0:0", K.FIELD_EXISTS, 1, 0),
        (TASK, "0", K.TYPE_EXISTS, 1, 1),
        (TASK, "0", K.TYPE_SIZE, 32, 64),
        (TASK, "0", K.TYPE_ID_TARGET, TASK, 8),
        (TASK, "0", K.TYPE_ID_LOCAL, TASK, TASK),
        (TASK, "0", K.TYPE_MATCHES, 1, 0),
        (GONE, "0", K.TYPE_SIZE, 4, 0),
        (STATE, "1", K.ENUMVAL_VALUE, 9, 2),
        (STATE, "0", K.ENUMVAL_VALUE, 0, 1),
        (STATE, "1", K.ENUMVAL_EXISTS, 1, 1),
        (BITS, "0:0", K.FIELD_BYTE_OFFSET, 0, 4),
        # 3 bits from bit 32: loaded as 4 bytes at 4; left 64 - (32 + 3 - 32), right 64 - 3
        (BITS, "0:0", K.FIELD_LSHIFT_U64, 61, 61),
        (BITS, "0:0", K.FIELD_RSHIFT_U64, 61, 61),
        # bits 61 to 63 lie in the same 4 bytes
        (BITS, "0:1", K.FIELD_LSHIFT_U64, 56, 32),
        (BITS, "0:1", K.FIELD_RSHIFT_U64, 59, 61),
        (BITS, "0:1", K.FIELD_BYTE_SIZE, 4, 4),
    ],
)
def test_values(type_id: int, access: str, kind: K, orig: int, new: int) -> None:
    result = resolve(type_id, access, kind)
    assert (result.orig, result.new, result.poison) == (orig, new, False)


@pytest.mark.parametrize(
    ("type_id", "access", "kind"),
    [(GONE, "0:0", K.FIELD_BYTE_OFFSET), (GONE, "0:0", K.FIELD_BYTE_SIZE)],
)
def test_what_is_not_there_is_poisoned(type_id: int, access: str, kind: K) -> None:
    assert resolve(type_id, access, kind).poison


def test_array_bounds_of_the_target_count() -> None:
    short = Btf(encode_types([Int("u8", 1, 8), Array("", 1, 1, 4), Struct("task", 4, (Member("comm", 2, 0),))]))
    assert resolve(TASK, "0:1:3", K.FIELD_EXISTS, short).new == 1
    assert resolve(TASK, "0:1:4", K.FIELD_EXISTS, short).new == 0


def test_candidates_must_agree() -> None:
    one = Struct("task", 8, (Member("pid", 1, 0),))
    other = Struct("task", 8, (Member("pid", 1, 32),))
    same = Btf(encode_types([Int("int", 4, 32), one, one]))
    assert resolve(TASK, "0:0", K.FIELD_BYTE_OFFSET, same).new == 0
    differ = Btf(encode_types([Int("int", 4, 32), one, other]))
    with pytest.raises(BtfError, match="the kernel's types disagree: bit 0 and 32"):
        resolve(TASK, "0:0", K.FIELD_BYTE_OFFSET, differ)


def test_later_relocations_keep_to_the_candidates_that_matched() -> None:
    # bpf_core_calc_relo_insn narrows the list: the second struct has no comm
    kernel = Btf(
        encode_types(
            [
                Int("int", 4, 32),
                Array("", 1, 1, 16),
                Struct("task", 8, (Member("pid", 1, 0), Member("comm", 2, 32))),
                Struct("task", 8, (Member("pid", 1, 32),)),
            ]
        )
    )
    relocator = CoreRelocator(LOCAL, kernel)
    assert relocator.resolve(CoreRelo(0, TASK, "0:1", K.FIELD_BYTE_OFFSET)).new == 4
    assert relocator.resolve(CoreRelo(0, TASK, "0:0", K.FIELD_BYTE_OFFSET)).new == 0


@pytest.mark.parametrize(
    ("type_id", "access", "kind", "problem"),
    [
        (TASK, "0:9", K.FIELD_EXISTS, "access path '0:9': no member 9"),
        (TASK, "0:1:16", K.FIELD_EXISTS, "access path '0:1:16': no element 16"),
        (TASK, "0:0:0", K.FIELD_EXISTS, "access path '0:0:0': leads into int 'int'"),
        (TASK, "x", K.FIELD_EXISTS, "access path 'x': expected at most 64 numbers"),
        (TASK, ":".join("0" * 65), K.FIELD_EXISTS, "expected at most 64 numbers"),
        (TASK, "1", K.TYPE_SIZE, "access path '1': expected '0'"),
        (STATE, "7", K.ENUMVAL_VALUE, "access path '7': no such enumerator"),
        (TASK, "0", 77, "access path '0': unknown kind 77 of relocation"),
        (ANON, "0:0", K.FIELD_EXISTS, "anonymous types cannot be found in the kernel"),
        (99, "0", K.TYPE_SIZE, "type id 99 is outside the 13 ids"),
    ],
)
def test_broken_records(type_id: int, access: str, kind: K, problem: str) -> None:
    with pytest.raises(BtfError, match=problem):
        resolve(type_id, access, kind)


def test_descriptions_are_those_of_libbpf() -> None:
    # bpf_core_format_spec, relo_core.c
    assert describe(LOCAL, CoreRelo(0, TASK, "0:1:5", K.FIELD_BYTE_OFFSET)) == (
        "<byte_off> [7] struct task___old.comm[5] (0:1:5 @ offset 13)"
    )
    assert describe(LOCAL, CoreRelo(0, STATE, "1", K.ENUMVAL_VALUE)) == "<enumval_value> [8] enum state::STOP = 9"
    assert describe(LOCAL, CoreRelo(0, GONE, "0", K.TYPE_SIZE)) == "<type_size> [9] struct gone"
    assert describe(LOCAL, CoreRelo(0, BITS, "0:1", K.FIELD_SIGNED)) == (
        "<signed> [10] struct bits.b (0:1 @ offset 0.3)"
    )


# -- instructions ------------------------------------------------------------------------------------------------------

MOV, LDX_W, LDX_DW, ST_W, LD_IMM64 = 0xB7, 0x61, 0x79, 0x62, 0x18


@pytest.mark.parametrize(
    ("before", "result", "after"),
    [
        ([Insn(MOV, imm=8)], CoreResult(8, 64), [Insn(MOV, imm=64)]),
        ([Insn(LDX_W, 1, 2, 8)], CoreResult(8, 64), [Insn(LDX_W, 1, 2, 64)]),
        ([Insn(ST_W, 1, 0, 8, 5)], CoreResult(8, 64), [Insn(ST_W, 1, 0, 64, 5)]),
        ([Insn(LDX_DW, 1, 2, 0)], CoreResult(0, 4, orig_size=8, new_size=4), [Insn(LDX_W, 1, 2, 4)]),
        (
            [Insn(LD_IMM64, imm=9), Insn(0)],
            CoreResult(9, (1 << 64) - 2),
            [Insn(LD_IMM64, imm=-2), Insn(0, imm=-1)],
        ),
        ([Insn(MOV, imm=8)], CoreResult(poison=True), [Insn(0x85, imm=POISON_IMM)]),
        ([Insn(LD_IMM64), Insn(0)], CoreResult(poison=True), [Insn(0x85, imm=POISON_IMM)] * 2),
        ([Insn(LDX_W, 1, 2, 8)], CoreResult(8, 8, bad_size=True), [Insn(0x85, imm=POISON_IMM)]),
        ([Insn(MOV, imm=7)], CoreResult(8, 64, validate=False), [Insn(MOV, imm=64)]),
    ],
)
def test_patch(before: list[Insn], result: CoreResult, after: list[Insn]) -> None:
    insns = list(before)
    patch(insns, 0, result)
    assert insns == after


@pytest.mark.parametrize(
    ("insn", "result", "problem"),
    [
        (Insn(MOV, imm=7), CoreResult(8, 64), "instruction 0 holds 7, expected 8"),
        (Insn(0xBF), CoreResult(8, 64), "instruction 0 takes a register, expected an immediate"),
        (Insn(LDX_W, 1, 2, 8), CoreResult(8, 40000), "instruction 0 cannot hold offset 40000"),
        (Insn(LDX_W, 1, 2, 8), CoreResult(8, 8, orig_size=8, new_size=4), "instruction 0 does not access 8 bytes"),
        (Insn(LDX_W, 1, 2, 8), CoreResult(8, 8, orig_size=4, new_size=16), "instruction 0 cannot access 16 bytes"),
        (Insn(0x95), CoreResult(8, 64), "instruction 0 of code 0x95 cannot be relocated"),
    ],
)
def test_instructions_that_cannot_be_patched(insn: Insn, result: CoreResult, problem: str) -> None:
    with pytest.raises(BtfError, match=f"^error: {problem}$"):
        patch([insn], 0, result)


def test_field_sizes_may_change_for_unsigned_integers_only() -> None:
    assert not resolve(WIDE, "0:0", K.FIELD_BYTE_OFFSET).bad_size
    assert resolve(WIDE, "0:1", K.FIELD_BYTE_OFFSET).bad_size
