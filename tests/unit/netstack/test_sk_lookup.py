"""Programs that choose sockets: sk_lookup and groups of SO_REUSEPORT, side by side with Linux 6.18."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from sk_lookup_steps import Simulated, answers  # noqa: E402

# the socket under a key of the sockmap, given to bpf_sk_assign() with flags; its result goes to ``seen``
ASSIGN = """
    r6 = r1
    *(u32 *)(r10 - 4) = {key}
    r2 = r10
    r2 += -4
    r1 = map[socks] ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r7 = r0
    r1 = r6
    r2 = r7
    r3 = {flags}
    call bpf_sk_assign
    *(u64 *)(r10 - 16) = r0
    r1 = r7
    call bpf_sk_release
    *(u32 *)(r10 - 4) = {key}
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    r1 = map[seen] ll
    call bpf_map_update_elem
out:
    r0 = {result}
    exit
"""


def assign(key: int = 0, flags: int = 0, result: int = 1) -> str:
    return ASSIGN.format(key=key, flags=flags, result=result)


# only datagrams to port 7 (host order), over UDP, from port 4000
ONLY_7 = """
    r2 = *(u32 *)(r1 + 60)
    if r2 != 7 goto pass
    r2 = *(u32 *)(r1 + 12)
    if r2 != 17 goto pass
    r2 = *(u16 *)(r1 + 36)
    r2 = be16 r2
    if r2 != 4000 goto pass
    r2 = *(u32 *)(r1 + 16)
    if r2 != 0x0100007f goto pass
    r0 = 0
    exit
pass:
    r0 = 1
    exit
"""
CHOOSE = """
    *(u32 *)(r10 - 4) = {key}
    r3 = r10
    r3 += -4
    r2 = map[{map}] ll
    r4 = 0
    call bpf_sk_select_reuseport
    *(u64 *)(r10 - 16) = r0
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    r1 = map[seen] ll
    call bpf_map_update_elem
    r0 = {result}
    exit
