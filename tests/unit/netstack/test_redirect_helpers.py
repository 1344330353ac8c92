"""bpf_redirect and bpf_redirect_map of XDP programs (net/core/filter.c, include/linux/filter.h, v6.18)."""

from types import SimpleNamespace
from typing import Any

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import XdpAction
from netstack.bpf_net_context import BY_IFINDEX, BpfRedirectInfo, bpf_net_ctx_get, bpf_net_ctx_set
from netstack.redirect_helpers import HELPERS

U64 = (1 << 64) - 1
BROADCAST, EXCLUDE_INGRESS = 8, 16


class Caller:
    """A program of a type that calls helpers, with a devmap whose entry 3 is eth0."""

    def __init__(self, lab: Any, map_type: MapType) -> None:
        net = lab.net("r")
        self.map = lab.devmap(net, map_type, {3: (net.add_nic("eth0"), None)})
        self.run = SimpleNamespace(
            kernel=net.kernel, cpu=net.kernel.cpus[0], prog=SimpleNamespace(type=ProgType.XDP), mem=lab.mem
        )
        bpf_net_ctx_set(self.run.cpu)

    def call(self, helper: str, *args: int) -> int:
        padded = [arg & U64 for arg in args] + [0] * (5 - len(args))
        run: Any = self.run
        return HELPERS[HELPER_IDS[helper]](run, *padded)

    @property
    def ri(self) -> BpfRedirectInfo:
        return bpf_net_ctx_get(self.run.cpu).ri


@pytest.fixture(params=[MapType.DEVMAP, MapType.DEVMAP_HASH])
def caller(lab: Any, request: pytest.FixtureRequest) -> Caller:
    return Caller(lab, request.param)


def test_redirect_notes_the_index(caller: Caller) -> None:
    assert caller.call("bpf_redirect", 99) == XdpAction.XDP_REDIRECT
    assert (caller.ri.tgt_index, caller.ri.map_id, caller.ri.map_type) == (99, BY_IFINDEX, MapType.UNSPEC)


def test_redirect_with_flags_aborts(caller: Caller) -> None:
    """facts/kernel-6.18.md."""
    assert caller.call("bpf_redirect", 2, 1) == XdpAction.XDP_ABORTED
    assert caller.ri.map_id == 0


def test_redirect_map_notes_the_entry(caller: Caller) -> None:
    # the key is 32 bits wide
    assert caller.call("bpf_redirect_map", caller.map.address, 3 | 1 << 32, 2) == XdpAction.XDP_REDIRECT
    ri = caller.ri
    assert (ri.map_type, ri.map_id, ri.flags, ri.map) == (caller.map.type, caller.map.id, 0, 0)
    assert ri.tgt_value == caller.map.entry_at(3).address


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 3 | EXCLUDE_INGRESS])
def test_a_missing_entry_gives_the_low_bits_of_flags(caller: Caller, flags: int) -> None:
    """facts/kernel-6.18.md: bpf_redirect_map miss returns flags & 3."""
    caller.call("bpf_redirect_map", caller.map.address, 3, 0)
    assert caller.call("bpf_redirect_map", caller.map.address, 4, flags) == flags & 3
    # what the first call asked for is forgotten
    assert (caller.ri.map_id, caller.ri.map_type, caller.ri.tgt_value) == (BY_IFINDEX, MapType.UNSPEC, 0)


@pytest.mark.parametrize("flags", [4, 32, 1 << 63, BROADCAST | 4])
def test_unknown_flags_abort(caller: Caller, flags: int) -> None:
    assert caller.call("bpf_redirect_map", caller.map.address, 3, flags) == XdpAction.XDP_ABORTED


@pytest.mark.parametrize("key", [3, 4])
def test_a_broadcast_needs_no_entry(caller: Caller, key: int) -> None:
    flags = BROADCAST | EXCLUDE_INGRESS | XdpAction.XDP_DROP
    assert caller.call("bpf_redirect_map", caller.map.address, key, flags) == XdpAction.XDP_REDIRECT
    assert (caller.ri.map, caller.ri.flags, caller.ri.map_id) == (caller.map.address, flags, caller.map.id)


