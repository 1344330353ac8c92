"""bpf_redirect and its kin as machine code: results and ``struct bpf_redirect_info`` are those of the helpers."""

import random
import struct
from typing import Any

import pytest

import netstack.redirect_helpers as helpers
from ebpfsim import Simulation
from ebpfsim.btf.layout import member_offset, sizeof
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import REDIRECT_INFO_BYTES
from ebpfsim.errors import InternalError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit.engine import execute
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack import bpf_net_context as context
from netstack.bpf_net_context import bpf_net_context, bpf_net_ctx_get

LO, ENTRIES, EXCLUDE, BROADCAST = 1, 5, 16, 8
MAPS = (MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP, MapType.XSKMAP)
KEYS = (0, 1, 2, 3, 4, 5, 9, 1 << 31, (1 << 32) - 1)


def test_the_structure_is_the_kernels() -> None:
    names = {
        "tgt_index": context.TGT_INDEX, "tgt_value": context.TGT_VALUE, "map": context.MAP, "flags": context.FLAGS,
        "map_id": context.MAP_ID, "map_type": context.MAP_TYPE, "nh": context.NEXTHOP,
        "kern_flags": context.KERN_FLAGS,
    }  # fmt: skip
    found = {name: member_offset(vmlinux(), "bpf_redirect_info", name) for name in names}
    assert found == names
    assert sizeof(vmlinux(), vmlinux().find("bpf_redirect_info")) <= REDIRECT_INFO_BYTES


class Side:
    """A host of one engine that runs a program of one call."""

    def __init__(self, engine: str, cpus: int = 2) -> None:
        self.host = Simulation(seed=1).host("h", engine=engine, cpus=cpus)
        self.bpf, self.cpu = self.host.bpf, self.host.kernel.cpus[cpus - 1]

    def map(self, kind: MapType) -> int:
        fd = self.bpf.map_create(kind, 4, 4, ENTRIES)
        if kind is MapType.XSKMAP:
            return fd
        for key in (1, 3) if kind is not MapType.CPUMAP else (1,):
            self.bpf.map_update_elem(fd, struct.pack("<I", key), struct.pack("<I", LO))
        if kind is MapType.DEVMAP_HASH:
            # three of them in one bucket of eight; one that is not the newest goes
            for key in (9, 17, 1 << 31 | 1):
                self.bpf.map_update_elem(fd, struct.pack("<I", key), struct.pack("<I", LO))
            self.bpf.map_delete_elem(fd, struct.pack("<I", 9))
        return fd

    def prog(self, call: str, kind: ProgType = ProgType.XDP) -> Any:
        # the arguments come from the packet: R2 and R3 of the call, 64 bits each
        text = f"""
            r6 = r1; r1 = *(u32 *)(r6 + {0 if kind is ProgType.XDP else 76})
            r2 = *(u32 *)(r6 + {4 if kind is ProgType.XDP else 80}); r3 = r1; r3 += 30
            if r3 > r2 goto out; r2 = *(u64 *)(r1 + 14); r3 = *(u64 *)(r1 + 22); {call}; exit
            out: r0 = 99; exit
        """
        return self.host.prog(self.bpf.prog_load(kind, encode(assemble(text)), license="GPL").fd)

    def run(self, prog: Any, first: int, second: int) -> tuple[Any, ...]:
        """Return R0, counts and the structure; calls with no context come first."""
        from netstack.xdp_buff import make_xdp_buff

        rxq = self.host.kernel.device_by_ifindex(LO).xdp_rxq(0)
        xdp = make_xdp_buff(self.host.kernel.mem, bytes(14) + struct.pack("<QQ", first, second) + bytes(30), rxq)
        with bpf_net_context(self.cpu):
            ran = execute(prog, xdp.address, self.cpu)
            info = self.host.kernel.mem.read(self.cpu.redirect_info, REDIRECT_INFO_BYTES)
        xdp.close()
        return ran.r0, ran.insns, ran.cost_ps, info


