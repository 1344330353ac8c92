"""Printing; the formats themselves are in test_bprintf.py."""

from typing import Any

import pytest

EINVAL = -22 & 0xFFFF_FFFF


def text(machine: Any, value: bytes) -> int:
    address: int = machine.mem.alloc(max(len(value), 1))
    machine.mem.write(address, value)
    return address


def test_trace_printk_prints_and_returns_the_length(machine: Any) -> None:
    fmt = b"port %d of %d\n\0"
    code = f"r1 = {text(machine, fmt):#x} ll; r2 = {len(fmt)}; r3 = 53; r4 = 80; call bpf_trace_printk; exit"
    assert machine.run(code).retval == len("port 53 of 80\n")
    assert machine.printed == [b"port 53 of 80\n"]


@pytest.mark.parametrize("fmt", [b"no end", b"%d %d %d %d\0", b"%y\0", b""])
def test_trace_printk_refuses(machine: Any, fmt: bytes) -> None:
    code = f"r1 = {text(machine, fmt):#x} ll; r2 = {len(fmt)}; call bpf_trace_printk; exit"
    assert machine.run(code).retval == EINVAL
    assert machine.printed == []


def test_a_character_of_zero_ends_the_line_but_not_the_length(machine: Any) -> None:
    fmt = b"a%cb\0"
    code = f"r1 = {text(machine, fmt):#x} ll; r2 = {len(fmt)}; r3 = 0; call bpf_trace_printk; exit"
    assert machine.run(code).retval == 3
    assert machine.printed == [b"a"]


def test_long_lines_are_cut(machine: Any) -> None:
    fmt = b"%1500d\0"
    code = f"r1 = {text(machine, fmt):#x} ll; r2 = {len(fmt)}; r3 = 7; call bpf_trace_printk; exit"
    assert machine.run(code).retval == 1500
    assert machine.printed == [b" " * 1023]  # MAX_BPRINTF_BUF is 1024 with the NUL


def test_trace_vprintk_takes_an_array(machine: Any) -> None:
    fmt, data = b"%d %d %d %d\0", machine.mem.alloc(32)
    for slot in range(4):
        machine.mem.store(data + 8 * slot, 8, slot + 1)
    code = "r1 = {:#x} ll; r2 = {}; r3 = {:#x} ll; r4 = {}; call bpf_trace_vprintk; exit"
    assert machine.run(code.format(text(machine, fmt), len(fmt), data, 32)).retval == 7
    assert machine.printed == [b"1 2 3 4"]
    for wrong in (31, 104):
        assert machine.run(code.format(text(machine, fmt), len(fmt), data, wrong)).retval == EINVAL
    assert machine.run(code.format(text(machine, fmt), len(fmt), 0, 32)).retval == EINVAL


@pytest.mark.parametrize(
    ("size", "written"),
    [(0, b"........"), (1, b"\0......."), (4, b"hel\0...."), (6, b"hello\0.."), (8, b"hello\0..")],
)
def test_snprintf_returns_what_it_needs_and_writes_what_fits(machine: Any, size: int, written: bytes) -> None:
    out = machine.mem.alloc(8)
    machine.mem.write(out, b"........")
    fmt = text(machine, b"h%s\0")
    data = machine.mem.alloc(8)
    machine.mem.store(data, 8, text(machine, b"ello\0"))
    code = f"r1 = {out:#x} ll; r2 = {size}; r3 = {fmt:#x} ll; r4 = {data:#x} ll; r5 = 8; call bpf_snprintf; exit"
    assert machine.run(code).retval == 6
    assert machine.mem.read(out, 8) == written


def test_snprintf_refuses_arguments_of_odd_size(machine: Any) -> None:
    fmt = text(machine, b"x\0")
    code = f"r1 = 0; r2 = 0; r3 = {fmt:#x} ll; r4 = {fmt:#x} ll; r5 = 4; call bpf_snprintf; exit"
    assert machine.run(code).retval == EINVAL
