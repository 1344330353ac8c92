"""Reading a scenario: file, text, YAML, overrides of ``--set``, schema. What comes out is valid in itself.

Whether names lead somewhere and files can be read is the work of ``check.py``.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.document import MAX_BYTES, Key, Node, compose, decode, plain
from ebpfsim.scenario.networks import expand_topology
from ebpfsim.scenario.problems import raise_together, scenario_errors
from ebpfsim.scenario.schema import ScenarioModel
from ebpfsim.scenario.shipped import find_shipped, shipped_names
from ebpfsim.scenario.source import Mark, Source, shown
from ebpfsim.suggest import did_you_mean

__all__ = ["Scenario", "load_scenario", "parse_scenario"]

# the steps of a path of --set: parts between dots, quotes keep dots together
_STEP = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|([^.'"][^.]*))\s*(?:\.|$)""")


@dataclass(frozen=True)
class Scenario:
    """A scenario with its places. ``shown_path`` is what the user typed, ``folder`` where its files are looked up."""

    shown_path: str
    folder: Path
    root: Node
    model: ScenarioModel
    # paths of what the topology made
    made: frozenset[tuple[Key, ...]] = frozenset()

    @property
    def name(self) -> str:
        """The scenario's name, or that of its file."""
        stem = Path(self.shown_path).name
        for suffix in (".sim.yaml", ".sim.yml", ".yaml", ".yml"):
            stem = stem.removesuffix(suffix)
        return self.model.name or stem

    def node(self, *path: Key, key: bool = False) -> Node:
        """Return the place of a value, or of its key; what the topology made stands where that does."""
        if path[:2] in self.made and self.root.find(path[:2]) in (self.root, self.root.find(path[:1])):
            return self.root.find(("topology",))
        return self.root.find(path, key=key)


def load_scenario(name: str | os.PathLike[str], overrides: Iterable[str] = (), seed: int | None = None) -> Scenario:
    """Read a scenario by its path or by the name of one that ships; ScenarioError says all that is wrong with it.

    ``overrides`` are texts as ``links.0.delay=1us``; ``seed`` takes the place of the scenario's.
    """
    path, shown_path = _find(os.fspath(name))
    if seed is not None:
        overrides = [*overrides, f"seed={seed}"]
    return parse_scenario(_read(path, shown_path), shown_path, path.parent, overrides)


def parse_scenario(data: bytes, shown_path: str, folder: Path, overrides: Iterable[str] = ()) -> Scenario:
    """Read a scenario from the bytes of its file."""
    root = compose(decode(data, shown_path))
    for text in overrides:
        root = _override(root, text)
    if not isinstance(root.value, dict):
        raise root.error(f"expected a mapping with hosts, links and so on, have {shown(plain(root))}")
    try:
        model = ScenarioModel.model_validate(plain(root))
    except ValidationError as error:
        raise_together(scenario_errors(error, root, ScenarioModel))
        raise
    model, made = expand_topology(model, root)
    return Scenario(shown_path, folder, root, model, made)


def _find(name: str) -> tuple[Path, str]:
    path = Path(name)
    if not name or "\0" in name:
        raise ScenarioError("", f"{name!r} is not a path")
    if not os.path.lexists(path) and (found := find_shipped(name)) is not None:
        return found
    return path, name


def _read(path: Path, shown_path: str) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ScenarioError(shown_path, "is a folder, expected a scenario file", _yaml_files(path))
        if not stat.S_ISREG(status.st_mode):
            raise ScenarioError(shown_path, "is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ScenarioError(
            shown_path, f"no such file{_near(path)}", "'ebpfsim scenarios' lists those that ship"
        ) from None
    except OSError as error:
        raise ScenarioError(shown_path, f"cannot be read: {(error.strerror or 'error').lower()}") from None


def _yaml_files(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".yaml", ".yml"))
    return f"{folder / names[0]}" if names else ""


def _near(path: Path) -> str:
    if path.parent.is_dir():
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
        if near := did_you_mean(path.name, names):
            return near
    return did_you_mean(path.name.removesuffix(".yaml"), [name.rpartition("/")[2] for name in shipped_names()])


def _override(root: Node, text: str) -> Node:
    # the error's place is the option itself: --set TEXT, with the column within TEXT
    source = Source("--set", text)
    if any("\ud800" <= char <= "\udfff" for char in text):
        # how the command line hands over bytes that it cannot decode
        raise source.error(Mark(0, 0), "option is not UTF-8 text")
    path_text, equals, value_text = text.partition("=")
    whole = Mark(0, 0, max(1, len(text)))
    if not equals:
        raise source.error(whole, f"expected PATH=VALUE, have '{text}'", "links.0.delay=1us")
    value = compose(Source("--set value", value_text)) if value_text.strip() else Node(source, whole, "")
    moved = _relocate(value, source, Mark(0, len(path_text) + 1, max(1, len(value_text))))
    steps = _steps(source, path_text)
    return _set(root, steps, moved, source)


def _relocate(node: Node, source: Source, mark: Mark) -> Node:
    # every part of a value given by --set stands at the place of the whole value
    match node.value:
        case dict() as children:
            keys = {key: replace(child, source=source, mark=mark) for key, child in node.keys.items()}
            moved = {key: _relocate(child, source, mark) for key, child in children.items()}
            return replace(node, source=source, mark=mark, value=moved, keys=keys)
        case list() as items:
            return replace(node, source=source, mark=mark, value=[_relocate(item, source, mark) for item in items])
    return replace(node, source=source, mark=mark)


def _steps(source: Source, text: str) -> list[tuple[str, Mark]]:
    steps: list[tuple[str, Mark]] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise source.error(Mark(0, position), f"path '{text}' is not understood", "links.0.delay")
        word = next(group for group in match.groups() if group is not None)
        steps.append((word.strip(), Mark(0, match.start(), max(1, len(match[0].rstrip("."))))))
        position = match.end()
    if not steps:
        raise source.error(Mark(0, 0), "path is empty", "links.0.delay=1us")
    return steps


def _set(node: Node, steps: Sequence[tuple[str, Mark]], value: Node, source: Source) -> Node:
    # copies the nodes along the path: aliases elsewhere keep their value
    if not steps:
        return value
    match node.value:
        case list() as items:
            word, mark = steps[0]
            if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) < len(items)):
                raise source.error(mark, f"no item '{word}' in a list of {len(items)}", f"0 to {len(items) - 1}")
            index = int(word)
            changed = _set(items[index], steps[1:], value, source)
            return replace(node, value=[*items[:index], changed, *items[index + 1 :]])
        case dict() as children:
            key, taken = _key_of(children, steps)
            below = children.get(key, Node(source, steps[0][1], {} if len(steps) > taken else None))
            keys = {**node.keys, key: node.keys.get(key, Node(source, steps[0][1], key))}
            return replace(node, value={**children, key: _set(below, steps[taken:], value, source)}, keys=keys)
    word, mark = steps[0]
    raise source.error(mark, f"'{word}' is below a single value", "a path to a key or list item")


def _key_of(children: dict[Key, Node], steps: Sequence[tuple[str, Mark]]) -> tuple[Key, int]:
    # keys may hold dots themselves (addresses, sysctls): the longest one that is there wins
    for taken in range(len(steps), 0, -1):
        word = ".".join(step for step, _ in steps[:taken])
        for key in children:
            if str(key) == word:
                return key, taken
    word = steps[0][0]
    return (int(word) if word.isascii() and word.isdigit() and len(word) < 10 else word), 1
