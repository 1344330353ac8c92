"""What debug mode says of accesses that leave their object, for each kind of memory, in both engines.

A verified program with lines of source gets the slots of one that no verifier would pass; the names of the bugs are
KASAN's (mm/kasan/report_generic.c, v6.18).
"""

from typing import Any

import pytest
from debug_lines import LINE, line_info

import ebpfsim
from ebpfsim.errors import KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit import engine as jit
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.vm import interp

COMPILERS = {"interp": interp.compile_prog, "jit": jit.compile_prog}
KEY = "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4;"
LOOKUP = KEY + "r1 = {%s} ll; call bpf_map_lookup_elem;"
RESERVE = "r1 = {events} ll; r2 = 16; r3 = 0; call bpf_ringbuf_reserve;"
DELETED = LOOKUP % "flows" + "r6 = r0;" + KEY + "r1 = {flows} ll; call bpf_map_delete_elem;"
SUBMITTED = RESERVE + "r6 = r0; r1 = r0; r2 = 0; call bpf_ringbuf_submit;"
# the last instruction is the one that goes wrong: bug, and where that is
REPORTS = {
    "r0 = *(u64 *)(r10 - 520)": ("stack-out-of-bounds: read of 8 bytes", ""),
    "*(u64 *)(r10 - 4) = 1": ("stack-out-of-bounds: write of 8 bytes", ""),
    "r2 = *(u64 *)(r1 + 8); r0 = *(u8 *)(r2 + 0)": (
        "slab-out-of-bounds: read of 1 bytes",
        "0 bytes past the end of the packet (64 bytes",
    ),
    "r2 = *(u64 *)(r1 + 0); r0 = *(u8 *)(r2 - 300)": (
        "slab-out-of-bounds: read of 1 bytes",
        "300 bytes before the packet (64 bytes",
    ),
    "r0 = *(u64 *)(r1 + 600)": (
        "slab-out-of-bounds: read of 8 bytes",
        "past the end of struct xdp_buff (56 bytes",
    ),
    LOOKUP % "counts" + "r0 = *(u64 *)(r0 + 8)": (
        "slab-out-of-bounds: read of 8 bytes",
        "4 bytes over the end of value of map 'counts' key 0 (12 bytes",
    ),
    LOOKUP % "counts" + "r0 = *(u32 *)(r0 + 12)": (
        "slab-out-of-bounds: read of 4 bytes",
        "0 bytes past the end of value of map 'counts' key 0 (12 bytes",
    ),
    LOOKUP % "flows" + "lock *(u64 *)(r0 + 8) += r0": (
        "slab-out-of-bounds: write of 8 bytes",
        "0 bytes past the end of value of map 'flows' key 00000000 (8 bytes",
    ),
    DELETED + "r0 = *(u64 *)(r6 + 0)": (
        "slab-use-after-free: read of 8 bytes",
        "0 bytes into value of map 'flows' key 00000000, freed (8 bytes",
    ),
    RESERVE + "*(u64 *)(r0 + 12) = 1": (
        "slab-out-of-bounds: write of 8 bytes",
        "4 bytes over the end of record of map 'events' (16 bytes",
    ),
    RESERVE + "*(u32 *)(r0 - 8) = 1": (
        "slab-out-of-bounds: write of 4 bytes",
        "8 bytes before record of map 'events' (16 bytes",
    ),
    SUBMITTED + "*(u64 *)(r6 + 0) = 1": (
        "slab-use-after-free: write of 8 bytes",
        "0 bytes into record of map 'events', freed (16 bytes",
    ),
    "r1 = {counts} ll; r0 = *(u64 *)(r1 + 4000)": (
        "slab-out-of-bounds: read of 8 bytes",
        "past the end of the memory of map 'counts'",
    ),
    "r1 = 0; r0 = *(u64 *)(r1 + 64)": ("null-ptr-deref: read of 8 bytes", ""),
}


@pytest.fixture(params=list(COMPILERS))
def lab(request: pytest.FixtureRequest) -> Any:
    """A host in debug mode with its maps, and what compiles."""
    host = ebpfsim.Simulation().host("h", engine=request.param, debug=True)
    bpf = host.bpf
    fds = {
        "counts": bpf.map_create(MapType.ARRAY, 4, 12, 3, name="counts"),
        "flows": bpf.map_create(MapType.HASH, 4, 8, 4, name="flows"),
        "events": bpf.map_create(MapType.RINGBUF, 0, 0, 4096, name="events"),
    }
    bpf.map_update_elem(fds["flows"], bytes(4), bytes(8))
    maps = {name: host.kernel.map_by_fd(fd) for name, fd in fds.items()}
    return host, maps, COMPILERS[request.param]


@pytest.mark.parametrize("text", REPORTS)
def test_the_report(lab: Any, text: str) -> None:
    host, maps, compile_prog = lab
    addresses = {name: f"{map_.address:#x}" for name, map_ in maps.items()}
    insns = assemble(f"r7 = 0; {text.format(**addresses)}; exit")
    wrong = len(insns) - 2
    btf, func_info, lines = line_info(wrong)
    # a frame of 16 bytes
    passed = assemble("*(u64 *)(r10 - 16) = 0;" + "r0 = 0;" * (len(insns) - 2) + "exit")
    info = {"prog_btf_fd": host.bpf.btf_load(btf), "func_info": func_info, "line_info": lines}
    fd = host.bpf.prog_load(ProgType.XDP, encode(passed), name="flow", **info).fd
    prog = host.prog(fd)
    prog.insns, prog.verified_insns = insns, 0
    prog.run = compile_prog(prog, host.kernel)
    with pytest.raises(KernelOops) as error:
        host.bpf.prog_test_run(fd, bytes(64))
    oops = error.value
    reason, about = REPORTS[text]
    assert (oops.reason, oops.prog, oops.insn_idx, oops.line) == (reason, "flow", wrong, f"flow.c:17:9: {LINE}")
    assert about in oops.about
    assert len(oops.registers) == 11
    assert oops.address is not None
