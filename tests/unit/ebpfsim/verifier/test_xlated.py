"""Rewritten programs as Linux 6.18 shows them: recorded answers, and what the live kernel says."""

from pathlib import Path

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import decode, encode
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.kernel_calls import call_offset

BUILT = Path(__file__).resolve().parents[3] / "objects" / "built"
CALL, LD_IMM64 = 0x85, 0x18


def _shown(bpf, code: str, prog_type: ProgType):
    loaded = bpf.prog_load(prog_type, encode(assemble(code)))
    return decode(bpf.obj_get_info_by_fd(loaded.fd).xlated_prog_insns)


# what is the same in every build of the kernel
@pytest.mark.live
@pytest.mark.parametrize("sign", ["/", "%", "s/", "s%"])
@pytest.mark.parametrize("reg", ["r", "w"])
@pytest.mark.parametrize("by", ["1", "5", "-1"])
def test_linux_guards_divisions_in_the_same_way(host, sign: str, reg: str, by: str) -> None:
    from ebpfsim.live import Bpf

    operands = [f"{reg}2"] if by == "1" else [by]
    code = f"r1 = 7; r2 = 3; {reg}1 {sign}= {operands[0]}; r0 = 0; exit"
    assert _shown(host.bpf, code, ProgType.SOCKET_FILTER) == _shown(Bpf(), code, ProgType.SOCKET_FILTER)


@pytest.mark.live
@pytest.mark.parametrize(
    "code",
    [
        "may_goto +1; goto -2; r0 = 0; exit",
        "r6 = 0; r6 += 1; may_goto +1; goto -3; *(u64 *)(r10 - 8) = r6; r0 = 0; exit",
        "r0 = 1; r1 = 5; *(u64 *)(r10 - 8) = r1; w0 = cmpxchg32_32(r10 -8, w0, w1); r0 += 1; r0 = 0; exit",
        "r0 = 1; r1 = 5; *(u64 *)(r10 - 8) = r1; w0 = cmpxchg32_32(r10 -8, w0, w1); w0 += 1; r0 = 0; exit",
        "r6 = r1; r0 = *(u8 *)skb[14]; r0 = *(u16 *)skb[r0 + 4]; exit",
    ],
)
def test_linux_rewrites_the_same(host, code: str) -> None:
    from ebpfsim.live import Bpf

    ours, theirs = (_shown(bpf, code, ProgType.SOCKET_FILTER) for bpf in (host.bpf, Bpf()))
    assert _without_addresses(ours) == _without_addresses(theirs)


def _without_addresses(insns):
    return [insn._replace(imm=0) if insn.code == CALL and insn.src != 1 else insn for insn in insns]


@pytest.fixture
def host():
    return Simulation().host("a")


def test_map_look_ups_become_instructions(host) -> None:
    fd = host.bpf.map_create(2, 4, 8, 5)
    code = f"r2 = r10; r2 += -4; *(u32 *)(r2 + 0) = 0; r1 = map_fd[{fd}] ll; call 1; r0 = 0; exit"
    shown = _shown(host.bpf, code, ProgType.XDP)
    # array_map_gen_lookup(), values of struct bpf_array at 312, as Linux 6.18 shows it
    expected = assemble(
        "r1 += 312; r0 = *(u32 *)(r2 + 0); if r0 >= 5 goto +3; r0 <<= 3; r0 += r1; goto +1; r0 = 0; r0 = 0; exit"
    )
    assert shown[-9:] == tuple(expected)


def test_helpers_are_where_the_kernel_has_them(host) -> None:
    shown = _shown(host.bpf, "call 5; r0 = 0; exit", ProgType.XDP)
    assert shown[0].imm == call_offset("bpf_ktime_get_ns") != 0
    # a tail call keeps its number
    fd = host.bpf.map_create(3, 4, 4, 1)
    shown = _shown(host.bpf, f"r2 = map_fd[{fd}] ll; r3 = 0; call 12; r0 = 0; exit", ProgType.XDP)
    assert shown[3].imm == 12


@pytest.mark.live
@pytest.mark.parametrize(
    "name", ["loop_helper", "loop_never", "tail_limits", "percpu_counters", "lru_flows", "stack_window"]
)
def test_objects_are_rewritten_as_by_linux(name: str, host) -> None:
    from ebpfsim.live import Bpf
    from ebpfsim.loader import open_object

    path = BUILT / f"{name}.v3.o"
    with open_object(path, bpf=Bpf()).load() as there:
        here = host.load(path)
        for program in there.programs.values():
            theirs, ours = (
                decode(bpf.obj_get_info_by_fd(each.fd).xlated_prog_insns)
                for bpf, each in ((Bpf(), program), (host.bpf, here.programs[program.name]))
            )
            assert _masked(theirs) == _masked(ours)


def _masked(insns):
    # maps have other ids there, other things other addresses
    return [insn._replace(imm=0) if insn.code == LD_IMM64 else insn for insn in _without_addresses(insns)]
