"""Which registers instructions read and write, as the interpreter does, and whether somebody still reads one."""

from typing import Any

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.table import TABLE, Form
from ebpfsim.vm.registers import is_unread, reads, writes

# one instruction of each row that lets a program go on, with registers that all differ, and what it writes
SOURCES = (Form.ATOMIC_FETCH, Form.XCHG)
NOTHING = (Form.ST, Form.STX, Form.ATOMIC, Form.STORE_RELEASE)
DONE = [
    row
    for row in TABLE
    if row.form in (Form.ALU_IMM, Form.ALU_REG, Form.ALU_UNARY, Form.MOVSX, Form.LDX, Form.LDSX, Form.CMPXCHG)
    or row.form in (*SOURCES, *NOTHING, Form.LOAD_ACQUIRE)
]


@pytest.mark.parametrize("row", DONE, ids=lambda row: row.name)
def test_the_register_that_is_written(machine: Any, row: Any) -> None:
    # in the interpreter all other registers stay as they were
    loads = row.form in (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
    fields = {"dst": 3 if loads else 10, "src": 10 if loads else 4, "off": -8, "imm": 5} if row.size else {}
    fields = fields or {"dst": 3, "src": 4, "imm": 5}
    slot = row.insn(**{name: value for name, value in fields.items() if name in row.operands})
    values = [0x1_2345_6789 * (reg + 3) | 1 << 63 for reg in range(10)]
    head = assemble("*(u64 *)(r10 - 8) = 99;" + "".join(f"r{reg} = {value:#x} ll;" for reg, value in enumerate(values)))
    out = machine.mem.alloc(80)
    dump = assemble("".join(f"*(u64 *)(r10 - {16 + 8 * reg}) = r{reg};" for reg in range(10)))
    copy = "".join(f"r1 = *(u64 *)(r10 - {16 + 8 * reg}); *(u64 *)(r2 + {8 * reg}) = r1;" for reg in range(10))
    machine.run((*head, slot, *dump, *assemble(f"r2 = {out:#x} ll; {copy} r0 = 0; exit")))
    after = [machine.mem.load(out + 8 * reg, 8) for reg in range(10)]
    changed = {reg for reg in range(10) if after[reg] != values[reg]}
    assert changed <= {writes(row, slot)}
    expected = -1 if row.form in NOTHING else slot.src if row.form in SOURCES else 0 if row.form is Form.CMPXCHG else 3
    assert writes(row, slot) == expected


@pytest.mark.parametrize("row", DONE, ids=lambda row: row.name)
def test_the_registers_that_are_read(machine: Any, row: Any) -> None:
    # those on which what the instruction does depends; others may have any value
    loads = row.form in (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
    fields = {"dst": 3 if loads else 10, "src": 10 if loads else 4, "off": -8, "imm": 5} if row.size else {}
    fields = fields or {"dst": 3, "src": 4, "imm": 5}
    slot = row.insn(**{name: value for name, value in fields.items() if name in row.operands})
    out = machine.mem.alloc(8)

    def result(changed: int) -> tuple[int, int]:
        values = [0x1_2345_6789 * (reg + 3) | 1 << 63 for reg in range(6)]
        values[changed] ^= 0x00FF_FF00_FFFF_FF0F
        head = assemble(
            "*(u64 *)(r10 - 8) = 99;" + "".join(f"r{reg} = {value:#x} ll;" for reg, value in enumerate(values))
        )
        written = writes(row, slot)
        left = f"r6 = r{written};" if written >= 0 else "r6 = 0;"
        tail = assemble(f"{left} r1 = *(u64 *)(r10 - 8); r2 = {out:#x} ll; *(u64 *)(r2 + 0) = r6; r0 = r1; exit")
        r0 = machine.run((*head, slot, *tail)).r0
        return r0, machine.mem.load(out, 8)

    # R5 is no operand of any of them
    assert not reads(row, slot) >> 5 & 1
    for reg in range(5):
        if result(reg) != result(5):
            assert reads(row, slot) >> reg & 1, reg


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("r0 = 0; exit", "12345"),
        ("r0 = r1; exit", "2345"),
        ("r1 = 5; r0 = r1; exit", "12345"),
        ("r1 += 5; r0 = 0; exit", "2345"),
        ("w1 = w2; r0 = 0; exit", "1345"),
        ("call 7; r0 = 0; exit", ""),
        ("r1 = 1; r2 = 2; r3 = 3; r4 = 4; r5 = 5; call 7; r0 = r1; exit", "12345"),
        ("if r3 > 7 goto l; r0 = r4; exit; l: r4 = 1; r0 = r4; exit", "125"),
        ("l: r6 += -1; if r6 != 0 goto l; r0 = 0; exit", "12345"),
        ("l: r6 += -1; r2 += 1; if r6 != 0 goto l; r0 = 0; exit", "1345"),
        ("l: r0 += 1; r5 = r2; if r0 != 9 goto l; r0 = 0; exit", "1345"),
        ("*(u64 *)(r1 + 0) = r2; r0 = 0; exit", "345"),
        ("lock *(u64 *)(r1 + 0) += r2; r0 = 0; exit", "345"),
        ("r1 = 4 ll; goto l; r0 = r2; l: r0 = 0; exit", "12345"),
        # whoever called a function may look at its arguments behind it
        ("r0 = 0; exit; call f; f: exit", ""),
        ("r1 = 1; r0 = 0; exit; call f; f: exit", "1"),
    ],
)
def test_what_nobody_reads(text: str, unread: str) -> None:
    insns = assemble(text)
    assert "".join(str(reg) for reg in range(1, 6) if is_unread(insns, 0, reg)) == unread
