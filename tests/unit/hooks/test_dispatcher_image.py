"""The code of dispatchers, against emit_bpf_dispatcher() of arch/x86/net/bpf_jit_comp.c, v6.18."""

import pytest

from hooks.dispatcher_image import INDIRECT_THUNK_RDX, prepare_dispatcher

BASE = 0xFFFF_FFFF_C000_0000
PROGS = [BASE + 0x10000 + 64 * number for number in range(48)]


def listing(data: bytes) -> list[tuple[int, str]]:
    capstone = pytest.importorskip("capstone")
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    found = [(insn.address, f"{insn.mnemonic} {insn.op_str}".strip()) for insn in disassembler.disasm(data, BASE)]
    assert found[-1][0] < BASE + len(data)
    return found


def test_one_program() -> None:
    texts = [text for _, text in listing(prepare_dispatcher(PROGS[:1], BASE, retpoline=False))]
    assert texts == [f"cmp rdx, {PROGS[0] - (1 << 64):#x}", f"je {PROGS[0]:#x}", "jmp rdx"] or texts == [
        f"cmp rdx, {PROGS[0]:#x}",
        f"je {PROGS[0]:#x}",
        "jmp rdx",
    ]


def test_unknown_addresses_go_through_a_thunk_with_retpolines() -> None:
    texts = [text for _, text in listing(prepare_dispatcher(PROGS[:1], BASE, retpoline=True))]
    assert texts[-1] == f"jmp {INDIRECT_THUNK_RDX:#x}"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 31, 48])
def test_the_search_ends_at_every_program_and_at_nothing_else(count: int) -> None:
    insns = listing(prepare_dispatcher(PROGS[:count], BASE, retpoline=False))
    at = {address: number for number, (address, _) in enumerate(insns)}

    def run(rdx: int) -> tuple[str, int]:
        number, compares, flags = 0, 0, 0
        while True:
            _, text = insns[number]
            name, _, operand = text.partition(" ")
            if name == "cmp":
                compares += 1
                flags = rdx - int(operand.split(", ")[1], 16) % (1 << 64)
            elif name == "jg" and flags > 0:
                number = at[int(operand, 16)]
                continue
            elif name == "je" and not flags:
                return operand, compares
            elif text == "jmp rdx":
                return "indirect", compares
            number += 1

    from hooks.dispatcher import search_depths

    found = [run(address) for address in PROGS[:count]]
    assert [operand for operand, _ in found] == [f"{address:#x}" for address in PROGS[:count]]
    assert [compares for _, compares in found] == search_depths(count)
    assert {run(address)[0] for address in (PROGS[0] - 1, PROGS[0] + 1, PROGS[count - 1] + 1)} == {"indirect"}


def test_48_programs_fit_into_half_a_page() -> None:
    assert len(prepare_dispatcher(PROGS, BASE, retpoline=True)) <= 2048
