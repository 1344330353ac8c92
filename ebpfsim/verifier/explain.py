"""A refusal in plain words: where in the C source, how the path got there, what the values were, what to write.

Beside the kernel's text, never instead of it; made from that text (``ebpfsim.verifier.trail``).
"""

import re
from dataclasses import dataclass
from typing import Any

from ebpfsim.verifier.hints import HINTS, Finding
from ebpfsim.verifier.trail import Origin, Place, Step, Trail, read_trail

__all__ = ["Explanation", "explain"]

MAX_DECISIONS = 8


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a program was refused.

    ``values`` are the registers and slots that mattered, as the verifier knew them before ``step``; ``history`` is
    where the first of them came from; ``decisions`` the branches on the path, the last ones if there are many.
    """

    reason: str
    hint: str
    step: Step | None
    values: tuple[tuple[str, str], ...]
    history: tuple[Origin, ...]
    decisions: tuple[Step, ...]
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "reason": self.reason,
            "hint": self.hint,
            "insn": {"idx": self.step.idx, "text": self.step.text} if self.step is not None else None,
            "source": _place(self.step.place) if self.step is not None else None,
            "values": dict(self.values),
            "history": [
                {"insn": each.step.idx, "what": each.what, "value": each.value, "source": _place(each.step.place)}
                for each in self.history
            ],
            "path": [
                {"insn": each.idx, "condition": each.condition, "taken": each.taken, "source": _place(each.place)}
                for each in self.decisions
            ],
        }

    def lines(self) -> list[str]:
        """Return it as text for people."""
        out = []
        if self.step is not None:
            out += [f"where   {_at(self.step.place)}", f"        insn {self.step.idx}: {self.step.text}"]
        for number, (name, value) in enumerate(self.values):
            out.append(f"{'' if number else 'values':<8}{name} is {value}")
        for number, origin in enumerate(self.history):
            became = f", {origin.value}" if origin.value else ""
            head = f"{'' if number else f'{self.values[0][0]}':<8}"
            out.append(f"{head}{origin.what} by insn {origin.step.idx} ({origin.step.text}){became}")
            if not number or origin.step.place != self.history[number - 1].step.place:
                out.append(f"{'':<10}{_at(origin.step.place)}")
        if self.left_out:
            out.append(f"path    {self.left_out} branches before")
        for number, step in enumerate(self.decisions):
            way = "true" if step.taken else "false"
            head = "" if number or self.left_out else "path"
            out.append(f"{head:<8}{_at(step.place)}")
            out.append(f"{'':<10}insn {step.idx}: {step.condition} was {way}")
        if self.hint:
            out += [f"{'hint' if not i else '':<8}{line}" for i, line in enumerate(self.hint.splitlines())]
        return [line.rstrip() for line in out]


def _at(place: Place) -> str:
    return f"{place}: {place.source}" if place.file else "(no line info: compile with -g)"


def _place(place: Place) -> dict[str, Any] | None:
    return {"file": place.file, "line": place.line, "text": place.source} if place.file else None


def explain(log: str) -> Explanation:
    """Explain a refusal by the verifier's log, at level 1 or 2; one of a real kernel will do."""
    trail = read_trail(log)
    reason, hint = trail.messages[-1] if trail.messages else "", ""
    for pattern, build in HINTS:
        for message in reversed(trail.messages):
            match = pattern.search(message)
            if match:
                reason, hint = message, build(Finding(trail, match))
                break
        if hint:
            break
    values = _values(trail, reason)
    index = trail.added(int(values[0][0][1:])) if values and _OUTSIDE.search(reason) else None
    if index is not None:
        # what matters is the number that was added to the pointer
        at, regno = index
        values = [(f"R{regno}", trail.value(f"R{regno}", at)), *(each for each in values if each[0] != f"R{regno}")]
        history = trail.history(regno, at)
    else:
        history = trail.history(int(values[0][0][1:])) if values else []
    decisions = trail.decisions()
    return Explanation(
        reason,
        hint,
        trail.last,
        tuple(values),
        tuple(history),
        tuple(decisions[-MAX_DECISIONS:]),
        max(len(decisions) - MAX_DECISIONS, 0),
    )


_OUTSIDE = re.compile(r"unbounded memory access|(?:min|max) value is outside|out of bounds")
_ACCESS = re.compile(r"R(\d+) invalid mem access '([^']+)'")


def _values(trail: Trail, reason: str) -> list[tuple[str, str]]:
    # the registers that the messages name, then those of the instruction
    text = " ".join(re.findall(r"\bR(\d+)\b", " ".join([reason, *trail.messages])))
    step = trail.last
    if step is not None and not step.text.startswith("call "):
        text += " " + " ".join(re.findall(r"\b[rw](\d+)\b", step.text))
    access = _ACCESS.search(reason)
    values = []
    for regno in dict.fromkeys(int(number) for number in text.split()):
        value = trail.value(f"R{regno}")
        if access and int(access[1]) == regno and not value.startswith(access[2]):
            # the log shows what an instruction changes; what a call makes void it does not
            value = f"{access[2]}, no longer {value}" if value and not value.lstrip("-").isdigit() else access[2]
        if value and regno < 10:
            values.append((f"R{regno}", value))
    return values
