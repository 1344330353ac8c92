"""kernel/bpf/dispatcher.c and emit_bpf_dispatcher() of arch/x86/net/bpf_jit_comp.c, v6.18."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.costs import load_profile
from ebpfsim.progs.prog import Prog
from hooks.dispatcher import BPF_DISPATCHER_MAX, Dispatcher, DispatcherImage, search_depths

COSTS = load_profile("skx3")
MakeProg = Callable[..., Prog]


def slow_search(addresses: list[int], wanted: int) -> tuple[int, bool]:
    """Walk the generated code as emit_bpf_dispatcher writes it; return the compares made and whether it hit."""
    first, last, compares = 0, len(addresses) - 1, 0
    while first != last:
        pivot = first + (last - first) // 2
        compares += 1  # cmp rdx, progs[pivot]; jg upper_part
        if wanted > addresses[pivot]:
            first = pivot + 1
        else:
            last = pivot
    return compares + 1, addresses[first] == wanted  # cmp rdx, progs[a]; je


def addresses(dispatcher: Dispatcher) -> list[int]:
    return [prog.image_addr for prog in dispatcher.image.entries]


def test_entries_are_sorted_by_image_address(kernel: Any, new_prog: MakeProg) -> None:
    dispatcher = Dispatcher(kernel)
    high, low, middle = new_prog(image_addr=900), new_prog(image_addr=100), new_prog(image_addr=500)
    for prog in (high, low, middle):
        dispatcher.change_prog(None, prog)
    assert addresses(dispatcher) == [100, 500, 900]
    dispatcher.change_prog(low, None)
    assert addresses(dispatcher) == [500, 900]


def test_same_program_twice_has_one_entry_with_two_users(kernel: Any, new_prog: MakeProg) -> None:
    dispatcher, prog = Dispatcher(kernel), new_prog()
    dispatcher.change_prog(None, prog)
    dispatcher.change_prog(None, prog)
    assert (dispatcher.users(prog), dispatcher.num_progs, dispatcher.generation) == (2, 1, 1)
    dispatcher.change_prog(prog, None)
    assert (dispatcher.users(prog), dispatcher.num_progs, dispatcher.generation) == (1, 1, 1)
    dispatcher.change_prog(prog, None)
    assert (dispatcher.users(prog), dispatcher.num_progs, dispatcher.generation) == (0, 0, 2)


def test_a_slot_holds_a_reference(kernel: Any, new_prog: MakeProg) -> None:
    dispatcher, prog = Dispatcher(kernel), new_prog()
    dispatcher.change_prog(None, prog)
    dispatcher.change_prog(None, prog)
    assert prog.refs == 2
    dispatcher.change_prog(prog, None)
    dispatcher.change_prog(prog, None)
    assert prog.refs == 1


def test_replacing_is_one_change_and_the_same_program_none(kernel: Any, new_prog: MakeProg) -> None:
    dispatcher, old, new = Dispatcher(kernel), new_prog(), new_prog()
    dispatcher.change_prog(None, old)
    dispatcher.change_prog(old, new)
    assert (addresses(dispatcher), dispatcher.generation) == ([new.image_addr], 2)
    dispatcher.change_prog(new, new)
    dispatcher.change_prog(None, None)
    dispatcher.change_prog(old, None)
    assert dispatcher.generation == 2


def test_images_alternate_between_the_halves_of_a_page(kernel: Any, new_prog: MakeProg) -> None:
    dispatcher, a, b = Dispatcher(kernel), new_prog(), new_prog()
    halves = []
    for old, new in ((None, a), (None, b), (a, None), (b, None), (None, a), (None, b)):
        dispatcher.change_prog(old, new)
        halves.append(dispatcher.image.image_off)
    # bpf_dispatcher_update: noff is image_off ^ 2048 when there were programs, 0 otherwise; no programs, no image
    assert halves == [0, 2048, 0, 0, 0, 2048]


def test_programs_beyond_48_stay_outside_until_attached_anew(kernel: Any, new_prog: MakeProg) -> None:
    dispatcher = Dispatcher(kernel)
    progs = [new_prog() for _ in range(BPF_DISPATCHER_MAX + 2)]
    for prog in progs:
        dispatcher.change_prog(None, prog)
    assert dispatcher.image.entries == tuple(progs[:48])
    assert dispatcher.generation == 48
    # a slot becomes free, but nobody asks for the programs outside
    dispatcher.change_prog(progs[0], None)
    assert dispatcher.image.entries == tuple(progs[1:48])
    # counting out a program that has no slot changes nothing
    dispatcher.change_prog(progs[49], None)
    assert dispatcher.num_progs == 47
    dispatcher.change_prog(None, progs[49])
    assert dispatcher.image.entries == (*progs[1:48], progs[49])
    assert progs[48].refs == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 9)), max_size=60))
def test_dispatcher_holds_exactly_what_is_attached(
    new_kernel: Callable[[], Any], new_prog: MakeProg, steps: list[tuple[int, int | None]]
) -> None:
    """Six attachment points and ten programs: attach, replace, detach in any order."""
    dispatcher = Dispatcher(new_kernel())
    # addresses in another order than the programs
    progs = [new_prog(image_addr=0xFFFF_8880_0000_0000 + (37 * i % 10 + 1) * 4096) for i in range(10)]
    points: dict[int, Prog | None] = {}
    for point, choice in steps:
        new = progs[choice] if choice is not None else None
        before = dispatcher.image
        dispatcher.change_prog(points.get(point), new)
        points[point] = new
        attached = Counter(prog.image_addr for prog in points.values() if prog is not None)
        assert addresses(dispatcher) == sorted(attached)
        assert {prog.image_addr: dispatcher.users(prog) for prog in dispatcher.image.entries} == attached
        assert (dispatcher.image is before) == (addresses(dispatcher) == [p.image_addr for p in before.entries])
    for point in points:
        dispatcher.change_prog(points[point], None)
    assert dispatcher.num_progs == 0
    assert all(prog.refs == 1 for prog in progs)


@given(st.lists(st.tuples(st.integers(0, 7), st.none() | st.integers(0, 7)), max_size=60))
def test_full_dispatcher_counts_whom_it_has(
    new_kernel: Callable[[], Any], new_prog: MakeProg, steps: list[tuple[int, int | None]]
) -> None:
    """As above with two free slots for eight programs; the plain model says who has got in."""
    dispatcher = Dispatcher(new_kernel())
    resident = [new_prog() for _ in range(BPF_DISPATCHER_MAX - 2)]
    for prog in resident:
        dispatcher.change_prog(None, prog)
    progs = [new_prog() for _ in range(8)]
    points: dict[int, Prog | None] = {}
    users: Counter[int] = Counter()
    for point, choice in steps:
        old, new = points.get(point), progs[choice] if choice is not None else None
        dispatcher.change_prog(old, new)
        points[point] = new
        if old is not new:
            if old is not None and users[old.image_addr]:
                users[old.image_addr] -= 1
            if new is not None and (users[new.image_addr] or len(+users) < 2):
                users[new.image_addr] += 1
        assert dispatcher.num_progs == len(dispatcher.image.entries) <= BPF_DISPATCHER_MAX
        assert addresses(dispatcher) == [prog.image_addr for prog in resident] + sorted(+users)
        assert {p.image_addr: n for p in progs if (n := dispatcher.users(p))} == +users


@given(st.sets(st.integers(1, 10_000), min_size=1, max_size=48), st.integers(1, 10_000))
def test_compares_are_those_of_the_generated_search(new_prog: MakeProg, known: set[int], wanted: int) -> None:
    image = DispatcherImage(1, tuple(new_prog(image_addr=address) for address in sorted(known)), 0)
    for address in (*known, wanted):
        compares, hit = slow_search(sorted(known), address)
        assert (address in image.compares) == hit
        assert (image.compares[address] if hit else image.miss_compares(address)) == compares


def test_a_full_table_takes_six_or_seven_compares() -> None:
    assert search_depths(0) == []
    assert search_depths(1) == [1]
    assert search_depths(3) == [3, 3, 2]
    assert set(search_depths(48)) == {6, 7}


@pytest.mark.parametrize(
    ("mitigations", "entries", "hit", "cost_ns"),
    [
        # facts: X4 and X5 of the cost model, one program in the table: a direct call and one compare
        ("auto", 1, True, 2.2),
        ("off", 1, True, 2.2),
        # nothing in the table: bpf_dispatcher_nop_func is the indirect call
        ("auto", 0, False, 12.0),
        ("off", 0, False, 1.5),
        # full table and a miss: about 2 ns on top of the indirect call
        ("auto", 48, False, 14.0),
        ("off", 48, False, 3.5),
    ],
)
def test_cost(kernel: Any, new_prog: MakeProg, mitigations: str, entries: int, hit: bool, cost_ns: float) -> None:
    dispatcher = Dispatcher(kernel)
    progs = [new_prog() for _ in range(49)]
    for prog in progs[:entries]:
        dispatcher.change_prog(None, prog)
    found_ps = dispatcher.cost_ps(progs[0] if hit else progs[48], COSTS, mitigations)
    assert found_ps == pytest.approx(cost_ns * 1000, abs=300)


def test_every_rebuild_is_noted(kernel: Any, new_prog: MakeProg) -> None:
    dispatcher, a, b = Dispatcher(kernel), new_prog(prog_id=1, image_addr=200), new_prog(prog_id=2, image_addr=100)
    dispatcher.change_prog(None, a)
    dispatcher.change_prog(None, b)
    dispatcher.change_prog(a, None)
    notes = kernel.recorder.notes
    assert [note.kind for note in notes] == ["dispatcher"] * 3
    assert notes[1].text == "xdp dispatcher rebuilt: 2 programs"
    assert notes[1].details == {"generation": 2, "num_progs": 2, "image_off": 2048, "prog_ids": "2 1"}
    assert notes[2].text == "xdp dispatcher rebuilt: 1 program"
