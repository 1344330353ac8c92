"""Packet strings: a restricted scapy expression, parsed with ast and walked by hand; nothing is ever evaluated.

Allowed: layers of ``layers.LAYERS`` with keyword arguments, numbers, text, bytes, lists and tuples of them, ``/``
between layers, ``*`` for repetition, ``fuzz(...)``. Everything else is refused by its name, at its place.
"""

import ast
from typing import Any

from ebpfsim.scenario.layers import (
    LAYERS,
    MAX_EXPANSION,
    PacketProblem,
    check_value,
    field_of,
    layer_class,
    without_lookups,
)
from ebpfsim.scenario.source import shown
from ebpfsim.suggest import did_you_mean

__all__ = ["PacketError", "PacketExpr"]

MAX_CHARS = 4_000
MAX_DEPTH = 20
MAX_NODES = 2_000
MAX_FRAME_BYTES = 65_535

# what Python allows and a packet string does not -> its name in an error message
_REFUSED: dict[type[ast.AST], str] = {
    ast.Attribute: "attribute access",
    ast.Subscript: "indexing",
    ast.Lambda: "a lambda",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    ast.IfExp: "a condition",
    ast.BoolOp: "'and' and 'or'",
    ast.Compare: "a comparison",
    ast.Starred: "'*' in front of a value",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
    ast.Slice: "a slice",
    ast.Constant: "this kind of value",
}
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Pow: "**", ast.Mod: "%", ast.FloorDiv: "//", ast.LShift: "<<", ast.RShift: ">>",
    ast.BitOr: "|", ast.BitAnd: "&", ast.BitXor: "^", ast.MatMult: "@",
}  # fmt: skip
_ALLOWED = "layers such as Ether() and IP(dst='10.0.0.2'), text, numbers, '/', '*' and fuzz()"


class PacketError(Exception):
    """A packet string is wrong from character ``start`` on, for ``width`` characters."""

    def __init__(self, problem: str, hint: str, start: int, width: int) -> None:
        self.problem, self.hint, self.start, self.width = problem, hint, start, width
        super().__init__(problem, hint, start, width)


