"""The step ``bpf`` of tasks: a command of bpf(2) and the fields of its ``union bpf_attr``, by the names of C.

::

    {bpf: [MAP_CREATE, {map_type: hash, key_size: 4, value_size: 8, max_entries: 16}], as: map}
    {bpf: [MAP_UPDATE_ELEM, {map_fd: $map, key: 7, value: 42}]}
    {bpf: [PROG_LOAD, {prog_type: xdp, insns: "r0 = 2; exit"}], as: prog}
    {bpf: [LINK_CREATE, {prog_fd: $prog, target_fd: eth0, attach_type: xdp}]}

Texts and assembly are copied to the task's memory, numbers behind ``key`` and ``value`` as eight bytes; types are
words, ``attach_btf_id`` may be the name of a function of the kernel, ``target_fd`` a device. What is left out is 0, but
for the number of instructions, the license (GPL), and room for what comes back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import AsmError, InputError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.suggest import did_you_mean
from ebpfsim.uapi import flags as uapi_flags
from ebpfsim.uapi.bpf import AttachType, BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTRS, LINK_CREATE_OPTS, LINK_CREATE_OPTS_OFF, Layout

__all__ = ["BpfCall", "attr_problems", "is_by_name", "parse_attr", "write_attr"]

Word = int | str | bytes
Path = tuple[str | int, ...]
ENUMS: Mapping[str, type[IntEnum]] = {
    "map_type": MapType, "prog_type": ProgType, "attach_type": AttachType, "expected_attach_type": AttachType,
}  # fmt: skip
# pointers, to what is copied to the task's memory
TEXTS = ("license", "name", "pathname")
ELEMENTS = ("key", "value", "next_key")
# room for what a command returns, in bytes
ROOM = 4096
FLAGS = {name: value for name, value in vars(uapi_flags).items() if name.startswith("BPF_")}
COMMANDS = {command.name: command for command in BpfCmd if command in ATTRS}
OPTIONS = {BpfCmd.LINK_CREATE: (LINK_CREATE_OPTS, LINK_CREATE_OPTS_OFF)}
# fields that the kernel reads where the caller says nothing
DEFAULTS: Mapping[BpfCmd, Mapping[str, Word]] = {
    BpfCmd.PROG_LOAD: {"license": "GPL"},
    BpfCmd.MAP_LOOKUP_ELEM: {"value": bytes(ROOM)},
    BpfCmd.MAP_LOOKUP_AND_DELETE_ELEM: {"value": bytes(ROOM)},
    BpfCmd.MAP_GET_NEXT_KEY: {"next_key": bytes(ROOM)},
}
EXAMPLE = "bpf: [MAP_CREATE, {map_type: hash, key_size: 4, value_size: 8, max_entries: 16}]"


@dataclass(frozen=True, slots=True)
class BpfCall:
    """A command with the fields that somebody gave."""

    command: BpfCmd
    fields: Mapping[str, Word]


class Problem(NamedTuple):
    """What is wrong with a step: where in it, what, and what to do instead; ``key`` says that the place is a key."""

    path: Path
    problem: str
    hint: str = ""
    key: bool = False


class TaskRoom(Protocol):
    """Memory of a task."""

    def put(self, data: bytes, size: int = 0) -> int:
        """Return where ``data`` is, with zeroes behind it up to ``size``."""


def is_by_name(given: object) -> bool:
    """Whether a step ``bpf`` has the fields of the union, and not its address as in C."""
    return isinstance(given, Sequence) and len(given) > 1 and isinstance(given[1], Mapping)


def attr_problems(given: Sequence[object], known_name: Callable[[object], str]) -> Iterator[Problem]:
    """Tell what is wrong with ``[COMMAND, {FIELD: VALUE}]``; ``known_name`` says what is wrong with ``$name``."""
    command = COMMANDS.get(str(given[0]))
    if command is None:
        problem = f"unknown command of bpf(2) '{given[0]}'{did_you_mean(str(given[0]), COMMANDS)}"
        yield Problem((0,), problem, EXAMPLE)
        return
    if len(given) > 2:
        yield Problem((2,), "bpf has a command and the fields of its union, nothing else", EXAMPLE)
    fields = given[1]
    assert isinstance(fields, Mapping)
    known = _fields(command)
    for name, value in fields.items():
        if name not in known:
            problem = f"{command.name} has no field '{name}'{did_you_mean(str(name), known)}"
            yield Problem((1, name), problem, f"there is {', '.join(known)}", key=True)
        elif isinstance(value, str) and value.startswith("$"):
            if problem := known_name(value):
                yield Problem((1, name), problem)
        else:
            try:
                _encoded(name, value)
            except AsmError as error:
                yield Problem((1, name), f"{error.where}: {error.problem}", error.hint)
            except InputError as error:
                yield Problem((1, name), error.problem, error.hint)


def parse_attr(given: Sequence[object]) -> BpfCall:
    """Return a call without problems."""
    fields = given[1]
    assert isinstance(fields, Mapping)
    return BpfCall(COMMANDS[str(given[0])], dict(fields))


def write_attr(
    call: BpfCall, room: TaskRoom, resolve: Callable[[Word], Word], device: Callable[[str], int]
) -> tuple[int, int, int]:
    """Put the union and what it points to into a task's memory: the arguments of bpf(2)."""
    fields = {name: resolve(value) for name, value in {**DEFAULTS.get(call.command, {}), **call.fields}.items()}
    values: dict[str, int | bytes] = {}
    for name, value in fields.items():
        if name == "target_fd" and isinstance(value, str):
            values[name] = device(value)
            continue
        encoded = _encoded(name, value)
        is_pointer = isinstance(encoded, bytes) and not name.endswith("_name")
        values[name] = room.put(encoded, ROOM) if is_pointer and isinstance(encoded, bytes) else encoded
        if name == "insns" and isinstance(encoded, bytes):
            values.setdefault("insn_cnt", len(encoded) // 8)
    attr = _packed(call.command, values)
    return int(call.command), room.put(bytes(attr)), len(attr)


def _fields(command: BpfCmd) -> list[str]:
    extra, _ = OPTIONS.get(command, (Layout(), 0))
    return [*ATTRS[command].fields, *extra.fields]


def _packed(command: BpfCmd, values: Mapping[str, int | bytes]) -> bytearray:
    layout = ATTRS[command]
    masked = {name: value if isinstance(value, bytes) else value & (1 << 64) - 1 for name, value in values.items()}
    attr = layout.pack({name: _fitting(layout, name, masked[name]) for name in layout.fields if name in masked})
    extra, off = OPTIONS.get(command, (Layout(), 0))
    if any(name in masked for name in extra.fields):
        attr = attr.ljust(off, b"\0")
        attr += extra.pack({name: _fitting(extra, name, masked[name]) for name in extra.fields if name in masked})
    return attr


def _fitting(layout: Layout, name: str, value: int | bytes) -> int | bytes:
    # a number as the field takes it: -1 is a descriptor, too
    format_ = layout.fields[name].format[-1]
    if isinstance(value, bytes) or format_ == "Q":
        return value
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if format_ == "i" and value >> 31 else value


def _encoded(name: str, value: object) -> int | bytes:
    # what a field is in the union, or what it points to
    if isinstance(value, bool) or not isinstance(value, int | str | bytes):
        raise InputError("", f"field '{name}' is no number and no text: {value!r}")
    if isinstance(value, bytes):
        return value
    if name == "insns":
        return _program(value)
    if name in TEXTS:
        return str(value).encode() + b"\0"
    if name.endswith("_name"):
        return _name(name, str(value))
    if name in ELEMENTS:
        return (value & (1 << 64) - 1).to_bytes(8, "little") if isinstance(value, int) else value.encode()
    if isinstance(value, int) or name == "target_fd":
        return value if isinstance(value, int) else 0
    return _word(name, value)


def _program(value: int | str) -> bytes:
    insns = assemble(str(value)) if isinstance(value, str) else ()
    if not insns:
        raise InputError("", "a program has instructions", 'insns: "r0 = 0; exit"')
    return encode(insns)


def _name(name: str, value: str) -> bytes:
    if len(value) > uapi_flags.BPF_OBJ_NAME_LEN - 1:
        raise InputError("", f"'{name}' has at most {uapi_flags.BPF_OBJ_NAME_LEN - 1} characters")
    return value.encode()


def _word(name: str, value: str) -> int:
    if name in ENUMS:
        words = {member.name.lower(): int(member) for member in ENUMS[name]}
        if value not in words:
            raise InputError("", f"unknown {name} '{value}'{did_you_mean(value, words)}")
        return words[value]
    if name == "attach_btf_id":
        found = vmlinux().find(value, Kind.FUNC) or vmlinux().find(value, Kind.TYPEDEF)
        if found is None:
            raise InputError("", f"the kernel has no function '{value}'")
        return found
    total = 0
    for word in (part.strip() for part in value.split("|")):
        if word not in FLAGS and not word.isdigit():
            raise InputError("", f"'{word}' of '{name}' is no number and no constant{did_you_mean(word, FLAGS)}")
        total |= FLAGS[word] if word in FLAGS else int(word)
    return total
