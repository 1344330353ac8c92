"""Random sizes and times by name: what traffic draws from the simulation's seed.

::

    Distribution("exponential", (1e6,))      # mean; "poisson" arrivals are exponential distances
    Distribution("pareto", (1000, 1.5))      # lowest value and shape: heavy tails below a shape of 2
    Distribution("uniform", (64, 1400))      # whole numbers from the lowest to the highest

What is drawn is a whole number of 0 or more (nanoseconds, bytes). The formulae are those of Devroye, Non-Uniform
Random Variate Generation (1986), chapter IX, or of Python's ``random``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ebpfsim.errors import InputError
from ebpfsim.rng import Stream

__all__ = ["KINDS", "Distribution", "constant"]


# 146 years in nanoseconds
HIGHEST = 1 << 62


@dataclass(frozen=True, slots=True)
class Kind:
    """What the numbers of a distribution are, which of them have the unit of what is drawn, and how one is drawn."""

    numbers: tuple[str, ...]
    with_unit: tuple[bool, ...]
    draw: Callable[..., float]


KINDS: dict[str, Kind] = {
    "constant": Kind(("value",), (True,), lambda random, value: value),
    "uniform": Kind(
        ("lowest", "highest"), (True, True), lambda random, low, high: random.randint(round(low), round(high))
    ),
    "exponential": Kind(("mean",), (True,), lambda random, mean: random.expovariate(1 / mean) if mean else 0),
    "poisson": Kind(("mean",), (True,), lambda random, mean: random.expovariate(1 / mean) if mean else 0),
    "normal": Kind(("mean", "deviation"), (True, True), lambda random, mean, sigma: random.normalvariate(mean, sigma)),
    "lognormal": Kind(
        ("median", "sigma"), (True, False), lambda random, median, sigma: median * random.lognormvariate(0, sigma)
    ),
    "pareto": Kind(("lowest", "shape"), (True, False), lambda random, low, shape: low * random.paretovariate(shape)),
    "choice": Kind((), (), lambda random, *values: random.choice(values)),
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution by its kind and numbers; InputError for what cannot be."""

    kind: str
    numbers: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("", f"unknown distribution '{self.kind}'", ", ".join(KINDS))
        wanted = KINDS[self.kind].numbers
        if self.kind == "choice":
            if not self.numbers:
                raise InputError("", "'choice' has nothing to choose from")
        elif len(self.numbers) != len(wanted):
            raise InputError("", f"'{self.kind}' has {len(wanted)} numbers: {', '.join(wanted)}")
        if any(number < 0 for number in self.numbers):
            raise InputError("", f"a number of '{self.kind}' is negative")
        if self.kind == "uniform" and self.numbers[0] > self.numbers[1]:
            raise InputError("", "'uniform': the lowest number comes first")
        if self.kind == "pareto" and not self.numbers[1]:
            raise InputError("", "'pareto': a shape is more than 0")

    @property
    def is_constant(self) -> bool:
        """Whether it draws nothing."""
        return self.kind == "constant"

    @property
    def highest(self) -> float | None:
        """The highest number that can come, None without a limit."""
        return max(self.numbers) if self.kind in ("constant", "uniform", "choice") else None

    def draw(self, random: Stream) -> int:
        """Return the next number."""
        try:
            drawn = KINDS[self.kind].draw(random, *self.numbers)
        except OverflowError:
            # the far end of a tail that is heavier than numbers go
            drawn = HIGHEST
        return round(min(max(0, drawn), HIGHEST))

    @classmethod
    def parse(cls, value: object, unit: Callable[[object], float]) -> "Distribution":
        """Return what ``5``, ``{uniform: [1, 5]}`` or ``{exponential: 5}`` stands for; ``unit`` reads a number.

        InputError, or what ``unit`` raises.
        """
        if not isinstance(value, Mapping):
            return cls("constant", (unit(value),))
        if len(value) != 1:
            raise InputError("", "a distribution is one name with its numbers", "{exponential: 1ms}")
        ((name, given),) = value.items()
        kind = KINDS.get(str(name))
        if kind is None:
            raise InputError("", f"unknown distribution '{name}'", ", ".join(KINDS))
        numbers = given if isinstance(given, list | tuple) else [given]
        units = kind.with_unit or (True,) * len(numbers)
        if len(numbers) != len(units):
            wanted = ", ".join(kind.numbers)
            raise InputError("", f"'{name}' has {len(kind.numbers)} numbers ({wanted}), have {len(numbers)}")
        read = []
        for number, has_unit in zip(numbers, units, strict=True):
            if not has_unit and (isinstance(number, bool) or not isinstance(number, int | float)):
                raise InputError("", f"'{name}': expected a number, have {number!r}")
            read.append(unit(number) if has_unit else float(number))
        return cls(str(name), tuple(read))


def constant(value: int) -> Distribution:
    """Return a distribution that always gives one value."""
    return Distribution("constant", (value,))
