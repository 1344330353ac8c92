"""Text to instructions: the verifier log's spelling and LLVM's BPF assembler syntax.

Statements end at a newline or ``;``. Comments are ``//``, ``#`` and ``/* */``. A label is ``name:``; jumps and calls
take labels or relative slots (``goto +2``, ``goto pc+2``). Every statement is matched against the text forms of the
rows of ``ebpfsim.isa.table``: there is no second list of instructions here. Beyond the rows' own forms::

    r1 = map[counts] ll      r1 = map[counts][0]+8 ll    the map (or its value) of that name, from ``maps``
    r1 = map_fd[3] ll        r2 = subprog[callback] ll   a map by its descriptor; the function at a label
    call bpf_ktime_get_ns    call 5    call out          a helper by name or number, a function at a label
    call bpf_rdonly#37       12: (95) exit               a kernel function by BTF id; a line of the log

>>> assemble("r0 = 2; exit")
(Insn(code=183, dst=0, src=0, off=0, imm=2), Insn(code=149, dst=0, src=0, off=0, imm=0))
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ebpfsim.errors import AsmError
from ebpfsim.isa.alu import s32
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, TABLE, Form, Row
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["Assembly", "assemble", "parse"]

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<reg>[rw]\d+\b)"
    r"|(?P<num>0[xX][0-9a-fA-F]+\b|\d+\b)"
    r"|(?P<op>s>>=|s>=|s<=|s>|s<|s/=|s%=)"
    r"|(?P<word>[A-Za-z_.$][\w.$]*)"
    r"|(?P<punct><<=|>>=|\+=|-=|\*=|/=|%=|\|=|&=|\^=|==|!=|>=|<=|[-+*/%&|^<>=()\[\],:#])"
)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|(?:(?<=\s)|^)#[^\n]*", re.DOTALL | re.MULTILINE)
# llvm-objdump repeats a jump's target as a symbol
_SYMBOL = re.compile(r"\s<[\w.$]+(?:\+0x[0-9a-f]+)?>\s*$")
# what a line of the log has in front: slot (any) and code
_LOG_PREFIX = re.compile(r"\s*(?:\d+:\s*)?\((?P<code>[0-9a-f]{2})\)")
_JUMP_WORDS = ("goto", "gotol", "may_goto")
_MAP_WORDS = {"map_fd": "fd", "map_idx": "idx", "map_value": "fd"}
MAX_REG = 15  # what four bits hold: to refuse r11 and above is the verifier's part


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    pos: int
    value: int = 0
    label: str = ""

    # what statements and forms are compared by
    @property
    def shape(self) -> str:
        return {"reg": f"{self.text[:1]}?", "num": "#"}.get(self.kind, self.text)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A text form of a row: for each token the field it gives, or None, and the value a literal number must have."""

    row: Row
    fields: tuple[str | None, ...]
    literals: tuple[int | None, ...]
    example: str


@dataclass(frozen=True, slots=True)
class Assembly:
    """An assembled text: the slots, the slot of each label, the source line of each slot."""

    insns: tuple[Insn, ...]
    labels: Mapping[str, int]
    lines: tuple[int, ...]


@dataclass(slots=True)
class _Statement:
    tokens: list[_Token]
    slot: int
    row: Row
    values: dict[str, _Token]


def assemble(text: str, *, where: str = "", maps: Mapping[str, int] | None = None) -> tuple[Insn, ...]:
    """Return the slots of an assembly text.

    ``where`` names the text in errors; ``maps`` gives the descriptors of the maps that ``map[name]`` refers to.
    Raises AsmError with line and column.
    """
    return parse(text, where=where, maps=maps).insns


def parse(text: str, *, where: str = "", maps: Mapping[str, int] | None = None) -> Assembly:
    """As ``assemble``, with the labels and source lines."""
    return _Assembler(text, where, maps or {}).run()


def _scan(text: str, start: int, end: int) -> Iterator[_Token]:
    pos = start
    while pos < end:
        match = _TOKEN.match(text, pos, end)
        if match is None:
            yield _Token("bad", text[pos], pos)
            return
        pos = match.end()
        kind = str(match.lastgroup)
        if kind == "reg":
            yield _Token(kind, match[0], match.start(), int(match[0][1:]))
        elif kind == "num":
            yield _Token(kind, match[0], match.start(), int(match[0], 16 if match[0][1:2] in ("x", "X") else 10))
        elif kind != "space":
            yield _Token("word" if kind == "word" else "op", match[0], match.start())


