"""What is a program and what is not: RFC 9669, sections 3 to 5, and the checks that Linux makes before it verifies."""

import pytest

from ebpfsim.errors import DecodeError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, TABLE, Form, Row, find, insn_len
from ebpfsim.isa.validate import validate

EXIT = Insn(0x95)
UPPER = Insn(0)
# LLVM emits callx, which only Linux's verifier does not take
TAKEN = [row for row in TABLE if row.loadable or row.name == "callx"]


def _program(insn: Insn) -> tuple[Insn, ...]:
    row = find(insn)
    if row is not None and row.name == "ld_imm64.func":
        return insn._replace(imm=2), UPPER, EXIT, EXIT
    if row is not None and row.form is Form.CALL_LOCAL:
        return insn._replace(imm=1), EXIT, EXIT
    if row is not None and row.form is Form.ADDR_SPACE_CAST:
        return insn._replace(imm=1), EXIT
    return (insn, UPPER, EXIT) if insn_len(insn) == 2 else (insn, EXIT)


@pytest.mark.parametrize("row", TAKEN, ids=lambda row: row.name)
def test_every_row_that_linux_or_llvm_has_is_taken(row: Row) -> None:
    validate(_program(row.insn()))


@pytest.mark.parametrize("row", [row for row in TABLE if row not in TAKEN], ids=lambda row: row.name)
def test_no_other_row_is(row: Row) -> None:
    with pytest.raises(DecodeError, match="not an instruction that Linux takes"):
        validate((row.insn(), EXIT))


@pytest.mark.parametrize("row", TAKEN, ids=lambda row: row.name)
def test_reserved_fields_are_zero(row: Row) -> None:
    for name in row.reserved:
        insn = row.insn()._replace(**{name: 1})
        if find(insn) is not row:
            continue  # another operation
        with pytest.raises(DecodeError, match=rf"reserved fields: {name} is 1, expected 0"):
            validate(_program(insn))


def test_two_reserved_fields_are_named_together() -> None:
    with pytest.raises(DecodeError) as caught:
        validate((EXIT._replace(off=1, imm=-2),), "p.bin")
    assert str(caught.value) == "p.bin, insn 0: error: 'exit' uses reserved fields: off is 1, imm is -2, expected 0"


@pytest.mark.parametrize("row", TAKEN, ids=lambda row: row.name)
def test_registers_exist(row: Row) -> None:
    for name in {"dst", "src"} & row.operands:
        with pytest.raises(DecodeError, match="register r11 does not exist"):
            validate(_program(row.insn()._replace(**{name: 11})))


# what changes a register: RFC 9669 says that R10 is read-only
WRITERS = (
    "r10 = 1", "r10 += r1", "r10 = -r10", "w10 = w1", "r10 = le16 r10", "r10 = (s8)r1", "r10 = *(u64 *)(r1 + 0)",
    "r10 = *(s8 *)(r1 + 0)", "r10 = 5 ll", "r10 = xchg_64(r1 + 0, r10)", "w10 = xchg32_32(r1 + 0, w10)",
    "r10 = atomic_fetch_add((u64 *)(r1 + 0), r10)", "r10 = load_acquire((u64 *)(r1 + 0))",
)  # fmt: skip
READERS = (
    "r1 = r10", "*(u64 *)(r10 - 8) = r10", "*(u64 *)(r10 - 8) = 1", "lock *(u64 *)(r10 - 8) += r10",
    "r1 = *(u64 *)(r10 - 8)", "if r10 == r10 goto +0", "r0 = cmpxchg_64(r10 - 8, r0, r10)",
    "r1 = xchg_64(r10 - 8, r1)", "store_release((u64 *)(r10 - 8), r10)", "r0 = *(u8 *)skb[r10]",
)  # fmt: skip


@pytest.mark.parametrize("text", WRITERS)
def test_the_frame_pointer_is_not_written(text: str) -> None:
    with pytest.raises(DecodeError, match="writes r10, the frame pointer"):
        validate((*assemble(text), EXIT))


@pytest.mark.parametrize("text", READERS)
def test_the_frame_pointer_is_read(text: str) -> None:
    validate((*assemble(text), EXIT))


