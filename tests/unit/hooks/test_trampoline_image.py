"""The code of trampolines, against what arch_prepare_bpf_trampoline() of arch/x86/net/bpf_jit_comp.c, v6.18, emits."""

from dataclasses import dataclass

import pytest

from hooks.func_model import FuncModel
from hooks.trampoline_image import TrampolineLayout, prepare_trampoline

BASE = 0xFFFF_FFFF_C000_1000
FUNC = 0xFFFF_FFFF_8100_1000
ENTER, EXIT, TRAMP_ENTER, TRAMP_EXIT = (0xFFFF_FFFF_8120_0000 + 16 * n for n in range(4))


@dataclass
class Link:
    prog_addr: int = 0xFFFF_8880_0100_0000
    code_addr: int = 0xFFFF_FFFF_C000_8000
    enter_addr: int = ENTER
    exit_addr: int = EXIT
    cookie: int = 0


def code(model: FuncModel, fentry=(), fmod_ret=(), fexit=(), ip_arg: bool = False) -> bytes:
    return prepare_trampoline(
        model, FUNC, fentry, fmod_ret, fexit,
        base=BASE, im_addr=0xFFFF_8880_0200_0000, tramp_enter=TRAMP_ENTER, tramp_exit=TRAMP_EXIT, ip_arg=ip_arg,
    )  # fmt: skip


def listing(data: bytes) -> list[str]:
    capstone = pytest.importorskip("capstone")
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    found = [f"{insn.mnemonic} {insn.op_str}".strip() for insn in disassembler.disasm(data, BASE)]
    assert sum(insn.size for insn in disassembler.disasm(data, BASE)) == len(data)
    return found


def test_one_fentry_program_on_a_function_of_one_argument() -> None:
    # frame: regs 8, nregs 16, rbx 24, run_ctx 40; the program is skipped by 9 bytes, to 0x43
    assert listing(code(FuncModel((4,), ret_size=4), [Link()])) == [
        "push rbp", "mov rbp, rsp", "sub rsp, 0x28", "mov qword ptr [rbp - 0x18], rbx",
        "mov eax, 1", "mov qword ptr [rbp - 0x10], rax", "mov qword ptr [rbp - 8], rdi",
        "xor edi, edi", "mov qword ptr [rbp - 0x28], rdi", "movabs rdi, 0xffff888001000000",
        "lea rsi, [rbp - 0x28]", f"call {ENTER:#x}", "mov rbx, rax", "test rax, rax",
        f"je {BASE + 0x43:#x}", "lea rdi, [rbp - 8]", "call 0xffffffffc0008000",
        "movabs rdi, 0xffff888001000000", "mov rsi, rbx", "lea rdx, [rbp - 0x28]", f"call {EXIT:#x}",
        "mov rdi, qword ptr [rbp - 8]", "mov rbx, qword ptr [rbp - 0x18]", "leave", "ret",
    ]  # fmt: skip


def test_fexit_calls_the_function_behind_its_patched_entry() -> None:
    lines = listing(code(FuncModel((8, 8)), fexit=[Link(cookie=99)]))
    call = lines.index(f"call {FUNC + 5:#x}")
    assert lines[call - 2 : call + 3] == [
        "mov rdi, qword ptr [rbp - 0x18]", "mov rsi, qword ptr [rbp - 0x10]", f"call {FUNC + 5:#x}",
        "mov qword ptr [rbp - 8], rax", "nop dword ptr [rax + rax]",
    ]  # fmt: skip
    assert "mov edi, 0x63" in lines
    # BPF_TRAMP_F_SKIP_FRAME: past the return address into the function
    assert lines[-5:] == [
        "mov rax, qword ptr [rbp - 8]", "mov rbx, qword ptr [rbp - 0x28]", "leave", "add rsp, 8", "ret"
    ]  # fmt: skip
    assert [line for line in lines if "0xffff888002000000" in line] == ["movabs rdi, 0xffff888002000000"] * 2


def test_fmod_ret_stores_results_and_branches_to_an_aligned_place() -> None:
    data = code(FuncModel((8,)), fmod_ret=[Link(), Link()], fexit=[Link()])
    lines = listing(data)
    first = lines.index("xor eax, eax")
    assert lines[first + 1] == "mov qword ptr [rbp - 8], rax"
    branches = [line for line in lines if line.startswith("jne")]
    assert len(branches) == 2 == len([line for line in lines if line == "cmp qword ptr [rbp - 8], 0"])
    (target,) = {int(line.split()[1], 16) for line in branches}
    assert target % 16 == 0