# "+ 4", "- 4" and "+ -4" are one number; "goto pc+4" is "goto +4"
def _join(tokens: list[_Token]) -> list[_Token]:
    out: list[_Token] = []
    for token in tokens:
        while token.kind == "num" and out and out[-1].text in ("+", "-"):
            sign = out.pop()
            value = -token.value if sign.text == "-" else token.value
            token = _Token("num", sign.text + token.text, sign.pos, value)
        if token.kind == "num" and len(out) > 1 and out[-1].text == "pc" and out[-2].text in _JUMP_WORDS:
            out.pop()
        out.append(token)
    return out


# numbers that stand for the fields when a form is turned into a pattern; no form has them as literals
_PROBE = {"off": 1003, "imm": 1004, "uimm": 1005, "imm64": 1006, "imm_hi": 1007, "imm_hi16": 1008, "imm_lo16": 1009}
_PROBE_REGS = {"dst": 21, "src": 22}
_EXAMPLE = {"dst": 1, "src": 2, "off": 4, "imm": 5, "uimm": 5, "imm64": 5, "imm_hi": 8, "imm_hi16": 0, "imm_lo16": 1}


def _patterns() -> dict[tuple[str, ...], list[_Pattern]]:
    found: dict[tuple[str, ...], list[_Pattern]] = {}
    for row in TABLE:
        if row.form in (Form.CALL_HELPER, Form.CALL_KFUNC):
            continue  # their names need a look into the helper table
        for form in (row.text, *row.llvm):
            text = form.format(**_PROBE, **_PROBE_REGS)
            tokens = _join(list(_scan(text, 0, len(text))))
            fields: list[str | None] = []
            literals: list[int | None] = []
            for token in tokens:
                names = {v: k for k, v in (_PROBE_REGS if token.kind == "reg" else _PROBE).items()}
                field = names.get(token.value) if token.kind in ("reg", "num") else None
                fields.append(field)
                literals.append(token.value if token.kind in ("reg", "num") and field is None else None)
            pattern = _Pattern(row, tuple(fields), tuple(literals), form.format(**_EXAMPLE))
            found.setdefault(tuple(token.shape for token in tokens), []).append(pattern)
    return found


_PATTERNS = _patterns()
_VOCABULARY = sorted(
    {part for shape in _PATTERNS for part in shape if part[0].isalpha() and "?" not in part} | {"call"}
)


