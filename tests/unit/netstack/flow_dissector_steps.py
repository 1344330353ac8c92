"""A flow dissector that writes down what it is given, for both kernels; as a script, on Linux in a namespace."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

# writes the keys that it is given, what the data has in front, and answers as the type of service says
DISSECTOR = """
    r6 = r1
    r7 = *(u64 *)(r6 + 144)
    r8 = *(u32 *)(r6 + 76)
    r9 = *(u32 *)(r6 + 80)
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map[seen] ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = *(u64 *)(r0 + 0)
    r1 += 1
    *(u64 *)(r0 + 0) = r1
    r1 = *(u16 *)(r7 + 0)
    *(u64 *)(r0 + 8) = r1
    r1 = *(u16 *)(r7 + 2)
    *(u64 *)(r0 + 16) = r1
    r1 = *(u16 *)(r7 + 10)
    *(u64 *)(r0 + 24) = r1
    r1 = *(u32 *)(r7 + 48)
    *(u64 *)(r0 + 32) = r1
    r9 -= r8
    *(u64 *)(r0 + 40) = r9
    r9 = r0
    r9 += 48
    r2 = *(u16 *)(r7 + 0)
    r3 = r9
    r4 = 8
    r1 = r6
    call bpf_skb_load_bytes
    r1 = *(u8 *)(r9 + 1)
    r2 = *(u8 *)(r9 + 4)
    r3 = *(u8 *)(r9 + 5)
    *(u16 *)(r7 + 12) = r2
    *(u16 *)(r7 + 14) = r3
    r0 = r1
    exit
out:
    r0 = 0
    exit
"""
RECALC = "r6 = r1; call bpf_set_hash_invalid; r1 = r6; call bpf_get_hash_recalc; exit"


def answers(bpf: Any, netns_fd: int, frames: list[str]) -> dict[str, Any]:
    """Return what the dissector saw of each frame, and which frames hash alike (numbers in their order)."""
    counts = bpf.map_create(MapType.ARRAY, 4, 64, 1)
    insns = encode(assemble(DISSECTOR, maps={"seen": counts}))
    dissector = bpf.prog_load(ProgType.FLOW_DISSECTOR, insns, expected_attach_type=AttachType.FLOW_DISSECTOR).fd
    recalc = bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(RECALC))).fd
    link = bpf.link_create(dissector, netns_fd, AttachType.FLOW_DISSECTOR)
    seen, hashes = [], []
    for frame in frames:
        hashes.append(bpf.prog_test_run(recalc, bytes.fromhex(frame)).retval)
        seen.append(bpf.map_lookup_elem(counts, bytes(4)).hex())
    for fd in (link, recalc, dissector, counts):
        bpf.close(fd)
    return {"seen": seen, "alike": [hashes.index(each) for each in hashes]}


def run_on_linux(call: Callable[[Any, int], Any]) -> None:
    """Print what a function of this kernel's bpf(2) and a new namespace returns."""
    from ebpfsim.live import Bpf
    from ebpfsim.live.sys import libc

    live = Bpf()
    assert libc().unshare(0x40000000) == 0  # CLONE_NEWNET
    json.dump(call(live, os.open("/proc/self/ns/net", os.O_RDONLY)), sys.stdout)


if __name__ == "__main__":
    given = json.load(sys.stdin)
    run_on_linux(lambda bpf, net: answers(bpf, net, given))
