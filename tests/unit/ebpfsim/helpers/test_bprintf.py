"""Formats: every expected text is what bpf_snprintf() of Linux 6.18 wrote."""

import re
from typing import Any

import pytest

from ebpfsim.helpers.bprintf import FormatError, bprintf, parse_format
from ebpfsim.memory import Memory

M64 = (1 << 64) - 1
NEG = -5 & M64

TEXTS: list[tuple[bytes, tuple[int, ...], bytes]] = [
    (b"100%%\n\t", (), b"100%\n\t"),
    (b"x", (1, 2), b"x"),
    (b"\x80\xc3\xa9", (), b"\x80\xc3\xa9"),
    (b"%d %i %u", (NEG, NEG, NEG), b"-5 -5 4294967291"),
    (b"%ld %lu", (NEG, NEG), b"-5 18446744073709551611"),
    (b"%lld %llx %llX", (NEG, NEG, NEG), b"-5 fffffffffffffffb FFFFFFFFFFFFFFFB"),
    (b"%lx %x", (1 << 40, 1 << 40), b"10000000000 0"),
    (b"%5d|%-5d|%05d|%+d|% d", (42,) * 5, b"   42|42   |00042|+42| 42"),
    (b"%+u|%+x|% x", (1, 255, 255), b"1|ff|ff"),
    (b"%+-6d|%- 6d|%0+6d|%+ d", (7,) * 4, b"+7    | 7    |+00007|+7"),
    (b"%08lx|%-08x|", (0xABC, 0xABC), b"00000abc|abc     |"),
    (b"%c%c|%5c|%-5c|%05c|", (65, 0x4142, 65, 66, 65), b"AB|    A|B    |    A|"),
    (b"%s.%10s|%05s|%-5s|", (0,) * 4, b".          |     |     |"),
    (b"%pks|%pus", (0, 0), b"|"),
    (b"%pI4 %pi4", (0, 0), b"0.0.0.0 000.000.000.000"),
    (b"%pI6", (0,), b"0000:0000:0000:0000:0000:0000:0000:0000"),
    (b"%pi6", (0,), b"00000000000000000000000000000000"),
    (b"%20pI4|%pI4c x|%pI6c x", (0, 0, 0), b"0.0.0.0|0.0.0.0 x|0000:0000:0000:0000:0000:0000:0000:0000 x"),
    (b"%px", (0xFFFF_8880_1234_5678,), b"ffff888012345678"),
    (b"%20px|%-20px|%020px", (0x12,) * 3, b"                  12|12                  |00000000000000000012"),
    (b"%p|%20p|%p|%pK", (0, 0, NEG, 0), b"0000000000000000|                   0|fffffffffffffffb|0000000000000000"),
    (b"%ps|%pS|%pB.|%5ps|%-20pS|%020ps|", (0x1234,) * 6,
     b"0x1234|0x1234|0x1234.|0x1234|0x1234              |              0x1234|"),
    (b"%pxx|%pKx|%pSx", (1, 0, 0x12), b"0000000000000001|0000000000000000|0x12"),
    (b"%d" * 12, tuple(range(12)), b"01234567891011"),
]  # fmt: skip

REFUSED = [
    *(b"%", b"%y", b"%hd", b"%#x", b"%.3d", b"%d", b"%pI5", b"%pM", b"%pd", b"%sx", b"\x01", b"\x7f", b"%l"),
    *(b"%llld", b"%5%|", b"%hhx", b"%p0", b"%z", b"%n", b"%pe", b"%\x80"),
]


@pytest.fixture
def mem() -> Memory:
    return Memory(1 << 26)


@pytest.mark.parametrize(("fmt", "values", "text"), TEXTS)
def test_texts(mem: Memory, fmt: bytes, values: tuple[int, ...], text: bytes) -> None:
    assert bprintf(mem, fmt, values, 1) == text


