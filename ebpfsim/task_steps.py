"""What tasks do, step by step: system calls as people write them, made into registers and user memory.

A step is a mapping with the name of a call and its arguments, and what else is known of it::

    {openat: [/etc/passwd, O_RDONLY], as: fd}
    {read: [$fd, 64]}
    {sleep: 5ms}

Texts are copied to the task's memory, ``$name`` is the result of an earlier step, ``O_CREAT|O_WRONLY`` are constants
of C. ``sleep`` and ``exec`` are words for calls whose arguments nobody wants to write.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ebpfsim.clock import parse_duration
from ebpfsim.errnos import ERRNO_NAMES
from ebpfsim.errors import InputError
from ebpfsim.memory.user import UserMemory
from ebpfsim.suggest import did_you_mean
from tracing.task import Task

__all__ = ["CONSTANTS", "FORMS", "Step", "StepResult", "Value", "arguments", "parse_step"]

Value: TypeAlias = int | str | bytes

# asm-generic/fcntl.h, linux/fcntl.h, linux/prctl.h
CONSTANTS = {
    "AT_FDCWD": -100, "O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_CREAT": 0o100, "O_EXCL": 0o200, "O_TRUNC": 0o1000,
    "O_APPEND": 0o2000, "O_NONBLOCK": 0o4000, "O_DIRECTORY": 0o200000, "O_NOFOLLOW": 0o400000, "O_CLOEXEC": 0o2000000,
    "SEEK_SET": 0, "SEEK_CUR": 1, "SEEK_END": 2, "PR_SET_NAME": 15, "PR_GET_NAME": 16,
}  # fmt: skip
_OPTIONS = ("as", "errno")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``call`` with ``args``; ``name`` is what ``$name`` later means."""

    call: str
    args: tuple[Value, ...]
    name: str = ""


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


Form = Callable[[Room, Sequence[Value]], tuple[str, tuple[int, ...]]]


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
    path, flags, mode = _take("openat", args, 1, "path", ("flags", "O_RDONLY"), ("mode", 0o644))
    return "openat", (CONSTANTS["AT_FDCWD"], room.text(path), number(flags), number(mode))


def _read(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, count = _take("read", args, 2, "fd", "count")
    return "read", (number(fd), room.put(b"", number(count)), number(count))


def _write(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    fd, data = _take("write", args, 2, "fd", "data")
    return "write", (number(fd), *room.data(data))


def _sleep(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    (duration,) = _take("sleep", args, 1, "duration")
    if isinstance(duration, bytes):
        raise InputError("", f"{duration!r} is no duration")
    seconds, nanoseconds = divmod(parse_duration(duration), 10**9)
    words = seconds.to_bytes(8, "little") + nanoseconds.to_bytes(8, "little")
    return "clock_nanosleep", (1, 0, room.put(words), 0)


def _exec(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    if not args:
        raise InputError("", "exec wants a path, and then arguments")
    return "execve", (room.text(args[0]), room.strings(args), room.strings(()))


def _prctl(room: Room, args: Sequence[Value]) -> tuple[str, tuple[int, ...]]:
    option, value = _take("prctl", args, 2, "option", "value")
    return "prctl", (number(option), room.text(value), 0, 0, 0)


# calls that are written otherwise than in C; all others take numbers and texts in the order of their arguments
FORMS: Mapping[str, Form] = {
    "openat": _open,
    "open": _open,
    "read": _read,
    "write": _write,
    "sleep": _sleep,
    "exec": _exec,
    "prctl": _prctl,
}


def _take(call: str, args: Sequence[Value], least: int, *names: str | tuple[str, Value]) -> list[Value]:
    if not least <= len(args) <= len(names):
        wanted = ", ".join(name if isinstance(name, str) else f"{name[0]}={name[1]!r}" for name in names)
        raise InputError("", f"{call} has {len(args)} arguments", wanted)
    rest = [name[1] for name in names[len(args) :] if isinstance(name, tuple)]
    return [*args, *rest]


def parse_step(step: object, calls: Mapping[str, object]) -> Step:
    """Return a step of what a scenario or a program has; ``calls`` are the names of the system calls that there are."""
    if isinstance(step, str):
        step = {step: []}
    if not isinstance(step, Mapping):
        raise InputError("", f"step {step!r} is no mapping", "for instance {openat: [/etc/passwd, O_RDONLY]}")
    names = [name for name in step if name not in _OPTIONS]
    if len(names) != 1:
        raise InputError("", f"step has {len(names)} calls, expected one", ", ".join(map(str, names)))
    name = str(names[0])
    if name not in FORMS and name not in calls:
        raise InputError("", f"system call '{name}' is not modelled{did_you_mean(name, [*FORMS, *calls])}")
    given = step[names[0]]
    args = tuple(given) if isinstance(given, list | tuple) else () if given is None else (given,)
    for arg in args:
        if isinstance(arg, bool) or not isinstance(arg, int | str | bytes):
            raise InputError("", f"argument {arg!r} of {name} is no number and no text")
    return Step(name, args, str(step.get("as", "")))


def arguments(step: Step, room: Room, results: Mapping[str, int]) -> tuple[str, tuple[int, ...]]:
    """Return the system call of a step and its arguments; ``results`` are what ``$name`` stands for."""
    values: list[Value] = []
    for arg in step.args:
        if isinstance(arg, str) and arg.startswith("$"):
            if arg[1:] not in results:
                raise InputError("", f"'{arg}' is no result of an earlier step{did_you_mean(arg[1:], results)}")
            values.append(results[arg[1:]])
        else:
            values.append(arg)
    form = FORMS.get(step.call)
    if form is not None:
        return form(room, values)
    return step.call, tuple(value if isinstance(value, int) else _plain(room, value) for value in values)


def _plain(room: Room, value: Value) -> int:
    word = value if isinstance(value, str) else ""
    if word and all(part.strip() in CONSTANTS for part in word.split("|")):
        return number(word)
    return room.text(value)
