"""Layouts against the BTF of Linux 6.18, and the life of a frame in simulated RAM."""

from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.btf.layout import member_offset, sizeof
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InternalError
from ebpfsim.memory import Memory
from netstack import xdp_buff
from netstack.xdp_buff import NetDeviceStruct, XdpBuff, XdpPointers, XdpRing, XdpRxqInfo, make_xdp_buff

# facts/kernel-6.18.md: the linear part is at most 3520 bytes; 17 fragments more make 73152
LINEAR = 3520


@pytest.fixture(scope="module")
def mem() -> Memory:
    return Memory(1 << 26)


def size_of(struct: str) -> int:
    btf = vmlinux()
    return sizeof(btf, btf.by_name(struct, Kind.STRUCT))


def field(mem: Memory, address: int, struct: str, path: str, size: int) -> int:
    return mem.load(address + member_offset(vmlinux(), struct, path), size)


def test_sizes_are_those_of_the_kernel() -> None:
    assert Struct("<QQQQQQII").size == size_of("xdp_buff") == 56
    assert size_of("xdp_rxq_info") == xdp_buff.RXQ_INFO_BYTES
    assert size_of("xdp_frame") == xdp_buff.XDP_FRAME_BYTES
    assert size_of("net_device") == xdp_buff.NET_DEVICE_BYTES
    assert size_of("skb_shared_info") == 320


def test_pointers_are_in_the_order_of_struct_xdp_buff() -> None:
    offsets = [member_offset(vmlinux(), "xdp_buff", name) for name in XdpPointers._fields]
    assert offsets == [0, 8, 16, 24, 32, 40, 48, 52]


def test_a_prepared_buffer_reads_as_in_the_kernel(mem: Memory) -> None:
    xdp = make_xdp_buff(mem, bytes(range(64)), 0x1234, metadata=b"meta")
    start = xdp.hard_start
    want = {
        "data_hard_start": start, "data": start + 256, "data_end": start + 256 + 64, "data_meta": start + 252,
        "rxq": 0x1234, "txq": 0,
    }  # fmt: skip
    assert {name: field(mem, xdp.address, "xdp_buff", name, 8) for name in want} == want
    assert field(mem, xdp.address, "xdp_buff", "frame_sz", 4) == 4096
    assert field(mem, xdp.address, "xdp_buff", "flags", 4) == 0
    assert start % 4096 == 0
    assert (xdp.frame(), xdp.metadata(), xdp.size()) == (bytes(range(64)), b"meta", 64)
    assert mem.read(start + 252, 8) == b"meta\0\1\2\3"


def test_rxq_info_and_device_read_as_in_the_kernel(mem: Memory) -> None:
    device = NetDeviceStruct(mem, 7, "a-name-of-20-letters", 1500)
    rxq = XdpRxqInfo(mem, device.address, 3)
    dev = field(mem, rxq.address, "xdp_rxq_info", "dev", 8)
    assert field(mem, dev, "net_device", "ifindex", 4) == 7
    assert field(mem, dev, "net_device", "mtu", 4) == 1500
    assert mem.read_string(dev + member_offset(vmlinux(), "net_device", "name"), 16) == b"a-name-of-20-le"
    assert field(mem, rxq.address, "xdp_rxq_info", "queue_index", 4) == 3
    assert field(mem, rxq.address, "xdp_rxq_info", "frag_size", 4) == 4096
    device.set_mtu(9000)
    assert field(mem, dev, "net_device", "mtu", 4) == 9000


def test_a_long_frame_goes_on_in_fragments(mem: Memory) -> None:
    data = bytes(i % 251 for i in range(9000))
    xdp = make_xdp_buff(mem, data, 0)
    assert xdp.data_end - xdp.data == LINEAR
    info = xdp.pointers().data_hard_end
    assert field(mem, info, "skb_shared_info", "nr_frags", 1) == 2
    assert field(mem, info, "skb_shared_info", "xdp_frags_size", 4) == 9000 - LINEAR
    assert field(mem, info, "skb_shared_info", "frags[1].len", 4) == 9000 - LINEAR - 4096
    assert field(mem, xdp.address, "xdp_buff", "flags", 4) == 1  # XDP_FLAGS_HAS_FRAGS
    assert (xdp.frame(), xdp.size()) == (data, 9000)


def test_longest_frame(mem: Memory) -> None:
    """Linux 6.18 takes 73152 bytes in a test run and answers ENOMEM to one more."""
    assert make_xdp_buff(mem, bytes(73152), 0).size() == 73152
    with pytest.raises(InternalError, match="18 fragments, at most 17 fit"):
        make_xdp_buff(mem, bytes(73153), 0)


@given(st.lists(st.tuples(st.binary(min_size=14, max_size=9000), st.binary(max_size=60)), max_size=6))
def test_one_buffer_serves_any_frames_in_turn(mem: Memory, frames: list[tuple[bytes, bytes]]) -> None:
    xdp = XdpBuff(mem)
    for data, metadata in frames:
        xdp.prepare(data, 0, metadata=metadata)
        assert (xdp.frame(), xdp.metadata(), xdp.size()) == (data, metadata, len(data))
        copy = XdpBuff(mem)
        copy.copy_of(xdp)
        assert (copy.frame(), copy.metadata()) == (data, metadata)
        assert copy.data - copy.hard_start == 256
        copy.close()
        xdp.forget_metadata()
        assert xdp.metadata() == b""
    xdp.close()


def test_closing_gives_everything_back(mem: Memory) -> None:
    before = mem.allocated_bytes
    xdp = make_xdp_buff(mem, bytes(9000), 0)
    xdp.close()
    assert mem.allocated_bytes == before


def test_a_ring_uses_its_slots_in_turn(mem: Memory) -> None:
    ring = XdpRing(mem, 0, slots=3)
    used = []
    for _ in range(7):
        xdp = ring.take()
        used.append(xdp)
        xdp.recycle()
    assert used[3:] == [*used[:3], used[0]]
    assert len({xdp.address for xdp in used}) == 3


def test_a_ring_makes_more_only_while_all_are_held(mem: Memory) -> None:
    ring = XdpRing(mem, 0, slots=2)
    held = [ring.take() for _ in range(4)]
    for xdp in held:
        xdp.recycle()
    assert [ring.take() for _ in range(4)] == held


def test_a_buffer_without_a_ring_is_freed(mem: Memory) -> None:
    before = mem.allocated_bytes
    make_xdp_buff(mem, bytes(64), 0).recycle()
    assert mem.allocated_bytes == before
