"""Functions of the kernel that only call others: tables of call paths (``data/paths/*.txt``).

What a function does beyond its calls, and nothing here looks at, is left out; that it is called, when, by whom and with
what is what programs see of it. A table has functions by their names, with the calls that they make below them::

    filp_flush
        dnotify_flush
        locks_remove_posix(filp, id)
    mntget = mnt
    copy_fs_struct
        path_get(&fs->root) x2

Names are the parameters of the function whose calls these are, ``fs->root`` and ``&fs->root`` members behind them.
``= mnt`` is what a function returns, 0 otherwise; a call that begins with ``!`` ends the function with what it
returned, unless that is 0. A function that is only called needs no line of its own.

Arguments that a call leaves out are found by what the functions' prototypes say: a parameter of the same name and type,
then one of the same type, what hangs on one (the inode of a file), the running task, its memory or its credentials.
Differs: what is not found this way is 0.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ebpfsim.btf.layout import member_place, sizeof
from ebpfsim.btf.types import Composite, Kind, Ptr, Type
from ebpfsim.btf.view import place
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InternalError
from hooks.trampoline import Function
from tracing.functions import KernelFunctions, kernel_model, kernel_proto

__all__ = ["CallPath", "add_paths", "all_paths", "parse"]

_DATA = Path(__file__).with_name("data") / "paths"
_INDENT = 4
_LINE = re.compile(r"(!?)(\w+)(?:\((.*)\))?(?: x(\d+))?(?: = (.+))?")
_WORD = re.compile(r"(&?)(\w+)((?:->[\w.]+)*)")

# what hangs on a structure: the members that lead from it to another one
_BEHIND: Mapping[str, Mapping[str, str]] = {
    "file": {"inode": "f_inode", "dentry": "f_path.dentry", "vfsmount": "f_path.mnt", "address_space": "f_mapping"},
    "path": {"dentry": "dentry", "vfsmount": "mnt"},
    "dentry": {"inode": "d_inode", "super_block": "d_sb"},
    "inode": {"super_block": "i_sb"},
    "kiocb": {"file": "ki_filp"},
    "task_struct": {"mm_struct": "mm", "signal_struct": "signal", "fs_struct": "fs", "files_struct": "files"},
    "vm_area_struct": {"mm_struct": "vm_mm", "file": "vm_file"},
    "linux_binprm": {"file": "file", "cred": "cred", "mm_struct": "mm"},
}
# what the running task has
_CURRENT = {"task_struct": "", "mm_struct": "mm", "cred": "cred", "files_struct": "files", "signal_struct": "signal"}


class Call(NamedTuple):
    """One call that a function makes: with these arguments, or with those that its prototype asks for; how often."""

    name: str
    args: tuple[str, ...] | None
    times: int
    ends: bool


@dataclass(slots=True)
class CallPath:
    """What a function calls, and what it returns."""

    calls: list[Call] = field(default_factory=list)
    result: str = "0"


def parse(text: str) -> dict[str, CallPath]:
    """Return the functions of a table by their names; InternalError when one is there twice with different calls."""
    found: dict[str, CallPath] = {}
    above: list[CallPath] = []
    rows: list[tuple[str, CallPath]] = []
    for line in text.splitlines():
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        match = _LINE.fullmatch(words)
        if match is None:
            raise InternalError(f"no call: {words}")
        del above[(len(line) - len(line.lstrip())) // _INDENT :]
        if above:
            args = tuple(arg.strip() for arg in match[3].split(",")) if match[3] is not None else None
            above[-1].calls.append(Call(match[2], args, int(match[4] or 1), bool(match[1])))
        path = CallPath(result=match[5] or "0")
        rows.append((match[2], path))
        above.append(path)
    for name, path in rows:
        _merge(found, name, path)
    return found


def _merge(found: dict[str, CallPath], name: str, path: CallPath) -> None:
    # a line without calls and result says nothing of what the function does
    known = found.setdefault(name, path)
    for member, nothing in (("calls", []), ("result", "0")):
        ours, new = getattr(known, member), getattr(path, member)
        if new == nothing:
            continue
        if ours not in (nothing, new):
            raise InternalError(f"{name}() has two paths")
        setattr(known, member, new)


@cache
def all_paths() -> Mapping[str, CallPath]:
    """Return all functions of all tables."""
    merged: dict[str, CallPath] = {}
    for file in sorted(_DATA.glob("*.txt")):
        for name, path in parse(file.read_text()).items():
            _merge(merged, name, path)
    return merged


def add_paths(functions: KernelFunctions, kernel: Any) -> None:
    """Let a kernel have the functions of the tables, unless it has them already; each is made when it is called."""
    functions.offer(all_paths(), lambda name: _make(functions, kernel, name))


@cache
def _nothing(words: int) -> Function:
    # a function of so many arguments that does nothing
    room: dict[str, Any] = {}
    args = ", ".join(f"a{index}" for index in range(words))
    exec(f"def nothing(cpu, {args}): return 0", room)
    made: Function = room["nothing"]
    return made


def _make(functions: KernelFunctions, kernel: Any, name: str) -> Function:
    path = all_paths()[name]
    if not path.calls and path.result == "0":
        return _nothing(kernel_model(name).nr_words)
    source = "\n".join(_source(name, path))
    room: dict[str, Any] = {"f": functions, "load": _loader(kernel), "at": kernel.sched.current}
    exec(compile(source, f"<{name}>", "exec"), room)
    made: Function = room["made"]
    return made


def _loader(kernel: Any) -> Callable[[int, int, int], int]:
    def load(base: int, offset: int, size: int) -> int:
        # a pointer to nothing leads to nothing
        value: int = kernel.mem.load(base + offset, size) if kernel.mem.mapped(base + offset, size) else 0
        return value

    return load


def _source(name: str, path: CallPath) -> Iterable[str]:
    params = _params(name)
    yield f"def made(cpu{''.join(f', {param}' for param in params)}):"
    for call in path.calls:
        wanted = _params(call.name)
        if call.args is None:
            args = [_found(param, type_, params) for param, type_ in wanted.items()]
        else:
            args = [_expression(arg, params) for arg in call.args if arg]
            args += ["0"] * (len(wanted) - len(args))
        line = f"f.{call.name}({', '.join(['cpu', *args])})"
        for _ in range(call.times):
            if call.ends:
                yield f"    ret = {line}"
                yield "    if ret: return ret"
            else:
                yield f"    {line}"
    yield f"    return {_expression(path.result, params)}"


@cache
def _params(name: str) -> Mapping[str, Type]:
    """Return the parameters of a function of the kernel by names that Python takes, with their types."""
    btf = vmlinux()
    if btf.find(name, Kind.FUNC) is None:
        raise InternalError(f"the kernel has no function {name}()")
    return {
        f"{param.name or f'arg{index}'}_": btf.resolved(param.type_id)
        for index, param in enumerate(kernel_proto(name).params)
    }


def _struct(type_: Type) -> str:
    # the name of the structure that a pointer points to
    target = vmlinux().resolved(type_.type_id) if isinstance(type_, Ptr) and type_.type_id else None
    return target.name if isinstance(target, Composite) else ""


def _found(name: str, type_: Type, params: Mapping[str, Type]) -> str:
    struct = _struct(type_)
    if name in params and type(params[name]) is type(type_) and _struct(params[name]) == struct:
        return name
    if not struct:
        return "0"
    for param, other in params.items():
        if _struct(other) == struct:
            return param
    for param, other in params.items():
        member = _BEHIND.get(_struct(other), {}).get(struct)
        if member:
            offset, size = place(_struct(other), member)
            return f"load({param}, {offset}, {size})"
    if struct in _CURRENT:
        return _of_current(_CURRENT[struct])
    return "0"


def _of_current(member: str) -> str:
    if not member:
        return "at(cpu).address"
    offset, size = place("task_struct", member)
    return f"load(at(cpu).address, {offset}, {size})"


def _expression(text: str, params: Mapping[str, Type]) -> str:
    if re.fullmatch(r"-?\w+", text) and text.lstrip("-")[0].isdigit():
        return text
    match = _WORD.fullmatch(text)
    if match is None:
        raise InternalError(f"no expression: {text}")
    is_address, word, rest = match.groups()
    if word == "current":
        value, struct = "at(cpu).address", "task_struct"
    else:
        value, struct = f"{word}_", ""
        if value not in params:
            raise InternalError(f"no parameter '{word}'")
        struct = _struct(params[value])
    members = rest.split("->")[1:]
    for index, member in enumerate(members):
        found = member_place(vmlinux(), struct, member)
        offset = found.bit_off // 8
        if is_address and index == len(members) - 1:
            return f"{value} + {offset}"
        value = f"load({value}, {offset}, {sizeof(vmlinux(), found.type_id)})"
        struct = _struct(vmlinux().resolved(found.type_id))
    return value
