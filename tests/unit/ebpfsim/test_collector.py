"""The collector is off meanwhile, and afterwards what it was before, after an exception too."""

import gc

import pytest

from ebpfsim.collector import without_collector


def work() -> None:
    with without_collector():
        assert not gc.isenabled()
        raise KeyError


@pytest.mark.parametrize("before", [True, False])
def test_it_is_afterwards_what_it_was(before: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(KeyError):
            work()
        assert gc.isenabled() is before
    finally:
        (gc.enable if was else gc.disable)()
