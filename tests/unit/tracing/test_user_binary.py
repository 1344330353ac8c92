"""Binaries of user space: declared ones, and real ELF files as libbpf reads them (tools/lib/bpf/{elf,usdt}.c)."""

import contextlib
from struct import pack

import pytest

from ebpfsim.errors import InputError
from tracing.user_binary import REGISTER_OFFSETS, UsdtArg, UsdtNote, UserBinary, UserFunction, parse_usdt_arg

CODE_OFFSET, CODE_ADDRESS = 0x200, 0x401200


def elf() -> bytes:
    """An executable with a function work() at 0x401210 and a tracepoint shop:sold at 0x401220."""
    strings = b"\0work\0data\0"
    symbols = bytes(24) + pack("<IBBHQQ", 1, 0x12, 0, 1, CODE_ADDRESS + 0x10, 32)
    symbols += pack("<IBBHQQ", 6, 0x11, 0, 1, CODE_ADDRESS, 8) + pack("<IBBHQQ", 1, 0x12, 0, 0, 0, 0)
    # the base moved by 0x1000 since the note was made (prelink)
    desc = pack("<QQQ", CODE_ADDRESS + 0x20 - 0x1000, 0x402000, 0) + b"shop\0sold\0" + b"-4@-20(%rbp) 8@%rdi 1@$3\0"
    note = pack("<III", 8, len(desc), 3) + b"stapsdt\0" + desc + bytes(-len(desc) % 4)
    names = b"\0.text\0.symtab\0.strtab\0.note.stapsdt\0.stapsdt.base\0.shstrtab\0"
    body = {"text": bytes(0x100), "symbols": symbols, "strings": strings, "note": note, "names": names}
    places, at = {}, CODE_OFFSET
    for name, data in body.items():
        places[name] = at
        at += -(-len(data) // 8) * 8

    def section(name: str, kind: int, key: str, address: int = 0, link: int = 0) -> bytes:
        row = (names.index(name.encode() + b"\0"), kind, 0, address, places[key], len(body[key]), link, 0, 8, 0)
        return pack("<IIQQQQIIQQ", *row)

    table = bytes(64) + section(".text", 1, "text", CODE_ADDRESS) + section(".symtab", 2, "symbols", link=3)
    table += section(".strtab", 3, "strings") + section(".note.stapsdt", 7, "note")
    table += section(".stapsdt.base", 1, "names", 0x403000) + section(".shstrtab", 3, "names")
    program = pack("<IIQQQQQQ", 1, 5, CODE_OFFSET, CODE_ADDRESS, CODE_ADDRESS, 0x100, 0x100, 0x1000)
    header = pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 64, at, 0, 64, 56, 1, 64, 7, 6)
    content = (header + program).ljust(CODE_OFFSET, b"\0")
    for name, data in body.items():
        content = content.ljust(places[name], b"\0") + data
    return content.ljust(at, b"\0") + table


def test_functions_of_a_file_are_at_their_offsets() -> None:
    binary = UserBinary.read("/bin/x", elf())
    assert binary.functions == {"work": UserFunction("work", CODE_OFFSET + 0x10, 32)}
    assert binary.size == len(elf())


def test_notes_of_a_file_follow_its_base() -> None:
    binary = UserBinary.read("/bin/x", elf())
    assert binary.notes == [UsdtNote("shop", "sold", CODE_OFFSET + 0x20, ("-4@-20(%rbp)", "8@%rdi", "1@$3"))]
    assert binary.notes_of("shop", "bought") == []


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x02" + b"\xff" * 200])
def test_files_that_are_none(data: bytes) -> None:
    with pytest.raises(InputError):
        UserBinary.read("/bin/x", data)


def test_every_beginning_of_a_file_is_refused_or_read() -> None:
    whole = elf()
    for size in range(0, len(whole), 7):
        with contextlib.suppress(InputError):
            UserBinary.read("/bin/x", whole[:size])


def test_declared_functions_lie_behind_each_other() -> None:
    binary = UserBinary.declare("/bin/x", ["a", "b"], {"p:n": ["8@%rdi"]})
    assert [each.offset for each in binary.functions.values()] == [0x1000, 0x1040]
    assert binary.notes == [UsdtNote("p", "n", 0x1080, ("8@%rdi",))]
    assert binary.function_at(0x1041) == binary.functions["b"]
    assert binary.function_at(0x2000) is None
    assert UserBinary.declare("/bin/x", {"a": 0x5000}).functions["a"].offset == 0x5000


# parse_usdt_arg() of libbpf; offsets are those of struct pt_regs on x86-64
ARGUMENTS = [
    ("-4@-20(%rbp)", UsdtArg(-20, 2, 32, -4), 32),
    ("8@(%rsp)", UsdtArg(0, 2, 152, 8), 0),
    ("8@%rdi", UsdtArg(0, 1, 112, 8), 0),
    ("-4@%eax", UsdtArg(0, 1, 80, -4), 32),
    ("2@%r10w", UsdtArg(0, 1, 56, 2), 48),
    ("1@%sil", UsdtArg(0, 1, 104, 1), 56),
    ("-8@$-5", UsdtArg(-5, 0, 0, -8), 0),
    # as libbpf 1.8 reads "1@-96(%rbp,%rax,8)" and the forms without an offset or a scale
    ("1@-96(%rbp,%rax,8)", UsdtArg(-96, 3, 32, 1, 80, 3), 56),
    ("-4@(%rdi,%rcx,4)", UsdtArg(0, 3, 112, -4, 88, 2), 32),
    ("8@16(%r10,%r9)", UsdtArg(16, 3, 56, 8, 64, 0), 0),
]


@pytest.mark.parametrize(("text", "arg", "bitshift"), ARGUMENTS)
def test_places_of_arguments(text: str, arg: UsdtArg, bitshift: int) -> None:
    assert parse_usdt_arg(text) == arg
    assert parse_usdt_arg(text).bitshift == bitshift


@pytest.mark.parametrize("text", ["", "8", "8@", "3@%rdi", "8@%xmm0", "8@nokia", "8@8(%rax,%rbx,3)"])
def test_places_that_are_not_understood(text: str) -> None:
    with pytest.raises(InputError):
        parse_usdt_arg(text)


def test_every_register_of_the_abi_is_known() -> None:
    assert {"rdi", "rsi", "rdx", "rcx", "r8", "r9", "rax", "rsp", "rbp", "rip"} <= set(REGISTER_OFFSETS)
