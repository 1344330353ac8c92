"""What each kind must be in itself (kernel/bpf/btf.c, v6.18), in the kernel's words (as recorded for test_check)."""

import pytest
from btf_blobs import DASHED, FIRST, INT, SECTION, last_line, raw_type

from ebpfsim.btf.types import Kind


@pytest.mark.parametrize(
    ("type_", "line"),
    [
        (raw_type(FIRST, Kind.INT, 1, 4, 32), "vlen != 0"),
        (raw_type(FIRST, Kind.INT, 0, 4, 64), "nr_bits exceeds type_size"),
        (raw_type(FIRST, Kind.PTR, 0, 1), "Invalid name"),
        (raw_type(0, Kind.TYPEDEF, 0, 1), "Invalid name"),
        (raw_type(0, Kind.ARRAY, 0, 0, 0, 1, 1), "Invalid elem"),
        (raw_type(FIRST, Kind.STRUCT, 1, 4, FIRST, 1, 40), "Member bits_offset exceeds its struct size"),
        (raw_type(FIRST, Kind.UNION, 1, 4, FIRST, 1, 8), "Invalid member bits_offset"),
        (raw_type(FIRST, Kind.ENUM, 1, 3, FIRST, 0), "Unexpected size"),
        (raw_type(FIRST, Kind.ENUM64, 1, 8, DASHED, 0, 0), "Invalid name"),
        (raw_type(FIRST, Kind.FUNC, 2, 1), "Invalid func linkage"),
        (raw_type(FIRST, Kind.VAR, 0, 1, 2), "Linkage not supported"),
        (raw_type(SECTION, Kind.DATASEC, 1, 4, 1, 0, 8), "Invalid size"),
        (raw_type(FIRST, Kind.FLOAT, 0, 3), "Invalid type_size"),
        (raw_type(0, Kind.DECL_TAG, 0, 1, -1), "Invalid value"),
        (raw_type(FIRST, Kind.DECL_TAG, 0, 1, -2), "Invalid component_idx"),
    ],
)
def test_refused(type_: bytes, line: str) -> None:
    errno, last = last_line(INT, type_)
    assert (errno, last.endswith(" " + line)) == ("EINVAL", True), last


def test_the_encoding_of_integers_is_one_bit() -> None:
    errno, line = last_line(raw_type(FIRST, Kind.INT, 0, 4, 3 << 24 | 32))
    assert errno == "ENOTSUPP"
    assert line == "[1] INT first size=4 bits_offset=0 nr_bits=32 encoding=UNKN Unsupported encoding"


def test_values_of_enums_are_listed_with_their_sign() -> None:
    last = raw_type(FIRST, Kind.ENUM64, 1, 8, FIRST, -1, -1, kflag=1)
    assert last_line(raw_type(FIRST, Kind.ENUM, 1, 4, FIRST, -1, kflag=1)) == ("", "\tfirst val=-1")
    assert last_line(raw_type(FIRST, Kind.ENUM, 1, 4, FIRST, -1)) == ("", "\tfirst val=4294967295")
    assert last_line(last) == ("", "\tfirst val=-1")
