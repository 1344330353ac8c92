"""The packages beside this one have everyday names; say so clearly when a stranger of the same name comes first."""

import importlib.util
from pathlib import Path

__all__ = ["check"]

SIBLINGS = ("hooks", "netstack", "tracing")


def check() -> None:
    """Raise ImportError when ``hooks``, ``netstack`` or ``tracing`` on the import path is not ours."""
    home = Path(__file__).resolve().parent.parent
    for name in SIBLINGS:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec is not None else None
        if origin is None or Path(origin).resolve().parent.parent != home:
            found = origin or "nothing with code"
            raise ImportError(
                f"ebpfsim needs its own package '{name}', but the import path leads to {found}\n"
                f"try: remove or rename that '{name}', or run from another folder"
            )
