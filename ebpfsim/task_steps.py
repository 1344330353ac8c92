"""What tasks do, step by step: system calls as people write them, made into registers and user memory.

A step is a mapping with the name of a call and its arguments, and what else is known of it::

    {openat: [/etc/passwd, O_RDONLY], as: fd}
    {read: [$fd, 64]}
    {sleep: 5ms}

Texts are copied to the task's memory, ``$name`` is the result of an earlier step, ``O_CREAT|O_WRONLY`` are constants
of C. ``sleep`` and ``exec`` are words for calls whose arguments nobody wants to write. No system calls are ``compute``
(time in user space), ``call`` (of a function of a binary, which ``returns`` a number and ``takes`` some time) and
``usdt`` (a static tracepoint that the task comes by)::

    {call: [/usr/bin/app:handle, 7, text], returns: -1, takes: 3us}
    {usdt: [/usr/bin/app:provider:name, 7]}

Sockets are ``socket: [inet, dgram]``, ``socketpair: [unix, stream]`` and so on; ``bind``, ``connect`` and ``sendto``
take addresses as ``ebpfsim.socket_steps`` has them, ``send``, ``recv``, ``poll``, ``send_fds`` and ``recv_fds`` what
their names say. ``setsockopt: [$fd, SOL_SOCKET, SO_RCVBUF, 4096]`` sets numbers and bytes.

``bpf`` takes a command and its fields (``ebpfsim.bpf_step``); ``fork`` and ``vfork`` take the steps of the child, which
``id`` names::

    {fork: [{openat: /etc/passwd}, {exit: 3}], id: child, as: pid}
    {wait4: $pid}
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ebpfsim.bpf_step import BpfCall, attr_problems, is_by_name, parse_attr, write_attr
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.clock import parse_duration
from ebpfsim.errnos import ERRNO_NAMES
from ebpfsim.errors import InputError
from ebpfsim.memory.user import UserMemory
from ebpfsim.socket_steps import (
    SENDER_BYTES,
    SOCKET_CONSTANTS,
    SOCKET_WORDS,
    endpoint,
    int_option,
    rights,
)  # fmt: skip
from ebpfsim.suggest import did_you_mean
from tracing.syscalls import Syscall
from tracing.task import Task

__all__ = [
    "CONSTANTS", "FORKS", "FORMS", "Calls", "Step", "StepProblem", "StepResult", "Value", "arguments", "child_names",
    "forked", "parse_step", "step_problems", "user_arguments",
]  # fmt: skip

Value: TypeAlias = int | str | bytes
# the system calls that there are, by name
Calls: TypeAlias = Mapping[str, Syscall]

# asm-generic/fcntl.h, linux/fcntl.h, linux/prctl.h, linux/time.h; those of sockets
CONSTANTS = {
    "AT_FDCWD": -100, "O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_CREAT": 0o100, "O_EXCL": 0o200, "O_TRUNC": 0o1000,
    "O_APPEND": 0o2000, "O_NONBLOCK": 0o4000, "O_DIRECTORY": 0o200000, "O_NOFOLLOW": 0o400000, "O_CLOEXEC": 0o2000000,
    "SEEK_SET": 0, "SEEK_CUR": 1, "SEEK_END": 2, "PR_SET_NAME": 15, "PR_GET_NAME": 16, "CLOCK_REALTIME": 0,
    "CLOCK_MONOTONIC": 1, **SOCKET_CONSTANTS,
}  # fmt: skip
# what a step may say beside its call
_OPTIONS = ("as", "returns", "takes", "id")
# system calls whose argument here is what their child does
FORKS = ("fork", "vfork")
# steps that are no system calls: time in user space, functions of binaries, their static tracepoints
_USER_CALLS = ("call", "usdt")
# more than the kernel would do in one call (MAX_RW_COUNT) is more than a simulated machine should hold
MAX_TRANSFER = 16 << 20
# arguments of system calls that are no addresses, as their prototypes name them
_NUMBERS = (
    "fd", "dfd", "count", "offset", "whence", "pos", "mode", "flags", "pid", "uid", "which_clock", "option",
    "error_code", "upid", "options", "family", "type", "protocol", "addrlen", "addr_len", "level", "optname", "optlen",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``call`` with ``args``; ``name`` is what ``$name`` later means."""

    call: str
    args: tuple[Value, ...]
    name: str = ""
    # of a function of a binary: its result, and the time that it needs
    returns: int = 0
    takes_ns: int = 0
    # of bpf(2), by names
    bpf: BpfCall | None = None
    # of a child, and what expectations call it
    steps: tuple["Step", ...] = ()
    id: str = ""

    def __str__(self) -> str:
        """Return it as C would have it, with permissions in octal."""
        if self.bpf is not None:
            fields = ", ".join(f"{name}={value!s}" for name, value in self.bpf.fields.items())
            return f"bpf(BPF_{self.bpf.command.name}, {{{fields}}})"
        params = FORMS[self.call].params if self.call in FORMS else ()
        octal = [index for index, param in enumerate(params) if param.name == "mode"]
        rows = enumerate(self.args)
        texts = [f"0o{arg:o}" if index in octal and isinstance(arg, int) else f"{arg!s}" for index, arg in rows]
        return f"{self.call}({', '.join(texts)})"


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step came to: the call's result, negative errno included, when it was made and when it ended."""

    step: int
    call: str
    retval: int
    start_ns: int
    end_ns: int

    @property
    def errno(self) -> str:
        """The name of the errno, empty when the call went well."""
        return ERRNO_NAMES.get(-self.retval, str(-self.retval)) if -4096 < self.retval < 0 else ""


