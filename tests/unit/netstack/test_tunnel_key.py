"""Sizes and flags of the tunnel helpers, asked of Linux 6.18 as well: facts are its answers."""

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from netstack.tunnel_key import TunnelFlag, TunnelInfo, load_info, store_info

FRAME = bytes(12) + b"\x08\0" + b"\x45" + bytes(49)
ZERO = "".join(f"*(u64 *)(r10 - {8 * n}) = r0; " for n in range(1, 7))
SETS = [
    # size, flags, result
    (44, 0, 0), (28, 0, 0), (24, 0, 0), (22, 0, 0), (8, 0, 0), (6, 0, -22), (43, 0, -22),
    (44, 2, 0), (44, 4, 0), (44, 8, 0), (44, 16, 0), (44, 32, -22),
]  # fmt: skip
GETS = [(44, 0, -22), (8, 0, -22)]
GETS_AFTER_SET = [
    (44, 0, 0), (28, 0, 0), (8, 0, 0), (7, 0, -22), (44, 1, -71), (44, 16, 0), (44, 2, -22),
]  # fmt: skip


@pytest.fixture(params=["simulated", pytest.param("live", marks=pytest.mark.live)])
def bpf(request):
    if request.param == "live":
        from ebpfsim.live import Bpf

        return Bpf()
    return Simulation(seed=1).host("h").bpf


def answer(bpf, text: str) -> int:
    fd = bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(f"r6 = r1; r0 = 0; {ZERO} {text} exit"))).fd
    result = bpf.prog_test_run(fd, FRAME).retval
    return result - (1 << 32) if result >> 31 else result


def call(helper: str, size: int, flags: int) -> str:
    return f"r1 = r6; r2 = r10; r2 += -48; r3 = {size}; r4 = {flags}; call {helper};"


@pytest.mark.parametrize(("size", "flags", "result"), SETS)
def test_set(bpf, size, flags, result) -> None:
    assert answer(bpf, call("bpf_skb_set_tunnel_key", size, flags)) == result


@pytest.mark.parametrize(("size", "flags", "result"), GETS)
def test_get_without_a_tunnel(bpf, size, flags, result) -> None:
    assert answer(bpf, call("bpf_skb_get_tunnel_key", size, flags)) == result


@pytest.mark.parametrize(("size", "flags", "result"), GETS_AFTER_SET)
def test_get_what_was_set(bpf, size, flags, result) -> None:
    text = call("bpf_skb_set_tunnel_key", 44, 0) + call("bpf_skb_get_tunnel_key", size, flags)
    assert answer(bpf, text) == result


def test_flags_are_shown_in_network_order(bpf) -> None:
    """IP_TUNNEL_CSUM, KEY and NOCACHE, as bits of a __be16."""
    text = call("bpf_skb_set_tunnel_key", 44, 0) + call("bpf_skb_get_tunnel_key", 44, 16)
    assert answer(bpf, text + "r0 = *(u16 *)(r10 - 26);") == 0x0520


@pytest.mark.parametrize(("label", "ext"), [(1, 0), (0, 1)])
def test_fields_that_must_be_zero(bpf, label, ext) -> None:
    text = f"r1 = {label}; *(u32 *)(r10 - 24) = r1; r1 = {ext}; *(u16 *)(r10 - 26) = r1;"
    assert answer(bpf, text + call("bpf_skb_set_tunnel_key", 44, 0)) == -22


def test_options_need_a_key_and_whole_words(bpf) -> None:
    opt = "r1 = r6; r2 = r10; r2 += -48; r3 = {}; call bpf_skb_set_tunnel_opt;"
    assert answer(bpf, opt.format(8)) == -22
    key = call("bpf_skb_set_tunnel_key", 44, 0)
    assert answer(bpf, key + opt.format(8)) == 0
    assert answer(bpf, key + opt.format(6)) == -22
    get = "r1 = r6; r2 = r10; r2 += -48; r3 = {}; call bpf_skb_get_tunnel_opt;"
    assert answer(bpf, get.format(8)) == -2
    assert answer(bpf, key + opt.format(8) + get.format(16)) == 8
    assert answer(bpf, key + opt.format(8) + get.format(4)) == -12


def test_structure_in_ram(machine) -> None:
    info = TunnelInfo(5, 0x0A000001, 0x0A000002, TunnelFlag.KEY | TunnelFlag.CSUM, 3, 64, b"12345678", 1)
    address = machine.mem.alloc(512)
    store_info(machine.mem, address, info)
    assert load_info(machine.mem, address) == info
