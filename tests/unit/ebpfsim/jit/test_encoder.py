"""The encoder, against what LLVM's assembler makes of the same instructions (clang 19, ``-target x86_64``)."""

import pytest

from ebpfsim.jit.encoder import RET, TABLE, Code, Mem, insn, mov_imm, pop, push, push_imm, short_jcc, short_jmp

# fmt: off
# text, arguments of insn(), LLVM's bytes; where LLVM has a shorter form for the same, the case is left out
LLVM = [
    ("add rsp, rcx", ("add", 4, 1, 0, True), "4801cc"),
    ("add r8, rcx", ("add", 8, 1, 0, True), "4901c8"),
    ("add r15d, r12d", ("add", 15, 12, 0, False), "4501e7"),
    ("add esi, ecx", ("add", 6, 1, 0, False), "01ce"),
    ("or r12, r12", ("or", 12, 12, 0, True), "4d09e4"),
    ("or ebx, r8d", ("or", 3, 8, 0, False), "4409c3"),
    ("and r12, rsi", ("and", 12, 6, 0, True), "4921f4"),
    ("and r14d, r15d", ("and", 14, 15, 0, False), "4521fe"),
    ("sub r14, rdi", ("sub", 14, 7, 0, True), "4929fe"),
    ("sub ebp, edi", ("sub", 5, 7, 0, False), "29fd"),
    ("xor rsi, rdi", ("xor", 6, 7, 0, True), "4831fe"),
    ("xor ecx, r15d", ("xor", 1, 15, 0, False), "4431f9"),
    ("cmp r11, r8", ("cmp", 11, 8, 0, True), "4d39c3"),
    ("cmp ebp, r12d", ("cmp", 5, 12, 0, False), "4439e5"),
    ("test rcx, rdi", ("test", 1, 7, 0, True), "4885f9"),
    ("test eax, esi", ("test", 0, 6, 0, False), "85f0"),
    ("mov r11, r15", ("mov", 11, 15, 0, True), "4d89fb"),
    ("mov r8, rax", ("mov", 8, 0, 0, True), "4989c0"),
    ("mov esi, r12d", ("mov", 6, 12, 0, False), "4489e6"),
    ("mov ecx, r15d", ("mov", 1, 15, 0, False), "4489f9"),
    ("mov r13b, r15b", ("mov8", 13, 15, 0, False), "4588fd"),
    ("mov r11b, r12b", ("mov8", 11, 12, 0, False), "4588e3"),
    ("mov r10w, r15w", ("mov16", 10, 15, 0, False), "664589fa"),
    ("mov ax, si", ("mov16", 0, 6, 0, False), "6689f0"),
    ("xchg qword ptr [r12 + 5], rcx", ("xchg", Mem(12, 5, None), 1, 0, True), "49874c2405"),
    ("xchg dword ptr [rsp + 8], esi", ("xchg", Mem(4, 8, None), 6, 0, False), "87742408"),
    ("xadd r8, rcx", ("xadd", 8, 1, 0, True), "490fc1c8"),
    ("xadd ebp, ebx", ("xadd", 5, 3, 0, False), "0fc1dd"),
    ("cmpxchg r9, r15", ("cmpxchg", 9, 15, 0, True), "4d0fb1f9"),
    ("cmpxchg eax, edi", ("cmpxchg", 0, 7, 0, False), "0fb1f8"),
    ("add r12, qword ptr [r13 + 4]", ("add_load", Mem(13, 4, None), 12, 0, True), "4d036504"),
    ("add eax, dword ptr [r10]", ("add_load", Mem(10, 0, None), 0, 0, False), "410302"),
    ("cmp r15, qword ptr [r12 + 5]", ("cmp_load", Mem(12, 5, None), 15, 0, True), "4d3b7c2405"),
    ("cmp r12d, dword ptr [r12 + 5]", ("cmp_load", Mem(12, 5, None), 12, 0, False), "453b642405"),
    ("mov rdi, qword ptr [r12 + r11]", ("mov_load", Mem(12, 0, 11), 7, 0, True), "4b8b3c1c"),
    ("mov r12d, dword ptr [r10]", ("mov_load", Mem(10, 0, None), 12, 0, False), "458b22"),
    ("imul rbx, r8", ("imul2", 8, 3, 0, True), "490fafd8"),
    ("imul ebx, r14d", ("imul2", 14, 3, 0, False), "410fafde"),
    ("imul rsi, rbx, 74565", ("imul3", 3, 6, 74565, True), "4869f345230100"),
    ("imul eax, r15d, -129", ("imul3", 15, 0, -129, False), "4169c77fffffff"),
    ("lea r8, [r13]", ("lea", Mem(13, 0, None), 8, 0, True), "4d8d4500"),
    ("lea rdi, [r12 + 5]", ("lea", Mem(12, 5, None), 7, 0, True), "498d7c2405"),
    ("lea r15d, [rdx + rax]", ("lea", Mem(2, 0, 0), 15, 0, False), "448d3c02"),
    ("lea ecx, [r12 + r11]", ("lea", Mem(12, 0, 11), 1, 0, False), "438d0c1c"),
    ("movzx rbx, bpl", ("movzx8", 5, 3, 0, True), "480fb6dd"),
    ("movzx rdi, sil", ("movzx8", 6, 7, 0, True), "480fb6fe"),
    ("movzx r8d, r11b", ("movzx8", 11, 8, 0, False), "450fb6c3"),
    ("movzx ecx, r10b", ("movzx8", 10, 1, 0, False), "410fb6ca"),
    ("movzx rbx, r15w", ("movzx16", 15, 3, 0, True), "490fb7df"),
    ("movzx r8, bx", ("movzx16", 3, 8, 0, True), "4c0fb7c3"),
    ("movzx r12d, dx", ("movzx16", 2, 12, 0, False), "440fb7e2"),
    ("movzx ebx, sp", ("movzx16", 4, 3, 0, False), "0fb7dc"),
    ("movsx rcx, r12b", ("movsx8", 12, 1, 0, True), "490fbecc"),
    ("movsx rcx, dil", ("movsx8", 7, 1, 0, True), "480fbecf"),
    ("movsx ecx, r9b", ("movsx8", 9, 1, 0, False), "410fbec9"),
    ("movsx edi, r14b", ("movsx8", 14, 7, 0, False), "410fbefe"),
    ("movsx rax, r9w", ("movsx16", 9, 0, 0, True), "490fbfc1"),
    ("movsx rcx, ax", ("movsx16", 0, 1, 0, True), "480fbfc8"),
    ("movsx esi, cx", ("movsx16", 1, 6, 0, False), "0fbff1"),
    ("movsx r12d, di", ("movsx16", 7, 12, 0, False), "440fbfe7"),
    ("movsxd rbx, r14d", ("movsxd", 14, 3, 0, True), "4963de"),
    ("movsxd rbx, edi", ("movsxd", 7, 3, 0, True), "4863df"),
    ("add rsi, 1", ("add_imm", 6, 0, 1, True), "4883c601"),
    ("add r12d, 74565", ("add_imm", 12, 0, 74565, False), "4181c445230100"),
    ("or r8, -2147483647", ("or_imm", 8, 0, -2147483647, True), "4981c801000080"),
    ("or esi, -129", ("or_imm", 6, 0, -129, False), "81ce7fffffff"),
    ("and rdi, 128", ("and_imm", 7, 0, 128, True), "4881e780000000"),
    ("and r10d, -1", ("and_imm", 10, 0, -1, False), "4183e2ff"),
    ("adc rax, 0", ("adc_imm", 0, 0, 0, True), "4883d000"),
    ("sub r8, -1", ("sub_imm", 8, 0, -1, True), "4983e8ff"),
    ("sub esp, -129", ("sub_imm", 4, 0, -129, False), "81ec7fffffff"),
    ("xor r9, 128", ("xor_imm", 9, 0, 128, True), "4981f180000000"),
    ("xor esi, 128", ("xor_imm", 6, 0, 128, False), "81f680000000"),
    ("cmp rdx, 74565", ("cmp_imm", 2, 0, 74565, True), "4881fa45230100"),
    ("cmp ebp, -2147483647", ("cmp_imm", 5, 0, -2147483647, False), "81fd01000080"),
    ("test rsp, 128", ("test_imm", 4, 0, 128, True), "48f7c480000000"),
    ("test r15d, 127", ("test_imm", 15, 0, 127, False), "41f7c77f000000"),
    ("mov r15, 74565", ("mov_imm", 15, 0, 74565, True), "49c7c745230100"),
    ("mov r10, -128", ("mov_imm", 10, 0, -128, True), "49c7c280ffffff"),
    ("mov dword ptr [r10], -1", ("mov_imm", Mem(10, 0, None), 0, -1, False), "41c702ffffffff"),
    ("mov byte ptr [rsp], 5", ("mov8_imm", Mem(4, 0, None), 0, 5, False), "c6042405"),
    ("mov word ptr [r10 - 128], 31", ("mov16_imm", Mem(10, -128, None), 0, 31, False), "6641c742801f00"),
    ("cmp bl, 31", ("cmp8_imm", 3, 0, 31, False), "80fb1f"),
    ("ror rdi, 5", ("ror_imm", 7, 0, 5, True), "48c1cf05"),
    ("ror dword ptr [r12 + 5], 5", ("ror_imm", Mem(12, 5, None), 0, 5, False), "41c14c240505"),
    ("shl rdi, 31", ("shl_imm", 7, 0, 31, True), "48c1e71f"),
    ("shl dword ptr [rdx + rax], 5", ("shl_imm", Mem(2, 0, 0), 0, 5, False), "c1240205"),
    ("shr r9, 31", ("shr_imm", 9, 0, 31, True), "49c1e91f"),
    ("shr ebx, 31", ("shr_imm", 3, 0, 31, False), "c1eb1f"),
    ("sar rax, 31", ("sar_imm", 0, 0, 31, True), "48c1f81f"),
    ("sar ebx, 31", ("sar_imm", 3, 0, 31, False), "c1fb1f"),
    ("ror r12w, 31", ("ror16_imm", 12, 0, 31, False), "6641c1cc1f"),
    ("shl rax, cl", ("shl", 0, 0, 0, True), "48d3e0"),
    ("shl r9d, cl", ("shl", 9, 0, 0, False), "41d3e1"),
    ("shr r12, cl", ("shr", 12, 0, 0, True), "49d3ec"),
    ("shr r15d, cl", ("shr", 15, 0, 0, False), "41d3ef"),
    ("sar r12, cl", ("sar", 12, 0, 0, True), "49d3fc"),
    ("sar r11d, cl", ("sar", 11, 0, 0, False), "41d3fb"),
    ("mov r11, [r11 + 8*r12]", ("mov_load", Mem(11, 0, 12, False, 3), 11, 0, True), "4f8b1ce3"),
    ("mov [r10 + 8*r11 + 64], rcx", ("mov", Mem(10, 64, 11, False, 3), 1, 0, True), "4b894cda40"),
    ("rdgsbase r11", ("rdgsbase", 11, 0, 0, True), "f3490faecb"),
    ("rdgsbase rcx", ("rdgsbase", 1, 0, 0, True), "f3480faec9"),
    ("wrgsbase r12", ("wrgsbase", 12, 0, 0, True), "f3490faedc"),
    ("mov rax, gs:[esi + 8]", ("mov_load", Mem(6, 8, None, True), 0, 0, True), "6567488b4608"),
    ("mov dword ptr gs:[r13d - 4], 7", ("mov_imm", Mem(13, -4, None, True), 0, 7, False), "656741c745fc07000000"),
    ("mov gs:[ebp - 512], r9w", ("mov16", Mem(5, -512, None, True), 9, 0, False), "65676644898d00feffff"),
    ("movzx r8d, byte ptr gs:[r8d]", ("movzx8", Mem(8, 0, None, True), 8, 0, False), "6567450fb600"),
    ("push qword ptr gs:[r11d + 65536]", ("push", Mem(11, 65536, None, True), 0, 0, True), "656741ffb300000100"),
    ("cmpxchg gs:[ebx], r15", ("cmpxchg", Mem(3, 0, None, True), 15, 0, True), "65674c0fb13b"),
    ("mov gs:[edi], sil", ("mov8", Mem(7, 0, None, True), 6, 0, False), "6567408837"),
    ("neg r8", ("neg", 8, 0, 0, True), "49f7d8"),
    ("neg r8d", ("neg", 8, 0, 0, False), "41f7d8"),
    ("div r14", ("div", 14, 0, 0, True), "49f7f6"),
    ("div r8d", ("div", 8, 0, 0, False), "41f7f0"),
    ("idiv r8", ("idiv", 8, 0, 0, True), "49f7f8"),
    ("idiv ebp", ("idiv", 5, 0, 0, False), "f7fd"),
    ("dec r12", ("dec", 12, 0, 0, True), "49ffcc"),
    ("dec edi", ("dec", 7, 0, 0, False), "ffcf"),
    ("call r10", ("call", 10, 0, 0, True), "41ffd2"),
    ("jmp rbp", ("jmp", 5, 0, 0, True), "ffe5"),
    ("push qword ptr [rsp + 8]", ("push", Mem(4, 8, None), 0, 0, True), "ff742408"),
    ("pop qword ptr [r10 - 128]", ("pop", Mem(10, -128, None), 0, 0, True), "418f4280"),
]
# fmt: on


