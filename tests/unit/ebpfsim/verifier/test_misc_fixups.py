"""What stands for single instructions, as Linux 6.18 shows it (xlated_prog_insns)."""

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.kernel_calls import call_offset
from ebpfsim.verifier.misc_fixups import Facts, Loop, Place, misc_fixup

AX = 11


def _facts(prog_type=ProgType.TRACING, attach_type=AttachType.TRACE_FEXIT, **given):
    empty = {"kfuncs": {}, "map_ptr_state": {}, "loop_inline": {}, "kfunc_objects": {}}
    sets = {name: frozenset() for name in ("percpu_objects", "atomic_storage", "known_tail_calls")}
    fields = {"sleepable": False, "packet_read_only": False, "throws": False, **empty, **sets, **given}
    return Facts(prog_type=prog_type, attach_type=attach_type, **fields)


def _fixed(text: str, facts=None, depth: int = 0):
    insn = assemble(text)[0]
    return misc_fixup(facts or _facts(), insn, Place(3, 3, depth, 20))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r1 /= r2", "if r2 != 0 goto +2; w1 ^= w1; goto +1; r1 /= r2"),
        ("w1 /= w2", "if w2 != 0 goto +2; w1 ^= w1; goto +1; w1 /= w2"),
        ("r1 %= r2", "if r2 == 0 goto +1; r1 %= r2"),
        ("w1 %= w2", "if w2 == 0 goto +2; w1 %= w2; goto +1; w1 = w1"),
        ("r1 s/= -1", "r1 = -r1"),
        ("w1 s%= -1", "w1 = 0"),
    ],
)
def test_divisions(text: str, expected: str) -> None:
    assert _fixed(text) == list(assemble(expected))


@pytest.mark.parametrize("text", ["r1 /= 3", "r1 s/= 3", "r1 += r2", "r0 = 5"])
def test_what_stays(text: str) -> None:
    assert _fixed(text) is None


def test_signed_division_by_zero_and_minus_one() -> None:
    found = _fixed("r1 s/= r2")
    assert found is not None
    assert found[:4] == [
        *(Insn(0xBF, AX, 2), Insn(0x07, AX, 0, 0, 1), Insn(0x25, AX, 0, 4, 1), Insn(0x15, AX, 0, 1, 0)),
    ]
    assert found[4:] == list(assemble("r1 = 0; r1 = -r1; goto +1; r1 s/= r2"))


def test_arguments_of_a_traced_function() -> None:
    assert _fixed("call 185") == list(assemble("r0 = *(u64 *)(r1 - 8)"))
    assert _fixed("call 173") == list(assemble("r0 = *(u64 *)(r1 - 16)"))
    entry = _facts(attach_type=AttachType.TRACE_FENTRY)
    assert _fixed("call 184", entry) == list(assemble("r0 = -95"))  # EOPNOTSUPP


@pytest.mark.parametrize(("atomic", "flags"), [(True, 0x820), (False, 0xCC0)])
def test_storage_is_allocated_as_the_program_may(atomic: bool, flags: int) -> None:
    facts = _facts(sleepable=True, atomic_storage=frozenset({3} if atomic else ()))
    found = _fixed("call 210", facts)
    assert found == [Insn(0xB7, 5, 0, 0, flags), Insn(0x85, 0, 0, 0, call_offset("bpf_cgrp_storage_get"))]


def test_a_loop_saves_three_registers_and_calls_back() -> None:
    found = _fixed("call 181", _facts(loop_inline={3: Loop(20)}), 24)
    assert found is not None
    assert len(found) == 19
    assert found[:3] == list(assemble("if r1 <= 8388608 goto +2; w0 = -7; goto +16"))
    assert found[3] == assemble("*(u64 *)(r10 - 24) = r6")[0]
    assert found[12].target == 20
    # one that cannot is a call
    assert _fixed("call 181") == [Insn(0x85, 0, 0, 0, call_offset("bpf_loop"))]
