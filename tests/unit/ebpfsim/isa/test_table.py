"""The instruction table: what Linux knows is there, nothing is there twice, and no consumer misses a row."""

import itertools
import re
from typing import Any

import pytest

import ebpfsim
from ebpfsim.errors import NotModelled, VerifierError
from ebpfsim.isa import alu
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.disasm import disasm, symbolic
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.isa.table import BY_CODE, BY_NAME, TABLE, Form, Group, Row, find, insn_len, nonzero_reserved
from ebpfsim.jit.emit import EMITTERS, IN_PYTHON
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.env import LoadAttr
from ebpfsim.vm.compile import ENDS, NOT_MODELLED, OPERATIONS
from ebpfsim.vm.hot_ops import WRITERS

# the codes that Linux 6.18 takes: BPF_PROG_LOAD of each of the 256 answered other than "unknown opcode"; of class 1,
# whose mode is checked before, those with MEM and MEMSX
LINUX_CODES = bytes.fromhex(
    "04050607 0c0f 14151617 18 1c1d1e1f 20 24252627 28 2c2d2e2f 30 34353637 3c3d3e3f 40 44454647 48 4c4d4e4f 50"
    "54555657 5c5d5e5f 61626364656667 696a6b6c6d6e6f 71727374757677 797a7b7c7d7e7f 81 848587 89 91 9495 97 9c9f"
    "a4a5a6a7 acadaeaf b4b5b6b7 bcbdbebf c3c4c5c6c7 cbcccdcecf d3d4d5d6d7 dbdcddde e5"
)


def test_loadable_codes_are_those_of_linux() -> None:
    assert bytes(code for code, rows in BY_CODE.items() if any(row.loadable for row in rows)) == LINUX_CODES


def test_every_name_and_encoding_is_there_once() -> None:
    assert len(BY_NAME) == len(TABLE)
    keys = [(row.code, row.off, row.imm, row.src) for row in TABLE]
    assert len(set(keys)) == len(keys)


def test_rows_with_a_selector_come_before_the_one_that_takes_any() -> None:
    for rows in BY_CODE.values():
        selective = [(row.off, row.imm, row.src) != (None, None, None) for row in rows]
        assert selective == sorted(selective, reverse=True), rows[0].name


def _operands(row: Row) -> dict[str, int]:
    values = {"dst": 3, "src": 4, "off": 6, "imm": 5}
    if row.form is Form.JA32:
        values["imm"] = 0x12345
    if row.name == "call":
        values["imm"] = 7
    return {name: value for name, value in values.items() if name in row.operands}