"""
A, B = ["socket", "a", "127.0.0.1", 7], ["socket", "b", "127.0.0.1", 8]
GROUP = [["socket", name, "127.0.0.1", 7, True] for name in "abc"]
TO_7, TO_8, TO_9 = ["send", "127.0.0.1", 7], ["send", "127.0.0.1", 8], ["send", "127.0.0.1", 9]
CASES: dict[str, list[list[Any]]] = {
    "assign": [A, B, ["map", 0, "b"], ["lookup", assign()], TO_7, TO_8, TO_9, ["seen"], ["unlink", 0], TO_7, TO_9],
    "drop": [A, B, ["lookup", ONLY_7], TO_7, TO_8],
    "assign and drop": [A, B, ["map", 0, "b"], ["lookup", assign(result=0)], TO_7, ["lookup", "r0 = 1; exit"], TO_7],
    "drop, then assign": [A, B, ["map", 0, "b"], ["lookup", "r0 = 0; exit"], TO_7, ["lookup", assign()], TO_7, TO_9],
    "two assign": [
        A, B, ["map", 0, "a"], ["map", 1, "b"], ["lookup", assign()], ["lookup", assign(1)], TO_9, ["seen"],
        ["lookup", assign(1, 1)], TO_9, ["seen"], ["lookup", assign(0, 4)], TO_9, ["seen"],
    ],
    "closed": [A, B, ["map", 0, "b"], ["lookup", assign()], ["close", "b"], TO_7, TO_9],
    "other address": [A, ["socket", "w", "0.0.0.0", 9], ["lookup", "r0 = 0; exit"], ["send", "127.0.0.5", 9]],
    "group by index": [
        *GROUP, ["array", 0, "b"], ["array", 1, "c"], ["array", 1, "b"],
        ["reuseport", "a", "SK_REUSEPORT", CHOOSE.format(key=0, map="array", result=1)], TO_7, TO_7, ["seen"],
        ["reuseport", "b", "SK_REUSEPORT", CHOOSE.format(key=1, map="array", result=1)], TO_7, ["close", "b"], TO_7,
        ["reuseport", "a", "SK_REUSEPORT", CHOOSE.format(key=1, map="array", result=0)], TO_7,
    ],
    "group of others": [
        *GROUP, ["socket", "d", "127.0.0.1", 8, True], ["socket", "e", "127.0.0.1", 10],
        ["array", 2, "d"], ["array", 3, "e"], ["map", 0, "e"], ["map", 1, "b"],
        ["reuseport", "c", "SK_REUSEPORT", CHOOSE.format(key=2, map="array", result=1)], ["seen"],
        ["reuseport", "c", "SK_REUSEPORT", CHOOSE.format(key=1, map="socks", result=1)], TO_7, ["seen"],
        ["reuseport", "e", "SK_REUSEPORT", "r0 = 1; exit"],
    ],
    "filter of a group": [
        *GROUP, ["reuseport", "a", "SOCKET_FILTER", "r0 = 2; exit"], TO_7, TO_7,
        ["reuseport", "a", "SOCKET_FILTER", "r6 = r1; r0 = *(u8 *)skb[0]; r0 -= 103; exit"], TO_7, ["close", "a"], TO_7,
    ],
    "bind": [
        *GROUP, ["socket", "x", "127.0.0.1", 7], ["socket", "y", "0.0.0.0", 7, True], ["socket", "z", "0.0.0.0", 7],
        ["send", "127.0.0.2", 7],
    ],
    "lookup and group": [
        *GROUP, ["map", 0, "b"], ["reuseport", "a", "SOCKET_FILTER", "r0 = 2; exit"], ["lookup", assign()], TO_9,
        ["lookup", assign(0, 3)], TO_9,
    ],
}  # fmt: skip


def ours(case: list[list[Any]]) -> list[Any]:
    machine = Simulated()
    return json.loads(json.dumps(answers(machine.host.bpf, machine, machine.host.netns_fd(), case)))  # type: ignore[no-any-return]


@pytest.mark.live
def test_sockets_are_chosen_as_on_linux() -> None:
    command = [sys.executable, str(HERE / "sk_lookup_steps.py")]
    done = subprocess.run(command, input=json.dumps(list(CASES.values())), capture_output=True, text=True, check=True)
    linux = dict(zip(CASES, json.loads(done.stdout), strict=True))
    assert {name: ours(case) for name, case in CASES.items()} == linux


def test_choice_of_programs() -> None:
    """The same without Linux: the sockmap's socket for everything, until the program goes."""
    assert [got for step, got in zip(CASES["assign"], ours(CASES["assign"]), strict=True) if step[0] == "send"] == [
        ["b"], ["b"], ["b"], ["a"], [],
    ]  # fmt: skip


def test_programs_are_asked_about_ipv6() -> None:
    host = Simulation(seed=1).host("h")
    server, client = host.net.udp_socket6("::1", 9), host.net.udp_socket6("::1", 10)
    # local_ip6[3] is 1 in network order, and the local port 9; others pass
    code = """
        r0 = 1
        r2 = *(u32 *)(r1 + 8)
        if r2 != 10 goto out
        r2 = *(u32 *)(r1 + 56)
        if r2 != 0x01000000 goto out
        r2 = *(u32 *)(r1 + 60)
        if r2 != 9 goto out
        r0 = 0
    out:
        exit
    """
    fd = host.bpf.prog_load(ProgType.SK_LOOKUP, encode(assemble(code)), expected_attach_type=AttachType.SK_LOOKUP).fd
    link = host.attach_netns(fd)
    client.sendto(b"x", "::1", 9)
    host.sim.run("1ms")
    assert (link.verdicts, server.received) == ({"SK_DROP": 1}, [])
    link.close()
    client.sendto(b"x", "::1", 9)
    host.sim.run("2ms")
    assert len(server.received) == 1