def test_arguments_on_the_stack_are_read_behind_two_return_addresses() -> None:
    # get_nr_used_regs(): six registers; the 7th argument lies above rbp, two return addresses and the saved rbp
    lines = listing(code(FuncModel((8,) * 8), fexit=[Link()]))
    assert "mov rax, qword ptr [rbp + 0x18]" in lines
    assert "mov rax, qword ptr [rbp + 0x20]" in lines
    layout = TrampolineLayout.of(8, call_orig=True, ip_arg=False)
    # result, arguments, their number, rbx, struct bpf_tramp_run_ctx, arguments on the stack
    assert layout.stack_size == 8 + 64 + 8 + 8 + 16 + 16
    # one more, and 8 bytes that align the stack
    assert TrampolineLayout.of(9, call_orig=True, ip_arg=True).stack_size == 8 + 72 + 8 + 8 + 8 + 16 + 24 + 8


def test_the_address_of_the_function_is_kept_for_those_who_ask() -> None:
    lines = listing(code(FuncModel((8,)), [Link()], ip_arg=True))
    at = lines.index(f"mov rax, {FUNC:#x}")
    # right below the number of words
    assert lines[at + 1] == "mov qword ptr [rbp - 0x18], rax"


# Linux 6.12 without IBT and retpolines: fentry program a with cookie 5, fmod_ret program d, fexit program b on
# bpf_fentry_test1(), read from /proc/kcore; addresses are those of that boot
IMAGE = bytes.fromhex("""
    554889e54883ec3048895de0b801000000488945e848897df048bf008c174218ef1bffe8b8df57eabf0500000048897dd048bf00d00cc025
    aa2cff488d75d0e84cd657ea4889c34885c07409488d7df0e873fbffff48bf00d00cc025aa2cff4889de488d55d0e8c5d857ea31c0488945
    f831ff48897dd048bf00d00ec025aa2cff488d75d0e806d657ea4889c34885c0740d488d7df0e8d1feffff488945f848bf00d00ec025aa2c
    ff4889de488d55d0e87bd857ea48837df8000f8520000000488b7df0e8f014daea488945f80f1f44000066662e0f1f8400000000000f1f00
    31ff48897dd048bf00500ec025aa2cff488d75d0e897d557ea4889c34885c07409488d7df0e872fcffff48bf00500ec025aa2cff4889de48
    8d55d0e810d857ea48bf008c174218ef1bffe801df57ea488b45f8488b5de0c94883c408c3
""")


def test_the_image_is_the_one_that_linux_wrote() -> None:
    calls = {"enter_addr": 0xFFFF_FFFF_AA8D_E190, "exit_addr": 0xFFFF_FFFF_AA8D_E430}
    a = Link(0xFF2C_AA25_C00C_D000, 0xFFFF_FFFF_C036_06C8, **calls, cookie=5)
    d = Link(0xFF2C_AA25_C00E_D000, 0xFFFF_FFFF_C036_0A6C, **calls)
    b = Link(0xFF2C_AA25_C00E_5000, 0xFFFF_FFFF_C036_087C, **calls)
    # its functions begin with endbr64, ours with the patched call
    function, endbr64 = 0xFFFF_FFFF_AB10_20B0, 4
    found = prepare_trampoline(
        FuncModel((4,), (True,), (False,), 4, True), function + endbr64, [a], [d], [b],
        base=0xFFFF_FFFF_C036_0B00, im_addr=0xFF1B_EF18_4217_8C00, tramp_enter=0xFFFF_FFFF_AA8D_EAE0,
        tramp_exit=0xFFFF_FFFF_AA8D_EB30, ip_arg=False,
    )  # fmt: skip
    assert found == IMAGE


# the same for fexit on ip_make_skb(), which has ten arguments, four of them on the stack
TEN_ARGUMENTS = bytes.fromhex("""
    554889e54881ec9800000048895d98b80a000000488945a048897da8488975b0488955b848894dc04c8945c84c894dd0488b4518488945d8
    488b4520488945e0488b4528488945e8488b4530488945f048bf00c4f7c14b6344ffe80134a1e1488b7da8488b75b0488b55b8488b4dc04c
    8b45c84c8b4dd0488b451848898568ffffff488b452048898570ffffff488b452848898578ffffff488b453048894580e8248626e2488945
    f80f1f44000031ff48897d8848bf00500980618160ff488d7588e8492aa1e14889c34885c07409488d7da8e8f0feffff48bf005009806181
    60ff4889de488d5588e8c22ca1e148bf00c4f7c14b6344ffe8b333a1e1488b45f8488b5d98c94883c408c3
""")


def test_arguments_on_the_stack_as_linux_has_them() -> None:
    link = Link(0xFF60816180095000, 0xFFFFFFFFC02CB648, 0xFFFFFFFFA1CDE190, 0xFFFFFFFFA1CDE430)
    found = prepare_trampoline(
        FuncModel((8, 8, 8, 8, 4, 4, 8, 8, 8, 4)), 0xffffffffa2533d40 + 4, [], [], [link],
        base=0xffffffffc02cb680, im_addr=0xff44634bc1f7c400, tramp_enter=0xffffffffa1cdeae0,
        tramp_exit=0xffffffffa1cdeb30, ip_arg=False,
    )  # fmt: skip
    assert found == TEN_ARGUMENTS
