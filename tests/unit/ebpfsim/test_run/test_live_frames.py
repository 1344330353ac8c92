"""BPF_F_TEST_XDP_LIVE_FRAMES (net/bpf/test_run.c, v6.18). The live kernel is asked about frames that go nowhere."""

import struct

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_TEST_XDP_LIVE_FRAMES as LIVE

DROP, PASS, TX, REDIRECT = 1, 2, 3, 4
FRAME = bytes(64)
# count what byte 0 holds, then add one to it
COUNT = """
    r6 = r1; r7 = *(u32 *)(r6 + 0); r8 = *(u32 *)(r6 + 4); r2 = r7; r2 += 14; if r2 > r8 goto out
    r3 = *(u8 *)(r7 + 0); *(u32 *)(r10 - 4) = r3; r3 += 1; *(u8 *)(r7 + 0) = r3
    r2 = r10; r2 += -4; r1 = map_fd[{fd}] ll; call bpf_map_lookup_elem; if r0 == 0 goto out
    r1 = *(u64 *)(r0 + 0); r1 += 1; *(u64 *)(r0 + 0) = r1
    out: {end}
"""


@pytest.fixture
def counting(bpf):
    """Run the counting program; return how often byte 0 held 0, 1, 2, ..."""

    def run(end: str = f"r0 = {DROP}; exit", **attributes) -> list[int]:
        fd = bpf.map_create(MapType.ARRAY, 4, 8, 256)
        prog = bpf.prog_load(ProgType.XDP, encode(assemble(COUNT.format(fd=fd, end=end)))).fd
        assert bpf.prog_test_run(prog, FRAME, flags=LIVE, **attributes).retval == 0
        found = [bpf.map_lookup_elem(fd, struct.pack("<I", key)) for key in range(256)]
        counts = [int.from_bytes(value, "little") for value in found]
        while counts and not counts[-1]:
            counts.pop()
        return counts

    return run


@pytest.mark.parametrize(
    ("repeat", "batch_size", "expected"),
    [
        (0, 0, [1]),
        (64, 0, [64]),
        (128, 64, [64, 64]),
        (200, 64, [64, 64, 64, 8]),
        # the queue of pages is as long as a batch: most of the first 64 are given up
        (70, 1, [64] + [1] * 6),
        (100, 8, [64, 8, 8, 8, 8, 4]),
        (300, 100, [64, 64, 64, 64, 44]),
        (600, 256, [64] * 9 + [24]),
    ],
)
def test_what_programs_write_stays_on_pages_that_come_back(counting, repeat, batch_size, expected) -> None:
    counts = counting(repeat=repeat, batch_size=batch_size)
    assert sum(counts) == max(repeat, 1)
    assert counts == expected


@pytest.mark.parametrize("action", [TX, 0, 7])
def test_frames_that_go_nowhere_come_back_at_once(counting, action) -> None:
    # loopback has no way to send frames of XDP; others are no verdicts
    assert counting(f"r0 = {action}; exit", repeat=128) == [64, 64]


def test_a_redirect_to_nobody(counting) -> None:
    end = "r1 = 987654; r2 = 0; call bpf_redirect; exit"
    assert counting(end, repeat=128) == [64, 64]
    assert counting(f"r0 = {REDIRECT}; exit", repeat=128) == [64, 64]


def test_pointers_begin_anew(bpf) -> None:
    # each run sees 64 bytes, whatever the one before did
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 1)
    code = f"""
        r6 = r1; r7 = *(u32 *)(r6 + 0); r8 = *(u32 *)(r6 + 4); r8 -= r7
        *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{fd}] ll; call bpf_map_lookup_elem; if r0 == 0 goto out
        r1 = *(u64 *)(r0 + 0); r1 += r8; *(u64 *)(r0 + 0) = r1
        r1 = r6; r2 = 20; call bpf_xdp_adjust_head
        r1 = r6; r2 = -10; call bpf_xdp_adjust_tail
        out: r0 = {DROP}; exit
    """
    prog = bpf.prog_load(ProgType.XDP, encode(assemble(code))).fd
    bpf.prog_test_run(prog, FRAME, flags=LIVE, repeat=200)
    assert bpf.map_lookup_elem(fd, bytes(4)) == struct.pack("<Q", 64 * 200)


def test_the_context(bpf) -> None:
    # room of 216 bytes as ever, of which a struct xdp_frame takes none; the frame ends 112 bytes earlier in its page
    code = """
        r6 = r1; r2 = -{head}; call bpf_xdp_adjust_head; r7 = r0; r1 = r6; r2 = {tail}; call bpf_xdp_adjust_tail
        r0 |= r7; r1 = 0; if r0 == 0 goto ok; r1 = 1
        ok: *(u32 *)(r10 - 4) = 0; *(u64 *)(r10 - 16) = r1; r2 = r10; r2 += -4; r3 = r10; r3 += -16
        r1 = map_fd[{fd}] ll; r4 = 0; call bpf_map_update_elem; r0 = 1; exit
    """
    fd = bpf.map_create(MapType.ARRAY, 4, 8, 1)

    def failed(head: int, tail: int) -> int:
        prog = bpf.prog_load(ProgType.XDP, encode(assemble(code.format(head=head, tail=tail, fd=fd)))).fd
        bpf.prog_test_run(prog, FRAME, flags=LIVE)
        return bpf.map_lookup_elem(fd, bytes(4))[0]

    assert failed(216, 3408 - 64) == 0
    assert failed(217, 0) == 1
    assert failed(0, 3408 - 64 + 1) == 1


