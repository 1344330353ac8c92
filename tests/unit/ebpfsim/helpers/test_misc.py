"""The machine and strings."""

from typing import Any

import pytest


def test_random_numbers_repeat_with_the_seed_and_differ_by_kernel(make_machine: Any) -> None:
    code = "call bpf_get_prandom_u32; r6 = r0; call bpf_get_prandom_u32; r6 <<= 32; r0 |= r6; exit"

    def draw(name: str) -> int:
        machine = make_machine()
        machine.name = name
        result: int = machine.run(code).state[0]
        return result

    assert draw("a") == draw("a")
    assert draw("a") != draw("b")
    assert draw("a") >> 32 != draw("a") & 0xFFFF_FFFF


def test_cpu_and_node(make_machine: Any) -> None:
    machine = make_machine(cpus=3)
    assert machine.run("call bpf_get_smp_processor_id; exit", cpu=2).retval == 2
    assert machine.run("call bpf_get_numa_node_id; exit").retval == 0


@pytest.mark.parametrize(
    ("left", "right", "size", "expected"),
    [
        (b"abc\0", b"abc\0", 4, 0),
        (b"abc\0", b"abd\0", 4, -1),
        (b"abd\0", b"abc\0", 4, 1),
        (b"abX", b"abY\0", 2, 0),
        (b"ab\0x", b"ab\0y", 4, 0),
        (b"ab\0", b"abc\0", 4, -1),
        (b"\xff\0", b"a\0", 2, 1),
        (b"a", b"b\0", 0, 0),
    ],
)
def test_strncmp(machine: Any, left: bytes, right: bytes, size: int, expected: int) -> None:
    # strncmp() of lib/string.c, which compares unsigned characters
    addresses = [machine.mem.alloc(16) for _ in range(2)]
    for address, text in zip(addresses, (left, right), strict=True):
        machine.mem.write(address, text)
    code = f"r1 = {addresses[0]:#x} ll; r2 = {size}; r3 = {addresses[1]:#x} ll; call bpf_strncmp; exit"
    assert machine.run(code).retval == expected & 0xFFFF_FFFF


EINVAL, ERANGE = -22, -34

# text, flags, what bpf_strtol() and bpf_strtoul() return and store: asked of Linux 6.18
NUMBERS = [
    (b"123", 0, (3, 123), (3, 123)),
    (b"123", 10, (3, 123), (3, 123)),
    (b" \t-123x", 10, (6, -123), (EINVAL, 0)),
    (b"-0x1f", 0, (5, -31), (EINVAL, 0)),
    (b"0x1g", 0, (3, 1), (3, 1)),
    (b"0xg", 0, (1, 0), (1, 0)),
    (b"0xg", 16, (EINVAL, 0), (EINVAL, 0)),
    (b"0x", 16, (EINVAL, 0), (EINVAL, 0)),
    (b"08", 0, (1, 0), (1, 0)),
    (b"077", 0, (3, 63), (3, 63)),
    (b"077", 8, (3, 63), (3, 63)),
    (b"fF", 16, (2, 255), (2, 255)),
    (b"9223372036854775807", 0, (19, (1 << 63) - 1), (19, (1 << 63) - 1)),
    (b"9223372036854775808", 0, (ERANGE, 0), (19, 1 << 63)),
    (b"-9223372036854775808", 0, (20, -(1 << 63)), (EINVAL, 0)),
    (b"-9223372036854775809", 0, (ERANGE, 0), (EINVAL, 0)),
    (b"18446744073709551615", 0, (ERANGE, 0), (20, (1 << 64) - 1)),
    (b"18446744073709551616", 0, (ERANGE, 0), (ERANGE, 0)),
    (b"-", 0, (EINVAL, 0), (EINVAL, 0)),
    (b" ", 0, (EINVAL, 0), (EINVAL, 0)),
    (b"+5", 0, (EINVAL, 0), (EINVAL, 0)),
    (b"12", 7, (EINVAL, 0), (EINVAL, 0)),
    (b"12", 32, (EINVAL, 0), (EINVAL, 0)),
    (b"-0", 0, (2, 0), (EINVAL, 0)),
    (b"\xa012", 0, (3, 12), (3, 12)),
    (b"1" * 70, 10, (ERANGE, 0), (ERANGE, 0)),
    (b"0" * 70 + b"5", 10, (63, 0), (63, 0)),
    (b" " * 70 + b"5", 10, (71, 5), (71, 5)),
    (b"9", 8, (EINVAL, 0), (EINVAL, 0)),
]


@pytest.mark.parametrize(("text", "flags", "signed", "unsigned"), NUMBERS)
def test_numbers(machine: Any, text: bytes, flags: int, signed: tuple[int, int], unsigned: tuple[int, int]) -> None:
    address, result = machine.mem.alloc(128), machine.mem.alloc(8)
    machine.mem.write(address, text)
    for helper, expected in (("bpf_strtol", signed), ("bpf_strtoul", unsigned)):
        machine.mem.store(result, 8, 77)
        code = f"r1 = {address:#x} ll; r2 = {len(text)}; r3 = {flags}; r4 = {result:#x} ll; call {helper}; exit"
        used = machine.run(code).retval
        assert (used, machine.mem.load(result, 8)) == (expected[0] & 0xFFFF_FFFF, expected[1] & (1 << 64) - 1)


@pytest.mark.live
def test_linux_says_the_same_of_numbers() -> None:
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.insn import encode
    from ebpfsim.live import Bpf
    from ebpfsim.uapi.bpf import ProgType

    bpf = Bpf()
    for text, flags, signed, unsigned in NUMBERS:
        padded = text + bytes(-len(text) % 8)
        words = [int.from_bytes(padded[at : at + 8], "little") for at in range(0, len(padded), 8)]
        fill = "".join(f"r1 = {word:#x} ll; *(u64 *)(r10 - {104 - 8 * at}) = r1;" for at, word in enumerate(words))
        for helper, expected in (("bpf_strtol", signed), ("bpf_strtoul", unsigned)):
            call = f"r1 = r10; r1 += -104; r2 = {len(text)}; r3 = {flags}; r4 = r10; r4 += -112; call {helper};"
            value = expected[1] & (1 << 64) - 1
            check = f"r1 = *(u64 *)(r10 - 112); r2 = {value:#x} ll; if r1 == r2 goto out; r0 = 1000; out: exit"
            code = f"{fill} *(u64 *)(r10 - 112) = 77; {call} {check}"
            fd = bpf.prog_load(ProgType.XDP, encode(assemble(code))).fd
            assert bpf.prog_test_run(fd, bytes(64)).retval == expected[0] & 0xFFFF_FFFF, (helper, text)
            bpf.close(fd)
