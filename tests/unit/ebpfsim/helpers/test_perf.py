"""Events that programs may not write to (__bpf_perf_event_output(), v6.18), and bytes of packets with what they write
(bpf_skb_output(), bpf_xdp_output()); the rest is in test_perf_buffer."""

from pathlib import Path

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.helpers.perf import perf_event_output
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.perf_event import PerfEvent
from ebpfsim.maps.types import create_map
from ebpfsim.progs.runtime import Run
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

OBJECT = Path(__file__).parents[3] / "parity" / "bpf" / "xdp_mix.bpf.o"
FRAME = bytes.fromhex("020000000201 020000000101 0800 4500002e00010000401166bc0a0000010a000002") + bytes(26)
CURRENT = 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("type_", "config", "cpu", "result"),
    [(1, 10, 0, 0), (1, 9, 0, -22), (0, 10, 0, -22), (1, 10, 1, -95)],
)
def test_only_outputs_of_this_cpu_are_written_to(make_machine, type_, config, cpu, result) -> None:
    machine = make_machine(cpus=2)
    map_ = create_map(MapAttr(MapType.PERF_EVENT_ARRAY, 4, 4, 2), machine.mem, 2)
    machine.maps[map_.address] = map_
    event = PerfEvent(machine.mem, cpu, type_, config)
    event.map_ring(1)
    map_.put_slot(0, event)
    prog = machine.prog("exit")
    prog.type = ProgType.KPROBE
    run = Run(machine, prog, 0, machine.cpus[0])
    assert perf_event_output(run, 0, map_.address, CURRENT, machine.mem.alloc(8), 8) == result
    assert [len(data) for _, data in event.consume()] == ([16] if not result else [])
    # programs that see no packet cannot ask for part of one
    assert perf_event_output(run, 0, map_.address, 1 << 32 | CURRENT, machine.mem.alloc(8), 8) == -22


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, b""), (20, FRAME[14:34]), (1 << 20, None)],
)
def test_of_a_packet(count, expected) -> None:
    """An skb at ip_rcv() begins with its IP header; more than it has is EFAULT, and nothing is written."""
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"))
    events = b.bpf.map_create(MapType.PERF_EVENT_ARRAY, 4, 4, 1)
    results = b.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    flags = 0xFFFF_FFFF | (count & 0xFFFFF) << 32 if count < 1 << 20 else 0xFFFF_FFFF | 1000 << 32
    text = f"""
        r1 = *(u64 *)(r1 + 0); r2 = 77; *(u64 *)(r10 - 8) = r2; r2 = map_fd[{events}]; r3 = {flags} ll; r4 = r10;
        r4 += -8; r5 = 8; call bpf_skb_output; r6 = r0; *(u32 *)(r10 - 12) = 0; r1 = map_fd[{results}]; r2 = r10;
        r2 += -12; call bpf_map_lookup_elem; if r0 == 0 goto out; *(u64 *)(r0 + 0) = r6; out: r0 = 0; exit
    """
    target = vmlinux().find("ip_rcv", Kind.FUNC)
    fd = b.bpf.prog_load(
        ProgType.TRACING, encode(assemble(text)), license="GPL", expected_attach_type=AttachType.TRACE_FENTRY,
        attach_btf_id=target,
    ).fd  # fmt: skip
    b.attach_fentry(fd)
    ring = b.perf_buffer(events)
    a.send("eth0", FRAME)
    sim.run()
    seen = [data for _, data in ring.consume()]
    result = int.from_bytes(b.bpf.map_lookup_elem(results, bytes(4)), "little", signed=True)
    if expected is None:
        assert (result, seen) == (-14, [])
    else:
        assert result == 0
        assert [data[: 8 + count] for data in seen] == [(77).to_bytes(8, "little") + expected]


def test_of_a_frame() -> None:
    """A program on a program of XDP gets its xdp_buff."""
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0"), b.nic("eth0"))
    events = b.bpf.map_create(MapType.PERF_EVENT_ARRAY, 4, 4, 1)
    obj = b.open(OBJECT)
    obj.load()
    plain = obj.programs["pass"]
    text = f"""
        r1 = *(u64 *)(r1 + 0); r2 = 77; *(u64 *)(r10 - 8) = r2; r2 = map_fd[{events}]; r3 = {0xFFFF_FFFF | 34 << 32} ll;
        r4 = r10; r4 += -8; r5 = 8; call bpf_xdp_output; r0 = 0; exit
    """
    fd = b.bpf.prog_load(
        ProgType.TRACING, encode(assemble(text)), license="GPL", expected_attach_type=AttachType.TRACE_FENTRY,
        attach_prog_fd=plain.fd, attach_btf_id=b.prog(plain).subprogs[0].type_id,
    ).fd  # fmt: skip
    b.attach_fentry(fd)
    b.attach_xdp(plain, "eth0")
    ring = b.perf_buffer(events)
    a.send("eth0", FRAME)
    sim.run()
    assert [data[:42] for _, data in ring.consume()] == [(77).to_bytes(8, "little") + FRAME[:34]]
