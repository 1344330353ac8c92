"""Scripts of system calls on sockets, which Linux and the model answer: what returns, and what is written to memory.

A step is the name of a call and its arguments: numbers, bytes that lie in the task's memory, ``Ref`` for a result of an
earlier step, and ``Room`` for structures that point to others. An answer has the result (an errno is negative) and the
bytes that the call has changed. As a program, this file asks the kernel of this machine: scripts come as JSON.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

# arch/x86/entry/syscalls/syscall_64.tbl
NUMBERS = {
    "read": 0, "write": 1, "close": 3, "poll": 7, "ioctl": 16, "readv": 19, "writev": 20, "dup": 32, "socket": 41,
    "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "bind": 49,
    "listen": 50, "getsockname": 51, "getpeername": 52, "socketpair": 53, "setsockopt": 54, "getsockopt": 55,
    "fcntl": 72, "unlink": 87, "epoll_ctl": 233, "epoll_wait": 232, "accept4": 288, "epoll_create1": 291,
    "recvmmsg": 299, "sendmmsg": 307, "pipe2": 293, "mkdir": 83, "chmod": 90,
}  # fmt: skip
# a step: name, then arguments: int | {"bytes": hex} | {"ref": step} | {"fd": step, "index": n} | {"struct": [...]}
Script = list[list[Any]]


def data(value: bytes) -> dict[str, str]:
    """Return an argument that points to bytes."""
    return {"bytes": value.hex()}


def text(value: str) -> dict[str, str]:
    """Return an argument that points to a text with its NUL."""
    return data(value.encode() + b"\0")


def ref(step: int) -> dict[str, int]:
    """Return an argument that is the result of a step."""
    return {"ref": step}


def fd_of(step: int, index: int, arg: int = -1) -> dict[str, int]:
    """Return one of the descriptors that a step wrote (socketpair, pipe2); ``arg`` tells where."""
    return {"fd": step, "index": index, "arg": arg}


def struct(*words: Any) -> dict[str, list[Any]]:
    """Return an argument that points to words of 8 bytes, each a number or an argument."""
    return {"struct": list(words)}


class _World:
    # how arguments become words, and what memory looks like afterwards
    def __init__(self) -> None:
        self.results: list[int] = []
        self.memory: list[list[tuple[int, int]]] = []

    def put(self, value: bytes) -> int:
        raise NotImplementedError

    def get(self, address: int, size: int) -> bytes:
        raise NotImplementedError

    def call(self, name: str, words: list[int]) -> int:
        raise NotImplementedError

    def word(self, arg: Any, rooms: list[tuple[int, int]]) -> int:
        if isinstance(arg, int):
            return arg
        if "bytes" in arg:
            value = bytes.fromhex(arg["bytes"])
            address = self.put(value)
            rooms.append((address, len(value)))
            return address
        if "ref" in arg:
            return self.results[arg["ref"]]
        if "fd" in arg:
            address, _ = self.memory[arg["fd"]][arg["arg"]]
            return int.from_bytes(self.get(address + 4 * arg["index"], 4), "little")
        if "fd4" in arg:
            # descriptors as bytes of a control message
            return self.word({"bytes": b"".join(
                self.word(each, []).to_bytes(4, "little") if isinstance(each, dict) else each.to_bytes(4, "little")
                for each in arg["fd4"]).hex()}, rooms)  # fmt: skip
        words = b"".join((self.word(each, rooms) & (1 << 64) - 1).to_bytes(8, "little") for each in arg["struct"])
        address = self.put(words)
        # pointers differ from world to world
        rooms += [(address + 8 * at, 8) for at, each in enumerate(arg["struct"]) if isinstance(each, int)]
        return address

    def run(self, script: Script) -> list[list[Any]]:
        answers = []
        for name, *args in script:
            rooms: list[tuple[int, int]] = []
            words = [self.word(arg, rooms) for arg in args]
            before = [self.get(*room) for room in rooms]
            result = self.call(name, words)
            self.results.append(result)
            self.memory.append(rooms)
            after = [self.get(*room) for room in rooms]
            changed = [new.hex() for old, new in zip(before, after, strict=True) if new != old]
            answers.append([result, changed])
        return answers


class Linux(_World):
    """The kernel of this machine."""

    def __init__(self) -> None:
        super().__init__()
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.kept: list[Any] = []

    def put(self, value: bytes) -> int:
        """Put bytes in memory that stays."""
        room = ctypes.create_string_buffer(value, max(1, len(value)))
        self.kept.append(room)
        return ctypes.addressof(room)

    def get(self, address: int, size: int) -> bytes:
        """Return bytes of memory."""
        return ctypes.string_at(address, size)

    def call(self, name: str, words: list[int]) -> int:
        """Make a system call."""
        result: int = self.libc.syscall(NUMBERS[name], *(ctypes.c_long(word) for word in words))
        return result if result != -1 else -ctypes.get_errno()


class Model(_World):
    """A task of a simulated host."""

    def __init__(self, kernel: Any, task: Any) -> None:
        super().__init__()
        self.kernel, self.task = kernel, task

    def put(self, value: bytes) -> int:
        """Put bytes in the task's memory."""
        address: int = self.task.user.alloc(max(1, len(value)), value)
        return address

    def get(self, address: int, size: int) -> bytes:
        """Return bytes of the task's memory."""
        found: bytes = self.task.user.read(address, size)
        return found

    def call(self, name: str, words: list[int]) -> int:
        """Make a system call."""
        result: int = self.kernel.syscalls.call(self.task, name, *words)
        return result


@cache
def _host() -> tuple[Any, Any, Iterator[int]]:
    # one host for all scripts: each has a task and a folder of its own, and leaves nothing behind
    import ebpfsim

    sim = ebpfsim.Simulation(seed=1)
    return sim, sim.host("h").kernel, count()


def simulated(script: Script) -> list[list[Any]]:
    """Return what a task of a host is answered."""
    sim, kernel, numbers = _host()
    folder = f"/tmp/{next(numbers)}"
    kernel.vfs.add(f"{folder}/empty")
    answers: list[list[Any]] = []

    def main(task: Any) -> int:
        kernel.syscalls.call(task, "chdir", task.user.alloc(32, folder.encode() + b"\0"))
        answers.extend(Model(kernel, task).run(script))
        return 0

    kernel.sched.spawn("test", main)
    sim.run()
    return answers


def ask_linux(scripts: list[Script]) -> list[Any]:
    """Let the kernel of this machine answer scripts, each in a process and a network of its own; None: no end."""
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(scripts), capture_output=True, text=True, check=True
    )
    answers: list[Any] = json.loads(done.stdout)
    return answers


def _answer(script: Script) -> Any:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        import signal
        import tempfile

        os.close(read)
        signal.alarm(5)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        # descriptors begin at 3 here as in the model
        os.dup2(write, 200)
        os.closerange(3, 200)
        ctypes.CDLL(None).unshare(0x4000_0000)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            Path("empty").touch()
            answer = json.dumps(Linux().run(script)).encode()
        with os.fdopen(200, "wb") as out:
            out.write(answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as source:
        found = source.read()
    os.waitpid(child, 0)
    return json.loads(found) if found else None


if __name__ == "__main__":
    json.dump([_answer(script) for script in json.load(sys.stdin)], sys.stdout)
