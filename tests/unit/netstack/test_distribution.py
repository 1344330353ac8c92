"""Distributions: means and limits after their definitions, how they are written, the same numbers for a seed."""

import random
import statistics

import pytest

from ebpfsim.clock import parse_duration
from ebpfsim.errors import InputError
from netstack.distribution import KINDS, Distribution, constant


def drawn(kind: str, *numbers: float, count: int = 4000) -> list[int]:
    source = random.Random(1)
    return [Distribution(kind, numbers).draw(source) for _ in range(count)]


@pytest.mark.parametrize(
    ("kind", "numbers", "mean"),
    [
        ("constant", (7,), 7),
        ("uniform", (100, 300), 200),
        ("exponential", (5000,), 5000),
        ("poisson", (5000,), 5000),
        ("normal", (5000, 100), 5000),
        # exp(sigma^2 / 2) above the median
        ("lognormal", (1000, 0.5), 1133),
        # shape / (shape - 1) times the lowest
        ("pareto", (1000, 3), 1500),
        ("choice", (10, 20, 60), 30),
    ],
)
def test_means(kind: str, numbers: tuple[float, ...], mean: float) -> None:
    assert statistics.fmean(drawn(kind, *numbers)) == pytest.approx(mean, rel=0.05)


def test_limits() -> None:
    uniform = drawn("uniform", 3, 9)
    assert set(uniform) == set(range(3, 10))
    assert min(drawn("pareto", 1000, 1.3)) >= 1000
    assert min(drawn("normal", 1, 100)) == 0
    assert (constant(4).highest, Distribution("pareto", (1, 2)).highest) == (4, None)


def test_tails_that_are_too_heavy_end_somewhere() -> None:
    assert max(drawn("pareto", 1000, 0.0001)) == max(drawn("lognormal", 1000, 1e9, count=50)) == 1 << 62


def test_the_same_seed_gives_the_same_numbers() -> None:
    assert drawn("lognormal", 1000, 1) == drawn("lognormal", 1000, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5us", Distribution("constant", (5000,))),
        ({"exponential": "1ms"}, Distribution("exponential", (1_000_000,))),
        ({"uniform": ["1us", "2us"]}, Distribution("uniform", (1000, 2000))),
        ({"pareto": ["1ms", 1.5]}, Distribution("pareto", (1_000_000, 1.5))),
        ({"choice": ["1us", "5us"]}, Distribution("choice", (1000, 5000))),
    ],
)
def test_how_they_are_written(value: object, expected: Distribution) -> None:
    assert Distribution.parse(value, parse_duration) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"poison": "1ms"}, "unknown distribution 'poison'"),
        ({"uniform": ["2us", "1us"]}, "the lowest number comes first"),
        ({"uniform": "1us"}, r"'uniform' has 2 numbers \(lowest, highest\), have 1"),
        ({"pareto": ["1ms", "x"]}, "expected a number"),
        ({"pareto": ["1ms", 0]}, "a shape is more than 0"),
        ({"uniform": ["1us", "2us"], "constant": "1us"}, "one name"),
        ({"choice": []}, "nothing to choose"),
        ("soon", "not understood"),
    ],
)
def test_what_is_wrong(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Distribution.parse(value, parse_duration)


def test_every_kind_can_be_drawn() -> None:
    numbers = {"lognormal": (5, 1), "pareto": (5, 2), "choice": (1,)}
    for name, kind in KINDS.items():
        assert drawn(name, *numbers.get(name, (5,) * len(kind.numbers)), count=3)
