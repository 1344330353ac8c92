"""Ring buffers (kernel/bpf/ringbuf.c, v6.18), asked of both kernels; user space reads as libbpf does."""

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.ringbuf import RingbufMap, ringbuf_of_record
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType

PAGE = 4096
BUSY, DISCARD = 1 << 31, 1 << 30


@dataclass
class Reader:
    """libbpf's ring_buffer: the consumer's page writable, the producer's and twice the data for reading."""

    bpf: object
    fd: int
    size: int

    def __post_init__(self) -> None:
        self.consumer = self.bpf.map_mmap(self.fd, PAGE, writable=True)
        self.producer = self.bpf.map_mmap(self.fd, PAGE + 2 * self.size, writable=False, offset=PAGE)

    @property
    def consumer_pos(self) -> int:
        return struct.unpack_from("<Q", self.consumer)[0]

    @consumer_pos.setter
    def consumer_pos(self, position: int) -> None:
        struct.pack_into("<Q", self.consumer, 0, position)

    @property
    def producer_pos(self) -> int:
        return struct.unpack_from("<Q", self.producer)[0]

    def header(self, position: int) -> tuple[int, int]:
        return struct.unpack_from("<II", self.producer, PAGE + position % self.size)

    def data(self, position: int, length: int) -> bytes:
        start = PAGE + position % self.size + 8
        return bytes(self.producer[start : start + length])

    def consume(self) -> list[bytes]:
        records = []
        while self.consumer_pos < self.producer_pos:
            length = self.header(self.consumer_pos)[0]
            if length & BUSY:
                break
            size = length & ~DISCARD
            if not length & DISCARD:
                records.append(self.data(self.consumer_pos, size))
            self.consumer_pos += (size + 8 + 7) & ~7
        return records

    def close(self) -> None:
        self.bpf.map_munmap(self.producer)
        self.bpf.map_munmap(self.consumer)


@pytest.fixture
def ring(bpf):
    fd = bpf.map_create(MapType.RINGBUF, 0, 0, PAGE)
    reader = Reader(bpf, fd, PAGE)
    yield reader
    reader.close()


OUTPUT = """
    r6 = {value}
    *(u64 *)(r10 - 8) = r6
    *(u64 *)(r10 - 16) = r6
    r2 = r10
    r2 += -16
    r3 = {size}
    r4 = {flags}
    r1 = map_fd[{fd}] ll
    call bpf_ringbuf_output
    exit
"""
RESERVE = """
    r1 = map_fd[{fd}] ll
    r2 = {size}
    r3 = {flags}
    call bpf_ringbuf_reserve
    if r0 == 0 goto out
    r6 = {value}
    *(u64 *)(r0 + 0) = r6
    r1 = r0
    r2 = 0
    call {end}
    r0 = 0
    exit
    out: r0 = 99
    exit
"""
QUERY = "r1 = map_fd[{fd}] ll; r2 = {what}; call bpf_ringbuf_query; exit"


def test_record_as_user_space_sees_it(ring, run_asm) -> None:
    assert run_asm(OUTPUT.format(value=0x1122, size=12, flags=0, fd=ring.fd)) == 0
    assert ring.header(0) == (12, 3)  # page offset: two pages of positions and one that is the kernel's own
    assert ring.producer_pos == 24
    assert ring.consume() == [struct.pack("<QI", 0x1122, 0x1122)]
    assert ring.consumer_pos == 24


def test_reserve_and_submit(ring, run_asm) -> None:
    assert run_asm(RESERVE.format(size=16, flags=0, value=5, fd=ring.fd, end="bpf_ringbuf_submit")) == 0
    assert ring.header(0)[0] == 16
    assert ring.consume() == [struct.pack("<QQ", 5, 0)]


def test_discarded_records_are_skipped(ring, run_asm) -> None:
    run_asm(RESERVE.format(size=16, flags=0, value=5, fd=ring.fd, end="bpf_ringbuf_discard"))
    run_asm(OUTPUT.format(value=6, size=8, flags=0, fd=ring.fd))
    assert ring.header(0)[0] == 16 | DISCARD
    assert ring.consume() == [struct.pack("<Q", 6)]


