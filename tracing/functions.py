"""Functions of the kernel that can be traced: a Python function by the name that it has in the kernel's BTF.

A function is marked with ``kernel_function`` and takes a CPU and its arguments word by word, as numbers and addresses
of objects in RAM; it returns what C would. Callers go through its slot::

    functions.bpf_fentry_test1(cpu, 1)

Without programs the slot is the function itself. A program that is attached puts a trampoline into the slot (and
kprobes put theirs around it); the last one that goes puts the function back.

The stack's functions (``packet_function``) are called with objects instead, packets, devices and sockets that have a
``struct_address``: as long as nobody looks at a function its structures need not lie in RAM. What is on the function
sees addresses, and a name stands for the address of the kernel function that it names.

Functions that the kernel has and nobody has written here can be attached to, and never fire: ``silent`` are those.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from tracing.frames import FRAMES

__all__ = ["NO_FTRACE_SITE", "FunctionSite", "Inside", "KernelFunctions", "kernel_function", "packet_function", "word"]

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
# what sees a call in the middle of a function: (CPU, arguments as words)
Inside = Callable[[Cpu, Sequence[int]], None]
# the name of a function -> the function, or None where there is none
Maker = Callable[[str], Function | None]


def kernel_function(function: FunctionT) -> FunctionT:
    """Mark a function of the kernel; its name and the number of its words are those of the kernel's BTF."""
    function.__dict__["kernel_function"] = True
    _on_stack(function, getattr(function, "__name__", ""))
    return function


def _on_stack(function: Any, name: str) -> None:
    # what its code stands for on a stack, unless somebody has said
    code = getattr(function, "__code__", None)
    if code is None or not name:
        return
    known = FRAMES.setdefault(code, (name,))
    # names that Python would change in classes are written with one underscore
    if known[0] != name and known[0].strip("_") == name.strip("_"):
        FRAMES[code] = (name,)


def _named(function: Any, name: str) -> Any:
    # a function that was made has code of its own, so that a stack can tell it from others that were made
    code = getattr(function, "__code__", None)
    if code is not None:
        function.__code__ = code.replace(co_name=name)
        _on_stack(function, name)
    return function


def packet_function(function: FunctionT) -> FunctionT:
    """Mark a function of the kernel that is called with objects: each word is a number, None, or has an address."""
    function.__dict__["takes_objects"] = True
    return kernel_function(function)


def word(value: Any) -> int:
    """Return an argument as programs see it: numbers are themselves, objects and names of functions their addresses."""
    if isinstance(value, int):
        return value
    if value is None:
        return 0
    address: int = function_address(value) if isinstance(value, str) else value.struct_address
    return address


def _never(*_args: int) -> int:
    # a function that nothing in this model calls, but somebody who wants to see its programs run
    return 0


class _Call:
    # a call of a function that takes objects, on its way through what is attached to it
    __slots__ = ("args", "began", "result")

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.args, self.began = args, False
        self.result: Any = None


