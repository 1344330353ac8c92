"""bpf(2) as a system call of tasks: descriptors, memory, capabilities, security hooks (bpf(2), recordings bpf_*)."""

from struct import pack

import pytest
from call_paths import Watched, compared

import ebpfsim
from ebpfsim.errnos import Errno

MAP_CREATE, LOOKUP, UPDATE, PROG_LOAD, HASH, SOCKET_FILTER = 0, 1, 2, 5, 1, 1


def create(kind: int = HASH, key: int = 4, value: int = 8, entries: int = 10) -> bytes:
    """Return the union of BPF_MAP_CREATE."""
    return pack("<IIIII", kind, key, value, entries, 0).ljust(72, b"\0")


def element(fd: int, key: int, value: int) -> bytes:
    """Return the union of commands about elements."""
    return pack("<IIQQQ", fd, 0, key, value, 0)


def run(what: object, *, uid: int = 0, machine: Watched | None = None) -> Watched:
    machine = machine or Watched()
    machine.run(what, uid=uid)  # type: ignore[arg-type]
    return machine


def test_a_map_of_a_task() -> None:
    seen = []

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        fd = call("bpf", MAP_CREATE, create(), 72)  # type: ignore[operator]
        key, value, room = user.alloc(4, pack("<I", 7)), user.alloc(8, pack("<Q", 42)), user.alloc(8)
        seen.append((fd, call("bpf", UPDATE, element(fd, key, value), 32)))  # type: ignore[operator]
        seen.append((call("bpf", LOOKUP, element(fd, key, room), 32), user.read(room, 1)))  # type: ignore[operator]
        user.write(key, pack("<I", 8))
        seen.append(call("bpf", LOOKUP, element(fd, key, room), 32))  # type: ignore[operator]
        seen.append(call("bpf", LOOKUP, element(99, key, room), 32))  # type: ignore[operator]
        seen.append(call("close", fd))  # type: ignore[operator]

    machine = run(main)
    assert seen == [(3, 0), (0, b"\x2a"), -Errno.ENOENT, -Errno.EBADF, 0]
    # it went with its descriptor
    assert len(machine.kernel.maps) == 0


def test_a_program_of_a_task() -> None:
    # r0 = 0; exit
    code, seen = bytes.fromhex("b700000000000000 9500000000000000"), []

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        insns, gpl = user.alloc(len(code), code), user.alloc(4, b"GPL\0")
        attr = pack("<IIQQ", SOCKET_FILTER, len(code) // 8, insns, gpl).ljust(72, b"\0")
        seen.append(call("bpf", PROG_LOAD, attr, 72))  # type: ignore[operator]

    machine = run(main)
    assert seen == [3]
    assert not list(machine.kernel.progs)


@pytest.mark.parametrize(
    ("uid", "call", "result"),
    [(0, (99, bytes(8), 8), -Errno.EINVAL), (0, (MAP_CREATE, 0x10, 72), -Errno.EFAULT),
     (0, (MAP_CREATE, create(), 5000), -Errno.E2BIG), (0, (MAP_CREATE, create(entries=0), 72), -Errno.EINVAL),
     (1000, (MAP_CREATE, create(), 72), -Errno.EPERM)],
)  # fmt: skip
def test_refusals(uid: int, call: tuple[object, ...], result: int) -> None:
    seen: list[int] = []
    run(lambda _task, do: seen.append(do("bpf", *call)), uid=uid)
    assert seen == [result]


@pytest.mark.parametrize("hook", ["security_bpf", "security_bpf_map_create", "security_bpf_map"])
def test_security_modules_refuse(hook: str) -> None:
    machine, seen = Watched(), []
    getattr(machine.kernel.functions, hook)
    machine.kernel.functions.__dict__[hook] = lambda *_args: -Errno.EPERM
    run(lambda _task, do: seen.append(do("bpf", MAP_CREATE, create(), 72)), machine=machine)
    assert seen == [-Errno.EPERM]
    assert len(machine.kernel.maps) == 0


def test_descriptors_of_a_task_are_its_own() -> None:
    machine = run(lambda _task, do: do("bpf", MAP_CREATE, create(), 72))
    assert isinstance(machine.host, ebpfsim.Host)
    assert machine.kernel.fds.numbers() == [0, 1, 2]


@pytest.mark.parametrize("recording", ["bpf_map_create_hash", "bpf_map_update", "bpf_map_lookup"])
def test_the_order_of_hooks_is_the_recorded_one(recording: str) -> None:
    machine = Watched()

    def main(task: object, call: object) -> None:
        user = task.user  # type: ignore[attr-defined]
        key, value = user.alloc(4), user.alloc(8)
        fd = 3
        if recording != "bpf_map_create_hash":
            call("bpf", MAP_CREATE, create(), 72)  # type: ignore[operator]
            call("bpf", UPDATE, element(fd, key, value), 32)  # type: ignore[operator]
        steps = {
            "bpf_map_create_hash": (MAP_CREATE, create(), 72),
            "bpf_map_update": (UPDATE, element(fd, key, value), 32),
            "bpf_map_lookup": (LOOKUP, element(fd, key, value), 32),
        }
        machine.watch()
        call("bpf", *steps[recording])  # type: ignore[operator]
        machine.stop()

    run(main, machine=machine)
    ours, recorded = compared(machine, recording)
    hooks = [name for name in recorded if name.startswith("security_")]
    # the recorded trees end at a depth
    assert [name for name in ours if name.startswith("security_")][: len(hooks)] == hooks
