"""Programs that are attached to functions of other programs: ``target: OBJECT/PROGRAM/FUNCTION``.

A program is loaded for its target, so the target's object is loaded first.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ebpfsim.scenario.document import Key
from ebpfsim.uapi.bpf import ProgType

if TYPE_CHECKING:
    from ebpfsim.scenario.objects import CheckedObject
    from ebpfsim.scenario.schema import AttachBlock

__all__ = ["FunctionTarget", "check_target", "check_untargeted", "load_order", "parse_target"]

Path = tuple[Key, ...]
EXAMPLE = "target: OBJECT/PROGRAM/FUNCTION"


class FunctionTarget(NamedTuple):
    """A function of a program; the program itself is the function of its name."""

    object: str
    program: str
    function: str


class Check(Protocol):
    """What gathers the errors of a scenario."""

    def wrong(self, path: Path, problem: str, hint: str = "", *, key: bool = False) -> None:
        """Tell that something is wrong at a place."""

    def unknown(self, path: Path, what: str, name: object, known: Iterable[str], *, key: bool = False) -> None:
        """Tell that a name leads nowhere."""

    def object_name(self, path: Path, name: str) -> "CheckedObject | None":
        """Return the object of that name."""


def parse_target(text: str, objects: Mapping[str, "CheckedObject"]) -> FunctionTarget:
    """Return what ``disp/main/slot0``, ``disp/main``, or ``disp/slot0`` where 'disp' has one program, names."""
    name, *rest = text.split("/", 2)
    programs = objects[name].programs
    if len(programs) == 1 and rest[:1] != programs:
        return FunctionTarget(name, programs[0], "/".join(rest) or programs[0])
    program = rest[0] if rest else ""
    return FunctionTarget(name, program, rest[1] if len(rest) > 1 else program)


def check_target(
    check: Check, path: Path, attach: "AttachBlock", found: "CheckedObject", objects: Mapping[str, "CheckedObject"]
) -> FunctionTarget | None:
    """Return the target of an attachment to another program, None when something is wrong with it."""
    text = str(attach.target)
    into = check.object_name(path, text.partition("/")[0])
    if into is None:
        return None
    target = parse_target(text, objects)
    if target.program not in into.programs:
        check.unknown(path, f"program of '{target.object}':", target.program, into.programs)
    elif into.spec is None:
        check.wrong(path, f"program '{target.object}' is assembly, whose functions have no names")
    elif target.function not in (known := [row.name for row in into.spec.functions]):
        check.unknown(path, f"function of '{target.object}/{target.program}':", target.function, known)
    elif into.block.host != found.block.host:
        problem = (
            f"program '{attach.program}' is loaded on host '{found.block.host}', its target on '{into.block.host}'"
        )
        check.wrong(path, problem)
    elif into is found:
        check.wrong(
            path, f"the target is in object '{found.name}' itself", "programs to attach in an object of their own"
        )
    else:
        return target
    return None


def check_untargeted(
    check: Check, objects: Mapping[str, "CheckedObject"], targets: Mapping[tuple[str, str], FunctionTarget]
) -> None:
    """Tell of programs that replace a function, and of which nothing says which one; and of objects in a circle."""
    for name, found in objects.items():
        for program in found.spec.programs.values() if found.spec is not None else ():
            if program.type == ProgType.EXT and program.autoload and (name, program.name) not in targets:
                hint = f"attach: [{{program: {name}/{program.name}, hook: freplace, {EXAMPLE}}}]"
                problem = f"nothing says which function '{name}/{program.name}' replaces"
                check.wrong(("objects", name), problem, hint, key=True)
    if circle := _circle(objects, targets):
        check.wrong(("objects", circle[0]), f"objects need each other: {' -> '.join(circle)}", key=True)


def load_order(objects: Iterable[str], targets: Mapping[tuple[str, str], FunctionTarget]) -> list[str]:
    """Return the objects in the order of the file, but targets before what is attached to them."""
    order: list[str] = []

    def add(name: str) -> None:
        if name not in order:
            for needed in _needs(name, targets):
                add(needed)
            order.append(name)

    for name in objects:
        add(name)
    return order


def _needs(name: str, targets: Mapping[tuple[str, str], FunctionTarget]) -> list[str]:
    return [target.object for (owner, _), target in targets.items() if owner == name]


def _circle(objects: Iterable[str], targets: Mapping[tuple[str, str], FunctionTarget]) -> list[str]:
    done: set[str] = set()

    def walk(trail: list[str]) -> list[str]:
        for needed in _needs(trail[-1], targets):
            if needed in trail:
                return [*trail[trail.index(needed) :], needed]
            if needed not in done and (found := walk([*trail, needed])):
                return found
        done.add(trail[-1])
        return []

    return next((found for name in objects if (found := walk([name]))), [])
