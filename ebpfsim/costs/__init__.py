"""Cost constants by named profile: what simulated work takes, in picoseconds.

A profile is a TOML file beside this module; each row has nanoseconds, the published range and its source. Arithmetic is
in integer picoseconds, because one instruction is a fraction of a nanosecond and floats would add up differently.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ebpfsim.errors import InputError, InternalError

__all__ = ["Cost", "CostProfile", "load_profile", "profile_names"]


@dataclass(frozen=True, slots=True)
class Cost:
    """One row: picoseconds, the range of published figures in nanoseconds (as text), and where it comes from."""

    ps: int
    range: str
    source: str


@dataclass(frozen=True, slots=True)
class CostProfile:
    """A named set of cost constants. ``ps("call.direct")`` gives picoseconds; an unknown key is our bug."""

    name: str
    cpu: str
    costs: Mapping[str, Cost]

    def ps(self, key: str) -> int:
        """Return the cost of one operation in picoseconds."""
        row = self.costs.get(key)
        if row is None:
            raise InternalError(f"cost profile '{self.name}' has no row '{key}'")
        return row.ps


def profile_names() -> list[str]:
    """Return the names of the profiles that ship."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


@cache
def load_profile(name: str) -> CostProfile:
    """Return a shipped profile; raise InputError naming those there are."""
    if name not in profile_names():
        raise InputError("", f"unknown cost profile '{name}'", f"one of {', '.join(profile_names())}")
    table = tomllib.loads((resources.files(__package__) / f"{name}.toml").read_text("utf-8"))
    costs = {
        key: Cost(round(row["ns"] * 1000), row.get("range", ""), row["source"]) for key, row in table["costs"].items()
    }
    return CostProfile(table["name"], table["cpu"], costs)