class Room:
    """Arguments of one call that lie in the task's memory; ``release`` gives it back."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._areas: list[tuple[UserMemory, int]] = []

    def put(self, data: bytes, size: int = 0) -> int:
        """Return where ``data`` is, with zeroes behind it up to ``size``."""
        user = self.task.user
        assert user is not None
        address = user.alloc(max(size, len(data), 1), data)
        self._areas.append((user, address))
        return address

    def text(self, value: Value) -> int:
        """Return where a path or text with its NUL is; numbers are addresses."""
        if isinstance(value, int):
            return value
        return self.put((value.encode(errors="surrogateescape") if isinstance(value, str) else value) + b"\0")

    def data(self, value: Value) -> tuple[int, int]:
        """Return where bytes are, and how many."""
        data = value.encode() if isinstance(value, str) else value
        if isinstance(data, int):
            raise InputError("", f"{data} is a number, expected text")
        return self.put(data), len(data)

    def strings(self, values: Sequence[Value]) -> int:
        """Return where an array of pointers to texts is, with NULL at its end."""
        words = [*(self.text(str(value) if isinstance(value, int) else value) for value in values), 0]
        return self.put(b"".join(word.to_bytes(8, "little") for word in words))

    def release(self) -> None:
        """Unmap what the call needed, unless an execve() has done so."""
        for user, address in self._areas:
            user.forget(address)
        self._areas = []


class Param(NamedTuple):
    """An argument as it is written: its name, what it is, and what it is when it is left out.

    It is a path, text, data, number, size, duration, timeout (a duration or ``forever``), socket (a word of socket()),
    endpoint (an address, see ``ebpfsim.socket_steps``), or any of them.
    """

    name: str
    kind: str
    default: Value | None = None

    @property
    def words(self) -> str:
        """The argument for a hint."""
        return self.name if self.default is None else f"{self.name}={self.default!r}"


class Form(NamedTuple):
    """How a call is written: its arguments, and what makes registers of them; ``more`` takes any number of texts."""

    make: Callable[[Room, Sequence[Value]], tuple[str, tuple[int, ...]]]
    params: tuple[Param, ...]
    more: bool = False


def number(value: Value) -> int:
    """Return a number, a constant of C, or several with ``|`` between them."""
    if isinstance(value, int):
        return value
    total = 0
    for word in str(value).split("|"):
        word = word.strip()
        try:
            part = CONSTANTS[word] if word in CONSTANTS else int(word, 0)
        except ValueError:
            raise InputError("", f"'{word}' is no number and no constant{did_you_mean(word, CONSTANTS)}") from None
        total = part if total == 0 else total | part
    return total


def _open(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    path, flags, mode = args
    return "openat", (CONSTANTS["AT_FDCWD"], room.text(path), number(flags), number(mode))


def _read(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, count = map(number, args)
    return "read", (fd, room.put(b"", _size(count)), count)


def _size(count: int) -> int:
    if not 0 <= count <= MAX_TRANSFER:
        raise InputError("", f"{count} bytes are too many", f"at most {MAX_TRANSFER}")
    return count


def _write(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, data = args
    return "write", (number(fd), *room.data(data))


def _duration_ns(value: Value) -> int:
    if isinstance(value, bytes):
        raise InputError("", f"{value!r} is no duration")
    return parse_duration(value)


def _sleep(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    seconds, nanoseconds = divmod(_duration_ns(args[0]), 10**9)
    words = seconds.to_bytes(8, "little") + nanoseconds.to_bytes(8, "little")
    return "clock_nanosleep", (CONSTANTS["CLOCK_MONOTONIC"], 0, room.put(words), 0)


def _compute(_room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    return "compute", (_duration_ns(args[0]),)


def _user_call(_room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    raise InputError("", f"{args[0]!r} is a function of a program")


def _exec(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    return "execve", (room.text(args[0]), room.strings(args), room.strings(()))


def _prctl(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    option, value = args
    return "prctl", (number(option), room.text(value), 0, 0, 0)


def _socket(_room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    return "socket", tuple(map(_socket_word, args))


def _socketpair(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    return "socketpair", (*map(_socket_word, args), room.put(b"", 8))


def _socket_word(value: Value) -> int:
    return number(SOCKET_WORDS.get(value, value) if isinstance(value, str) else value)


def _with_endpoint(call: str) -> Callable[[Room, Sequence[Value]], tuple[str, tuple[int, ...]]]:
    def make(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
        address = endpoint(args[1])
        return call, (number(args[0]), room.put(address), len(address))

    return make


def _sendto(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, data, target, flags = args
    address = endpoint(target)
    return "sendto", (number(fd), *room.data(data), number(flags), room.put(address), len(address))


def _send(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, data, flags = args
    return "sendto", (number(fd), *room.data(data), number(flags), 0, 0)


def _recv(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, count, flags = map(number, args)
    # room for the sender, so that programs that look at it run
    size = room.put(int_option(SENDER_BYTES))
    return "recvfrom", (fd, room.put(b"", _size(count)), count, flags, room.put(b"", SENDER_BYTES), size)


def _message(room: Room, data: bytes, size: int, control: bytes, room_for: int) -> int:
    # struct user_msghdr with one piece of memory, and control messages or room for them
    piece = room.put(b"".join(word.to_bytes(8, "little") for word in (room.put(data, size), max(len(data), size))))
    length = max(len(control), room_for)
    words = (0, 0, piece, 1, room.put(control, length) if length else 0, length, 0)
    return room.put(b"".join(word.to_bytes(8, "little") for word in words))


def _send_fds(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, data, *files = args
    text = data.encode() if isinstance(data, str) else data
    if isinstance(text, int):
        raise InputError("", f"{text} is a number, expected text")
    return "sendmsg", (number(fd), _message(room, text, 0, rights([number(file) for file in files]), 0), 0)


def _recv_fds(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, count, flags = map(number, args)
    return "recvmsg", (fd, _message(room, b"", _size(count), b"", 1040), flags)


def _setsockopt(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, level, option, value, size = args
    data = int_option(value) if isinstance(value, int) else value.encode() if isinstance(value, str) else value
    length = number(size)
    return "setsockopt", (
        number(fd),
        number(level),
        number(option),
        room.put(data),
        len(data) if length < 0 else length,
    )


def _getsockopt(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, level, option = map(number, args)
    return "getsockopt", (fd, level, option, room.put(b"", SENDER_BYTES), room.put(int_option(SENDER_BYTES)))


def _poll(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, events, timeout = args
    milliseconds = -1 if timeout == "forever" else _duration_ns(timeout) // 10**6
    pollfd = number(fd).to_bytes(4, "little") + number(events).to_bytes(4, "little")
    return "poll", (room.put(pollfd), 1, milliseconds)


_SOCKET_PARAMS = (Param("family", "socket"), Param("type", "socket", "dgram"), Param("protocol", "socket", 0))
_FD_AND_ENDPOINT = (Param("fd", "number"), Param("address", "endpoint"))
_FLAGS = Param("flags", "number", 0)
_OPEN = Form(_open, (Param("path", "path"), Param("flags", "number", "O_RDONLY"), Param("mode", "number", 0o644)))
# calls that are written otherwise than in C; all others take numbers and texts in the order of their arguments
FORMS: Mapping[str, Form] = {
    "openat": _OPEN,
    "open": _OPEN,
    "read": Form(_read, (Param("fd", "number"), Param("count", "size"))),
    "write": Form(_write, (Param("fd", "number"), Param("data", "data"))),
    "sleep": Form(_sleep, (Param("duration", "duration"),)),
    "call": Form(_user_call, (Param("function", "text"), Param("arguments", "any", "")), more=True),
    "usdt": Form(_user_call, (Param("tracepoint", "text"), Param("arguments", "any", "")), more=True),
    "compute": Form(_compute, (Param("duration", "duration"),)),
    "exec": Form(_exec, (Param("path", "path"), Param("arguments", "text", "")), more=True),
    "socket": Form(_socket, _SOCKET_PARAMS),
    "bind": Form(_with_endpoint("bind"), _FD_AND_ENDPOINT),
    "connect": Form(_with_endpoint("connect"), _FD_AND_ENDPOINT),
    "sendto": Form(_sendto, (Param("fd", "number"), Param("data", "data"), Param("address", "endpoint"), _FLAGS)),
    "send": Form(_send, (Param("fd", "number"), Param("data", "data"), _FLAGS)),
    "recv": Form(_recv, (Param("fd", "number"), Param("count", "size"), _FLAGS)),
    "socketpair": Form(_socketpair, (Param("family", "socket", "unix"), *_SOCKET_PARAMS[1:])),
    "send_fds": Form(_send_fds, (Param("fd", "number"), Param("data", "data"), Param("file", "number")), more=True),
    "recv_fds": Form(_recv_fds, (Param("fd", "number"), Param("count", "size", 64), _FLAGS)),
    "setsockopt": Form(
        _setsockopt,
        (
            Param("fd", "number"),
            Param("level", "number"),
            Param("optname", "number"),
            Param("value", "any"),
            Param("optlen", "number", -1),
        ),
    ),
    "getsockopt": Form(_getsockopt, (Param("fd", "number"), Param("level", "number"), Param("optname", "number"))),
    "poll": Form(_poll, (Param("fd", "number"), Param("events", "number", "POLLIN"), Param("timeout", "timeout", 0))),
    "prctl": Form(_prctl, (Param("option", "number"), Param("value", "text"))),
}


class StepProblem(NamedTuple):
    """Something wrong with a step: where in it (its keys and indexes), what, and what to do instead.

    ``key`` says that the place is a key; ``feature`` is set when Linux has what ebpfsim has not.
    """

    path: tuple[str | int, ...]
    problem: str
    hint: str = ""
    key: bool = False
    feature: str = ""


def step_problems(step: object, calls: Calls, named: Sequence[str] | None = None) -> Iterator[StepProblem]:
    """Tell what is wrong with a step; ``named`` are the names of earlier steps' results, None when nobody knows."""
    if isinstance(step, str):
        step = {step: []}
    if not isinstance(step, Mapping):
        yield StepProblem((), f"step {step!r} is no mapping", "for instance {openat: [/etc/passwd, O_RDONLY]}")
        return
    names = [name for name in step if name not in _OPTIONS]
    if not names:
        yield StepProblem((), "step has no call", "for instance {openat: [/etc/passwd, O_RDONLY]}")
        return
    name, known = str(names[0]), sorted({*FORMS, *calls})
    for other in names[1:]:
        if other in known:
            yield StepProblem((other,), f"step has two calls, '{name}' and '{other}'", "write two steps", key=True)
        else:
            yield StepProblem((other,), f"unknown key '{other}'{did_you_mean(other, _OPTIONS)}", "as: NAME", key=True)
    if name not in known:
        if vmlinux().find(f"__x64_sys_{name}", Kind.FUNC) is not None:
            feature = f"system call '{name}'"
            yield StepProblem((names[0],), f"{feature} is not modelled", key=True, feature=feature)
        else:
            problem = f"unknown system call '{name}'{did_you_mean(name, known)}"
            yield StepProblem((names[0],), problem, f"there is {', '.join(known)}", key=True)
        return
    saved = step.get("as", "")
    if not isinstance(saved, str) or ("as" in step and not saved.isidentifier()):
        yield StepProblem(("as",), f"{saved!r} cannot name a result", "letters, digits and '_'")
    yield from _option_problems(name, step)
    yield from _argument_problems(name, names[0], step[names[0]], calls, named)


