"""The code of dispatchers, against emit_bpf_dispatcher() of arch/x86/net/bpf_jit_comp.c, v6.18."""

import pytest

from hooks import dispatcher_image
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


# Linux 6.12 with retpolines: nine programs, read from /proc/kcore; addresses are those of that boot
IMAGE = bytes.fromhex("""
    4881fa50b92cc00f8fb30000004881fae0b82cc07f6a4881fa8cb82cc07f414881fa54b82cc07f184881fa54b82cc00f845ffaffffe98695
    42e2660f1f4400004881fa8cb82cc00f847ffaffffe96e9542e266662e0f1f8400000000000f1f004881fae0b82cc00f84b3faffffe94e95
    42e266662e0f1f8400000000000f1f004881fa18b92cc07f174881fa18b92cc00f84c2faffffe9259542e20f1f4400004881fa50b92cc00f
    84e3faffffe90e9542e266662e0f1f8400000000000f1f004881fa0cce2cc07f474881fae0cd2cc07f1e4881fae0cd2cc00f84410f0000e9
    dc9442e266662e0f1f840000000000904881fa0cce2cc00f844f0f0000e9be9442e266662e0f1f8400000000000f1f004881fa5cce2cc07f
    174881fa5cce2cc00f84760f0000e9959442e20f1f4400004881fa94ce2cc00f84970f0000e97e9442e2
""")
PROGRAMS = [
    0xFFFF_FFFF_C02C_B854, 0xFFFF_FFFF_C02C_B88C, 0xFFFF_FFFF_C02C_B8E0, 0xFFFF_FFFF_C02C_B918, 0xFFFF_FFFF_C02C_B950,
    0xFFFF_FFFF_C02C_CDE0, 0xFFFF_FFFF_C02C_CE0C, 0xFFFF_FFFF_C02C_CE5C, 0xFFFF_FFFF_C02C_CE94,
]  # fmt: skip


def test_the_image_is_the_one_that_linux_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_image, "INDIRECT_THUNK_RDX", 0xFFFF_FFFF_A26F_5380)
    assert prepare_dispatcher(PROGRAMS, 0xFFFFFFFFC02CBDC0, retpoline=True) == IMAGE
