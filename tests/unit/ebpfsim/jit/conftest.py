"""Programs on both engines of one machine."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def jit(machine: Any) -> Callable[..., Any]:
    """Return what compiles assembly to machine code and runs it."""
    from ebpfsim.jit.engine import compile_prog, execute

    def run(code: Any, ctx: int = 0, *, checked: bool = True, **options: Any) -> Any:
        prog = machine.prog(code, **options) if isinstance(code, (str, tuple)) else code
        compile_prog(prog, machine, checked=checked)
        return execute(prog, ctx, machine.cpus[0])

    return run


@pytest.fixture
def plain(jit: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs assembly as the code that verified programs get."""
    return lambda code, ctx=0, **options: jit(code, ctx, checked=False, **options)


@pytest.fixture
def both(machine: Any, jit: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs assembly in the interpreter and as machine code, and compares; it returns the second run."""

    def run(code: Any, ctx: int = 0, **options: Any) -> Any:
        machine.cpus[0].elapsed_ps = 0
        expected = machine.run(machine.prog(code, **options), ctx)
        machine.cpus[0].elapsed_ps = 0
        found = jit(code, ctx, **options)
        assert found.r0 == expected.r0
        assert (found.insns, found.cost_ps, found.tail_calls) == (expected.insns, expected.cost_ps, expected.tail_calls)
        return found

    return run