def _option_problems(name: str, step: Mapping[object, object]) -> Iterator[StepProblem]:
    for option, owners in (("returns", ("call",)), ("takes", ("call",)), ("id", FORKS)):
        if option in step and name not in owners:
            hint = f"it goes with {' and '.join(repr(owner) for owner in owners)}"
            yield StepProblem((option,), f"'{option}' does not belong to {name}", hint, key=True)
    if not isinstance(step.get("id", ""), str):
        yield StepProblem(("id",), f"{step['id']!r} is no name")
    if not isinstance(step.get("returns", 0), int):
        yield StepProblem(("returns",), f"{step['returns']!r} is no number")
    try:
        _duration_ns(step.get("takes", 0))  # type: ignore[arg-type]
    except InputError as error:
        yield StepProblem(("takes",), error.problem, error.hint)
    target = _listed(step.get(name))[:1]
    if name in _USER_CALLS and target and str(target[0]).count(":") < _USER_CALLS.index(name) + 1:
        wanted = "PATH:FUNCTION" if name == "call" else "PATH:PROVIDER:NAME"
        yield StepProblem((name, 0), f"'{target[0]}' is not {wanted}")


def _argument_problems(
    name: str, key: str, given: object, calls: Calls, named: Sequence[str] | None
) -> Iterator[StepProblem]:
    form, args = FORMS.get(name), _listed(given)
    if name in FORKS:
        for index, step in enumerate(args):
            for found in step_problems(step, calls, _names(named, args[:index])):
                yield found._replace(path=(key, index, *found.path))
        return
    if name == "bpf" and is_by_name(args):
        for wrong in attr_problems(args, lambda word: _reference_problem(str(word), named)):
            yield StepProblem((key, *wrong.path), wrong.problem, wrong.hint, wrong.key)
        return
    params = form.params if form is not None else _params(calls[name])
    least = sum(param.default is None for param in params) if form is not None else 0
    if len(args) < least or (len(args) > len(params) and not (form is not None and form.more)):
        count = f"{len(args)} argument{'s' if len(args) != 1 else ''}"
        wanted = f"expected {least}" + (f" to {len(params)}" if least != len(params) else "")
        yield StepProblem((key,), f"{name} has {count}, {wanted}", ", ".join(p.words for p in params) or "none")
        return
    for index, arg in enumerate(args):
        problem = _argument_problem(name, params[min(index, len(params) - 1)], arg, named)
        if problem is not None:
            yield problem._replace(path=(key, index) if isinstance(given, list | tuple) else (key,))


