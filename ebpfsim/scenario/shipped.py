"""The scenarios that ship: where they are, and how they are named (``first-steps/xdp-firewall`` or its last part)."""

from functools import cache
from pathlib import Path

import ebpfsim

__all__ = ["find_shipped", "shipped_folder", "shipped_names"]

SUFFIX = ".yaml"


@cache
def shipped_folder() -> Path | None:
    """Return the folder of the scenarios: in the wheel beside our modules, in the source tree beside the package."""
    package = Path(ebpfsim.__file__).resolve().parent
    for folder in (package / "_scenarios", package.parent / "scenarios"):
        if (folder / "bpf").is_dir():
            return folder
    return None


@cache
def shipped_names() -> tuple[str, ...]:
    """Return their names, ``subject/name``, sorted."""
    folder = shipped_folder()
    if folder is None:
        return ()
    files = (path.relative_to(folder) for path in folder.glob(f"*/*{SUFFIX}"))
    return tuple(sorted(file.as_posix().removesuffix(SUFFIX) for file in files))


def find_shipped(name: str) -> tuple[Path, str] | None:
    """Return the file of a scenario that ships and how to show its path, or None; its last part alone will do."""
    folder = shipped_folder()
    wanted = name.removesuffix(SUFFIX)
    for known in shipped_names():
        if folder is not None and (known == wanted or known.rpartition("/")[2] == wanted):
            return folder / f"{known}{SUFFIX}", f"scenarios/{known}{SUFFIX}"
    return None
