"""Arguments of the tracepoints of XDP as programs of raw_tp see them (include/trace/events/xdp.h, v6.18)."""

from struct import unpack

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.xdp_trace import XDP_TRACEPOINTS

FRAME = bytes.fromhex("02000000000b02000000000a88b5") + bytes(50)


@pytest.fixture
def host():
    """veth0 and veth1 in one namespace; veth1 has number 2, veth0 3."""
    host = Simulation(seed=1).host("h", cpus=2)
    host.veth("veth0", "veth1")
    return host


def watch(host, name: str, count: int) -> int:
    """Keep the arguments of a tracepoint's last call in a map."""
    fd = host.bpf.map_create(MapType.ARRAY, 4, 8, 8)
    text = "r6 = r1;"
    for index in range(count):
        text += f"r1 = {index}; *(u32 *)(r10 - 4) = r1; r1 = *(u64 *)(r6 + {8 * index}); *(u64 *)(r10 - 16) = r1;"
        text += f"r1 = map_fd[{fd}]; r2 = r10; r2 += -4; r3 = r10; r3 += -16; r4 = 0; call bpf_map_update_elem;"
    code = encode(assemble(text + "r0 = 0; exit"))
    host.attach_raw_tp(host.bpf.prog_load(ProgType.RAW_TRACEPOINT, code, license="GPL").fd, name)
    return fd


def args(host, fd: int, count: int) -> list[int]:
    found = []
    for index in range(count):
        value = unpack("<q", host.bpf.map_lookup_elem(fd, index.to_bytes(4, "little")))[0]
        found.append(value - (1 << 32) if (1 << 31) <= value < 1 << 32 else value)
    return found


def xdp(host, device: str, text: str) -> None:
    host.attach_xdp(host.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL").fd, device)


def send(host, count: int = 3) -> None:
    for _ in range(count):
        host.device("veth0").inject(FRAME)
    host.sim.run()


def at(host, device: str) -> int:
    address = host.device(device).struct_address
    return address - (1 << 64)


def test_every_tracepoint_can_be_attached_to(host) -> None:
    for name in XDP_TRACEPOINTS:
        watch(host, name, 1)


def test_exception(host) -> None:
    fd = watch(host, "xdp_exception", 3)
    xdp(host, "veth1", "r0 = 0; exit")
    send(host)
    dev, prog, act = args(host, fd, 3)
    assert (dev, act) == (at(host, "veth1"), 0)
    assert prog != 0


def test_bulk_tx(host) -> None:
    fd = watch(host, "xdp_bulk_tx", 4)
    xdp(host, "veth1", "r0 = 3; exit")
    send(host)
    dev, sent, drops, err = args(host, fd, 4)
    assert (dev, sent, drops, err & 0xFFFF_FFFF) == (at(host, "veth1"), 0, 3, -6 & 0xFFFF_FFFF)


def test_redirect_and_devmap_xmit(host) -> None:
    redirect, xmit, failed = (watch(host, name, count) for name, count in (
        ("xdp_redirect", 7), ("xdp_devmap_xmit", 5), ("xdp_redirect_err", 7),
    ))  # fmt: skip
    xdp(host, "veth1", "r1 = 2; r2 = 0; call bpf_redirect; exit")
    send(host)
    # the other end has no NAPI: EOPNOTSUPP
    dev, _, target, err, map_type, map_id, index = args(host, failed, 7)
    assert (dev, target, err & 0xFFFF_FFFF) == (at(host, "veth1"), at(host, "veth1"), -95 & 0xFFFF_FFFF)
    assert (map_type, map_id, index) == (0, (1 << 31) - 1, 2)
    xdp(host, "veth0", "r0 = 1; exit")
    send(host)
    dev, _, target, err, map_type, map_id, index = args(host, redirect, 7)
    assert (dev, target, err, map_type, map_id, index) == (at(host, "veth1"), at(host, "veth1"), 0, 0, (1 << 31) - 1, 2)
    assert args(host, xmit, 5) == [at(host, "veth1"), at(host, "veth1"), 3, 0, 0]


def test_cpumap(host) -> None:
    enqueue, kthread = watch(host, "xdp_cpumap_enqueue", 4), watch(host, "xdp_cpumap_kthread", 4)
    cpumap = host.bpf.map_create(MapType.CPUMAP, 4, 4, 2)
    host.bpf.map_update_elem(cpumap, (1).to_bytes(4, "little"), (64).to_bytes(4, "little"))
    xdp(host, "veth1", f"r1 = map_fd[{cpumap}]; r2 = 1; r3 = 0; call bpf_redirect_map; exit")
    send(host)
    map_id = host.kernel.fds.lookup(cpumap).id
    assert args(host, enqueue, 4) == [map_id, 3, 0, 1]
    assert args(host, kthread, 4) == [map_id, 3, 0, 0]
