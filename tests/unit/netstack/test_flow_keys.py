"""Which packets are one flow: the dissector's answers against Linux 6.18, by the hashes of 65 frames.

The hash has a secret key; which of two packets hash alike does not depend on it. tests/data/flows_6.18.jsonl has frames
and the flow (a number) that Linux saw in each (bpf_get_hash_recalc() in PROG_TEST_RUN).
"""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from netstack.flow_keys import DissectFlag, skb_flow_dissect

RECORDED = Path(__file__).resolve().parents[2] / "data" / "flows_6.18.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]
RECALC = "r6 = r1; call bpf_set_hash_invalid; r1 = r6; call bpf_get_hash_recalc; exit"


def wrongly_told_apart(hashes: dict[str, object]) -> list[tuple[str, str]]:
    flows = {row["name"]: row["flow"] for row in ROWS}
    return [(a, b) for a, b in combinations(flows, 2) if (flows[a] == flows[b]) != (hashes[a] == hashes[b])]


def dissect(frame: bytes, flags: int = DissectFlag.STOP_AT_FLOW_LABEL) -> Any:
    return skb_flow_dissect(frame, int.from_bytes(frame[12:14], "big"), 14, flags)


def frame_of(name: str) -> bytes:
    return bytes.fromhex(next(row["frame"] for row in ROWS if row["name"] == name))


def test_flows_are_those_of_linux() -> None:
    assert not wrongly_told_apart({row["name"]: dissect(frame_of(row["name"]))[0].hash_words() for row in ROWS})


@pytest.mark.live
def test_linux_still_tells_them_apart() -> None:
    from ebpfsim.live import Bpf

    bpf = Bpf()
    fd = bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(RECALC))).fd
    frames = {row["name"]: bytes.fromhex(row["frame"]) for row in ROWS}
    assert not wrongly_told_apart({name: bpf.prog_test_run(fd, frame).retval for name, frame in frames.items()})


def test_keys_of_a_packet_in_a_tunnel() -> None:
    keys, good = dissect(frame_of("grek"))
    # Ethernet, IPv4, GRE with a key, IPv4, UDP: 14 + 20 + 8 + 20
    assert (good, keys.thoff, keys.n_proto, keys.ip_proto) == (True, 62, 0x0800, 17)
    assert (keys.saddr, keys.daddr) == (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
    assert (keys.sport, keys.dport, keys.keyid, keys.encapsulated, keys.have_l4) == (1000, 2000, 5, True, True)


def test_flags_end_the_walk_early() -> None:
    outer, good = dissect(frame_of("ipip"), DissectFlag.STOP_BEFORE_ENCAP)
    assert (good, outer.saddr, outer.sport, outer.encapsulated) == (True, bytes([1, 1, 1, 1]), 0, False)
    stopped, good = dissect(frame_of("gre"), DissectFlag.STOP_AT_ENCAP)
    assert (good, stopped.saddr, stopped.encapsulated) == (True, bytes([1, 1, 1, 1]), True)
    assert dissect(frame_of("v6fl"))[0].sport == 0
    assert dissect(frame_of("v6fl"), 0)[0].sport == 1000


def test_tag_that_was_taken_off_counts() -> None:
    frame = frame_of("vlan")
    bare = frame[:12] + frame[16:]
    tci = int.from_bytes(frame[14:16], "big")
    keys, good = skb_flow_dissect(bare, 0x8100, 14, tag=(0x8100, tci), inner_proto=0x0800)
    assert good
    assert keys.hash_words() == dissect(frame)[0].hash_words()


def test_headers_have_an_end() -> None:
    # 15 headers at most: twenty IPv4 headers, each in the one before it
    header = bytes.fromhex("4500001400000000400400000a0000010a000002")
    keys, good = skb_flow_dissect(header * 20, 0x0800, 0)
    assert (good, keys.thoff) == (True, 16 * 20)
    assert skb_flow_dissect(header[:19], 0x0800, 0)[1] is False
