"""Cost profiles: every row has a source, and a wrong name gets an answer."""

import pytest

from ebpfsim.costs import load_profile, profile_names
from ebpfsim.errors import InputError, InternalError


@pytest.mark.parametrize("name", profile_names())
def test_profile_is_complete(name: str) -> None:
    profile = load_profile(name)
    reference = load_profile("skx3")
    assert profile.name == name
    assert set(profile.costs) == set(reference.costs)
    for key, cost in profile.costs.items():
        assert cost.ps > 0, key
        assert cost.source.startswith(("[P]", "[D]", "[E]")), key


@pytest.mark.parametrize("name", profile_names())
def test_figures_lie_in_the_published_range(name: str) -> None:
    for key, cost in load_profile(name).costs.items():
        bounds = [float(text) for text in cost.range.split("-")] if cost.range else []
        if bounds:
            assert bounds[0] <= cost.ps / 1000 <= bounds[-1], key


def test_picoseconds_are_whole() -> None:
    assert load_profile("skx3").ps("insn") == 300  # 0.3 ns


def test_unknown_profile() -> None:
    with pytest.raises(InputError, match=r"^error: unknown cost profile 'i486'\ntry: one of .*skx3"):
        load_profile("i486")


def test_unknown_row_is_our_bug() -> None:
    with pytest.raises(InternalError, match=r"^internal error: cost profile 'skx3' has no row 'map.none.lookup'$"):
        load_profile("skx3").ps("map.none.lookup")