@pytest.mark.parametrize(("text", "arguments", "expected"), LLVM, ids=[text for text, _, _ in LLVM])
def test_encodes_as_llvm(text: str, arguments: tuple[object, ...], expected: str) -> None:
    assert insn(*arguments).hex() == expected  # type: ignore[arg-type]


def test_every_row_has_a_case() -> None:
    assert {arguments[0] for _, arguments, _ in LLVM} >= set(TABLE) - {"cmp8_imm", "imul3", "pop", "push", "xchg"}


def test_byte_registers_need_a_prefix() -> None:
    # without REX, 4 to 7 are ah, ch, dh and bh
    assert insn("mov8", Mem(0), 6, wide=False).hex() == "408830"
    assert insn("mov8", Mem(0), 3, wide=False).hex() == "8818"
    assert insn("mov8_imm", 7, imm=1, wide=False).hex() == "40c6c701"


@pytest.mark.parametrize(
    ("reg", "value", "expected"),
    [
        (0, 0, "b800000000"),
        (11, 0xFFFF_FFFF, "41bbffffffff"),
        (7, (1 << 64) - 1, "48c7c7ffffffff"),
        (13, (1 << 64) - (1 << 31), "49c7c500000080"),
        (1, 1 << 32, "48b90000000001000000"),
        (9, (1 << 63) + 5, "49b90500000000000080"),
    ],
)
def test_constants_take_the_shortest_form(reg: int, value: int, expected: str) -> None:
    assert mov_imm(reg, value).hex() == expected


def test_stack() -> None:
    assert (push(3).hex(), push(12).hex(), pop(5).hex(), pop(15).hex()) == ("53", "4154", "5d", "415f")
    assert push_imm(-2).hex() == "68feffffff"


def test_jumps_count_from_their_end() -> None:
    assert short_jcc("e", 5).hex() == "7405"
    assert short_jmp(-2).hex() == "ebfe"
    code = Code()
    code.jump("end")
    code.label("back")
    code.jump_if("b", "back")
    code.call("end")
    code.label("end")
    assert code.finish().hex() == "e90b000000" + "0f82faffffff" + "e800000000"


def test_an_immediate_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OverflowError):
        insn("add_imm", 0, imm=1 << 31)


def test_calls_of_what_lies_outside_depend_on_the_place() -> None:
    code = Code()
    code.add(RET)
    code.call_address(0x10_0000)
    # e8 and the distance from behind the five bytes
    assert code.finish(0x10_0100) == RET + b"\xe8" + (-0x106).to_bytes(4, "little", signed=True)
    assert code.finish(0xF_0000) == RET + b"\xe8" + (0x1_0000 - 6).to_bytes(4, "little")