def _argument_problem(call: str, param: Param, arg: object, named: Sequence[str] | None) -> StepProblem | None:
    if isinstance(arg, bool) or not isinstance(arg, int | str | bytes):
        return StepProblem((), f"argument '{param.name}' of {call} is no number and no text: {arg!r}")
    if isinstance(arg, str) and arg.startswith("$"):
        wrong = _reference_problem(arg, named)
        hint = (
            f"earlier steps have {', '.join(f'${name}' for name in named)}" if named else "as: fd, in an earlier step"
        )
        return StepProblem((), wrong, hint) if wrong else None
    try:
        if param.kind == "number":
            number(arg)
        elif param.kind == "size":
            _size(number(arg))
        elif param.kind == "duration" or (param.kind == "timeout" and arg != "forever"):
            _duration_ns(arg)
        elif param.kind == "socket":
            _socket_word(arg)
        elif param.kind == "endpoint":
            endpoint(arg)
        elif param.kind == "data" and isinstance(arg, int):
            raise InputError("", f"argument '{param.name}' of {call} is text, have {arg}", f"quote it: '{arg}'")
    except InputError as error:
        return StepProblem((), error.problem, error.hint)
    return None


def _reference_problem(arg: str, named: Sequence[str] | None) -> str:
    # what is wrong with $NAME
    if named is None or arg[1:] in named:
        return ""
    return f"'{arg}' is no result of an earlier step{did_you_mean(arg[1:], named)}"


