"""Which functions of the kernel Python functions stand for, so that a stack can be told (``tracing.stack``)."""

from collections.abc import Callable
from types import CodeType
from typing import TypeVar

__all__ = ["FRAMES", "IN_TASK", "stands_for"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

# per CPU, in its scratch: whether it is a task that runs there, and no interrupt
IN_TASK = "in_task"
# by the code of a Python function: names of functions of the kernel, the innermost first
FRAMES: dict[CodeType, tuple[str, ...]] = {}


def stands_for(*names: str) -> Callable[[FunctionT], FunctionT]:
    """Say which functions of the kernel are on the stack while a Python function runs, the innermost first."""

    def mark(function: FunctionT) -> FunctionT:
        FRAMES[function.__code__] = names
        return function

    return mark
