"""What types may refer to (kernel/bpf/btf.c, v6.18), in the kernel's words (as recorded for test_check)."""

import pytest
from btf_blobs import FIRST, INT, SECOND, SECTION, last_line, raw_type

from ebpfsim.btf.types import Kind

FWD = raw_type(FIRST, Kind.FWD, 0, 0)
PROTO = raw_type(0, Kind.FUNC_PROTO, 0, 0)


@pytest.mark.parametrize(
    ("types", "line"),
    [
        ([raw_type(0, Kind.PTR, 0, 9)], "[2] PTR (anon) type_id=9 Invalid type_id"),
        ([FWD, raw_type(FIRST, Kind.VAR, 0, 2, 0)], "[3] VAR first type_id=2 linkage=0 Invalid type_id"),
        ([raw_type(0, Kind.ARRAY, 0, 0, 1, 0xFFFF, 1)], "nr_elems=1 Invalid index"),
        ([FWD, raw_type(0, Kind.ARRAY, 0, 0, 2, 1, 1)], "nr_elems=1 Invalid elem"),
        ([raw_type(FIRST, Kind.FUNC, 0, 1)], "[2] FUNC first type_id=1 Invalid type_id"),
        ([raw_type(0, Kind.FUNC_PROTO, 1, 0, 0, 1), raw_type(FIRST, Kind.FUNC, 0, 2)], "type_id=2 Invalid arg#1"),
        ([raw_type(0, Kind.FUNC_PROTO, 1, 0, 0, 9)], "args=(9 (anon)) Invalid arg#1"),
        ([raw_type(0, Kind.FUNC_PROTO, 0, 9)], "args=(void) Invalid return type"),
        ([raw_type(FIRST, Kind.DECL_TAG, 0, 1, -1)], "type=1 component_idx=-1 Invalid type_id"),
        (
            [raw_type(FIRST, Kind.TYPEDEF, 0, 1), raw_type(SECOND, Kind.DECL_TAG, 0, 2, 0)],
            "idx=0 Invalid component_idx",
        ),
        ([raw_type(SECTION, Kind.DATASEC, 1, 8, 1, 0, 4)], "type_id=1 offset=0 size=4 Not a VAR kind member"),
    ],
)
def test_refused(types: list[bytes], line: str) -> None:
    errno, last = last_line(INT, *types)
    assert (errno, last.endswith(line)) == ("EINVAL", True), last


def test_loops() -> None:
    around = [raw_type(FIRST, Kind.TYPEDEF, 0, 3), raw_type(SECOND, Kind.TYPEDEF, 0, 2)]
    assert last_line(INT, *around) == ("EEXIST", "[2] TYPEDEF first type_id=3 Loop detected")
    # a pointer may lead back to its struct
    inside = raw_type(FIRST, Kind.STRUCT, 1, 8, SECOND, 3, 0)
    assert last_line(INT, inside, raw_type(0, Kind.PTR, 0, 2))[0] == ""


def test_depth() -> None:
    # MAX_RESOLVE_DEPTH
    chain = [raw_type(0, Kind.PTR, 0, 3 + number) for number in range(32)]
    assert last_line(INT, *chain, INT)[0] == ""
    longer = [raw_type(0, Kind.PTR, 0, 3 + number) for number in range(33)]
    assert last_line(INT, *longer, INT)[1].endswith("Exceeded max resolving depth:32")


def test_functions_and_their_prototypes() -> None:
    assert last_line(INT, PROTO, raw_type(FIRST, Kind.FUNC, 1, 2))[0] == ""