@pytest.mark.parametrize(
    ("insns", "problem"),
    [
        ((), "has no instructions"),
        ((Insn(0x00), EXIT), "insn 0: error: no instruction has code 0x00"),
        ((Insn(0xFF), EXIT), "insn 0: error: no instruction has code 0xff"),
        ((Insn(0xDB, 1, 2, 0, 0x20), EXIT), "no instruction has code 0xdb, src 2, off 0, imm 32"),  # no such atomic
        ((Insn(0xCB, 1, 2, 0, 0), EXIT), "no instruction has code 0xcb"),  # atomics of 16 bits
        ((Insn(0xD4, 1, imm=24), EXIT), "no instruction has code 0xd4"),  # le24
        ((Insn(0xDF, 1, imm=16), EXIT), "no instruction has code 0xdf"),  # bswap with the register bit
        ((Insn(0xBF, 1, 2, 24), EXIT), "'mov64.reg' uses reserved fields: off is 24"),  # sign extension of 24 bits
        ((Insn(0xBC, 1, 2, 32), EXIT), "'mov32.reg' uses reserved fields: off is 32"),
        ((Insn(0x37, 1, 0, 2, 3), EXIT), "'div64.imm' uses reserved fields: off is 2"),
        ((Insn(0x85, 0, 3, 0, 1), EXIT), "no instruction has code 0x85, src 3"),
        ((Insn(0x18, 1, 7), UPPER, EXIT), "no instruction has code 0x18, src 7"),
        ((Insn(0x18, 1),), "64-bit load without its second slot"),
        ((Insn(0x18, 1), Insn(0, 1), EXIT), "insn 1: error: second slot of a 64-bit load"),
        ((Insn(0x18, 1), EXIT, EXIT), "insn 1: error: second slot of a 64-bit load"),
        ((Insn(0x18, 1), Insn(0, off=1), EXIT), "insn 1: error: second slot"),
        ((Insn(0x18, 1), Insn(0, src=1), EXIT), "insn 1: error: second slot"),
    ],
)
def test_what_is_no_instruction(insns: tuple[Insn, ...], problem: str) -> None:
    with pytest.raises(DecodeError) as caught:
        validate(insns)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("goto +1; exit", "insn 0: error: 'ja' leads to slot 2, outside the 2 slots of the program"),
        ("goto -2; exit", "'ja' leads to slot -1, outside"),
        ("gotol +5; exit", "'ja32' leads to slot 6, outside"),
        ("may_goto +9; exit", "'may_goto' leads to slot 10, outside"),
        ("if r1 == 0 goto +1; exit", "'jeq64.imm' leads to slot 2, outside"),
        ("call pc+1; exit", "'call.local' leads to slot 2, outside"),
        ("goto +1; r1 = 5 ll; exit", "'ja' leads to slot 2, in the middle of a 64-bit load"),
        ("call pc+1; r1 = 5 ll; exit", "'call.local' leads to slot 2, in the middle of a 64-bit load"),
        ("r1 = subprog[+7] ll; exit", "'ld_imm64.func' leads to slot 8, outside"),
        ("r0 = 1", "insn 0: error: a function ends with 'mov64.imm', expected exit or goto"),
        ("r0 = 5 ll", "a function ends with 'ld_imm64'"),
        ("exit; if r1 == 0 goto -1", "a function ends with 'jeq64.imm'"),
        ("exit; call bpf_ktime_get_ns", "a function ends with 'call'"),
        ("call f; r0 = 1; f: r0 = 2; exit", "insn 1: error: a function ends with 'mov64.imm'"),
        ("call f; goto f; exit; f: r0 = 2; exit", "'ja' leads to slot 3, into another function"),
        ("call f; out: exit; f: goto out", "'ja' leads to slot 1, into another function"),
    ],
)
def test_where_execution_cannot_go(text: str, problem: str) -> None:
    with pytest.raises(DecodeError) as caught:
        validate(assemble(text))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "l: goto l",
        "exit; goto -2",
        "r0 = 1; if r0 == 1 goto -2; exit",
        "call f; exit; f: call f; exit",
        "r2 = subprog[f]; exit; f: exit",
        "goto +0; exit",
        "w0 /= 0; r0 s%= 0; r0 <<= 99; exit",  # RFC 9669 says what these give
    ],
)
def test_what_may_look_strange(text: str) -> None:
    validate(assemble(text))


def test_every_form_is_told_apart() -> None:
    """A new form has to be thought of: does it write its destination register?"""
    from ebpfsim.isa import validate as module

    for row in TABLE:
        if row.form in module._WRITES_NO_DST and row.form not in (Form.CALL_REG,):
            assert not row.text.startswith(("r{dst} =", "w{dst} =")), row.name
    assert BY_NAME["cmpxchg64"].text.startswith("r0 =")
