"""Programs of a control group and what a task in it does, to be compared with what Linux 6.12 answered.

The answers are in tests/data/cgroup_filters.json: by kind (``set``, ``get``, ``dev``) and name of the program one for
each of the steps below. For setsockopt(): the errno, and options as getsockopt() gives them afterwards (SO_RCVLOWAT,
SO_PRIORITY, IP_TOS, TCP_CONGESTION); for getsockopt(): errno or result, length, up to 16 bytes; for devices: the errno.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ebpfsim
from ebpfsim.errnos import errno_name
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.task_steps import Room
from ebpfsim.uapi.bpf import AttachType, ProgType
from tracing.task import Task

ANSWERS: dict[str, dict[str, list[Any]]] = json.loads(
    (Path(__file__).resolve().parents[1] / "data" / "cgroup_filters.json").read_text()
)
# r6 is the option's value, of which four bytes are there, else the program goes to ``out``
_VALUE = "r6 = *(u64 *)(r1 + 8); r7 = *(u64 *)(r1 + 16); r8 = r6; r8 += 4; if r8 > r7 goto out; "


def _put(at: int, number: int) -> str:
    return f"r2 = {number}; *(u32 *)(r1 + {at}) = r2; "


def _value(number: int) -> str:
    return f"{_VALUE}r2 = {number}; *(u32 *)(r6 + 0) = r2; "


LEVEL, OPTNAME, OPTLEN, RETVAL = 24, 28, 32, 36
ALLOW = "r0 = 1; exit"
BOTH = {
    "deny": "r0 = 0; exit",
    "pass": ALLOW,
    "errno": "r1 = -13; call bpf_set_retval; r0 = 1; exit",
    "errno and deny": "r1 = -13; call bpf_set_retval; r0 = 0; exit",
    "positive": "r1 = 5; call bpf_set_retval; r0 = 1; exit",
    "value 7": _value(7) + "out: " + ALLOW,
}
SET = {
    **BOTH,
    "bypass": _put(OPTLEN, -1) + ALLOW,
    "bypass and deny": _put(OPTLEN, -1) + "r0 = 0; exit",
    "optlen 16": _put(OPTLEN, 16) + ALLOW,
    "optlen 17": _put(OPTLEN, 17) + ALLOW,
    "optlen -2": _put(OPTLEN, -2) + ALLOW,
    "optlen 0": _value(99) + "out: " + _put(OPTLEN, 0) + ALLOW,
    "optlen 1": _put(OPTLEN, 1) + ALLOW,
    "other level": _put(LEVEL, 0) + _put(OPTNAME, 1) + ALLOW,
    "room": _VALUE + "r7 -= r6; *(u32 *)(r6 + 0) = r7; out: " + ALLOW,
}
GET = {
    **BOTH,
    "optlen 0": _value(7) + "out: " + _put(OPTLEN, 0) + ALLOW,
    "optlen 2": _value(7) + "out: " + _put(OPTLEN, 2) + ALLOW,
    "optlen 8": _put(OPTLEN, 8) + ALLOW,
    "optlen 9": _put(OPTLEN, 9) + ALLOW,
    "optlen -1": _put(OPTLEN, -1) + ALLOW,
    "forgive": _value(42) + _put(OPTLEN, 4) + _put(RETVAL, 0) + "out: " + ALLOW,
    "ctx errno": _put(RETVAL, -13) + ALLOW,
    "retval as value": _VALUE + f"r2 = *(u32 *)(r1 + 36); *(u32 *)(r6 + 0) = r2; {_put(RETVAL, 0)}out: " + ALLOW,
    "get_retval": _VALUE + "call bpf_get_retval; *(u32 *)(r6 + 0) = r0; r1 = 0; call bpf_set_retval; out: " + ALLOW,
    "optlen as value": _VALUE + "r2 = *(u32 *)(r1 + 32); *(u32 *)(r6 + 0) = r2; out: " + ALLOW,
}


def _unless_access(bit: int) -> str:
    return f"r2 = *(u32 *)(r1 + 0); r2 >>= 16; r0 = 1; r2 &= {bit}; if r2 == 0 goto out; r0 = 0; out: exit"


def _unless_device(major: int, minor: int) -> str:
    numbers = "r2 = *(u32 *)(r1 + 4); r3 = *(u32 *)(r1 + 8); r0 = 1; "
    return f"{numbers}if r2 != {major} goto out; if r3 != {minor} goto out; r0 = 0; out: exit"


DEV = {
    "deny": "r0 = 0; exit",
    "pass": ALLOW,
    "errno": BOTH["errno and deny"],
    "no write": _unless_access(4),
    "no read": _unless_access(2),
    "no mknod": _unless_access(1),
    "no null": _unless_device(1, 3),
    "only char": "r2 = *(u16 *)(r1 + 0); r0 = 1; if r2 == 2 goto out; r0 = 0; out: exit",
    "no 260:70000": _unless_device(260, 70000),
}

SOL_IP, SOL_SOCKET, SOL_TCP = 0, 1, 6
IP_TOS, SO_TYPE, SO_PRIORITY, TCP_CONGESTION, SO_RCVLOWAT = 1, 3, 12, 13, 18
THREE = (3).to_bytes(4, "little")
SETS = [
    (SOL_SOCKET, SO_RCVLOWAT, THREE),
    (SOL_SOCKET, SO_PRIORITY, (2).to_bytes(4, "little")),
    (SOL_IP, IP_TOS, b"\x10"),
    (SOL_TCP, TCP_CONGESTION, b"reno"),
    (SOL_SOCKET, SO_RCVLOWAT, THREE + bytes(5000)),
    (SOL_SOCKET, SO_RCVLOWAT, b""),
    (77, 1, b"\1\0\0\0"),
]
SEEN = [(SOL_SOCKET, SO_RCVLOWAT, 4), (SOL_SOCKET, SO_PRIORITY, 4), (SOL_IP, IP_TOS, 4), (SOL_TCP, TCP_CONGESTION, 16)]
GETS = [
    (SOL_SOCKET, SO_RCVLOWAT, 4),
    (SOL_SOCKET, SO_RCVLOWAT, 8),
    (SOL_SOCKET, SO_TYPE, 4),
    (77, 1, 8),
    (SOL_IP, IP_TOS, 4),
    (SOL_SOCKET, SO_RCVLOWAT, 2),
    (SOL_SOCKET, SO_RCVLOWAT, 0),
    (SOL_SOCKET, SO_RCVLOWAT, 5000),
]
CHAR, BLOCK, FIFO = 0o20666, 0o60666, 0o10666
DEVICES: list[tuple[Any, ...]] = [
    *(("open", "/dev/null", 0), ("open", "/dev/null", 1), ("open", "/dev/zero", 2), ("open", "/tmp/plain", 1)),
    *(("mknod", "/tmp/n1", CHAR, 1, 3), ("mknod", "/tmp/n2", BLOCK, 8, 1), ("mknod", "/tmp/n3", CHAR, 0, 0)),
    *(("mknod", "/tmp/n4", FIFO, 0, 0), ("mknod", "/tmp/n5", CHAR, 260, 70000), ("stat", "/tmp/n5")),
    *(("access", "/dev/null", 4), ("access", "/dev/null", 2), ("access", "/dev/null", 0)),
]
AT_FDCWD, STAT_BYTES = -100, 144
PROG_TYPES = {
    AttachType.CGROUP_DEVICE: ProgType.CGROUP_DEVICE,
    AttachType.CGROUP_SYSCTL: ProgType.CGROUP_SYSCTL,
}


class Tasks:
    """A host with tasks in the control group /t; ``call`` makes system calls of the one that runs."""

    def __init__(self) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.host = self.sim.host("h")
        self.kernel: Any = self.host.kernel
        self.task: Any = None
        self.room: Any = None

    def run(self, kind: AttachType, code: str, steps: Callable[["Tasks"], Iterator[Any]]) -> list[Any]:
        """Let a task do what ``steps`` yields while a program is attached, and return that."""
        prog_type = PROG_TYPES.get(kind, ProgType.CGROUP_SOCKOPT)
        prog = self.host.bpf.prog_load(prog_type, encode(assemble(code)), expected_attach_type=kind).fd
        with self.host.attach_cgroup(prog, "/t", kind.name.removeprefix("CGROUP_").lower()):
            return self.plain(steps)

    def plain(self, steps: Callable[["Tasks"], Iterator[Any]], uid: int = 0) -> list[Any]:
        """Let a task do what ``steps`` yields, and return that."""
        found: list[Any] = []

        def main(task: Task) -> int:
            self.task, self.room = task, Room(task)
            found.extend(steps(self))
            return 0

        self.kernel.sched.spawn("test", main, uid=uid, cgroup=self.kernel.cgroups.mkdir("/t"))
        self.sim.run()
        return found

    def read(self, fd: int, size: int) -> str | int:
        """Read text from a file, or return -errno."""
        buffer = self.room.put(bytes(size))
        ret = self.call("read", fd, buffer, size)
        return bytes(self.task.user.read(buffer, ret)).decode() if ret >= 0 else ret

    def open(self, path: str, flags: int = 0) -> int:
        """Open a file."""
        return self.call("openat", AT_FDCWD, path.encode() + b"\0", flags, 0)

    def write(self, fd: int, text: str) -> int:
        """Write text to a file."""
        return self.call("write", fd, text.encode() or b"\0", len(text))

    def call(self, name: str, *args: int | bytes) -> int:
        """Make a call whose bytes are put into the task's memory."""
        words = (self.room.put(arg) if isinstance(arg, bytes) else arg for arg in args)
        answer: int = self.kernel.syscalls.call(self.task, name, *words)
        return answer

    def getsockopt(self, fd: int, level: int, optname: int, room: int) -> tuple[int, int, bytes]:
        """Return result, length and value."""
        buffer, length = self.room.put(b"\xaa" * max(room, 1)), self.room.put(room.to_bytes(4, "little"))
        ret = self.call("getsockopt", fd, level, optname, buffer, length)
        size = int.from_bytes(self.task.user.read(length, 4), "little")
        return ret, size, bytes(self.task.user.read(buffer, max(room, 1)))


