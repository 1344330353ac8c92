"""Text of instructions: every line is one that the verifier of Linux 6.18 printed."""

from pathlib import Path

import pytest

from ebpfsim.isa.disasm import disasm, disasm_all, symbolic
from ebpfsim.isa.insn import Insn, decode

DATA = Path(__file__).parents[3] / "data" / "isa" / "disasm-6.18.txt"


def recorded() -> list[tuple[tuple[Insn, ...], str]]:
    lines = [line for line in DATA.read_text().splitlines() if not line.startswith("#")]
    return [(decode(bytes.fromhex(slots)), text) for slots, _, text in (line.partition("\t") for line in lines)]


def test_text_is_what_linux_printed() -> None:
    wrong = []
    for slots, text in recorded():
        # names of kernel functions come from BTF; the verifier passes them in
        name = text.removeprefix("(85) call ").partition("#")[0]
        got = disasm(slots, 0, lambda insn, name=name: name)
        if got != text:
            wrong.append((slots[0], text, got))
    assert wrong == []


def test_the_record_covers_the_odd_slots_too() -> None:
    texts = [text for _, text in recorded()]
    assert len(texts) > 1000
    assert {"BUG_c3", "(cb) lock *(u16 *)(r0 +0) += r0", "(dc) r0 = be0 r0"} <= set(texts)


@pytest.mark.parametrize(
    ("insn", "text"),
    [
        # __func_get_name() of kernel/bpf/disasm.c
        (Insn(0x85, src=2, imm=1234), "(85) call kernel-function#1234"),
        (Insn(0x85, imm=12345), "(85) call unknown#12345"),
        (Insn(0x85, imm=0), "(85) call bpf_unspec#0"),
        (Insn(0x85, src=1, imm=-3), "(85) call pc-3"),
        # internal modes, after rewriting: only a memory barrier has a text
        (Insn(0xC2), "(c2) nospec"),
        (Insn(0x61 - 0x40, 1, 2), "BUG_ldx_21"),
        # Linux 6.18.44 prints this before it says "BPF_MOV uses reserved fields"
        (Insn(0xBC, 0, 6, 32), "(bc) w0 = (s32)w6"),
    ],
)
def test_calls_and_internal_instructions(insn: Insn, text: str) -> None:
    assert disasm([insn], 0) == text


def test_wide_loads_take_the_upper_half_from_the_second_slot() -> None:
    slots = (Insn(0x18, 1, 0, 0, -1), Insn(0, imm=0x11))
    assert disasm(slots, 0) == "(18) r1 = 0x11ffffffff"


def test_disasm_all_skips_second_slots() -> None:
    slots = (Insn(0x18, 1, 0, 0, 5), Insn(0), Insn(0x95))
    assert list(disasm_all(slots)) == [(0, "(18) r1 = 0x5"), (2, "(95) exit")]


def test_symbolic_text_tells_map_references_apart() -> None:
    assert symbolic((Insn(0x18, 1, 1, 0, 7), Insn(0)), 0) == "(18) r1 = map[fd:7] ll"
    assert symbolic((Insn(0x18, 1, 2, 0, 7), Insn(0, imm=16)), 0) == "(18) r1 = map[fd:7][0]+16 ll"
    assert symbolic((Insn(0x95),), 0) == "(95) exit"
