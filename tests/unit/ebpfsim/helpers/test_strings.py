"""Strings that have no end, and what is no memory; results on packets are compared with Linux' in tests/objects."""

import pytest

from ebpfsim.helpers.strings import KFUNCS

ERANGE, E2BIG, EFAULT, ENOENT = (-n & 0xFFFF_FFFF for n in (34, 7, 14, 2))


@pytest.fixture
def call(machine):
    """Call a function on strings in memory; numbers go through."""
    from ebpfsim.progs.runtime import Run

    run = Run(machine, machine.prog("exit"), 0, machine.cpus[0])

    def call(name, *args):
        places = []
        for arg in args:
            if isinstance(arg, bytes):
                address = machine.mem.alloc(len(arg))
                machine.mem.write(address, arg)
                arg = address
            places.append(arg)
        return KFUNCS[name](run, *places, *[0] * (5 - len(places)))

    return call


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [
        ("bpf_strlen", [b"a" * 65535 + b"\0"], 65535),
        ("bpf_strlen", [b"a" * 65537], E2BIG),
        ("bpf_strnlen", [b"a" * 70000, 65535], 65535),
        ("bpf_strnlen", [b"a" * 70000, 65536], E2BIG),
        ("bpf_strcmp", [b"a" * 65537, b"a" * 65537], E2BIG),
        ("bpf_strcmp", [b"\xff\0", b"a\0"], 0xFFFF_FFFF),  # char is signed
        ("bpf_strcasecmp", [b"AbC\0", b"aBd\0"], 0xFFFF_FFFF),
        ("bpf_strcasecmp", [b"\xc0\0", b"\xe0\0"], 0),
        ("bpf_strchr", [b"abc\0", ord("x")], ENOENT),
        ("bpf_strnchr", [b"abc\0", 2, ord("c")], ENOENT),
        ("bpf_strchrnul", [b"abc\0", ord("x")], 3),
        ("bpf_strspn", [b"abc\0", b"ba\0"], 2),
        ("bpf_strcspn", [b"abc\0", b"c\0"], 2),
        ("bpf_strnstr", [b"hello\0", b"llo\0", 4], ENOENT),
        ("bpf_strnstr", [b"hello\0", b"llo\0", 5], 2),
        ("bpf_strstr", [b"hello\0", b"lo!\0"], ENOENT),
        ("bpf_strlen", [8], ERANGE),
        ("bpf_strlen", [0xFFFF_FFFF_FF60_0000], ERANGE),
        ("bpf_strlen", [0xFFFF_8000_0000_0000], EFAULT),
        ("bpf_strcmp", [b"a\0", 8], ERANGE),
    ],
)
def test_results(call, name, args, result) -> None:
    assert call(name, *args) == result
