"""The assembler: LLVM's bytes, the log's text, what it says of mistakes, and the way there and back for every row."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import AsmError
from ebpfsim.isa.asm import assemble, parse
from ebpfsim.isa.disasm import disasm, symbolic
from ebpfsim.isa.insn import Insn, decode, encode
from ebpfsim.isa.table import TABLE, Form, Row, find, insn_len, nonzero_reserved

DATA = Path(__file__).parents[3] / "data" / "isa"


def _lines(name: str) -> list[tuple[bytes, str]]:
    lines = [line for line in (DATA / name).read_text().splitlines() if not line.startswith("#")]
    return [(bytes.fromhex(code), text) for code, _, text in (line.partition("\t") for line in lines)]


def test_statements_give_the_bytes_that_llvm_gives() -> None:
    wrong = [text for code, text in _lines("llvm-mc-19.txt") if encode(assemble(text)) != code]
    assert wrong == []


def test_lines_of_the_log_give_their_instruction_back() -> None:
    wrong = []
    for code, text in _lines("disasm-6.18.txt"):
        slots = decode(code)
        row = find(slots[0])
        if text == "(85) call #0":
            continue  # kernel function 0 has no name, and "#" behind a blank is a comment
        if row is not None and not nonzero_reserved(slots[0], row) and assemble(text) != slots:
            wrong.append((text, slots, assemble(text)))
    assert wrong == []


# rows whose text has all there is to know; a call of a kernel function lacks the index of its module
ROUND_TRIP = [
    row
    for row in TABLE
    if row.form not in (Form.CALL_KFUNC, Form.CALL_HELPER, Form.PROBE_LDX, Form.PROBE_LDSX, Form.ARENA, Form.CALL_REG)
]


@st.composite
def instructions(draw: st.DrawFn) -> tuple[Insn, ...]:
    row: Row = draw(st.sampled_from(ROUND_TRIP))
    choices = {
        "dst": st.integers(0, 15),
        "src": st.integers(0, 15),
        "off": st.integers(-(1 << 15), (1 << 15) - 1),
        "imm": st.integers(-(1 << 31), (1 << 31) - 1),
    }
    insn = row.insn(**{name: draw(choices[name]) for name in sorted(row.operands)})
    if insn_len(insn) == 1:
        return (insn,)
    # the upper half is part of a plain constant and of references to map values only
    upper = draw(choices["imm"]) if row.src in (0, 2, 6) else 0
    return insn, Insn(0, imm=upper)


@given(instructions())
def test_every_row_survives_text_and_bytes(slots: tuple[Insn, ...]) -> None:
    assert decode(encode(slots)) == slots
    assert assemble(symbolic(slots, 0)) == slots
    # without the code in front the text is still that instruction, unless two instructions read alike
    if find(slots[0]) is not None and slots[0].code != 0x18:
        assert assemble(disasm(slots, 0).partition(") ")[2]) == slots


@given(st.lists(instructions(), min_size=1, max_size=12))
def test_whole_programs_survive(program: list[tuple[Insn, ...]]) -> None:
    slots = tuple(slot for insn in program for slot in insn)
    lines = []
    idx = 0
    while idx < len(slots):
        lines.append(f"{idx}: {symbolic(slots, idx)}")
        idx += insn_len(slots[idx])
    assert assemble("\n".join(lines)) == slots


def test_statements_end_at_newlines_and_semicolons_and_comments_vanish() -> None:
    text = """
        r0 = 2   // two
        # a line
        r1 = 1; /* over
        lines */ exit   # out
    """
    assert assemble(text) == (Insn(0xB7, 0, imm=2), Insn(0xB7, 1, imm=1), Insn(0x95))


def test_labels_count_slots() -> None:
    text = """
    start:
        r1 = 7 ll
        if r1 == 0 goto out
        goto start
    out: exit
    """
    slots = assemble(text)
    assert [slots[2].off, slots[3].off] == [1, -4]


def test_labels_serve_calls_and_callbacks() -> None:
    text = """
        r2 = subprog[body] ll
        call body
        exit
    body:
        r0 = 0
        exit
    """
    slots = assemble(text)
    # the distance counts from the slot after the first one (kernel/bpf/verifier.c, find_subprog(env, i + imm + 1))
    assert (slots[0].src, slots[0].imm) == (4, 3)
    assert (slots[2].src, slots[2].imm) == (1, 1)


def test_parse_gives_labels_and_source_lines() -> None:
    found = parse("r0 = 1 ll\nout:\n exit")
    assert (found.labels, found.lines) == ({"out": 2}, (1, 1, 3))


@pytest.mark.parametrize(
    ("text", "src", "imm", "upper"),
    [
        ("r1 = map[counts] ll", 1, 5, 0),
        ("r1 = map[counts]", 1, 5, 0),
        ("r1 = map[counts][0]+8 ll", 2, 5, 8),
        ("r1 = map_value[counts] + 8", 2, 5, 8),
        ("r1 = map_value[counts] ll", 2, 5, 0),
        ("r1 = map_fd[3] ll", 1, 3, 0),
        ("r1 = map[idx:2] ll", 5, 2, 0),
        ("r1 = map_idx[2]", 5, 2, 0),
        ("r1 = map[idx:2][0]+4", 6, 2, 4),
        ("r1 = btf[id:77]", 3, 77, 0),
    ],
)
def test_map_references(text: str, src: int, imm: int, upper: int) -> None:
    assert assemble(text, maps={"counts": 5}) == (Insn(0x18, 1, src, 0, imm), Insn(0, imm=upper))


@pytest.mark.parametrize(
    ("text", "insn"),
    [
        ("call bpf_ktime_get_ns", Insn(0x85, imm=5)),
        ("call bpf_ktime_get_ns#5", Insn(0x85, imm=5)),
        ("call 5", Insn(0x85, imm=5)),
        ("call pc-2", Insn(0x85, src=1, imm=-2)),
        ("call bpf_cpumask_create#63677", Insn(0x85, src=2, imm=63677)),
        ("callx r3", Insn(0x8D, 3)),
    ],
)
def test_calls(text: str, insn: Insn) -> None:
    assert assemble(text) == (insn,)


def test_symbols_behind_jump_targets_are_ignored() -> None:
    # llvm-objdump prints "goto +0x5 <LBB0_2>"
    assert assemble("if r1 == 0x2 goto +0x5 <.text+0x30>") == (Insn(0x15, 1, off=5, imm=2),)


ERRORS = [
    (
        "r1 = bsap32 r1",
        "p.s:1:6: error: unknown word 'bsap32'; did you mean 'bswap32'?\nr1 = bsap32 r1\n     ^",
    ),
    (
        "exit\n  if r1 === 3 goto +1",
        "p.s:2:11: error: no instruction looks like 'if r1 === 3 goto +1'\n  if r1 === 3 goto +1\n          ^"
        "\ntry: 'if r1 == 0x5 goto pc+4'",
    ),
    (
        "goto done; don: exit",
        "p.s:1:6: error: unknown label 'done'; did you mean 'don'?\ngoto done; don: exit\n     ^",
    ),
    (
        "r1 = 0xffffffff",
        "p.s:1:6: error: '0xffffffff' is 4294967295, which is not within -2147483648 and 2147483647\n"
        "r1 = 0xffffffff\n     ^\ntry: '0xffffffff ll'",
    ),
    ("r16 = 1", "p.s:1:1: error: register is 16, which is not within 0 and 15\nr16 = 1\n^"),
    (
        "r0 = *(u8 *)(r1 + 32768)",
        "p.s:1:17: error: '+32768' is 32768, which is not within -32768 and 32767\nr0 = *(u8 *)(r1 + 32768)\n"
        "                ^",
    ),
    (
        "call bpf_ktime_get_nss",
        "p.s:1:6: error: unknown helper 'bpf_ktime_get_nss'; did you mean 'bpf_ktime_get_ns'?\n"
        "call bpf_ktime_get_nss\n     ^",
    ),
    (
        "call bpf_ktime_get_ns#6",
        "p.s:1:23: error: helper 'bpf_ktime_get_ns' has the number 5, not 6\ncall bpf_ktime_get_ns#6\n"
        "                      ^",
    ),
    (
        "r1 = map[count] ll",
        "p.s:1:10: error: unknown map 'count'\nr1 = map[count] ll\n         ^\ntry: counts",
    ),
    ("a: exit; a: exit", "p.s:1:10: error: label 'a' is defined twice\na: exit; a: exit\n         ^"),
    (
        "r1: exit",
        "p.s:1:1: error: label 'r1' is the name of a register\nr1: exit\n^\ntry: a name, as in 'out:'",
    ),
    ("7: exit", "p.s:1:1: error: label '7' is a number\n7: exit\n^\ntry: a name, as in 'out:'"),
    ("r1 = -r2", "p.s:1:7: error: 'r2' is not 'r1'; it has one register only\nr1 = -r2\n      ^"),
    (
        "r0 = cmpxchg_64(r1 + 0, r3, r2)",
        "p.s:1:25: error: 'r3' where 'r0 = cmpxchg_64(r1 +4, r0, r2)' has another\nr0 = cmpxchg_64(r1 + 0, r3, r2)\n"
        "                        ^\ntry: 'r0 = cmpxchg_64(r1 +4, r0, r2)'",
    ),
    ("(07) r1 = 5", "p.s:1:6: error: text is 'mov64.imm' with code 0xb7, not 0x07\n(07) r1 = 5\n     ^"),
    ("r0 = 1 ?", "p.s:1:8: error: character '?' has no place in an instruction\nr0 = 1 ?\n       ^"),
    (
        "call",
        "p.s:1:1: error: call of neither a helper nor a label\ncall\n^\ntry: 'call bpf_ktime_get_ns', 'call out'",
    ),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[text for text, _ in ERRORS])
def test_mistakes_are_positioned_and_explained(text: str, message: str) -> None:
    with pytest.raises(AsmError) as caught:
        assemble(text, where="p.s", maps={"counts": 5})
    assert str(caught.value) == message


def test_a_jump_that_does_not_reach_suggests_the_long_one() -> None:
    body = "r0 = 0 ll\n" * 16_400
    with pytest.raises(AsmError) as caught:
        assemble(f"goto out\n{body}out: exit")
    assert caught.value.hint == "'gotol', which reaches further"
    assert assemble(f"gotol out\n{body}out: exit")[0] == Insn(0x06, imm=32_800)


@given(st.text(alphabet="r0w1 =+-*/%&|^<>()[]:#;,su32goto\n\tcallx$\\'\"é", max_size=40))
def test_any_text_gives_slots_or_an_asm_error(text: str) -> None:
    with contextlib.suppress(AsmError):
        assert all(isinstance(slot, Insn) for slot in assemble(text))