class PacketExpr:
    """A checked packet string. ``random`` is true when it contains ``fuzz``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = _parse(text)
        self.random = any(isinstance(node, ast.Name) and node.id == "fuzz" for node in ast.walk(self._tree))
        self.templates()

    def templates(self) -> list[Any]:
        """Return scapy packets, fields with several values not yet expanded; PacketError when the text is wrong."""
        with without_lookups():
            try:
                found = _Walk(self.text).value(self._tree, 0)
            except PacketError:
                raise
            except Exception as error:  # whatever scapy raises for fields that do not go together
                raise self.error(f"packet cannot be built: {error}") from None
        if isinstance(found, list) and found and all(_is_packet(item) for item in found):
            return found
        if not _is_packet(found):
            raise _error(self.text, self._tree, "a packet string starts with a layer", "Ether()/IP(dst='10.0.0.2')")
        return [found]

    def error(self, problem: str, hint: str = "") -> PacketError:
        """Return an error about the whole string."""
        return PacketError(problem, hint, 0, len(self.text))


def _is_packet(value: object) -> bool:
    return hasattr(value, "fields_desc")


def _parse(text: str) -> ast.expr:
    if len(text) > MAX_CHARS:
        raise PacketError(f"packet string has {len(text)} characters, at most {MAX_CHARS} are allowed", "", 0, 1)
    if not text.strip():
        raise PacketError("packet string is empty", "Ether()/IP(dst='10.0.0.2')", 0, 1)
    depth = 0
    for index, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if depth > 2 * MAX_DEPTH:
            raise PacketError("packet string is nested too deeply", "", index, 1)
    try:
        tree = ast.parse(text.strip().replace("\n", " "), mode="eval").body
    except SyntaxError as error:
        shift = len(text) - len(text.lstrip())
        start = min(max(0, (error.offset or 1) - 1 + shift), len(text)) if error.lineno == 1 else 0
        raise PacketError(f"packet string is not an expression: {error.msg}", "", start, 1) from None
    except (ValueError, RecursionError, MemoryError):
        raise PacketError("packet string is not an expression", "", 0, len(text)) from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise PacketError("packet string is too long", "", 0, 1)
    return tree


def _error(text: str, node: ast.AST, problem: str, hint: str = "") -> PacketError:
    stripped = text.strip()
    shift = text.index(stripped)
    col, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", 0)
    encoded = stripped.encode()  # ast counts bytes
    start, stop = len(encoded[:col].decode()), len(encoded[:end].decode())
    while start < stop - 1 and stripped[start] in " )":
        start += 1
    return PacketError(problem, hint, shift + start, max(1, stop - start))


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text

    def fail(self, node: ast.AST, problem: str, hint: str = "") -> PacketError:
        return _error(self.text, node, problem, hint)

    def value(self, node: ast.AST, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.fail(node, "packet string is nested too deeply")
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | bytes() | None):
                return node.value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
                return -number
            case ast.BinOp(op=ast.Div()):
                return self.stack(node, depth)
            case ast.BinOp(op=ast.Mult()):
                return self.repeat(node, depth)
            case ast.Call():
                return self.call(node, depth)
            case ast.List():
                return [self.value(item, depth + 1) for item in node.elts]
            case ast.Tuple():
                return tuple(self.value(item, depth + 1) for item in node.elts)
        raise self.refuse(node)

    def refuse(self, node: ast.AST) -> PacketError:
        match node:
            case ast.Name(id=name) if name in LAYERS:
                return self.fail(node, f"layer '{name}' without parentheses", f"{name}()")
            case ast.Name(id=name):
                near = did_you_mean(name, [*LAYERS, "fuzz"])
                return self.fail(node, f"unknown name {shown(name)}{near}", "text needs quotes" if not near else "")
            case ast.BinOp(op=op, left=left, right=right):
                hint = "stack layers with '/', repeat with '*'"
                between = ast.Pass(lineno=1, col_offset=left.end_col_offset or 0, end_col_offset=right.col_offset)
                return self.fail(between, f"operator '{_OPERATORS[type(op)]}' is not allowed in a packet string", hint)
            case ast.UnaryOp():
                return self.fail(node, "an operator in front of a value is not allowed in a packet string")
        name = _REFUSED.get(type(node), f"this ({type(node).__name__})")
        return self.fail(node, f"{name} is not allowed in a packet string", _ALLOWED)

    def stack(self, node: ast.BinOp, depth: int) -> Any:
        # a chain a/b/c leans to the left: walk it without recursion
        parts: list[ast.AST] = []
        left: ast.AST = node
        while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Div):
            parts.append(left.right)
            left = left.left
        packet = self.value(left, depth + 1)
        if not _is_packet(packet):
            raise self.fail(left, "'/' needs a layer on its left", "Ether()/...")
        for part in reversed(parts):
            above = self.value(part, depth + 1)
            if isinstance(above, str | bytes):
                above = _raw(above)
            if not _is_packet(above):
                raise self.fail(part, f"'/' needs a layer, text or bytes on its right, not {_kind(above)}")
            packet = packet / above
        return packet

    def repeat(self, node: ast.BinOp, depth: int) -> Any:
        left, right = self.value(node.left, depth + 1), self.value(node.right, depth + 1)
        if isinstance(left, int) and not isinstance(left, bool):
            left, right = right, left
        if (
            not isinstance(right, int)
            or isinstance(right, bool)
            or not (isinstance(left, str | bytes) or _is_packet(left))
        ):
            raise self.fail(node, "'*' repeats text, bytes or a packet a number of times", "'x' * 100")
        if right < 0:
            raise self.fail(node, f"cannot repeat {right} times")
        limit, what = (MAX_EXPANSION, "packets") if _is_packet(left) else (MAX_FRAME_BYTES, "bytes")
        size = right if _is_packet(left) else right * len(left)
        if size > limit:
            raise self.fail(node, f"repetition makes {size} {what}, at most {limit} are allowed")
        return [left] * right if _is_packet(left) else left * right

    def call(self, node: ast.Call, depth: int) -> Any:
        if not isinstance(node.func, ast.Name):
            raise (
                self.refuse(node.func)
                if not isinstance(node.func, ast.Call)
                else self.fail(node.func, "calling a result is not allowed in a packet string")
            )
        name = node.func.id
        if name == "fuzz":
            return self.fuzz(node, depth)
        if name not in LAYERS:
            near = did_you_mean(name, [*LAYERS, "fuzz"])
            raise self.fail(node.func, f"unknown layer {shown(name)}{near}", "" if near else _ALLOWED)
        fields = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self.fail(keyword.value, "'**' is not allowed in a packet string")
            if keyword.arg in fields:
                raise self.fail(keyword, f"field '{keyword.arg}' of {name} is given twice")
            value = self.value(keyword.value, depth + 1)
            try:
                field_of(name, keyword.arg)
            except PacketProblem as problem:
                raise self.fail(keyword, problem.problem, problem.hint) from None
            try:
                fields[keyword.arg] = check_value(name, keyword.arg, value)
            except PacketProblem as problem:
                raise self.fail(keyword.value, problem.problem, problem.hint) from None
        if node.args:
            return self.positional(node, name, depth)
        return layer_class(name)(**fields)

    def positional(self, node: ast.Call, name: str, depth: int) -> Any:
        first = self.value(node.args[0], depth + 1)
        if name not in ("Raw", "Padding") or len(node.args) > 1 or node.keywords or not isinstance(first, str | bytes):
            raise self.fail(node.args[0], f"{name} takes fields by name", f"{name}(field=value)")
        return _raw(first) if name == "Raw" else layer_class("Padding")(load=_bytes(first))

    def fuzz(self, node: ast.Call, depth: int) -> Any:
        if len(node.args) != 1 or node.keywords:
            raise self.fail(node, "fuzz takes one packet", "fuzz(UDP())")
        packet = self.value(node.args[0], depth + 1)
        if not _is_packet(packet):
            raise self.fail(node.args[0], f"fuzz takes a packet, not {_kind(packet)}")
        from scapy.packet import fuzz

        return fuzz(packet)


def _raw(value: str | bytes) -> Any:
    return layer_class("Raw")(load=_bytes(value))


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _kind(value: object) -> str:
    return "several packets" if isinstance(value, list) and value and _is_packet(value[0]) else shown(value)
