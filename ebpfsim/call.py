"""Calling a function of the kernel by its name, with arguments as people write them: ``call`` of a scenario.

What is attached to the function runs, whether something in this model calls the function or not. A function of the
network stack that works on packets and sockets does nothing beyond that.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InputError, KernelOops
from ebpfsim.isa.alu import M64
from ebpfsim.memory.user import UserFault
from ebpfsim.suggest import did_you_mean
from tracing.functions import NO_FTRACE_SITE, kernel_proto
from tracing.vfs import kmalloc_text

__all__ = ["Argument", "Arguments", "call_function", "call_problem", "parameters"]

# numbers, and texts of which the function gets the address
Argument: TypeAlias = int | str
Arguments: TypeAlias = Mapping[str, Argument] | Sequence[Argument]


def parameters(name: str) -> list[str]:
    """Return the names of a function's parameters, ``argN`` of those without one."""
    return [param.name or f"arg{index}" for index, param in enumerate(kernel_proto(name).params)]


def call_problem(name: str, args: Arguments) -> tuple[str, str]:
    """Return what is wrong with a call and what to do instead; two empty texts when nothing is."""
    if vmlinux().find(name, Kind.FUNC) is None:
        known = [vmlinux().name_of(id_) for id_ in vmlinux().ids_of_kind(Kind.FUNC)]
        return f"the kernel has no function '{name}'{did_you_mean(name, known)}", ""
    if name in NO_FTRACE_SITE:
        return f"nothing can be attached to {name}()", ""
    names = parameters(name)
    hint = f"{name}({', '.join(names)})"
    if isinstance(args, Mapping):
        for key in args:
            if key not in names:
                return f"{name}() has no argument '{key}'{did_you_mean(key, names)}", hint
    elif len(args) > len(names):
        return f"{name}() has {len(names)} arguments, not {len(args)}", hint
    return "", ""


def call_function(kernel: Any, name: str, args: Arguments, cpu: Cpu) -> int:
    """Call a function on a CPU and return what it returns; arguments that are left out are 0."""
    problem, hint = call_problem(name, args)
    if problem:
        raise InputError("", problem, hint)
    names = parameters(name)
    given = args if isinstance(args, Mapping) else dict(zip(names, args, strict=False))
    site = kernel.functions.site(name)
    texts: list[int] = []
    words = []
    for parameter in names:
        value = given.get(parameter, 0)
        if isinstance(value, str):
            value = kmalloc_text(kernel.mem, value.encode(errors="surrogateescape"))
            texts.append(value)
        words.append(value & M64)
    try:
        result: int = site.call(cpu, *words)
    except (KeyError, AssertionError, UserFault) as error:
        raise KernelOops(f"{name}() found nothing at an address that it was called with") from error
    finally:
        for address in texts:
            kernel.mem.free_rcu(address)
    return result
