"""Functions of the kernel that can be traced: a Python function by the name that it has in the kernel's BTF.

A function is marked with ``kernel_function`` and takes a CPU and its arguments word by word, as numbers and addresses
of objects in RAM; it returns what C would. Callers go through its slot::

    functions.bpf_fentry_test1(cpu, 1)

Without programs the slot is the function itself. A program that is attached puts a trampoline into the slot (and
kprobes put theirs around it); the last one that goes puts the function back.

Functions that the kernel has and nobody has written here cannot be attached to: NotModelled.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ebpfsim.btf.types import Func, FuncProto, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError, NotModelled
from ebpfsim.progs.prog import Prog
from hooks.func_model import FuncModel, func_model
from hooks.text import function_address
from hooks.trampoline import Function

__all__ = ["NO_FTRACE_SITE", "FunctionSite", "KernelFunctions", "kernel_function"]

# functions that have BTF and no place for a call at their beginning: notrace, noinstr, assembly (observed on 6.12)
NO_FTRACE_SITE = frozenset(
    (
        "__schedule", "exc_page_fault", "memcpy", "do_syscall_64", "bpf_spin_lock", "bpf_get_current_task",
        "trace_call_bpf", "__bpf_prog_enter",
    )
)  # fmt: skip
# functions with such a place that kprobes must not be at, nor trampolines (NOKPROBE_SYMBOL; observed on 6.12)
KPROBE_BLACKLIST = frozenset(("int3_exception_notify", "get_kprobe"))

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
Around = Callable[[Function], Function]
# the name of a function -> the function, or None where there is none
Maker = Callable[[str], Function | None]


def kernel_function(function: FunctionT) -> FunctionT:
    """Mark a function of the kernel; its name and the number of its words are those of the kernel's BTF."""
    function.__dict__["kernel_function"] = True
    return function


class FunctionSite:
    """One function: its slot, and what is around it. ``original`` calls the Python function."""

    __slots__ = ("_around", "_function", "_owner", "_trampoline", "address", "model", "name")

    def __init__(self, owner: "KernelFunctions", name: str, original: Function) -> None:
        self._owner = owner
        self.name = name
        self._function = original
        self.model = kernel_model(name)
        self.address = function_address(name)
        self._trampoline: Function | None = None
        self._around: Around | None = None

    def original(self, cpu: Cpu, /, *args: int) -> int:
        """Call the Python function itself."""
        return self._function(cpu, *args)

    def poke(self, call: Function | None) -> None:
        """Let calls of the function go to a trampoline; None is the function itself."""
        self._trampoline = call
        self._fill()

    def replace(self, prog: Prog | None) -> None:
        """Functions of the kernel are not replaced."""
        raise InternalError(f"{self.name}() cannot be replaced")

    def surround(self, around: Around | None) -> None:
        """Let probes see calls before the trampoline does, and what they return after it did."""
        self._around = around
        self._fill()

    def _fill(self) -> None:
        call = self._trampoline or self._function
        self._owner.__dict__[self.name] = self._around(call) if self._around is not None else call


def kernel_proto(name: str) -> FuncProto:
    """Return the prototype of a function of the kernel; InternalError when BTF has none of that name."""
    btf = vmlinux()
    found = btf.find(name, Kind.FUNC)
    if found is None:
        raise InternalError(f"the kernel has no function {name}()")
    func = btf.type(found)
    assert isinstance(func, Func)
    proto = btf.type(func.type_id)
    assert isinstance(proto, FuncProto)
    return proto


def kernel_model(name: str) -> FuncModel:
    """Return how a function of the kernel is called."""
    return func_model(vmlinux(), kernel_proto(name))


class KernelFunctions:
    """The functions of one kernel, as attributes by their names."""

    def __init__(self) -> None:
        self._sites: dict[str, FunctionSite] = {}
        self._originals: dict[str, Function] = {}
        self._makers: dict[str, Maker] = {}
        self._later: list[Callable[[], Iterable[object]]] = []

    def __getattr__(self, name: str) -> Function:
        # only what is in no slot comes here
        if self._made(name):
            found: Function = self.__dict__[name]
            return found
        raise NotModelled(f"kernel function {name}()", "tracing/functions.py")

    def add(self, owner: object) -> None:
        """Take over the marked functions of an object or a module."""
        for name in sorted(dir(owner)):
            function = getattr(owner, name)
            if getattr(function, "kernel_function", False):
                if name in self._originals:
                    raise InternalError(f"kernel function {name}() is there twice")
                self._originals[name] = self.__dict__[name] = function

    def add_later(self, load: Callable[[], Iterable[object]]) -> None:
        """Take over the functions of what ``load`` returns, once somebody asks for a function that is not here."""
        self._later.append(load)

    def _load(self) -> None:
        later, self._later = self._later, []
        for load in later:
            for owner in load():
                self.add(owner)

    def make(self, prefix: str, maker: "Maker") -> None:
        """Let functions whose names begin so be made when they are first asked for."""
        self._makers[prefix] = maker

    def _made(self, name: str) -> bool:
        self._load()
        if name in self._originals:
            return True
        for prefix, maker in self._makers.items():
            if name.startswith(prefix):
                function = maker(name)
                if function is not None:
                    self._originals[name] = self.__dict__[name] = function
                    return True
        return False

    def site(self, name: str, op: str = "link_create") -> FunctionSite:
        """Return a function as what programs are attached to; EBUSY and EINVAL where Linux has no place for a call."""
        if name in NO_FTRACE_SITE:
            raise KernelError(op, Errno.EBUSY, f"{name}() has no place for a call at its beginning")
        if name in KPROBE_BLACKLIST:
            raise KernelError(op, Errno.EINVAL, f"{name}() must not be probed")
        found = self._sites.get(name)
        if found is None:
            if not self._made(name):
                raise NotModelled(f"calls of kernel function {name}()", "tracing/functions.py")
            found = self._sites[name] = FunctionSite(self, name, self._originals[name])
        return found

    def names(self) -> Iterator[str]:
        """Return the names of all functions that there are, in order."""
        self._load()
        return iter(sorted(self._originals))
