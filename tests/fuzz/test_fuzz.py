"""Broken objects and BTF get an answer, quickly: InputError, KernelError or NotModelled (``make fuzz`` tries more)."""

import importlib.util
import random
from pathlib import Path

from broken_inputs import STRATEGIES, mutant, seeds

_SPEC = importlib.util.spec_from_file_location("fuzz_run", Path(__file__).with_name("run.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
RUN = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(RUN)


def test_a_slice_of_the_inputs() -> None:
    # later numbers than those that `make fuzz` begins with
    counts, failed = RUN.batch(10_000_000)
    assert failed == []
    assert counts.total() == RUN.BATCH
    assert set(counts) == {"loaded", "opened", "refused", "types"}


def test_a_number_names_an_input() -> None:
    inputs = seeds()
    assert mutant(inputs, 7) == mutant(inputs, 7)
    assert len({mutant(inputs, seed)[1] for seed in range(100)}) > 90


def test_inputs_before_they_are_changed_load() -> None:
    assert {RUN.check(data) for name, data in seeds()} <= {"loaded", "opened", "types"}


def test_every_strategy_changes_something() -> None:
    for strategy in STRATEGIES:
        changed = False
        for seed in range(20):
            data = bytearray(seeds()[0][1])
            before = bytes(data)
            if strategy.__name__ == "splice":
                strategy(data, random.Random(seed), seeds()[1][1])  # type: ignore[call-arg]
            else:
                strategy(data, random.Random(seed))
            changed = changed or bytes(data) != before
        assert changed, strategy.__name__
