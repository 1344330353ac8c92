"""pydantic's errors as errors of a scenario: our words, at the place of the key or value, in the order of the file."""

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.document import Node
from ebpfsim.scenario.source import listed, shown
from ebpfsim.suggest import did_you_mean

__all__ = ["raise_together", "scenario_errors"]

# pydantic's error type -> what was expected; {x} are fields of the error's context
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "literal_error": "{expected}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "greater_than": "more than {gt}",
    "less_than": "less than {lt}",
}
# types whose second branch of a union says nothing new
_UNION_BRANCHES = ("int", "float", "constrained-int", "none", "dict[str,any]")


def scenario_errors(error: ValidationError, root: Node, model: type[BaseModel]) -> list[ScenarioError]:
    """Return the errors of a validation, each at its place."""
    found: dict[tuple[str, str], ScenarioError] = {}
    for row in error.errors(include_url=False):
        path = tuple(step for step in row["loc"] if step != "[key]" and str(step) not in _UNION_BRANCHES)
        ours = _error(row, path, root, model)
        found.setdefault((ours.where, ours.problem), ours)
    return list(found.values())


def raise_together(errors: list[ScenarioError]) -> None:
    """Raise one error that carries all of them in the order of the file; nothing when there are none."""
    if not errors:
        return
    ordered = sorted(errors, key=_place)
    first = ordered[0]
    raise ScenarioError(first.where, first.problem, first.hint, first.source, tuple(ordered[1:]))


def _place(error: ScenarioError) -> tuple[str, int, int]:
    name, _, rest = error.where.rpartition(":")
    name, _, line = name.rpartition(":")
    return (name, int(line), int(rest)) if line.isdigit() and rest.isdigit() else (error.where, 0, 0)


def _error(row: Mapping[str, Any], path: tuple[Any, ...], root: Node, model: type[BaseModel]) -> ScenarioError:
    kind, context = row["type"], row.get("ctx", {})
    in_key = "[key]" in row["loc"]
    if kind == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        problem = f"unknown key '{path[-1]}'{did_you_mean(path[-1], known)}"
        return root.find(path, key=True).error(problem, f"keys here: {listed(known)}" if known else "")
    if kind == "missing":
        parent = root.find(path[:-1])
        return parent.error(f"missing key '{path[-1]}'{_inside(path[:-1])}")
    if kind == "wrong":
        if context["key"]:
            return root.find((*path, context["key"]), key=True).error(context["problem"], context["hint"])
        return root.find(path, key=in_key).error(context["problem"], context["hint"])
    if kind in ("too_short", "too_long"):
        limit = context.get("min_length", context.get("max_length"))
        return root.find(path).error(f"{_named(path)} has {context['actual_length']} items, expected {limit}")
    expected = _EXPECTED.get(kind, row["msg"]).format(**context)
    problem = f"{_named(path)}: expected {expected}, have {shown(row['input'])}"
    hint = ""
    if kind == "literal_error" and isinstance(row["input"], str):
        words = [word.strip(" '") for word in expected.replace(" or ", ", ").split(", ")]
        problem += did_you_mean(row["input"], words)
    elif kind == "string_type" and isinstance(row["input"], int | float) and not isinstance(row["input"], bool):
        hint = f"quote it: '{row['input']}'"
    return root.find(path, key=in_key).error(problem, hint)


def _named(path: tuple[Any, ...]) -> str:
    # the nearest key that has a name
    names = [str(step) for step in path if isinstance(step, str)]
    return f"'{names[-1]}'" if names else "scenario"


def _inside(path: tuple[Any, ...]) -> str:
    if not path:
        return ""
    *_, last = path
    return f" in '{path[-2]}[{last}]'" if isinstance(last, int) and len(path) > 1 else f" in '{last}'"


def _keys_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    # follow the path through the models' annotations to the block whose keys they are
    annotation: Any = model
    for step in path:
        annotation = _below(annotation, step)
    block = next((part for part in _parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)), None)
    return list(block.model_fields) if block is not None else []


def _below(annotation: Any, step: Any) -> Any:
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            field = part.model_fields.get(str(step))
            return field.annotation if field is not None else None
        if get_origin(part) in (dict, list):
            return get_args(part)[-1]
    return None


def _parts(annotation: Any) -> list[Any]:
    # X | None -> X, None; Annotated[X, ...] -> X
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for arg in get_args(annotation) for part in _parts(arg)]
    return [annotation]