def test_255_records_of_8_bytes_fit_into_a_page(ring, run_asm) -> None:
    code = OUTPUT.format(value=1, size=8, flags=0, fd=ring.fd)
    assert run_asm(code, repeat=255) == 0
    assert run_asm(code) == -11 & 0xFFFF_FFFF
    assert ring.producer_pos == 255 * 16
    assert len(ring.consume()) == 255
    assert run_asm(code) == 0


def test_7_records_of_512_bytes_fit_into_a_page(bpf, ring, run_asm) -> None:
    code = RESERVE.format(size=512, flags=0, value=1, fd=ring.fd, end="bpf_ringbuf_submit")
    assert run_asm(code, repeat=7) == 0
    assert run_asm(code) == 99


def test_records_across_the_end_of_the_ring(ring, run_asm) -> None:
    code = RESERVE.format(size=1000, flags=0, value="{value}", fd=ring.fd, end="bpf_ringbuf_submit")
    seen = []
    for value in range(1, 14):
        assert run_asm(code.format(value=value)) == 0
        seen += [int.from_bytes(record[:8], "little") for record in ring.consume()]
    assert seen == list(range(1, 14))
    assert ring.producer_pos == 13 * 1008


def test_both_copies_of_the_data_show_a_record_across_the_end(ring, run_asm) -> None:
    filler = RESERVE.format(size=4000, flags=0, value=1, fd=ring.fd, end="bpf_ringbuf_submit")
    run_asm(filler)
    ring.consume()
    code = f"""
        r1 = map_fd[{ring.fd}] ll
        r2 = 96
        r3 = 0
        call bpf_ringbuf_reserve
        if r0 == 0 goto out
        r6 = 0x77
        *(u64 *)(r0 + 80) = r6
        *(u64 *)(r0 + 88) = r6
        r1 = r0
        r2 = 0
        call bpf_ringbuf_submit
        out: r0 = 0
        exit
    """
    run_asm(code)
    # the record starts at 4008: its bytes 80 and 88 are bytes 0 and 8 of the ring
    assert bytes(ring.producer[PAGE : PAGE + 16]) == struct.pack("<QQ", 0x77, 0x77)
    assert ring.data(4008, 96)[80:] == struct.pack("<QQ", 0x77, 0x77)


@pytest.mark.parametrize(("size", "result"), [(4088, 99), (4080, 0), (1 << 30, 99), (8, 0)])
def test_largest_record(ring, run_asm, size, result) -> None:
    assert run_asm(RESERVE.format(size=size, flags=0, value=1, fd=ring.fd, end="bpf_ringbuf_submit")) == result


def test_flags(ring, run_asm) -> None:
    assert run_asm(RESERVE.format(size=8, flags=1, value=1, fd=ring.fd, end="bpf_ringbuf_submit")) == 99
    assert run_asm(OUTPUT.format(value=1, size=8, flags=4, fd=ring.fd)) == -22 & 0xFFFF_FFFF
    assert run_asm(OUTPUT.format(value=1, size=8, flags=3, fd=ring.fd)) == 0


def test_query(ring, run_asm) -> None:
    run_asm(OUTPUT.format(value=1, size=8, flags=0, fd=ring.fd), repeat=3)
    ring.consumer_pos = 16
    answers = [run_asm(QUERY.format(fd=ring.fd, what=what)) for what in range(6)]
    assert answers[:4] == [32, PAGE, 16, 48]
    assert answers[5] == 0


def test_a_consumer_that_claims_too_much_stops_the_producer(ring, run_asm) -> None:
    """The positions are compared as unsigned numbers, so a consumer ahead of the producer leaves no room."""
    code = OUTPUT.format(value=1, size=8, flags=0, fd=ring.fd)
    ring.consumer_pos = 1 << 20
    assert run_asm(code) == -11 & 0xFFFF_FFFF


def test_element_operations(bpf, ring, refused) -> None:
    for call in (bpf.map_lookup_elem, bpf.map_delete_elem, bpf.map_get_next_key):
        assert refused(call, ring.fd, bytes(4)) == "EINVAL"
        assert refused(call, ring.fd, None) == "ENOTSUPP"
    assert refused(bpf.map_update_elem, ring.fd, bytes(4), b"") == "EINVAL"
    assert refused(bpf.map_update_elem, ring.fd, None, b"") == "ENOTSUPP"


