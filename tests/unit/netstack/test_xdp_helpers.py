"""Helpers on struct xdp_buff: each row was measured by BPF_PROG_TEST_RUN on Linux 6.18; the live tests ask again."""

from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.xdp_buff import NetDeviceStruct, XdpBuff, XdpRxqInfo, make_xdp_buff
from netstack.xdp_helpers import HELPERS

EINVAL, EFAULT, EACCES, ENODEV = -22, -14, -13, -19
FRAGS = 1 << 5  # BPF_F_XDP_HAS_FRAGS
INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1
LO_MTU = 65536

# helper, frame size, offset, result, size of the output (metadata and frame)
# fmt: off
MOVES = [
    ("bpf_xdp_adjust_head", 64, -216, 0, 280), ("bpf_xdp_adjust_head", 64, -217, EINVAL, 64),
    ("bpf_xdp_adjust_head", 64, 50, 0, 14), ("bpf_xdp_adjust_head", 64, 51, EINVAL, 64),
    ("bpf_xdp_adjust_head", 64, 0, 0, 64),
    ("bpf_xdp_adjust_head", 64, INT_MIN, EINVAL, 64), ("bpf_xdp_adjust_head", 64, INT_MAX, EINVAL, 64),
    ("bpf_xdp_adjust_head", 9000, 3506, 0, 5494), ("bpf_xdp_adjust_head", 9000, 3507, EINVAL, 9000),
    ("bpf_xdp_adjust_tail", 64, 3456, 0, 3520), ("bpf_xdp_adjust_tail", 64, 3457, EINVAL, 64),
    ("bpf_xdp_adjust_tail", 64, -50, 0, 14), ("bpf_xdp_adjust_tail", 64, -51, EINVAL, 64),
    ("bpf_xdp_adjust_tail", 64, INT_MIN, EINVAL, 64), ("bpf_xdp_adjust_tail", 64, INT_MAX, EINVAL, 64),
    # frames with fragments: whole fragments go first, the last one grows to the end of its page
    ("bpf_xdp_adjust_tail", 9000, -1383, 0, 7617), ("bpf_xdp_adjust_tail", 9000, -1384, 0, 7616),
    ("bpf_xdp_adjust_tail", 9000, -5479, 0, 3521), ("bpf_xdp_adjust_tail", 9000, -5480, 0, 3520),
    ("bpf_xdp_adjust_tail", 9000, -5481, 0, 3519), ("bpf_xdp_adjust_tail", 9000, -8986, 0, 14),
    ("bpf_xdp_adjust_tail", 9000, -8987, EINVAL, 9000),
    ("bpf_xdp_adjust_tail", 9000, 2712, 0, 11712), ("bpf_xdp_adjust_tail", 9000, 2713, EINVAL, 9000),
    ("bpf_xdp_adjust_tail", 7615, 1, 0, 7616), ("bpf_xdp_adjust_tail", 7615, 2, EINVAL, 7615),
    ("bpf_xdp_adjust_tail", 7616, 1, EINVAL, 7616), ("bpf_xdp_adjust_tail", 9000, 0, 0, 9000),
    ("bpf_xdp_adjust_meta", 64, -4, 0, 68), ("bpf_xdp_adjust_meta", 64, -3, EACCES, 64),
    ("bpf_xdp_adjust_meta", 64, -216, 0, 280), ("bpf_xdp_adjust_meta", 64, -220, EINVAL, 64),
    ("bpf_xdp_adjust_meta", 64, 4, EINVAL, 64), ("bpf_xdp_adjust_meta", 64, 0, 0, 64),
    ("bpf_xdp_adjust_meta", 64, -256, EINVAL, 64), ("bpf_xdp_adjust_meta", 64, INT_MIN, EINVAL, 64),
]

# frame size, offset, bytes: result of bpf_xdp_load_bytes and of bpf_xdp_store_bytes
COPIES = [
    (64, 0, 16, 0), (64, 60, 4, 0), (64, 60, 5, EINVAL), (64, 63, 1, 0), (64, 64, 1, EINVAL), (64, -1, 1, EFAULT),
    (70000, 0xFFFF, 1, 0), (70000, 0x10000, 1, EFAULT),
    (9000, 3518, 8, 0), (9000, 3520, 8, 0), (9000, 7612, 16, 0), (9000, 8984, 16, 0),
    (9000, 8999, 1, 0), (9000, 8999, 2, EINVAL),
]

