"""Where in a scenario something stands, and errors that show it: ``path:line:col``, the line, a caret."""

from collections.abc import Iterable
from dataclasses import dataclass

from ebpfsim.errors import ScenarioError

__all__ = ["Mark", "Source", "listed", "shown"]

# a quoted line is cut to this many characters around the caret
SHOWN_COLUMNS = 96


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of a source: zero-based line and column of its first character, and how many columns a caret marks."""

    line: int
    col: int
    width: int = 1


class Source:
    """A text that errors point into. ``name`` is what the user typed: a path, or ``--set PATH``."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = text.splitlines()

    def where(self, mark: Mark) -> str:
        """Return ``name:line:col``, counted from one."""
        return f"{self.name}:{mark.line + 1}:{mark.col + 1}"

    def excerpt(self, mark: Mark) -> str:
        """Return the marked line with a line of carets below it, or nothing when the line is empty."""
        line = self.lines[mark.line] if mark.line < len(self.lines) else ""
        if not line.strip():
            return ""
        start = max(0, mark.col - SHOWN_COLUMNS // 2) if len(line) > SHOWN_COLUMNS else 0
        cut = line[start : start + SHOWN_COLUMNS]
        indent = "".join("\t" if char == "\t" else " " for char in cut[: mark.col - start])
        carets = "^" * max(1, min(mark.width, len(cut) - len(indent)))
        return f"    {_printable(cut)}\n    {indent}{carets}"

    def error(self, mark: Mark, problem: str, hint: str = "") -> ScenarioError:
        """Return an error at that place."""
        return ScenarioError(self.where(mark), problem, hint, self.excerpt(mark))


def listed(names: Iterable[str], nothing: str = "none") -> str:
    """Return names as ``'a', 'b'`` for a hint; many are cut short."""
    quoted = [f"'{name}'" for name in names]
    if len(quoted) > 16:
        quoted = [*quoted[:16], f"and {len(quoted) - 16} more"]
    return ", ".join(quoted) or nothing


def shown(value: object) -> str:
    """Return a value as an error message shows it: the kind of YAML it was, and its text when that is short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return f"'{_printable(value if len(value) <= 60 else value[:57] + '...')}'"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "a mapping"
    return type(value).__name__


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