def _slots(row: Row) -> tuple[Insn, ...]:
    first = row.insn(**_operands(row))
    return (
        (first, Insn(0, imm=9))
        if insn_len(first) == 2 and row.src in (0, 2, 6)
        else (first, Insn(0))[: insn_len(first)]
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row_is_found_by_its_own_encoding(row: Row) -> None:
    insn = row.insn(**_operands(row))
    assert find(insn) is row
    assert nonzero_reserved(insn, row) == ()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row_has_a_text_that_assembles_to_it(row: Row) -> None:
    slots = _slots(row)
    if row.form in (Form.PROBE_LDX, Form.PROBE_LDSX, Form.ARENA, Form.CALL_REG):
        assert "BUG" in disasm(slots, 0) or "call" in disasm(slots, 0)  # what Linux's disassembler makes of them
        text = row.text.format(dst=3, src=4, off=6, imm=5)
    elif row.form is Form.CALL_KFUNC:
        text = disasm(slots, 0, lambda insn: "bpf_rdonly")
        slots = (slots[0]._replace(off=0),)  # a module's index is not in the text
    else:
        text = symbolic(slots, 0)
    assert assemble(text) == slots


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row_is_assembled_from_llvm_spellings(row: Row) -> None:
    slots = _slots(row)
    fields = {**_operands(row), "imm_hi": 9, "imm64": 5 | 9 << 32}
    for form in row.llvm:
        expected = slots if row.form is not Form.LD_IND else (slots[0]._replace(imm=0),)
        assert assemble(form.format(**fields)) == expected


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row_has_a_meaning_and_the_interpreter_its_form(row: Row) -> None:
    assert [row.form in table for table in (OPERATIONS, ENDS, NOT_MODELLED)].count(True) == 1
    tables = {
        Form.ALU_IMM: alu.BINARY,
        Form.ALU_REG: alu.BINARY,
        Form.ATOMIC: alu.BINARY,
        Form.ATOMIC_FETCH: alu.BINARY,
        Form.ALU_UNARY: alu.UNARY,
        Form.MOVSX: alu.UNARY,
        Form.LDSX: alu.UNARY,
        Form.PROBE_LDSX: alu.UNARY,
        Form.JMP_IMM: alu.COMPARE,
        Form.JMP_REG: alu.COMPARE,
        Form.ARENA: BY_NAME,
    }
    assert row.op in tables[row.form] if row.form in tables else row.op == ""


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row_is_written_as_python_for_hot_blocks_or_ends_one(row: Row) -> None:
    assert [row.form in table for table in (WRITERS, ENDS, NOT_MODELLED)].count(True) == 1


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row_is_machine_code_or_ends_a_block(row: Row) -> None:
    # a 64-bit load is put together where its second slot is known
    emitted = row.name in EMITTERS or row.form in (Form.LD_IMM64, *IN_PYTHON)
    assert [emitted, row.form in ENDS, row.form in NOT_MODELLED].count(True) == 1


@pytest.fixture(scope="module")
def kernel() -> Any:
    return ebpfsim.Simulation(seed=1).host("h").kernel


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row_is_verified_or_refused(row: Row, kernel: Any) -> None:
    slots = (*assemble("r0 = 1; r3 = 1; r4 = r10"), *_slots(row), *assemble("r0 = 0; exit"))
    refusal = ""
    try:
        kernel.verify(LoadAttr(ProgType.SOCKET_FILTER, slots, log_level=1))
    except VerifierError as error:
        refusal = error.log
    except NotModelled as error:
        refusal = str(error)
    # resolve_pseudo_ldimm64(), check_alu_op() and check_load_mem() of Linux v6.18
    unknown = re.search("unknown opcode|uses reserved fields|unrecognized bpf_ld_imm64 insn", refusal)
    assert bool(unknown) == (not row.loadable), refusal


def test_every_meaning_has_a_row() -> None:
    used = {row.op for row in TABLE if row.form is not Form.ARENA}
    assert set(alu.BINARY) | set(alu.UNARY) | set(alu.COMPARE) == used - {""}


def test_every_form_has_a_row() -> None:
    assert {row.form for row in TABLE} == set(Form)


def test_reserved_fields_are_named() -> None:
    # check_alu_op() and do_check() of kernel/bpf/verifier.c, v6.18: "uses reserved fields"
    cases = {
        Insn(0x87, dst=1, src=2): ("src",),
        Insn(0x0F, dst=1, src=2, imm=5): ("imm",),
        Insn(0x07, dst=1, off=2, imm=5): ("off",),
        Insn(0x3F, dst=1, src=2, off=2): ("off",),  # neither division nor signed division
        Insn(0x15, dst=1, src=2, off=1, imm=1): ("src",),
        Insn(0x05, off=1, imm=1): ("imm",),
        Insn(0x06, off=1, imm=1): ("off",),
        Insn(0x95, dst=1): ("dst",),
        Insn(0x61, dst=1, src=2, imm=1): ("imm",),
    }
    for insn, names in cases.items():
        row = find(insn)
        assert row is not None
        assert nonzero_reserved(insn, row) == names, row.name


def test_slots_that_are_no_operation_have_no_row() -> None:
    for insn in [
        Insn(0x00),
        Insn(0xFF),
        Insn(0xDC, imm=17),
        Insn(0xDB, imm=0x123),
        Insn(0xCB, imm=0),
        Insn(0x85, src=3),
        Insn(0x18, src=7),
        Insn(0xE5, src=1),
    ]:
        assert find(insn) is None, insn


def test_conformance_groups_are_those_of_rfc_9669() -> None:
    # RFC 9669, sections 2.4, 4.1, 4.2, 5.3 and 5.5
    expected = {
        "mul32.imm": Group.DIVMUL32,
        "smod64.reg": Group.DIVMUL64,
        "add32.reg": Group.BASE32,
        "add64.reg": Group.BASE64,
        "be32": Group.BASE32,
        "bswap64": Group.BASE64,
        "ldx.u64": Group.BASE64,
        "stx.u8": Group.BASE32,
        "atomic_fetch_or32": Group.ATOMIC32,
        "cmpxchg64": Group.ATOMIC64,
        "ld_ind.u16": Group.PACKET,
        "jeq32.imm": Group.BASE32,
        "jeq64.imm": Group.BASE64,
        "ja": Group.BASE32,
        "ja32": Group.BASE32,
        "exit": Group.BASE32,
        "may_goto": Group.LINUX,
    }
    assert {name: BY_NAME[name].group for name in expected} == expected


def test_rows_that_user_space_may_load() -> None:
    refused = sorted(row.name for row in TABLE if not row.loadable and row.form is not Form.ARENA)
    probes = itertools.product(("probe_ldx.u", "probe_ldsx.s"), (8, 16, 32))
    names = [f"{name}{bits}" for name, bits in probes]
    assert refused == sorted([*names, "probe_ldx.u64", "nospec", "percpu_addr", "callx"])


# a pointer to the stack in r2, numbers elsewhere, so that each instruction by itself is accepted
PROLOGUE = "r0 = 1; r2 = r10; r2 += -16; *(u64 *)(r10 -8) = 1; *(u64 *)(r10 -16) = 1; r3 = 1;"
NEED_MORE = (Form.LD_ABS, Form.LD_IND, Form.CALL_LOCAL, Form.CALL_KFUNC, Form.EXIT, Form.ADDR_SPACE_CAST)


@pytest.mark.live
def test_linux_refuses_what_is_not_zero_in_reserved_fields() -> None:
    from ebpfsim.errors import KernelError
    from ebpfsim.live import Bpf
    from ebpfsim.uapi.bpf import ProgType

    bpf = Bpf()

    def accepted(*insns: Insn) -> bool:
        code = encode([*assemble(PROLOGUE), *insns, *assemble("r0 = 0; exit")])
        try:
            bpf.close(bpf.prog_load(ProgType.SOCKET_FILTER, code).fd)
        except KernelError:
            return False
        return True

    for row in TABLE:
        if not row.loadable or row.form in NEED_MORE or row.name.startswith("ld_imm64."):
            continue
        loads = row.form in (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
        fields = {"dst": 0, "src": 0, "off": 0, "imm": 1}
        if row.size:
            fields |= {"src": 2} if loads else {"dst": 2, "src": 3}
        if row.form is Form.CALL_HELPER:
            fields["imm"] = 42  # bpf_get_numa_node_id
        if row.form is Form.JA32:
            fields["imm"] = 0
        insn = row.insn(**{name: value for name, value in fields.items() if name in row.operands})
        second = (Insn(0),) * (insn_len(insn) - 1)
        assert accepted(insn, *second), row.name
        for name in row.reserved:
            assert not accepted(insn._replace(**{name: 2}), *second), (row.name, name)
