"""Packet loads as Linux rewrites them (``bpf_gen_ld_abs``, net/core/filter.c, v6.18)."""

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.disasm import disasm_all
from ebpfsim.isa.ld_abs import expand


def _text(code: str) -> list[str]:
    insns, _ = expand(assemble(code))
    return [line for _, line in disasm_all(insns)]


def test_constant_offset() -> None:
    assert _text("r0 = *(u8 *)skb[12]; exit") == [
        "(b7) r2 = 12",
        "(bf) r1 = r6",
        "(85) call unknown#-1",
        "(75) if r0 s>= 0x0 goto pc+2",
        "(ac) w0 ^= w0",
        "(95) exit",
        "(95) exit",
    ]


def test_computed_offset() -> None:
    assert _text("r0 = *(u32 *)skb[r7 - 4]; exit")[:4] == [
        "(bf) r2 = r7",
        "(07) r2 += -4",
        "(bf) r1 = r6",
        "(85) call unknown#-4",
    ]
    assert _text("r0 = *(u16 *)skb[r1]; exit")[:3] == ["(bf) r2 = r1", "(bf) r1 = r6", "(85) call unknown#-2"]


def test_jumps_calls_and_function_addresses_keep_their_targets() -> None:
    code = "l: r0 = *(u8 *)skb[0]; if r0 == 0 goto l; gotol m; call f; m: r2 = subprog[f]; exit; f: r0 = 1; exit"
    insns, origin = expand(assemble(code))
    plain = assemble(code)
    for idx, insn in enumerate(insns):
        at = origin[idx]
        if insn != plain[at] and insn.code == plain[at].code:
            field = "off" if insn.off != plain[at].off else "imm"
            target = idx + 1 + getattr(insn, field)
            assert origin[target] == at + 1 + getattr(plain[at], field)
    assert [line for _, line in disasm_all(insns)][6:9] == [
        "(15) if r0 == 0x0 goto pc-7",
        "(06) gotol pc+1",
        "(85) call pc+3",
    ]


def test_the_origin_of_each_slot() -> None:
    _, origin = expand(assemble("r1 = 5 ll; r0 = *(u8 *)skb[r1]; exit"))
    assert origin == (0, 1, 2, 2, 2, 2, 2, 2, 3)


def test_a_second_slot_is_no_instruction() -> None:
    first, second, exit_ = assemble("r1 = 5 ll; exit")
    odd = second._replace(code=0x30)  # as if it were an LD_ABS
    assert expand((first, odd, exit_))[0] == (first, odd, exit_)


def test_nothing_to_do() -> None:
    insns = assemble("r0 = 1; if r0 == 1 goto +1; r0 = 2; exit")
    assert expand(insns) == (insns, (0, 1, 2, 3))
