"""What Linux 6.12 called in 143 recorded scenarios (function_graph): tests/data/call_paths_6.12.tar.xz.

A tree has one function a line; ``NAME~`` stands for a part of a function that the compiler cut out, ``NAME xN`` for N
calls in a row.
"""

import re
import tarfile
from functools import cache
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data" / "call_paths_6.12.tar.xz"
_LINE = re.compile(r"\s*(\w+)(~?)(?: x(\d+))?(?: \[\w+\])?(?: x(\d+))?")


# functions of which a part was seen: their calls are not all in the recordings
PARTS: set[str] = set()


# page faults interrupt what a task does in user space or in a copy; they are not modelled
NO_CALL = "handle_mm_fault"


@cache
def trees() -> dict[str, list[str]]:
    """Return the functions of each scenario in the order of their calls."""
    found = {}
    with tarfile.open(DATA) as archive:
        for member in archive.getmembers():
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            file = archive.extractfile(member) if folder == "trees" else None
            if file is not None:
                found[name.removesuffix(".txt")] = _calls(file.read().decode())
    return found


def _calls(text: str) -> list[str]:
    # a line that stands for N calls has what each of them called below it
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return _subtree(lines, 0, len(lines))


def _subtree(lines: list[str], start: int, end: int) -> list[str]:
    calls = []
    while start < end:
        depth = _depth(lines[start])
        stop = start + 1
        while stop < end and _depth(lines[stop]) > depth:
            stop += 1
        match = _LINE.fullmatch(lines[start])
        assert match, lines[start]
        if match[1] == NO_CALL:
            start = stop
            continue
        below = _subtree(lines, start + 1, stop)
        if match[2]:
            PARTS.add(match[1])
            calls += below
        else:
            calls += [match[1], *below] * int(match[3] or match[4] or 1)
        start = stop
    return calls


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


@cache
def known() -> frozenset[str]:
    """Return every function that occurs in a recording whenever it is called."""
    return frozenset(name for tree in trees().values() for name in tree) - PARTS
