"""A verifier's log read back: the steps of the path that failed, with C lines, branches and what registers held.

Works on the text alone, at log level 1 or 2, so also on what a real kernel printed.
"""

import re
from dataclasses import dataclass, field

__all__ = ["Origin", "Place", "Step", "Trail", "read_trail"]

_STEP = re.compile(r"^(\d+): \(([0-9a-f]{2})\) (.*)$")
_SOURCE = re.compile(r"^; (.*) @ (\S+):(\d+)$")
_FROM = re.compile(r"^from (\d+) to (\d+):")
_STATE = re.compile(r"^\d+: (?:frame\d+: )?(R\d+(?:_w|_r|_rw)?=.*)$")
_CALL_STATE = re.compile(r"^(?:caller|callee|frame\d+):?$")
_JUMP = re.compile(r"^(?:if (.+) goto pc([+-]\d+)|goto pc([+-]\d+)|may_goto pc([+-]\d+))$")
_STATISTICS = ("processed ", "verification time ", "stack depth ", "mark_precise: ", "Live regs before", "Func#")
MAX_ORIGINS = 12


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the C source; nothing is known without line info."""

    file: str = ""
    line: int = 0
    source: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else ""


@dataclass(slots=True)
class Step:
    """One instruction on the path; ``state`` is what the log says of registers and slots after it."""

    idx: int
    text: str
    place: Place
    state: dict[str, str] = field(default_factory=dict)
    taken: bool | None = None

    @property
    def condition(self) -> str:
        """The condition of a conditional jump, nothing otherwise."""
        match = _JUMP.match(self.text)
        return (match[1] or "") if match else ""


@dataclass(frozen=True, slots=True)
class Origin:
    """One step in the life of a value: where it was made, moved or changed, and what it was then."""

    step: Step
    what: str
    value: str


@dataclass(slots=True)
class Trail:
    """The path that failed: its steps in order, and the lines that the verifier wrote at the end."""

    steps: list[Step]
    messages: list[str]

    @property
    def last(self) -> Step | None:
        """The step that failed, if the walk began at all."""
        return self.steps[-1] if self.steps else None

    def value(self, name: str, before: int | None = None) -> str:
        """Return what a register or a slot (``fp-8``) was known to be before a step, the last one by default."""
        end = len(self.steps) - 1 if before is None else before
        for step in reversed(self.steps[: max(end, 0)]):
            if name in step.state:
                return step.state[name]
            if name[1:] in "12345" and name[0] == "R" and step.text.startswith("call "):
                return ""
        return ""

    def decisions(self) -> list[Step]:
        """Return the conditional jumps on the path, each with the way it went."""
        return [step for step in self.steps[:-1] if step.condition and step.taken is not None]

    def added(self, regno: int) -> tuple[int, int] | None:
        """Return the last addition of a register to a pointer: the place in ``steps``, and the register added."""
        for origin in reversed(self.history(regno)):
            text = re.match(r"r\d+ \+= r(\d+)$", origin.step.text)
            if text:
                return next(i for i, step in enumerate(self.steps) if step is origin.step), int(text[1])
        return None

    def history(self, regno: int, before: int | None = None) -> list[Origin]:
        """Return where the value of a register before a step, the last one by default, came from, oldest first."""
        found: list[Origin] = []
        name, at = f"r{regno}", (len(self.steps) - 1 if before is None else before) - 1
        while at >= 0 and len(found) < MAX_ORIGINS:
            made = self._made(name, at)
            if made is None:
                break
            at, what, source = made
            step = self.steps[at]
            found.append(Origin(step, what, step.state.get(_register(name), "")))
            if not source:
                break
            name, at = source, at - 1
        found.reverse()
        return found

    def _made(self, name: str, at: int) -> tuple[int, str, str] | None:
        # the last step up to ``at`` that wrote a register or a slot, in words, and what it was made of
        digit = name[1:]
        for i in range(at, -1, -1):
            text = self.steps[i].text
            if name.startswith("fp"):
                stored = re.match(rf"\*\(u\d+ \*\)\(r10 {re.escape(name[2:])}\) = (r\d+)$", text)
                if stored:
                    return i, "kept on the stack", stored[1]
                continue
            if text.startswith("call ") and digit in ("0", "1", "2", "3", "4", "5"):
                what = "result of " + text[5:].split("#")[0] if digit == "0" else "lost: a call scratches R1 to R5"
                return i, what, ""
            written = re.match(rf"[rw]{digit} (\S*=) (.*)$", text)
            if written:
                return i, *_written(written[1], written[2], name)
        return None


def _written(operator: str, right: str, name: str) -> tuple[str, str]:
    if operator != "=":
        return "changed", name
    if re.fullmatch(r"[rw]\d+", right):
        return "copied", "r" + right[1:]
    filled = re.match(r"\*\(u64 \*\)\(r10 (-\d+)\)", right)
    if filled:
        return "from the stack", "fp" + filled[1]
    return ("loaded" if right.startswith("*(") else "set"), ""


def _register(name: str) -> str:
    return f"R{name[1:]}" if name.startswith("r") else name


def read_trail(log: str) -> Trail:
    """Read the path that failed out of a log."""
    steps: list[Step] = []
    messages: list[str] = []
    entry: dict[str, str] = {}
    place = Place()
    for line in log.splitlines():
        if not line or line.startswith(_STATISTICS) or _CALL_STATE.match(line):
            continue
        source, step, back = _SOURCE.match(line), _STEP.match(line), _FROM.match(line)
        if source:
            place = Place(source[2], int(source[3]), source[1].strip())
        elif step:
            text, _, state = step[3].partition(" ;")
            _arrive(steps, int(step[1]))
            steps.append(Step(int(step[1]), text.strip(), place, _parse(state)))
            messages.clear()
        elif back:
            _go_back(steps, int(back[1]))
            messages.clear()
        elif _STATE.match(line) and not messages:
            target = steps[-1].state if steps else entry
            target.update(_parse(line.partition(":")[2]))
        else:
            messages.append(line)
    if entry and steps:
        steps.insert(0, Step(-1, "entry", steps[0].place, entry))
    return Trail(steps, messages)


def _arrive(steps: list[Step], idx: int) -> None:
    # the way that the jump before went
    if steps and steps[-1].condition:
        steps[-1].taken = idx != steps[-1].idx + 1


def _go_back(steps: list[Step], idx: int) -> None:
    # level 2 has all paths: what comes leaves the one before at that instruction
    for i in range(len(steps) - 1, -1, -1):
        if steps[i].idx == idx:
            del steps[i + 1 :]
            return


def _parse(text: str) -> dict[str, str]:
    # R1=ctx() R2_w=scalar(smin=0,smax=4) fp-8=mmmm
    found: dict[str, str] = {}
    depth = start = 0
    for i, letter in enumerate(text + " "):
        depth += (letter in "([") - (letter in ")]")
        if letter == " " and depth <= 0:
            name, equals, value = text[start:i].partition("=")
            if equals and re.fullmatch(r"(?:R\d+|fp-\d+)(?:_\w+)?", name):
                found[name.split("_")[0]] = value
            start = i + 1
    return found