@pytest.fixture
def without_python(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    for name in ("_redirect_to", "bpf_net_ctx_get"):
        real = getattr(helpers, name)

        def call(*args: Any, _real: Any = real, **options: Any) -> Any:
            asked.append("python")
            return _real(*args, **options)

        monkeypatch.setattr(helpers, name, call)
    return asked


@pytest.mark.parametrize("kind", MAPS)
def test_maps(kind: MapType, without_python: list[str]) -> None:
    rng = random.Random(3)
    cases = [(key, flags) for key in KEYS for flags in (0, 1, 2, 3, 4, EXCLUDE, EXCLUDE | 2, BROADCAST | 1, 1 << 40)]
    cases += [(key | rng.getrandbits(31) << 33, rng.getrandbits(5)) for key in KEYS * 2]
    results = []
    for engine in ("interp", "jit"):
        side = Side(engine)
        fd = side.map(kind)
        prog = side.prog(f"r1 = map_fd[{fd}] ll; call bpf_redirect_map")
        without_python.clear()
        found = []
        for key, flags in cases:
            asked = len(without_python)
            found.append(side.run(prog, key, flags))
            if engine == "jit" and not flags & BROADCAST:
                assert len(without_python) == asked, (key, flags)
        results.append(found)
    assert results[0] == results[1]
    assert {r0 for r0, *_ in results[0]} >= {0, 1, 2, 3} | ({4} if kind is not MapType.XSKMAP else set())


@pytest.mark.parametrize("cpus", [1, 2])
def test_devices(cpus: int, without_python: list[str]) -> None:
    results = []
    for engine in ("interp", "jit"):
        side = Side(engine, cpus)
        prog = side.prog("r1 = r2; r2 = r3; call bpf_redirect")
        without_python.clear()
        results.append([side.run(prog, index, flags) for index in (0, 1, 7 << 32 | 5) for flags in (0, 1, 1 << 32)])
    assert results[0] == results[1]
    assert without_python == []
    assert {r0 for r0, *_ in results[0]} == {0, 4}


@pytest.mark.parametrize("helper", ["bpf_redirect", "bpf_redirect_peer"])
@pytest.mark.parametrize("kind", [ProgType.SCHED_CLS, ProgType.SCHED_ACT])
def test_tc(helper: str, kind: ProgType) -> None:
    results = []
    for engine in ("interp", "jit"):
        bpf = Simulation(seed=1).host("h", engine=engine).bpf
        found = []
        for index in (1, 5):
            for flags in (0, 1, 2, 1 << 31):
                text = f"r1 = {index}; w2 = {flags - (1 << 32) if flags >> 31 else flags}; call {helper}; exit"
                prog = bpf.prog_load(kind, encode(assemble(text)), license="GPL")
                found.append(bpf.prog_test_run(prog.fd, bytes(64)).retval)
        results.append(found)
    assert results[0] == results[1]
    # TC_ACT_SHOT and TC_ACT_REDIRECT
    assert set(results[0]) == {2, 7}


def test_outside_of_a_context_python_says_what_is_wrong() -> None:
    side = Side("jit")
    prog = side.prog("r1 = r2; r2 = 0; call bpf_redirect")
    side.run(prog, 1, 0)
    with pytest.raises(InternalError, match="no bpf_net_context"):
        bpf_net_ctx_get(side.cpu)
    from netstack.xdp_buff import make_xdp_buff

    rxq = side.host.kernel.device_by_ifindex(LO).xdp_rxq(0)
    xdp = make_xdp_buff(side.host.kernel.mem, bytes(60), rxq)
    with pytest.raises(InternalError, match="no bpf_net_context"):
        execute(prog, xdp.address, side.cpu)


def test_a_context_keeps_its_wish_while_another_one_runs() -> None:
    side = Side("jit")
    fd = side.map(MapType.DEVMAP)
    prog = side.prog(f"r1 = map_fd[{fd}] ll; call bpf_redirect_map")
    mem, cpu = side.host.kernel.mem, side.cpu
    with bpf_net_context(cpu) as outer:
        first = side.host.kernel.fds.lookup(fd)
        outer.ri.tgt_value = 77
        assert side.run(prog, 3, 0)[3][8:16] == first.entry_at(3).address.to_bytes(8, "little")
        assert outer.ri.tgt_value == 77
        assert mem.load(cpu.redirect_info + 56, 4) == 1
    assert mem.read(cpu.redirect_info, 64) == bytes(64)