class _Assembler:
    def __init__(self, text: str, where: str, maps: Mapping[str, int]) -> None:
        # comments become blanks, so that positions stay; newlines in them still end statements
        self.text = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
        self.source, self.where, self.maps = text, where, maps
        self.labels: dict[str, int] = {}
        self.statements: list[_Statement] = []
        self.slot = 0

    def run(self) -> Assembly:
        for match in re.finditer(r"[^\n;]+", self.text):
            self.statement(match.start(), match.end())
        insns: list[Insn] = []
        lines: list[int] = []
        line, seen = 1, 0
        for statement in self.statements:
            slots = self.encode(statement)
            pos = statement.tokens[0].pos
            line, seen = line + self.text.count("\n", seen, pos), pos
            insns += slots
            lines += [line] * len(slots)
        return Assembly(tuple(insns), self.labels, tuple(lines))

    def fail(self, pos: int, problem: str, hint: str = "") -> AsmError:
        line = self.source.count("\n", 0, pos)
        column = pos - (self.source.rfind("\n", 0, pos) + 1)
        source = self.source.split("\n")[line]
        position = f"{line + 1}:{column + 1}"
        indent = re.sub(r"[^ \t]", " ", source[:column])
        where = f"{self.where}:{position}" if self.where else position
        return AsmError(where, problem, hint, f"{source}\n{indent}^")

    def statement(self, start: int, end: int) -> None:
        symbol = _SYMBOL.search(self.text, start, end)
        prefix = _LOG_PREFIX.match(self.text, start, end)
        code = int(prefix["code"], 16) if prefix else None
        tokens = list(_scan(self.text, prefix.end() if prefix else start, symbol.start() if symbol else end))
        if tokens and tokens[-1].kind == "bad":
            raise self.fail(tokens[-1].pos, f"character {tokens[-1].text!r} has no place in an instruction")
        tokens = self.take_labels(tokens)
        if not tokens:
            return
        tokens = self.names(_join(tokens))
        row, values = self.call(tokens) if tokens[0].text == "call" else self.match(tokens, code)
        if code is not None and row.code != code:
            raise self.fail(tokens[0].pos, f"text is '{row.name}' with code {row.code:#04x}, not {code:#04x}")
        self.statements.append(_Statement(tokens, self.slot, row, values))
        self.slot += 2 if row.form is Form.LD_IMM64 else 1

    # the labels in front of a statement
    def take_labels(self, tokens: list[_Token]) -> list[_Token]:
        while len(tokens) > 1 and tokens[1].text == ":" and tokens[0].kind in ("word", "reg", "num"):
            self.label(tokens[0])
            tokens = tokens[2:]
        return tokens

    def label(self, token: _Token) -> None:
        if token.kind != "word":
            what = "the name of a register" if token.kind == "reg" else "a number"
            raise self.fail(token.pos, f"label '{token.text}' is {what}", "a name, as in 'out:'")
        if token.text in self.labels:
            raise self.fail(token.pos, f"label '{token.text}' is defined twice")
        self.labels[token.text] = self.slot

    # names of labels and maps become numbers, so that the forms of the table cover them
    def names(self, tokens: list[_Token]) -> list[_Token]:
        if len(tokens) > 1 and tokens[-2].text in _JUMP_WORDS and tokens[-1].kind == "word":
            return [*tokens[:-1], replace(tokens[-1], kind="num", label=tokens[-1].text)]
        if len(tokens) < 6 or tokens[1].text != "=" or tokens[3].text != "[":
            return tokens
        head, inner, rest = tokens[2], tokens[4], tokens[5:]
        if rest[-1].text != "ll":
            rest = [*rest, _Token("word", "ll", rest[-1].pos)]
        if head.text == "subprog" and inner.kind == "word":
            return [*tokens[:4], replace(inner, kind="num", label=inner.text), *rest]
        if head.text in _MAP_WORDS or (head.text == "map" and inner.kind == "word" and rest[0].text == "]"):
            return self.map_reference(tokens[:2], head, inner, rest)
        return [*tokens[:5], *rest]

    def map_reference(self, left: list[_Token], head: _Token, inner: _Token, rest: list[_Token]) -> list[_Token]:
        pos = inner.pos
        if inner.kind == "word":
            if inner.text not in self.maps:
                close = difflib.get_close_matches(inner.text, self.maps, 1)
                hint = close[0] if close else ", ".join(self.maps) or "a descriptor, as in map[fd:3]"
                raise self.fail(pos, f"unknown map '{inner.text}'", hint)
            inner = _Token("num", inner.text, pos, self.maps[inner.text])
        if head.text == "map_value" and rest[1].text != "[":
            offset = rest[1:] if rest[1].kind == "num" else [_Token("num", "+0", pos), *rest[1:]]
            zero = [_Token("op", "[", pos), _Token("num", "0", pos), _Token("op", "]", pos)]
            rest = [rest[0], *zero, *offset]
        kind = _MAP_WORDS.get(head.text, "fd")
        words = [
            _Token("word", "map", head.pos),
            _Token("op", "[", pos),
            _Token("word", kind, pos),
            _Token("op", ":", pos),
        ]
        return [*left, *words, inner, *rest]

    def match(self, tokens: list[_Token], code: int | None) -> tuple[Row, dict[str, _Token]]:
        found = _PATTERNS.get(tuple(token.shape for token in tokens))
        if found is None:
            raise self.unknown(tokens)
        pattern = next((p for p in found if p.row.code == code), found[0])
        values: dict[str, _Token] = {}
        for token, field, literal in zip(tokens, pattern.fields, pattern.literals, strict=True):
            if literal is not None and token.value != literal:
                raise self.fail(
                    token.pos, f"'{token.text}' where '{pattern.example}' has another", f"'{pattern.example}'"
                )
            if field in values and values[field].value != token.value:
                raise self.fail(token.pos, f"'{token.text}' is not '{values[field].text}'; it has one register only")
            if field is not None:
                values[field] = token
        return pattern.row, values

    # call name, call name#id, call label, call number; the name decides
    def call(self, tokens: list[_Token]) -> tuple[Row, dict[str, _Token]]:
        if len(tokens) == 2 and tokens[1].kind == "num":
            return BY_NAME["call"], {"imm": tokens[1]}
        if len(tokens) == 3 and tokens[1].text == "pc" and tokens[2].kind == "num":
            return BY_NAME["call.local"], {"imm": tokens[2]}
        if len(tokens) == 2 and tokens[1].kind == "word":
            name = tokens[1]
            if name.text in HELPER_IDS:
                return BY_NAME["call"], {"imm": replace(name, value=HELPER_IDS[name.text])}
            return BY_NAME["call.local"], {"imm": replace(name, label=name.text)}
        if len(tokens) == 4 and tokens[1].kind == "word" and tokens[2].text == "#" and tokens[3].kind == "num":
            name, number = tokens[1], tokens[3]
            helper = HELPER_IDS.get(name.text)
            if helper is not None and helper != number.value:
                raise self.fail(number.pos, f"helper '{name.text}' has the number {helper}, not {number.value}")
            plain = helper is not None or name.text in ("unknown", "bpf_unspec")
            return BY_NAME["call" if plain else "call.kfunc"], {"imm": number}
        raise self.fail(tokens[-1].pos, "call of neither a helper nor a label", "'call bpf_ktime_get_ns', 'call out'")

    def unknown(self, tokens: list[_Token]) -> AsmError:
        shape = tuple(token.shape for token in tokens)
        for token in tokens:
            if token.kind == "word" and token.text not in _VOCABULARY:
                close = difflib.get_close_matches(token.text, _VOCABULARY, 1)
                if close:
                    return self.fail(token.pos, f"unknown word '{token.text}'; did you mean '{close[0]}'?")
        # the first token with which no form goes on
        good = max(_common(shape, known) for known in _PATTERNS)
        at = tokens[min(good, len(tokens) - 1)]
        pos = at.pos if good < len(tokens) else at.pos + len(at.text)
        known = max(_PATTERNS, key=lambda k: difflib.SequenceMatcher(None, shape, k).ratio())
        statement = self.text[tokens[0].pos : tokens[-1].pos + len(tokens[-1].text)]
        return self.fail(pos, f"no instruction looks like '{statement}'", f"'{_PATTERNS[known][0].example}'")

    def encode(self, statement: _Statement) -> list[Insn]:
        row, values = statement.row, statement.values
        given = {name: self.value(statement, name, token) for name, token in values.items()}
        fields = {name: given[name] for name in ("dst", "src", "off", "imm") if name in given}
        if "uimm" in given:
            fields["imm"] = given["uimm"]
        if "imm_hi16" in given:
            fields["imm"] = s32(given["imm_hi16"] << 16 | given["imm_lo16"])
        if row.form is not Form.LD_IMM64:
            return [row.insn(**fields)]
        if "imm64" in given:
            fields["imm"], upper = s32(given["imm64"]), s32(given["imm64"] >> 32)
        else:
            upper = given.get("imm_hi", 0)
        return [row.insn(**fields), Insn(0, imm=upper)]

    def value(self, statement: _Statement, name: str, token: _Token) -> int:
        value = token.value
        if token.label:
            if token.label not in self.labels:
                call = statement.row.form is Form.CALL_LOCAL
                names = [*self.labels, *(HELPER_IDS if call else ())]
                close = difflib.get_close_matches(token.label, names, 1)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                what = "helper" if call and token.label.startswith("bpf_") else "label"
                raise self.fail(token.pos, f"unknown {what} '{token.label}'{hint}")
            value = self.labels[token.label] - statement.slot - 1
        low, high = _range(statement.row, name, token)
        if not low <= value <= high:
            what = "register" if name in ("dst", "src") else f"'{token.text}'"
            hint = _range_hint(statement.row, name, token)
            raise self.fail(token.pos, f"{what} is {value}, which is not within {low} and {high}", hint)
        return s32(value) if name in ("imm", "uimm", "imm_hi") else value


def _range(row: Row, name: str, token: _Token) -> tuple[int, int]:
    if name in ("dst", "src"):
        return 0, MAX_REG
    if name == "off":
        return -(1 << 15), (1 << 15) - 1
    if name in ("imm_hi16", "imm_lo16"):
        return 0, (1 << 16) - 1
    if name == "imm64":
        return -(1 << 63), (1 << 64) - 1
    # 32 bits may be written signed or unsigned where the operation has 32, or where the log prints the bits in hex
    hexadecimal = name == "uimm" and token.text.lower().startswith("0x")
    narrow = row.bits == 32 or name == "imm_hi" or (row.form is Form.ST and row.size < 8)
    return -(1 << 31), (1 << 32) - 1 if narrow or hexadecimal else (1 << 31) - 1


def _range_hint(row: Row, name: str, token: _Token) -> str:
    if name == "off" and row.form is Form.JA:
        return "'gotol', which reaches further"
    if name == "imm" and row.name == "mov64.imm":
        return f"'{token.text} ll'"
    return ""


def _common(shape: tuple[str, ...], known: tuple[str, ...]) -> int:
    count = 0
    for a, b in zip(shape, known, strict=False):
        if a != b:
            break
        count += 1
    return count