# ifindex, *mtu_len, len_diff, flags on a frame of 64 bytes from the loopback device: result, *mtu_len after it
CHECK_MTU = [
    (0, 0, 0, 0, 0, LO_MTU), (1, 0, 0, 0, 0, LO_MTU), (99, 0, 0, 0, ENODEV, 0), (99, 7, 0, 0, ENODEV, 7),
    (0, LO_MTU, 0, 0, 0, LO_MTU), (0, LO_MTU + 1, 0, 0, 1, LO_MTU),
    (0, 0, 65486, 0, 0, LO_MTU), (0, 0, 65487, 0, 1, LO_MTU), (0, 0, -100, 0, 0, LO_MTU),
    (0, 0, 0, 1, EINVAL, 0), (0, 70000, INT_MIN, 0, 0, LO_MTU),
]
# fmt: on


def content(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


class Bench:
    """Frames of the loopback device, and helpers called as an engine calls them: with 64-bit numbers."""

    def __init__(self) -> None:
        self.mem = Memory(1 << 26)
        device = NetDeviceStruct(self.mem, 1, "lo", LO_MTU)
        self.rxq = XdpRxqInfo(self.mem, device.address)
        net = SimpleNamespace(dev_get_by_index={1: SimpleNamespace(mtu=LO_MTU)}.get)
        kernel = SimpleNamespace(net=SimpleNamespace(devices_by_address={device.address: SimpleNamespace(net=net)}))
        self.run = SimpleNamespace(mem=self.mem, kernel=kernel, prog=SimpleNamespace(type=ProgType.XDP))
        self.scratch = self.mem.alloc(64)

    def frame(self, size: int, metadata: bytes = b"") -> XdpBuff:
        return make_xdp_buff(self.mem, content(size), self.rxq.address, metadata=metadata)

    def call(self, helper: str, *args: int) -> int:
        padded = [arg & (1 << 64) - 1 for arg in args] + [0] * (5 - len(args))
        run: Any = self.run
        return HELPERS[HELPER_IDS[helper]](run, *padded)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(("helper", "size", "offset", "result", "out"), MOVES)
def test_move(bench: Bench, helper: str, size: int, offset: int, result: int, out: int) -> None:
    xdp = bench.frame(size)
    assert bench.call(helper, xdp.address, offset) == result
    assert len(xdp.metadata() + xdp.frame()) == out
    assert bench.call("bpf_xdp_get_buff_len", xdp.address) == xdp.size() == len(xdp.frame())


@pytest.mark.live
@pytest.mark.parametrize(("helper", "size", "offset", "result", "out"), MOVES)
def test_move_on_linux(helper: str, size: int, offset: int, result: int, out: int) -> None:
    retval, data_out = on_linux(f"r2 = {offset}; call {helper}; exit", size)
    assert (retval, len(data_out)) == (result, out)


def test_content_moves_with_the_pointers(bench: Bench) -> None:
    xdp = bench.frame(64, b"metadata")
    assert bench.call("bpf_xdp_adjust_head", xdp.address, -4) == 0
    assert (xdp.metadata(), xdp.frame()[4:]) == (b"metadata", content(64))
    assert bench.call("bpf_xdp_adjust_head", xdp.address, 14) == 0
    assert (xdp.metadata(), xdp.frame()) == (b"metadata", content(64)[10:])
    # 40 bytes are kept for struct xdp_frame, 8 are metadata: 256 + 10 - 48
    assert bench.call("bpf_xdp_adjust_head", xdp.address, -219) == EINVAL
    assert bench.call("bpf_xdp_adjust_head", xdp.address, -218) == 0


def test_metadata_grows_and_shrinks(bench: Bench) -> None:
    xdp = bench.frame(64)
    for offset, size in ((-8, 8), (4, 4), (-212, 216), (216, 0)):
        assert bench.call("bpf_xdp_adjust_meta", xdp.address, offset) == 0
        assert (len(xdp.metadata()), xdp.frame()) == (size, content(64))


def test_metadata_is_at_most_252_bytes(bench: Bench) -> None:
    """struct skb_shared_info.meta_len has 8 bits: with the head moved in, 256 bytes would have room."""
    xdp = bench.frame(128)
    assert bench.call("bpf_xdp_adjust_head", xdp.address, 44) == 0
    assert bench.call("bpf_xdp_adjust_meta", xdp.address, -256) == EACCES
    assert bench.call("bpf_xdp_adjust_meta", xdp.address, -252) == 0


def test_tail_grows_with_zeroes(bench: Bench) -> None:
    xdp = bench.frame(64)
    assert bench.call("bpf_xdp_adjust_tail", xdp.address, -32) == 0
    assert bench.call("bpf_xdp_adjust_tail", xdp.address, 32) == 0
    assert xdp.frame() == content(32) + bytes(32)


def test_fragments_grow_with_zeroes_and_go_away(bench: Bench) -> None:
    xdp = bench.frame(9000)
    assert bench.call("bpf_xdp_adjust_tail", xdp.address, -100) == 0
    assert bench.call("bpf_xdp_adjust_tail", xdp.address, 200) == 0
    assert xdp.frame() == content(8900) + bytes(200)
    assert bench.call("bpf_xdp_adjust_tail", xdp.address, -(9100 - 1000)) == 0
    assert (xdp.frame(), xdp.pointers().has_frags) == (content(1000), False)
    # linear again: the whole tailroom is there
    assert bench.call("bpf_xdp_adjust_tail", xdp.address, 2520) == 0
    assert xdp.frame() == content(1000) + bytes(2520)


def test_fragments_cannot_grow_where_the_queue_says_so(bench: Bench) -> None:
    xdp = bench.frame(9000)
    xdp.set_rxq(XdpRxqInfo(bench.mem, 0, frag_size=0).address)
    assert bench.call("bpf_xdp_adjust_tail", xdp.address, 1) == -95  # EOPNOTSUPP
    assert bench.call("bpf_xdp_adjust_tail", xdp.address, -1) == 0


@pytest.mark.parametrize(("size", "offset", "count", "result"), COPIES)
def test_copy(bench: Bench, size: int, offset: int, count: int, result: int) -> None:
    xdp, buf, want = bench.frame(size), bench.scratch, bytearray(content(size))
    bench.mem.write(buf, b"\xee" * 16)
    assert bench.call("bpf_xdp_load_bytes", xdp.address, offset, buf, count) == result
    loaded = content(size)[offset : offset + count] if result == 0 else b"\xee" * count
    assert bench.mem.read(buf, 16) == loaded + b"\xee" * (16 - count)
    bench.mem.write(buf, bytes(range(200, 216)))
    assert bench.call("bpf_xdp_store_bytes", xdp.address, offset, buf, count) == result
    if result == 0:
        want[offset : offset + count] = bytes(range(200, 200 + count))
    assert xdp.frame() == want


@pytest.mark.live
@pytest.mark.parametrize("helper", ["bpf_xdp_load_bytes", "bpf_xdp_store_bytes"])
@pytest.mark.parametrize(("size", "offset", "count", "result"), COPIES)
def test_copy_on_linux(helper: str, size: int, offset: int, count: int, result: int) -> None:
    text = f"r6 = 0; *(u64 *)(r10 - 8) = r6; *(u64 *)(r10 - 16) = r6; r2 = {offset}; r3 = r10; r3 += -16; r4 = {count};"
    retval, data_out = on_linux(f"{text} call {helper}; exit", size)
    want = bytearray(content(size))
    if result == 0 and helper == "bpf_xdp_store_bytes":
        want[offset : offset + count] = bytes(count)
    assert (retval, data_out) == (result, want)


@pytest.mark.parametrize(("ifindex", "mtu_len", "len_diff", "flags", "result", "after"), CHECK_MTU)
def test_check_mtu(
    bench: Bench, ifindex: int, mtu_len: int, len_diff: int, flags: int, result: int, after: int
) -> None:
    xdp = bench.frame(64)
    bench.mem.store(bench.scratch, 4, mtu_len)
    assert bench.call("bpf_check_mtu", xdp.address, ifindex, bench.scratch, len_diff, flags) == result
    assert bench.mem.load(bench.scratch, 4) == after


@pytest.mark.live
@pytest.mark.parametrize(("ifindex", "mtu_len", "len_diff", "flags", "result", "after"), CHECK_MTU)
def test_check_mtu_on_linux(ifindex: int, mtu_len: int, len_diff: int, flags: int, result: int, after: int) -> None:
    if ifindex == 99:
        pytest.skip("this machine may have a device 99")
    text = f"r6 = {mtu_len}; *(u32 *)(r10 - 4) = r6; r2 = {ifindex}; r3 = r10; r3 += -4; r4 = {len_diff}; r5 = {flags};"
    text += "call bpf_check_mtu;"
    assert on_linux(f"{text} exit", 64)[0] == result
    assert on_linux(f"{text} r0 = *(u32 *)(r10 - 4); exit", 64)[0] == after


def on_linux(text: str, size: int) -> tuple[int, bytes]:
    """Run a program for XDP with fragments on the kernel of this machine; return its s32 result and the output."""
    from ebpfsim.live import Bpf

    bpf = Bpf()
    fd = bpf.prog_load(6, encode(assemble(text)), prog_flags=FRAGS).fd
    try:
        done = bpf.prog_test_run(fd, content(size))
    finally:
        bpf.close(fd)
    return done.retval - (done.retval >> 31 << 32), done.data_out