def _names(named: Sequence[str] | None, steps: Sequence[object]) -> list[str] | None:
    # what a child's step knows: results of its parent's earlier steps, and of its own
    if named is None:
        return None
    rows = (step.get("as") for step in steps if isinstance(step, Mapping))
    return [*named, *(row for row in rows if isinstance(row, str))]


def _listed(given: object) -> list[object]:
    return list(given) if isinstance(given, list | tuple) else [] if given is None else [given]


def _params(call: Syscall) -> tuple[Param, ...]:
    return tuple(Param(name, "number" if name in _NUMBERS else "any") for name in call.args)


def parse_step(step: object, calls: Calls) -> Step:
    """Return a step of what a scenario or a program has; InputError for the first thing that is wrong with it."""
    for problem in step_problems(step, calls):
        raise InputError("", problem.problem, problem.hint)
    if isinstance(step, str):
        step = {step: []}
    assert isinstance(step, Mapping)
    name = next(name for name in step if name not in _OPTIONS)
    saved, given = step.get("as", ""), _listed(step[name])
    if name in FORKS:
        return Step(name, (), saved, steps=tuple(parse_step(row, calls) for row in given), id=step.get("id", ""))
    if name == "bpf" and is_by_name(given):
        return Step(name, (), saved, bpf=parse_attr(given))
    args = [arg for arg in given if isinstance(arg, int | str | bytes)]
    return Step(name, tuple(args), saved, step.get("returns", 0), _duration_ns(step.get("takes", 0)))


