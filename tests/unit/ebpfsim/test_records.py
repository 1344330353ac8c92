"""Records as values of C types and as tables."""

import struct

import pytest

import ebpfsim
from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Array, Int, Member, Struct
from ebpfsim.errors import InputError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.records import RecordReader, find_type, table
from ebpfsim.uapi.bpf import MapType, ProgType


class Found:
    """A map of an object with these structures."""

    key_type_id = value_type_id = 0
    name = "events"

    def __init__(self, structs: dict[str, int], fd: int = -1) -> None:
        builder = BtfBuilder()
        number = builder.add(Int("unsigned int", 4, 32))
        char = builder.add(Int("char", 1, 8, encoding=1))
        comm = builder.add(Array("", char, number, 8))
        for name, words in structs.items():
            members = [Member("comm", comm, 0)]
            members += [Member(f"n{index}", number, 64 + 32 * index) for index in range(words)]
            builder.add(Struct(name, 8 + 4 * words, tuple(members)))
        self.btf = Btf(builder.build())
        self.siblings = {"events": self}
        self.fd = fd


def test_the_structure_that_is_named() -> None:
    found = Found({"one": 1, "two": 2})
    assert find_type(found, "two", []).name == "two"
    assert find_type(found, "struct one", []).name == "one"
    with pytest.raises(InputError, match="unknown struct 'tow'; did you mean 'two'"):
        find_type(found, "tow", [])


@pytest.mark.parametrize(
    ("structs", "lengths", "name"),
    [
        # the only one as long; with the padding of perf buffers; the one called an event
        ({"one": 1, "two": 2}, [16, 16], "two"),
        ({"one": 1, "two": 2}, [20], "two"),
        ({"one": 1, "open_event": 1}, [12], "open_event"),
        # records that are cut
        ({"state": 1, "event": 40}, [20, 24], "event"),
    ],
)
def test_the_structure_that_is_found(structs, lengths, name) -> None:
    found = Found(structs)
    assert find_type(found, None, lengths).name == name


def test_nothing_says_which() -> None:
    with pytest.raises(InputError, match="nothing says of which type") as error:
        find_type(Found({"one": 1, "two": 1}), None, [12])
    assert "one, two, struct {" in str(error.value)


def test_structures_of_the_kernel_are_no_records() -> None:
    found = Found({"task_struct": 1, "mine": 1})
    assert find_type(found, None, [12]).name == "mine"


def test_a_value_of_what_was_written() -> None:
    found = Found({"event": 2})
    type_ = find_type(found, None, [])
    assert type_.value(struct.pack("<8sI", b"cat", 7)) == {"comm": "cat", "n0": 7, "n1": 0}


def test_a_structure_that_is_written_down() -> None:
    type_ = find_type(Found({}), "struct { __u64 at; pid_t pid; char comm[4]; }", [])
    assert type_.value(struct.pack("<Qi4s", 1, -2, b"cat")) == {"at": 1, "pid": -2, "comm": "cat"}


def test_a_table() -> None:
    values = [{"comm": "cat", "pid": 7, "at": {"x": 1}}, {"comm": "a", "pid": 1234, "at": {"x": -2}}]
    assert table(values) == (
        "comm   pid  at.x\n"
        "cat      7     1\n"
        "a     1234    -2\n"
    )  # fmt: skip
    assert table([]) == "no records\n"


@pytest.fixture
def host() -> ebpfsim.Host:
    return ebpfsim.Simulation(seed=1).host("h", cpus=2)


def writer(host: ebpfsim.Host, fd: int, helper: str) -> None:
    # the name and two numbers, when a task reads
    data = (
        "r6 = r1; *(u32 *)(r10 - 8) = 5; *(u32 *)(r10 - 4) = 6; r1 = r10; r1 += -16; r2 = 8; "
        f"call bpf_get_current_comm; {helper}; r0 = 0; exit"
    )
    text = data.format(fd=fd)
    prog = host.bpf.prog_load(ProgType.KPROBE, encode(assemble(text)), license="GPL").fd
    host.attach_kprobe(prog, "ksys_read")


RING = "r1 = map_fd[{fd}] ll; r2 = r10; r2 += -16; r3 = 16; r4 = 0; call bpf_ringbuf_output"
PERF = "r1 = r6; r2 = map_fd[{fd}] ll; r3 = 0xffffffff ll; r4 = r10; r4 += -16; r5 = 16; call bpf_perf_event_output"


@pytest.mark.parametrize(
    ("map_type", "entries", "helper", "cpu"),
    [(MapType.RINGBUF, 4096, RING, None), (MapType.PERF_EVENT_ARRAY, 2, PERF, 1)],
)
def test_what_programs_write(host, map_type, entries, helper, cpu) -> None:
    size = 0 if map_type == MapType.RINGBUF else 4
    fd = host.bpf.map_create(map_type, size, size, entries)
    reader = RecordReader(host.kernel, Found({"event": 2}, fd))  # type: ignore[arg-type]
    writer(host, fd, helper)
    task = host.spawn("cat", cpu=1)
    # more than the ring holds at once: it is read while it is written
    for _ in range(300):
        host.syscall(task, "read", 0, 1)
    records = reader.read()
    assert len(records) == 300
    assert (records[0].cpu, records[0].value, reader.type_name) == (cpu, {"comm": "cat", "n0": 5, "n1": 6}, "event")
    assert reader.read() == []
    assert reader.lost == 0
    assert reader.table().splitlines()[:2] == ["comm  n0  n1", "cat    5   6"]


def test_maps_without_records(host) -> None:
    fd = host.bpf.map_create(MapType.ARRAY, 4, 4, 1)
    with pytest.raises(InputError, match="holds no records"):
        RecordReader(host.kernel, Found({"event": 2}, fd))  # type: ignore[arg-type]
