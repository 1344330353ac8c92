"""Verdicts on what is received: sockets that sock_ops programs put into maps, data that programs change (v6.18)."""

from typing import Any

import pytest
import sockmap_worlds

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType


@pytest.fixture
def host() -> Any:
    return Simulation(seed=1).host("h")


@pytest.mark.parametrize("kind", ["map", "hash"])
def test_sock_ops_put_connections_into_maps(host: Any, kind: str) -> None:
    bpf = host.bpf
    map_fd = bpf.map_create(MapType.SOCKMAP if kind == "map" else MapType.SOCKHASH, 4, 4, 4)
    verdict = f"r2 = map_fd[{map_fd}] ll; r3 = 4; r4 = 1; call bpf_sk_redirect_map; exit"
    if kind == "hash":
        verdict = f"""*(u32 *)(r10 - 4) = 4; r3 = r10; r3 += -4; r2 = map_fd[{map_fd}] ll; r4 = 1
            call bpf_sk_redirect_hash; exit"""
    else:
        verdict = verdict.replace("r3 = 4", "r3 = 0")
    fd = bpf.prog_load(ProgType.SK_SKB, encode(assemble(verdict)), expected_attach_type=AttachType.SK_SKB_VERDICT).fd
    bpf.prog_attach(fd, map_fd, AttachType.SK_SKB_VERDICT)
    # the key is the event, ACTIVE_ESTABLISHED (4) or PASSIVE_ESTABLISHED (5), less 4 as an index; -95 for others
    less = 4 if kind == "map" else 0
    code = f"""
        r6 = r1; r7 = *(u32 *)(r6 + 0); if r7 < 4 goto out; if r7 > 5 goto out; r7 -= {less}
        *(u32 *)(r10 - 4) = r7; r1 = r6; r2 = map_fd[{map_fd}] ll; r3 = r10; r3 += -4; r4 = 0
        call bpf_sock_{kind}_update; out: r0 = 1; exit
    """
    ops = bpf.prog_load(ProgType.SOCK_OPS, encode(assemble(code)))
    host.attach_cgroup(ops.fd, "/", "sock_ops")
    world = sockmap_worlds.Simulated(host)
    # of two connections the later one has the places; what is sent to b's other end is read at b
    assert world.send("b", b"hello") == 5
    assert [world.recv(end) for end in "BbaA"] == ["EAGAIN", b"hello", "EAGAIN", "EAGAIN"]


def test_other_events_have_no_connection_yet(host: Any) -> None:
    bpf = host.bpf
    map_fd, seen = bpf.map_create(MapType.SOCKMAP, 4, 4, 4), bpf.map_create(MapType.ARRAY, 4, 8, 16)
    code = f"""
        r6 = r1; *(u32 *)(r10 - 4) = 0; r2 = map_fd[{map_fd}] ll; r3 = r10; r3 += -4; r4 = 0
        call bpf_sock_map_update; r7 = r0; r1 = *(u32 *)(r6 + 0); *(u32 *)(r10 - 4) = r1
        r1 = map_fd[{seen}] ll; r2 = r10; r2 += -4; call bpf_map_lookup_elem; if r0 == 0 goto out
        *(u64 *)(r0 + 0) = r7; out: r0 = 1; exit
    """
    host.attach_cgroup(bpf.prog_load(ProgType.SOCK_OPS, encode(assemble(code))).fd, "/", "sock_ops")
    sockmap_worlds.Simulated(host)
    said = {n: bpf.map_lookup_elem(seen, n.to_bytes(4, "little")) for n in (1, 3, 4, 5, 11)}
    errnos = {n: -int.from_bytes(value, "little", signed=True) for n, value in said.items()}
    # TIMEOUT_INIT, TCP_CONNECT: EOPNOTSUPP (sock_map_op_okay)
    assert errnos == {1: 95, 3: 95, 4: 0, 5: 0, 11: 0}


def test_verdicts_change_what_is_read(host: Any) -> None:
    world = sockmap_worlds.Simulated(host)
    code = """
        r6 = r1; *(u64 *)(r10 - 8) = 0x58; r2 = 1; r3 = r10; r3 += -8; r4 = 1; r5 = 0; call bpf_skb_store_bytes
        r1 = r6; r2 = 4; r3 = 0; call bpf_skb_change_tail; r0 = 1; exit
    """
    world.attach({"verdict": code})
    assert (world.join("A", 0), world.send("a", b"hello")) == ("ok", 5)
    assert world.recv("A") == b"hXll"


def test_a_parser_that_fails_ends_the_stream(host: Any) -> None:
    world = sockmap_worlds.Simulated(host)
    world.attach({"parser": "r0 = -22; exit", "stream": "r0 = 1; exit"})
    assert (world.join("A", 0), world.send("a", b"hello"), world.recv("A")) == ("ok", 5, "EAGAIN")
    assert (world.send("a", b"x"), world.recv("A")) == (1, "EAGAIN")
