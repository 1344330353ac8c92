"""Names and log lines (kernel/bpf/btf.c and lib/ctype.c, v6.18)."""

import pytest
from btf_blobs import STRINGS

from ebpfsim.btf.check_env import BtfEnv, RawType, is_regular_int
from ebpfsim.btf.types import Kind


def env_with(name: bytes) -> BtfEnv:
    env = BtfEnv(wants_log=True)
    env.strings = b"\0" + name + b"\0"
    return env


@pytest.mark.parametrize("name", [b"a", b"_x1", b".L.str", b"\xe9t\xe9", b"x" * 512])
def test_identifiers(name: bytes) -> None:
    assert env_with(name).is_identifier(1)


@pytest.mark.parametrize("name", [b"", b"1a", b"a b", b"a-b", b"\xd7", b"\x80", b"x" * 513])
def test_no_identifiers(name: bytes) -> None:
    assert not env_with(name).is_identifier(1)


@pytest.mark.parametrize(("name", "good"), [(b".data.x y/z", True), (b"", False), (b"\t", False), (b"\xa0", True)])
def test_names_of_sections_are_printable(name: bytes, good: bool) -> None:
    assert env_with(name).is_section_name(1) == good


@pytest.mark.parametrize(("bits", "offset", "good"), [(8, 0, True), (128, 0, True), (24, 0, False), (32, 8, False)])
def test_regular_integers(bits: int, offset: int, good: bool) -> None:
    assert is_regular_int(offset << 16 | bits) == good


def test_lines_of_the_log() -> None:
    env = BtfEnv(wants_log=True)
    env.strings = STRINGS
    env.words = memoryview(bytes([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).cast("I")
    env.log_type_id = 7
    env.log_type(RawType(0, Kind.FUNC_PROTO, 2, 0, 3, 0), "Invalid name")
    env.log_type(RawType(99, Kind.FWD, 0, 1, 0, 0), details=False)
    # args[0] is (name 1, type 1), args[1] without type: a vararg
    assert env.log == (
        "[7] FUNC_PROTO (anon) return=3 args=(1 int, vararg) Invalid name\n[7] FWD (invalid-name-offset)\n"
    )


def test_nobody_wants_a_log() -> None:
    env = BtfEnv(wants_log=False)
    env.log_type(RawType(0, Kind.PTR, 0, 0, 3, 0))
    env.refuse("No data")
    assert env.log == ""