def forked(step: object) -> list[object] | None:
    """Return the steps of the child that a step as people write it makes, None when it makes none."""
    if isinstance(step, str):
        return [] if step in FORKS else None
    name = next((name for name in FORKS if isinstance(step, Mapping) and name in step), None)
    return _listed(step[name]) if name is not None and isinstance(step, Mapping) else None


def child_names(parent: str, ids: Iterable[str]) -> list[str]:
    """Return what expectations call the children of a task: by their ids, others PARENT-1, PARENT-2, ..."""
    return [name or f"{parent}-{number}" for number, name in enumerate(ids, 1)]


def user_arguments(step: Step, room: Room, results: Mapping[str, int]) -> tuple[list[str], list[int]] | None:
    """Return path and names of what a task calls in user space, and the arguments; None for system calls."""
    if step.call not in _USER_CALLS:
        return None
    target, *values = _resolved(step, results)
    words = [value if isinstance(value, int) else room.text(value) for value in values]
    return str(target).rsplit(":", 1 + _USER_CALLS.index(step.call)), words


def arguments(
    step: Step, room: Room, results: Mapping[str, int], device: Callable[[str], int]
) -> tuple[str, tuple[int, ...]]:
    """Return the system call of a step and its arguments.

    ``results`` are what ``$name`` stands for; ``device`` returns the number of a device.
    """
    if step.bpf is not None:
        return step.call, write_attr(step.bpf, room, lambda value: _value(value, results), device)
    values = _resolved(step, results)
    form = FORMS.get(step.call)
    if form is None:
        return step.call, tuple(value if isinstance(value, int) else _plain(room, value) for value in values)
    if not form.more:
        values += [param.default for param in form.params[len(values) :] if param.default is not None]
    return form.make(room, values)


def _resolved(step: Step, results: Mapping[str, int]) -> list[Value]:
    return [_value(arg, results) for arg in step.args]


def _value(arg: Value, results: Mapping[str, int]) -> Value:
    # what $NAME stands for
    if not isinstance(arg, str) or not arg.startswith("$"):
        return arg
    if arg[1:] not in results:
        raise InputError("", _reference_problem(arg, list(results)))
    return results[arg[1:]]


def _plain(room: Room, value: Value) -> int:
    word = value if isinstance(value, str) else ""
    if word and all(part.strip() in CONSTANTS for part in word.split("|")):
        return number(word)
    return room.text(value)