@pytest.mark.parametrize(
    ("length", "offset", "writable", "errno"),
    [
        (2 * PAGE, 0, True, "EPERM"),
        (PAGE, PAGE, True, "EPERM"),
        (5 * PAGE, 0, False, "EINVAL"),
        (4 * PAGE, PAGE, False, "EINVAL"),
    ],
)
def test_mappings_refused(bpf, ring, refused, length, offset, writable, errno) -> None:
    assert refused(bpf.map_mmap, ring.fd, length, writable=writable, offset=offset) == errno


# ---- the simulated kernel alone -------------------------------------------------------------------------------------


@pytest.fixture
def sim_ring(kernel):
    return kernel.fds.lookup(kernel.bpf.map_create(MapType.RINGBUF, 0, 0, PAGE))


def test_consumer_is_woken_for_the_record_it_waits_for(sim_ring) -> None:
    """As the commit message says: notifications pace themselves (457f44363a88)."""
    heard = []
    sim_ring.on_wakeup.append(lambda: heard.append(sim_ring.producer_pos))
    sim_ring.output(bytes(8), 0)
    sim_ring.output(bytes(8), 0)
    assert heard == [16]
    assert len(sim_ring.consume()) == 2
    sim_ring.output(bytes(8), 0)
    assert heard == [16, 48]


def test_wakeup_flags(sim_ring) -> None:
    sim_ring.output(bytes(8), 1)  # BPF_RB_NO_WAKEUP
    assert sim_ring.wakeups == 0
    sim_ring.output(bytes(8), 2)  # BPF_RB_FORCE_WAKEUP
    assert sim_ring.wakeups == 1


def test_records_come_out_in_the_order_of_reservation(sim_ring) -> None:
    first, second = sim_ring.reserve(8), sim_ring.reserve(8)
    sim_ring.mem.store(second, 8, 2)
    sim_ring.commit(second, 0, discard=False)
    assert sim_ring.consume() == []
    sim_ring.mem.store(first, 8, 1)
    sim_ring.commit(first, 0, discard=False)
    assert sim_ring.consume() == [struct.pack("<Q", 1), struct.pack("<Q", 2)]


def test_records_that_are_still_busy_keep_their_place(sim_ring) -> None:
    """The span from the oldest busy record on must fit, though the consumer went on (pending_pos)."""
    busy = sim_ring.reserve(2000)
    sim_ring.consumer_pos = 2008
    assert sim_ring.reserve(2000)
    assert sim_ring.reserve(2000) == 0
    sim_ring.commit(busy, 0, discard=True)
    assert sim_ring.reserve(2000)


MEM = Memory(1 << 26)


@given(st.lists(st.tuples(st.sampled_from("rsdc"), st.integers(0, 1500)), max_size=80))
def test_ring_behaves_as_a_queue_of_records(operations) -> None:
    """Reserved records come out in their order, those that were submitted and nothing else, bytes unharmed."""
    ring = RingbufMap(MapAttr(MapType.RINGBUF, 0, 0, PAGE), MEM, 1)
    records: list[list] = []  # [address, bytes, state] of each record that is not consumed yet
    span = 0  # bytes from the consumer on
    for number, (operation, size) in enumerate(operations):
        busy = [record for record in records if record[2] == "busy"]
        if operation == "r":
            length = (size + 15) & ~7
            address = ring.reserve(size)
            assert bool(address) == (span + length < PAGE)
            if address:
                data = bytes((number + i) & 0xFF for i in range(size))
                MEM.write(address, data)
                assert ringbuf_of_record(MEM, address) == ring.address
                records.append([address, data, "busy"])
                span += length
        elif operation in "sd" and busy:
            record = busy[size % len(busy)]
            ring.commit(record[0], 0, discard=operation == "d")
            record[2] = "done" if operation == "s" else "gone"
        elif operation == "c":
            expected = []
            while records and records[0][2] != "busy":
                _, data, state = records.pop(0)
                span -= (len(data) + 15) & ~7
                if state == "done":
                    expected.append(data)
            assert ring.consume() == expected
            assert ring.available == span
    ring.put()
