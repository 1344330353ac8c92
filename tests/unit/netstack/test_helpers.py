"""The helpers of the network floor: every one has a number of its own and one place."""

from collections import Counter
from types import ModuleType

from netstack import helpers


def test_no_helper_is_there_twice() -> None:
    modules = [value for value in vars(helpers).values() if isinstance(value, ModuleType) and hasattr(value, "HELPERS")]
    counted = Counter(number for module in modules for number in module.HELPERS)
    assert {number for number, count in counted.items() if count > 1} == set()
    assert set(counted) == set(helpers.HELPERS)
