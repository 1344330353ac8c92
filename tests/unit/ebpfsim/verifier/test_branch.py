"""Conditional jumps, as Linux 6.18 logs them (recorded with log level 2)."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errnos import Errno
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

PACKET = "r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); r4 = r2; r4 += 8;"


def log(text: str) -> list[str]:
    bpf = Simulation(seed=1).host("h").bpf
    lines = bpf.prog_load(ProgType.XDP, encode(assemble(text)), log_level=2).log.splitlines()
    return [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize(
    ("condition", "text", "proved", "end"),
    [
        ("if r4 > r3", "(2d) if r4 > r3 goto pc+1", 8, "0xfffffffffffffffe"),
        ("if r3 < r4", "(ad) if r3 < r4 goto pc+1", 8, "0xfffffffffffffffe"),
        ("if r4 >= r3", "(3d) if r4 >= r3 goto pc+1", 9, "0xffffffffffffffff"),
        ("if r3 <= r4", "(bd) if r3 <= r4 goto pc+1", 9, "0xffffffffffffffff"),
    ],
)
def test_packet_ends_where_it_is_compared(condition: str, text: str, proved: int, end: str) -> None:
    lines = log(f"{PACKET} {condition} goto out; r0 = *(u8 *)(r2 + 7); out: r0 = 0; exit")
    assert f"4: {text} ; R3=pkt_end() R4=pkt(off=8,r={proved})" in lines
    assert f"from 4 to 6: R1=ctx() R2=pkt(r=0) R3=pkt_end() R4=pkt(off=8,r={end}) R10=fp0" in lines


def test_equality_with_the_end_proves_nothing() -> None:
    with pytest.raises(VerifierError) as error:
        log(f"{PACKET} if r4 == r3 goto out; r0 = *(u8 *)(r2 + 7); out: r0 = 0; exit")
    assert (error.value.errno, error.value.reason) == (Errno.EACCES, "R2 offset is outside of the packet")


def test_register_compared_with_itself_is_no_known_branch() -> None:
    lines = log("call bpf_ktime_get_ns; if r0 s> r0 goto out; out: exit")
    assert "1: (6d) if r0 s> r0 goto pc+0 ; R0=scalar()" in lines
    assert "from 1 to 2: R0=scalar(smin=0x8000000000000001,smax=0x7ffffffffffffffe) R10=fp0" in lines


def test_may_goto_converges() -> None:
    lines = log("call bpf_ktime_get_ns; again: may_goto out; r0 = 5; goto again; out: r0 = 0; exit")
    assert lines[lines.index("1: (e5) may_goto pc+2") :][:-1] == [
        "1: (e5) may_goto pc+2",
        "4: (b7) r0 = 0 ; R0=0",
        "5: (95) exit",
        "",
        "from 1 to 2: R0=scalar() R10=fp0",
        "2: R0=scalar() R10=fp0",
        "2: (b7) r0 = 5 ; R0=5",
        "3: (05) goto pc-3",
        "SCC backedge (1)",
        "1: safe",
        "SCC exit (1)",
    ]
