"""The word that a user probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` when one of the known words is near, else nothing."""
    names = sorted(known)
    folded = {name.lower(): name for name in names}
    near = get_close_matches(str(word).lower(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""