class FunctionSite:
    """One function: its slot, and what is around it. ``original`` calls the Python function."""

    __slots__ = (
        *("_alone", "_around", "_calls", "_function", "_inside", "_objects", "_owner", "_trampoline"),
        *("address", "model", "name"),
    )

    def __init__(self, owner: "KernelFunctions", name: str, original: Function) -> None:
        self._owner = owner
        self.name = name
        self._function = original
        self._objects = bool(getattr(original, "takes_objects", False))
        self._calls: list[_Call] = []
        self._alone = False
        self.model = kernel_model(name)
        self.address = function_address(name)
        self._trampoline: Function | None = None
        self._around: Around | None = None
        self._inside: Inside | None = None

    def original(self, cpu: Cpu, /, *args: int) -> int:
        """Call the Python function itself."""
        if self._inside is not None:
            self._inside(cpu, args)
        if self._alone:
            return 0
        return self._with_objects(cpu, *args) if self._objects else self._function(cpu, *args)

    def poke(self, call: Function | None) -> None:
        """Let calls of the function go to a trampoline; None is the function itself."""
        self._trampoline = call
        self._fill()

    def call(self, cpu: Cpu, *words: int) -> int:
        """Call the function with numbers, as nobody in the kernel does; one that takes objects does nothing itself."""
        self._alone = self._objects
        try:
            call = self._trampoline or self.original
            result: int | None = (self._around(call) if self._around is not None else call)(cpu, *words)
        finally:
            self._alone = False
        return result or 0

    def replace(self, prog: Prog | None) -> None:
        """Functions of the kernel are not replaced."""
        raise InternalError(f"{self.name}() cannot be replaced")

    def surround(self, around: Around | None) -> None:
        """Let probes see calls before the trampoline does, and what they return after it did."""
        self._around = around
        self._fill()

    def look_inside(self, inside: Inside | None) -> None:
        """Let probes see calls once they are in the function, behind what trampolines do at its entry."""
        self._inside = inside
        self._fill()

    def _fill(self) -> None:
        if not self._objects:
            call = self._trampoline or (self.original if self._inside is not None else self._function)
            self._owner.__dict__[self.name] = self._around(call) if self._around is not None else call
            return
        call = self._trampoline or (self.original if self._inside is not None else self._with_objects)
        if self._around is not None:
            call = self._around(call)
        is_watched = any(each is not None for each in (self._trampoline, self._around, self._inside))
        self._owner.__dict__[self.name] = self._with_words(call) if is_watched else self._function
        self._owner.watch(self.name, is_watched)

    def _with_words(self, call: Function) -> Function:
        # what is attached gets addresses, the function itself the objects again
        calls = self._calls

        def enter(cpu: Cpu, *args: Any) -> Any:
            mine = _Call(args)
            calls.append(mine)
            result = call(cpu, *map(word, args))
            if not mine.began:
                # a program has answered in its place
                calls.remove(mine)
                return result
            return result if isinstance(mine.result, int) or word(mine.result) != result else mine.result

        return enter

    def _with_objects(self, cpu: Cpu, *args: int) -> Any:
        if not self._calls:
            raise NotModelled(f"a call of {self.name}() from outside the stack", "tracing/functions.py")
        mine = self._calls.pop()
        mine.began = True
        mine.result = self._function(cpu, *mine.args)
        for value in mine.args:
            # who waits for the return looks at structures that the function has changed
            refresh = getattr(value, "refresh", None)
            if refresh is not None:
                refresh()
        return None if mine.result is None else word(mine.result)


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
    """The functions of one kernel, as attributes by their names.

    ``watched`` says whether anything is on a function that takes objects: those that do nothing are called only then.
    """

    watched = False

    def __init__(self) -> None:
        self._watched: set[str] = set()
        self._sites: dict[str, FunctionSite] = {}
        self._originals: dict[str, Function] = {}
        self._makers: dict[str, Maker] = {}
        self._later: list[Callable[[], Iterable[object]]] = []
        self._tables: list[tuple[Collection[str], Maker]] = []
        # functions that something was attached to and that nothing here calls
        self.silent: list[str] = []

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

    def add_table(self, table: Mapping[str, Function]) -> None:
        """Take over functions by their names."""
        for name in table:
            if name in self._originals:
                raise InternalError(f"kernel function {name}() is there twice")
            _on_stack(table[name], name)
        self._originals.update(table)
        self.__dict__.update(table)

    def watch(self, name: str, is_watched: bool) -> None:
        """Note whether something is on a function that takes objects."""
        (self._watched.add if is_watched else self._watched.discard)(name)
        self.watched = bool(self._watched)

    def add_later(self, load: Callable[[], Iterable[object]]) -> None:
        """Take over the functions of what ``load`` returns, once somebody asks for a function that is not here."""
        self._later.append(load)

    def _load(self) -> None:
        later, self._later = self._later, []
        for load in later:
            for owner in load():
                self.add(owner)

    def offer(self, names: Collection[str], maker: "Maker") -> None:
        """Let there be functions of these names, unless others bring them; each is made when it is first asked for."""
        self._tables.append((names, maker))

    def make(self, prefix: str, maker: "Maker") -> None:
        """Let functions whose names begin so be made when they are first asked for."""
        self._makers[prefix] = maker

    def _made(self, name: str) -> bool:
        self._load()
        if name in self._originals:
            return True
        for prefix, maker in self._makers.items():
            if name.startswith(prefix):
                function = _named(maker(name), name)
                if function is not None:
                    self._originals[name] = self.__dict__[name] = function
                    return True
        for names, maker in self._tables:
            function = _named(maker(name), name) if name in names else None
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
                self._originals[name] = self.__dict__[name] = _never
                self.silent.append(name)
            found = self._sites[name] = FunctionSite(self, name, self._originals[name])
        return found

    def is_silent(self, name: str) -> bool:
        """Whether something may be attached to a function that nothing in this model calls."""
        self._load()
        return name in self.silent or (name not in self._originals and not self._made(name))

    def observed(self, *names: str) -> bool:
        """Whether something was ever put on one of these functions: before that, none that does nothing is called."""
        return any(name in self._sites for name in names)

    def names(self) -> Iterator[str]:
        """Return the names of all functions that there are, in order."""
        self._load()
        return iter(sorted({*self._originals, *(name for names, _ in self._tables for name in names)}))
