"""Where lines and functions are in a rewritten program (``bpf_adj_linfo``, ``adjust_btf_func``; v6.18)."""

from pathlib import Path
from struct import iter_unpack, pack

import pytest

from ebpfsim import Simulation
from ebpfsim.isa.insn import Insn
from ebpfsim.loader import open_object
from ebpfsim.verifier.env import SubprogInfo
from ebpfsim.verifier.fixup import Fixed

BUILT = Path(__file__).resolve().parents[4] / "tests" / "objects" / "built"


def _fixed(origin: list[int], subprogs: list[tuple[int, tuple[int, int]]]) -> Fixed:
    insns = [Insn(0x95)] * len(origin)
    return Fixed(insns, origin, [SubprogInfo(start) for start, _ in subprogs], [extent for _, extent in subprogs])


def _lines(*offsets: int) -> bytes:
    return b"".join(pack("<IIII", off, 0, 100 + off, 0) for off in offsets)


@pytest.mark.parametrize(
    ("origin", "offsets", "moved"),
    [
        ([0, 1, 2], (0, 2), [(0, 100), (2, 102)]),
        # slot 1 became three: the line behind it moves, its own begins where it began
        ([0, 1, 1, 1, 2], (0, 1, 2), [(0, 100), (1, 101), (4, 102)]),
        # slots 1 and 2 are gone: of the lines that meet at one slot the last counts
        ([0, 3, 4], (0, 1, 3), [(0, 100), (1, 103)]),
        ([0, 3, 4], (0, 2), [(0, 100), (1, 102)]),
        # nothing is left behind the line
        ([0, 1], (0, 2), [(0, 100)]),
        ([0, 1], (), []),
    ],
)
def test_lines(origin: list[int], offsets: tuple[int, ...], moved: list[tuple[int, int]]) -> None:
    fixed = _fixed(origin, [(0, (0, len(origin)))])
    assert [(off, text) for off, _, text, _ in iter_unpack("<IIII", fixed.moved_lines(_lines(*offsets)))] == moved


def test_functions_move_and_dead_ones_go() -> None:
    fixed = _fixed([0, 1, 5, 6], [(0, (0, 2)), (5, (2, 4))])
    records = pack("<IIIIII", 0, 7, 2, 8, 5, 9)  # the one at slot 2 is dead
    assert list(iter_unpack("<II", fixed.moved_funcs(records))) == [(0, 7), (2, 9)]


@pytest.mark.live
@pytest.mark.parametrize("name", ["ctx_fields", "decap", "nested_calls", "vlan_push_pop"])
def test_linux_has_them_at_the_same_slots(name: str) -> None:
    from ebpfsim.live import Bpf
    from ebpfsim.syscall.results import ProgInfo

    live = Bpf()
    host = Simulation().host("a")
    path = BUILT / f"{name}.v3.o"
    with open_object(path, bpf=live).load() as there:
        here = host.load(path)
        for program in there.programs.values():
            theirs = live.obj_get_info_by_fd(program.fd)
            ours = host.bpf.obj_get_info_by_fd(here.programs[program.name].fd)
            assert isinstance(theirs, ProgInfo)
            assert isinstance(ours, ProgInfo)
            assert len(theirs.xlated_prog_insns) == len(ours.xlated_prog_insns)
            assert [off for off, *_ in iter_unpack("<IIII", ours.line_info)] == [
                off for off, *_ in iter_unpack("<IIII", theirs.line_info)
            ]
            assert [off for off, _ in iter_unpack("<II", ours.func_info)] == [
                off for off, _ in iter_unpack("<II", theirs.func_info)
            ]