def _errno(ret: int, good: str = "ok") -> str:
    return good if ret >= 0 else errno_name(-ret)


def set_steps(tasks: Tasks) -> Iterator[Any]:
    """Set each option on a socket of its own."""
    for level, optname, value in SETS:
        fd = tasks.call("socket", 2, 1, 0)
        ret = tasks.call("setsockopt", fd, level, optname, value or b"\0", len(value))
        seen = [tasks.getsockopt(fd, *option) for option in SEEN]
        tasks.call("close", fd)
        yield [_errno(ret), [data[:size].hex() for _, size, data in seen]]


def get_steps(tasks: Tasks) -> Iterator[Any]:
    """Ask for each option of a socket of its own."""
    for level, optname, room in GETS:
        fd = tasks.call("socket", 2, 1, 0)
        ret, size, data = tasks.getsockopt(fd, level, optname, room)
        tasks.call("close", fd)
        yield [_errno(ret, str(ret)), size, data[:16].hex()]


def device_steps(tasks: Tasks) -> Iterator[Any]:
    """Open and make devices."""
    tasks.call("umask", 0)
    tasks.call("close", tasks.call("openat", AT_FDCWD, b"/tmp/plain\0", os.O_CREAT | os.O_WRONLY, 0o644))
    for what, path, *args in DEVICES:
        name = path.encode() + b"\0"
        match what:
            case "open":
                ret = tasks.call("openat", AT_FDCWD, name, args[0], 0)
                tasks.call("close", ret)
            case "mknod":
                ret = tasks.call("mknodat", AT_FDCWD, name, args[0], os.makedev(*args[1:]))
            case "access":
                ret = tasks.call("faccessat", AT_FDCWD, name, args[0])
            case _:
                stat = tasks.room.put(bytes(STAT_BYTES))
                ret = tasks.call("newfstatat", AT_FDCWD, name, stat, 0)
                rdev = int.from_bytes(tasks.task.user.read(stat + 40, 8), "little")
                mode = int.from_bytes(tasks.task.user.read(stat + 24, 4), "little")
                if ret >= 0:
                    yield [os.major(rdev), os.minor(rdev), oct(mode)]
                    continue
        yield _errno(ret)
    for what, path, *_ in DEVICES:
        if what == "mknod":
            tasks.call("unlinkat", AT_FDCWD, path.encode() + b"\0", 0)