def test_what_is_refused(bpf, refused) -> None:
    prog = bpf.prog_load(ProgType.XDP, encode(assemble(f"r0 = {DROP}; exit"))).fd
    run = bpf.prog_test_run
    assert refused(run, prog, FRAME, flags=LIVE, batch_size=257) == "E2BIG"
    # one page, less than without the flag
    run(prog, bytes(3408), flags=LIVE)
    assert refused(run, prog, bytes(3409), flags=LIVE) == "EINVAL"
    assert refused(run, prog, bytes(13), flags=LIVE) == "EINVAL"
    # metadata of 8 bytes; a frame that is not all of the data; outputs besides a context
    md = struct.pack("<6I", 8, 64, 0, 0, 0, 0)
    run(prog, FRAME, ctx_in=md, flags=LIVE)
    assert refused(run, prog, bytes(65), ctx_in=md, flags=LIVE) == "EINVAL"
    assert refused(run, prog, FRAME, ctx_in=md, data_size_out=64, flags=LIVE) == "EINVAL"
    run(prog, struct.pack("<8x3408x"), ctx_in=struct.pack("<6I", 8, 3416, 0, 0, 0, 0), flags=LIVE)


def test_the_callers_frame_comes_back_unchanged(bpf) -> None:
    code = "r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); r4 = r2; r4 += 14; if r4 > r3 goto out; " \
           f"*(u8 *)(r2 + 0) = 7; out: r0 = {DROP}; exit"  # fmt: skip
    prog = bpf.prog_load(ProgType.XDP, encode(assemble(code))).fd
    assert bpf.prog_test_run(prog, FRAME, flags=LIVE, data_size_out=64).data_out == FRAME


# ---- frames that go somewhere ---------------------------------------------------------------------------------------


@pytest.fixture
def hosts():
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="10Gbit", delay="1us")
    return sim, a, b


def run(host, code: str, frame: bytes = FRAME, **attributes):
    prog = host.bpf.prog_load(ProgType.XDP, encode(assemble(code))).fd
    return host.bpf.prog_test_run(prog, frame, flags=LIVE, **attributes)


def frames(sim, host: str, direction: str) -> int:
    return sum(1 for each in sim.recorder.packets if (each.host, each.direction) == (host, direction))


def test_redirected_frames_leave_one_after_the_other(hosts) -> None:
    sim, a, b = hosts
    ifindex = a.device("eth0").ifindex
    done = run(a, f"r1 = {ifindex}; r2 = 0; call bpf_redirect; exit", repeat=1000)
    sim.run(until="10ms")
    assert (frames(sim, "a", "out"), frames(sim, "b", "in")) == (1000, 1000)
    assert b.device("eth0").stats.rx_packets == 1000
    assert done.duration_ns > 0


def test_xdp_tx_goes_back_to_the_device(hosts) -> None:
    sim, a, _b = hosts
    md = struct.pack("<6I", 0, 64, 0, a.device("eth0").ifindex, 0, 0)
    run(a, f"r0 = {TX}; exit", repeat=20, batch_size=7, ctx_in=md)
    sim.run(until="1ms")
    assert frames(sim, "b", "in") == 20


def test_xdp_pass_goes_up_the_stack(hosts) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    sim, _a, b = hosts
    socket = b.net.udp_socket("10.0.0.2", 5000)
    device = b.device("eth0")
    packet = bytes(
        Ether(dst=device.mac.hex(":")) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=5000) / b"x"
    )
    md = struct.pack("<6I", 0, len(packet), 0, device.ifindex, 0, 0)
    run(b, f"r0 = {PASS}; exit", packet, repeat=5, ctx_in=md)
    sim.run(until="1ms")
    assert [each.data for each in socket.received] == [b"x"] * 5


def test_memory_comes_back(hosts) -> None:
    sim, a, _b = hosts
    ifindex = a.device("eth0").ifindex
    code = f"r1 = {ifindex}; r2 = 0; call bpf_redirect; exit"
    run(a, code, repeat=300, batch_size=100)
    sim.run(until="10ms")
    before = sim.mem.allocated_bytes
    run(a, f"r0 = {DROP}; exit", repeat=300, batch_size=3)
    prog_bytes = sim.mem.allocated_bytes - before
    run(a, f"r0 = {DROP}; exit", repeat=3, batch_size=3)
    assert sim.mem.allocated_bytes - before == 2 * prog_bytes
