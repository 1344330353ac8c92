"""The word that a user probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` when one of the known words is near, else nothing."""
    names = sorted(known)
    folded = {name.lower(): name for name in names}
    wanted = str(word).lower()
    near = get_close_matches(wanted, list(folded), n=3, cutoff=0.6)
    # letters that changed places are the commonest slip
    near.sort(key=lambda name: sorted(name) != sorted(wanted))
    return f"; did you mean '{folded[near[0]]}'?" if near else ""