@pytest.mark.parametrize("fmt", REFUSED)
def test_refused_formats(mem: Memory, fmt: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        bprintf(mem, fmt, () if fmt == b"%d" else (1,) * 12, 1)
    assert caught.value.errno == 22


def test_strings_and_addresses_come_from_memory(mem: Memory) -> None:
    data = mem.alloc(32)
    mem.write(data, bytes([10, 0, 0, 66]) + b"\0" * 12 + b"eth0\0")
    values = (data, data, data + 16, data + 16, 8)
    assert bprintf(mem, b"%pI4 %pi6 %s|%6s|%s", values, 1) == b"10.0.0.66 0a000042" + b"0" * 24 + b" eth0|  eth0|"


def test_strings_share_512_bytes(mem: Memory) -> None:
    # MAX_BPRINTF_BIN_ARGS: the second string gets what is left, the third nothing at all
    long = mem.alloc(512)
    mem.fill(long, 511, ord("a"))
    assert bprintf(mem, b"%s", (long,), 1) == b"a" * 511
    short = mem.alloc(512)
    mem.fill(short, 500, ord("b"))
    assert bprintf(mem, b"%s %s", (short, long), 1) == b"b" * 500 + b" " + b"a" * 10
    with pytest.raises(FormatError) as caught:
        bprintf(mem, b"%s %s", (long, short), 1)
    assert caught.value.errno == 28


@pytest.mark.parametrize(
    ("fmt", "filled", "length"),
    [
        # measured on 6.18: what is left cuts an address, but it must hold its binary form; numbers are aligned to 4
        (b"%s %pI4", 496, 504),
        (b"%s %pI4", 503, 511),
        (b"%s %pI4", 508, None),
        (b"%s %pI6", 472, 511),
        (b"%s %pI6", 500, None),
        (b"%s %pB", 506, 511),
        (b"%s %ld", 503, 520),
        (b"%s %ld", 504, None),
        (b"%s %c", 510, 512),
        (b"%s %c", 511, None),
    ],
)
def test_what_is_left_of_the_buffer_decides(mem: Memory, fmt: bytes, filled: int, length: int | None) -> None:
    first, second = mem.alloc(512), mem.alloc(16)
    mem.fill(first, filled, ord("b"))
    mem.write(second, b"a" * 16 if filled > 496 else bytes([1, 2, 3, 4]))
    value = 0xFFFF_8881_0253_BD38 if fmt.endswith((b"d", b"B")) else second
    if length is None:
        with pytest.raises(FormatError) as caught:
            bprintf(mem, fmt, (first, value), 1)
        assert caught.value.errno == 28
    else:
        assert len(bprintf(mem, fmt, (first, value), 1)) == length


def test_pointers_are_hidden_the_same_way_in_every_run(mem: Memory) -> None:
    first = bprintf(mem, b"%p %p %p", (0x1000, 0x1000, 0x2000), 1).split()
    assert first[0] == first[1] != first[2]
    assert re.fullmatch(rb"00000000[0-9a-f]{8}", first[0])
    assert bprintf(mem, b"%p", (0x1000,), 1) == first[0]
    assert bprintf(mem, b"%p", (0x1000,), 2) != first[0]


def test_widths_are_bounded(mem: Memory) -> None:
    # set_field_width() of lib/vsprintf.c
    assert len(bprintf(mem, b"%999999999d", (1,), 1)) == (1 << 23) - 1


def test_parse_format_counts_conversions() -> None:
    assert len(parse_format(b"a %d %s\n", 2)) == 5
    with pytest.raises(FormatError):
        parse_format(b"a %d %s\n", 1)


@pytest.mark.live
def test_linux_writes_the_same() -> None:
    from ebpfsim.live import Bpf

    for fmt, values, text in TEXTS:
        if len(values) <= 12:
            assert _snprintf(Bpf(), fmt, values) == text, fmt


def _snprintf(bpf: Any, fmt: bytes, values: tuple[int, ...]) -> bytes:
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.insn import encode
    from ebpfsim.uapi.bpf import MapType, ProgType
    from ebpfsim.uapi.flags import BPF_F_RDONLY_PROG

    constant = bpf.map_create(MapType.ARRAY, 4, len(fmt) + 1, 1, map_flags=BPF_F_RDONLY_PROG)
    bpf.map_update_elem(constant, bytes(4), fmt + b"\0")
    bpf.map_freeze(constant)
    out = bpf.map_create(MapType.ARRAY, 4, 512, 1)
    size = 8 * len(values)
    fill = "".join(f"r1 = {value:#x} ll; *(u64 *)(r10 - {size - 8 * at}) = r1;" for at, value in enumerate(values))
    data = f"r4 = r10; r4 += -{size};" if values else "r4 = 0;"
    code = (
        f"{fill} r1 = map_value[out] ll; r2 = 512; r3 = map_value[fmt] ll; {data} r5 = {size}; call bpf_snprintf; exit"
    )
    fd = bpf.prog_load(ProgType.XDP, encode(assemble(code, maps={"out": out, "fmt": constant}))).fd
    length = bpf.prog_test_run(fd, bytes(64)).retval
    text: bytes = bpf.map_lookup_elem(out, bytes(4))[: length - 1]
    for used in (fd, out, constant):
        bpf.close(used)
    return text
