"""Writing into a seq_file (fs/seq_file.c, v6.18): one byte always stays free, and a full one stays full."""

import pytest

from ebpfsim.helpers.seq import SEQ_COUNT, seq_printf, seq_write
from ebpfsim.progs.runtime import Run

EOVERFLOW, EINVAL = -75, -22
SIZE = 16


@pytest.fixture
def run(machine) -> Run:
    return Run(machine, machine.prog("exit"), 0, machine.cpus[0])


@pytest.fixture
def seq(run) -> int:
    made, buffer = run.mem.alloc(64), run.mem.alloc(SIZE)
    run.mem.store(made, 8, buffer)
    run.mem.store(made + 8, 8, SIZE)
    return made


def put(run, data: bytes) -> int:
    address = run.mem.alloc(max(len(data), 1))
    run.mem.write(address, data)
    return address


def content(run, seq: int) -> bytes:
    return run.mem.read(run.mem.load(seq, 8), run.mem.load(seq + SEQ_COUNT, 8))


def test_bytes_one_after_the_other(run, seq) -> None:
    for part in (b"12345678", b"", b"1234567"):
        assert seq_write(run, seq, put(run, part), len(part), 0, 0) == 0
    assert content(run, seq) == b"123456781234567"


def test_a_full_buffer_stays_full(run, seq) -> None:
    assert seq_write(run, seq, put(run, bytes(16)), 16, 0, 0) == EOVERFLOW
    assert run.mem.load(seq + SEQ_COUNT, 8) == SIZE
    assert seq_write(run, seq, put(run, b"x"), 1, 0, 0) == EOVERFLOW


@pytest.mark.parametrize(
    ("fmt", "args", "result", "expected"),
    [
        (b"%d-%x\0", [7, 255], 0, b"7-ff"),
        (b"plain\0", [], 0, b"plain"),
        (b"no end", [], EINVAL, b""),
        (b"%d\0", [], EINVAL, b""),
        (b"%lu%lu\0", [10**9, 10**9], EOVERFLOW, None),
    ],
)
def test_text(run, seq, fmt, args, result, expected) -> None:
    data = put(run, b"".join(arg.to_bytes(8, "little") for arg in args))
    assert seq_printf(run, seq, put(run, fmt), len(fmt), data if args else 0, 8 * len(args)) == result
    assert expected is None or content(run, seq) == expected


def test_arguments_are_whole_words_and_there(run, seq) -> None:
    fmt = put(run, b"%d\0")
    assert seq_printf(run, seq, fmt, 3, put(run, bytes(8)), 7) == EINVAL
    assert seq_printf(run, seq, fmt, 3, 0, 8) == EINVAL
    assert seq_printf(run, seq, fmt, 3, put(run, bytes(104)), 104) == EINVAL
