"""YAML with positions: a composer over PyYAML's events that keeps the place of every key and value.

Scalars follow the YAML 1.2 core schema (yaml.org/spec/1.2.2, chapter 10.3): only ``true`` and ``false`` are booleans,
``0o17`` and ``0x1f`` are numbers, ``22:22``, ``off`` and ``1_000`` are text. Keys are text, or whole numbers.
Left out on purpose: tags, merge keys, several documents in a file. Size, depth and alias expansion are bounded, so
that no text makes this slow.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from ebpfsim.errors import EbpfSimError, ScenarioError
from ebpfsim.scenario.source import Mark, Source

__all__ = ["MAX_BYTES", "Node", "compose", "decode", "plain"]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_NODES = 50_000
# more digits than any 64-bit number has in any notation, fewer than int() refuses
MAX_DIGITS = 80

Key = str | int
Scalar = None | bool | int | float | str

_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# c-printable of YAML 1.2 (chapter 5.1), inverted
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(eq=False, slots=True)
class Node:
    """A key's or value's place and what stands there: a scalar, a list of nodes, or a mapping from keys to nodes.

    ``keys`` are the nodes of a mapping's keys. ``quoted`` is true for text in quotes or in a block. ``size`` counts the
    nodes below, aliases expanded.
    """

    source: Source
    mark: Mark
    value: "Scalar | list[Node] | dict[Key, Node]"
    keys: "dict[Key, Node]" = field(default_factory=dict)
    quoted: bool = False
    size: int = 1

    def error(self, problem: str, hint: str = "") -> ScenarioError:
        """Return an error at this place."""
        return self.source.error(self.mark, problem, hint)

    @property
    def where(self) -> str:
        """This place as ``path:line:col``."""
        return self.source.where(self.mark)

    def locate(self, error: EbpfSimError) -> None:
        """Make this the place that led to an error, unless it has one."""
        if not error.at:
            error.at, error.at_line = self.where, self.source.excerpt(self.mark)

    def find(self, path: "tuple[Key, ...]", *, key: bool = False) -> "Node":
        """Return the node at a path of keys and indexes, or the deepest one that is there; ``key`` asks for the key."""
        node = self
        for depth, step in enumerate(path):
            match node.value:
                case dict() as children if step in children:
                    if key and depth == len(path) - 1:
                        return node.keys[step]
                    node = children[step]
                case list() as items if isinstance(step, int) and 0 <= step < len(items):
                    node = items[step]
                case _:
                    break
        return node


def plain(node: Node) -> object:
    """Return the value without places: dicts, lists and scalars."""
    match node.value:
        case dict() as children:
            return {key: plain(child) for key, child in children.items()}
        case list() as items:
            return [plain(item) for item in items]
    return node.value


def decode(data: bytes, name: str) -> Source:
    """Return the text of a scenario file; ScenarioError when it is too large, not UTF-8 or holds control characters."""
    if len(data) > MAX_BYTES:
        raise ScenarioError(name, f"scenario is larger than {MAX_BYTES // 1024} KiB")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ScenarioError(f"{name}:1:1", "text is UTF-16, expected UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, col = before.count(b"\n"), len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace"))
        problem = f"byte {data[error.start]:#04x} is not UTF-8 text"
        raise ScenarioError(f"{name}:{line + 1}:{col + 1}", problem, "save the file as UTF-8") from None
    source = Source(name, text)
    if found := _UNPRINTABLE.search(text):
        line = len(text[: found.start() + 1].splitlines()) - 1
        start = text.rfind("\n", 0, found.start()) + 1
        raise source.error(Mark(line, found.start() - start), f"control character U+{ord(found[0]):04X}")
    return source


def compose(source: Source) -> Node:
    """Return the tree of the one document of a text; ScenarioError at the place of what YAML does not allow."""
    try:
        root = _Composer(source).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(source, error) from None
    except yaml.YAMLError as error:
        raise ScenarioError(source.name, f"not YAML: {error}") from None
    if root is None:
        raise ScenarioError(f"{source.name}:1:1", "scenario is empty", "start from 'ebpfsim scenarios show NAME'")
    return root


class _Composer:
    # builds nodes from events, keeping its own stack, so that depth is bounded by us and not by Python's recursion

    def __init__(self, source: Source) -> None:
        self.source = source
        self.anchors: dict[str, Node] = {}
        self.open_anchors: list[str | None] = []
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        self.events: Iterator[yaml.Event] = yaml.parse(source.text, Loader=loader)

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self.source.error(_mark(event), "a second document starts here", "one scenario a file")
                root = self.content(next(self.events))
        return root

    def content(self, event: yaml.Event) -> Node:
        open_nodes: list[Node] = []
        pending_keys: list[Node | None] = []
        while True:
            if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                node = open_nodes.pop()
                pending_keys.pop()
                self.remember(self.open_anchors.pop(), node)
            else:
                node = self.node(event)
                if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                    if len(open_nodes) >= MAX_DEPTH:
                        raise node.error(f"nested deeper than {MAX_DEPTH} levels")
                    open_nodes.append(node)
                    pending_keys.append(None)
                    self.open_anchors.append(event.anchor)
                    event = next(self.events)
                    continue
                if isinstance(event, yaml.ScalarEvent):
                    self.remember(event.anchor, node)
            if not open_nodes:
                return node
            pending_keys[-1] = self.attach(open_nodes[-1], pending_keys[-1], node)
            event = next(self.events)

    def attach(self, parent: Node, key_node: Node | None, node: Node) -> Node | None:
        # put a finished node into its parent; returns the key that waits for its value
        parent.size += node.size
        if parent.size > MAX_NODES:
            raise node.error(f"more than {MAX_NODES} values once aliases are expanded")
        if isinstance(parent.value, list):
            parent.value.append(node)
            return None
        assert isinstance(parent.value, dict)
        if key_node is None:
            if isinstance(node.value, list | dict):
                raise node.error("a key must be text or a whole number, not a list or mapping")
            return node
        key = _key(key_node)
        if key in parent.value:
            first = parent.keys[key]
            raise key_node.error(f"key '{key}' is given twice; first in line {first.mark.line + 1}")
        parent.keys[key] = key_node
        parent.value[key] = node
        return None

    def node(self, event: yaml.Event) -> Node:
        mark = _mark(event)
        if isinstance(event, yaml.AliasEvent):
            found = self.anchors.get(str(event.anchor))
            if found is None:
                raise self.source.error(mark, f"alias '*{event.anchor}' has no anchor '&{event.anchor}' before it")
            return found
        assert isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent)
        if event.tag is not None:
            raise self.source.error(mark, f"tag '{event.tag}' is not allowed", "quote a value to make it text")
        if isinstance(event, yaml.ScalarEvent):
            quoted = not event.implicit[0]
            value = event.value if quoted else _resolve(self.source, mark, event.value)
            return Node(self.source, mark, value, quoted=quoted)
        return Node(self.source, mark, [] if isinstance(event, yaml.SequenceStartEvent) else {})

    def remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self.anchors[anchor] = node


def _key(node: Node) -> Key:
    # true, 1.5 and ~ stay the text they are written as: as dictionary keys they would collide with numbers
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    if isinstance(node.value, str):
        return node.value
    line = node.source.lines[node.mark.line] if node.source.lines else ""
    return line[node.mark.col : node.mark.col + node.mark.width].strip()


def _resolve(source: Source, mark: Mark, text: str) -> Scalar:
    # the tag resolution table of chapter 10.3.2
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    for pattern, base in ((_INT, 10), (_OCT, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            if len(text) > MAX_DIGITS:
                raise source.error(mark, f"number of {len(text)} digits is too large")
            return int(text, base)
    return float(text) if _FLOAT.fullmatch(text) else text


def _mark(event: yaml.Event) -> Mark:
    start, end = _place(event.start_mark), _place(event.end_mark)
    if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent) or end.line != start.line:
        return start
    return Mark(start.line, start.col, max(1, end.col - start.col))


# what PyYAML and libyaml call it (either's words) -> what we call it, and what to try
_SYNTAX = (
    ("mapping values are not allowed", "':' does not start a mapping here", "quote text that holds ': '"),
    ("end of stream", "quoted text is not closed before the end of the file", "close the quote"),
    ("unknown escape", "unknown escape sequence in double quotes", "use single quotes, or \\\\ for a backslash"),
    ("',' or ']'", "expected ',' or ']' in the list", "close the list"),
    ("',' or '}'", "expected ',' or '}' in the mapping", "close the mapping"),
    ("expected ':'", "a line of a mapping without ':'", "write 'key: value'"),
    ("block sequence entries", "'- ' does not start a list here", "start the list on its own line"),
    ("'-' indicator", "expected '- ' as in the lines before", "indent the items of a list alike"),
    ("did not find expected key", "expected a key as in the lines before", "indent the keys of a mapping alike"),
    ("<block end>", "expected a key as in the lines before", "indent the keys of a mapping alike"),
    ("node content", "expected a value", "close each bracket once"),
    ("<document start>", "text after the end of the document", "indent the keys of a mapping alike"),
    ("document start", "text after the end of the document", "indent the keys of a mapping alike"),
    ("incompatible YAML", "this is not YAML 1.x", "leave out the %YAML line"),
)  # fmt: skip


def _syntax_error(source: Source, error: yaml.MarkedYAMLError) -> ScenarioError:
    mark, opened = _place(error.problem_mark or error.context_mark), _place(error.context_mark)
    problem = error.problem or "not YAML"
    line = source.lines[mark.line] if mark.line < len(source.lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        return source.error(Mark(mark.line, indent.index("\t")), "a tab indents this line", "indent with spaces")
    if "cannot start any token" in problem:
        char = line[mark.col : mark.col + 1]
        return source.error(mark, f"a value cannot start with '{char}'", f"quote it: '{char}...'")
    for words, ours, hint in _SYNTAX:
        if words in problem:
            if "close" in hint and error.context_mark is not None and opened != mark:
                ours += f", opened at {opened.line + 1}:{opened.col + 1}"
            return source.error(mark, ours, hint)
    return source.error(mark, problem)


def _place(mark: object) -> Mark:
    # PyYAML's two parsers have a mark class each
    return Mark(getattr(mark, "line", 0), getattr(mark, "column", 0))