# TC_ACT_REDIRECT and TC_ACT_SHOT, by test runs of Linux 6.18
@pytest.mark.parametrize(("flags", "action"), [(0, 7), (1, 7), (2, 2), (1 << 32, 2)])
def test_redirect_of_tc(caller: Caller, flags: int, action: int) -> None:
    caller.run.prog.type = ProgType.SCHED_CLS
    assert caller.call("bpf_redirect", 2, flags) == action


@pytest.mark.parametrize(
    "text",
    [
        "r1 = map_fd[{map}]; r2 = 1; r3 = 0; call bpf_redirect_map",
        "r1 = map_fd[{map}]; r2 = 2; r3 = 1; call bpf_redirect_map",
        "r1 = map_fd[{map}]; r2 = 0; r2 |= 256; r3 = 2; call bpf_redirect_map",
        "r1 = map_fd[{map}]; r2 = 0; r3 = 4; call bpf_redirect_map",
        "r1 = map_fd[{map}]; r2 = 0x100000000 ll; r3 = 0; call bpf_redirect_map",
        # the last call counts, whoever serves it
        "r1 = map_fd[{map}]; r2 = 0; r3 = 0; call bpf_redirect_map; r1 = map_fd[{map}]; r2 = 1; r3 = 0;"
        "call bpf_redirect_map",
        "r1 = map_fd[{map}]; r2 = 0; r3 = 0; call bpf_redirect_map; r1 = 2; r2 = 0; call bpf_redirect",
        "r1 = 2; r2 = 0; call bpf_redirect; r1 = map_fd[{map}]; r2 = 0; r3 = 0; call bpf_redirect_map",
        "r1 = map_fd[{map}]; r2 = 0; r3 = 0; call bpf_redirect_map; r1 = map_fd[{map}]; r2 = 3; r3 = 1;"
        "call bpf_redirect_map; r0 = 4",
        "r1 = map_fd[{map}]; r2 = 0; r3 = 0; call bpf_redirect_map; r0 = 1",
        "r0 = 4",
    ],
)
def test_machine_code_asks_for_the_same(text) -> None:
    """bpf_redirect_map() of an array of devices has a native routine; what comes of it is what Python says."""
    seen = []
    for engine in ("auto", "interp"):
        sim = ebpfsim.Simulation(seed=1)
        a, c = sim.host("a"), sim.host("c")
        b = sim.host("b", engine=engine)
        for number, other in enumerate((a, c)):
            sim.link(other.nic("eth0"), b.nic(f"eth{number}"))
        devmap = b.bpf.map_create(MapType.DEVMAP, 4, 4, 4)
        for key, ifindex in ((0, 3), (1, 2)):
            b.bpf.map_update_elem(devmap, key.to_bytes(4, "little"), ifindex.to_bytes(4, "little"))
        code = encode(assemble(text.format(map=devmap) + "; exit"))
        b.attach_xdp(b.bpf.prog_load(ProgType.XDP, code, license="GPL").fd, "eth0")
        a.send("eth0", bytes.fromhex("020000000201 020000000101 88b5") + bytes(46), count=40, every="50ns")
        sim.run()
        b.bpf.map_delete_elem(devmap, bytes(4))
        a.send("eth0", bytes.fromhex("020000000201 020000000101 88b5") + bytes(46), count=2, every="50ns")
        sim.run()
        stats = [device.stats.as_dict() for host in (a, b, c) for device in host.net.devices.values()]
        notes = [(note.time_ns, note.kind, note.details) for note in sim.recorder.notes if note.kind != "attach"]
        seen.append((stats, notes, [(run.time_ns, run.retval, run.cost_ps) for run in sim.recorder.runs]))
    assert seen[0] == seen[1]
