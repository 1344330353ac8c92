"""What records hold when tasks of the emulator do something: every event is fired, and programs copy what they see."""

import struct
from contextlib import suppress

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from hooks.text import function_address
from tracing.records import BUILDERS
from tracing.trace_events import find_event

ROOM = 128
COMM = 16


@pytest.fixture
def host():
    return Simulation(seed=1).host("h", cpus=1)


@pytest.fixture
def watch(host):
    def watch(name: str, extra: int = 0):
        """Attach a program that keeps the records of an event; return what gives their bytes, from 0 on."""
        size = find_event(name).size + extra
        map_fd = host.bpf.map_create(MapType.QUEUE, 0, ROOM, 64)
        text = f"""
            r3 = r1; r1 = r10; r1 += -{ROOM}; r2 = {size}; call bpf_probe_read_kernel
            r1 = map_fd[{map_fd}]; r2 = r10; r2 += -{ROOM}; r3 = 0; call bpf_map_push_elem; r0 = 0; exit
        """
        zero = "".join(f"*(u64 *)(r10 - {at}) = 0; " for at in range(8, ROOM + 1, 8))
        fd = host.bpf.prog_load(ProgType.TRACEPOINT, encode(assemble(zero + text)), license="GPL").fd
        host.attach_tracepoint(fd, *name.split(":"))

        def records() -> list[bytes]:
            found: list[bytes] = []
            with suppress(KernelError):  # ENOENT at the end
                while True:
                    found.append(host.bpf.map_lookup_and_delete_elem(map_fd, None))
            return found

        return records

    return watch


def comm(name: str) -> bytes:
    return name.encode().ljust(COMM, b"\0")


def test_system_calls(host, watch) -> None:
    enter, leave = watch("syscalls:sys_enter_openat"), watch("syscalls:sys_exit_openat")
    raw_enter, raw_leave = watch("raw_syscalls:sys_enter"), watch("raw_syscalls:sys_exit")
    task = host.spawn("worker")
    host.syscall(task, "openat", "/none", 0o101, 0o644)
    nr, dfd, filename, flags, mode = struct.unpack_from("<I4xqQQQ", enter()[0], 8)
    assert (nr, dfd, flags, mode) == (257, -100, 0o101, 0o644)
    assert struct.unpack_from("<q6Q", raw_enter()[0], 8)[:5] == (257, dfd & (1 << 64) - 1, filename, flags, mode)
    ret = task.results[-1].retval
    assert struct.unpack_from("<I4xq", leave()[0], 8) == (257, ret)
    assert struct.unpack_from("<qq", raw_leave()[0], 8) == (257, ret)


def test_the_scheduler(host, watch) -> None:
    switch, waking, wakeup, new = (
        watch(f"sched:sched_{name}") for name in ("switch", "waking", "wakeup", "wakeup_new")
    )
    task = host.spawn("worker")
    task.exit()
    host.kernel.clock.run(until_ns=10**6)
    first = struct.unpack_from("<16siiq16sii", switch()[0], 8)
    assert first == (comm("swapper/0"), 0, 120, 0, comm("worker"), task.pid, 120)
    assert struct.unpack_from("<16siii", new()[0], 8) == (comm("worker"), task.pid, 120, 0)
    assert waking() == wakeup() == []


def test_a_task_that_sleeps_and_one_that_is_gone(host, watch) -> None:
    switch, waking, gone = watch("sched:sched_switch"), watch("sched:sched_waking"), watch("sched:sched_process_exit")
    task = host.spawn("worker")
    host.kernel.clock.run(until_ns=10**5)
    host.syscall(task, "getpid")
    task.exit()
    host.kernel.clock.run(until_ns=10**6)
    states = [struct.unpack_from("<q", record, 32)[0] for record in switch() if record[8:24] == comm("worker")]
    # waiting for calls, then a zombie
    assert states == [1, 0x20]
    assert struct.unpack_from("<16sii", waking()[0], 8) == (comm("worker"), task.pid, 120)
    assert struct.unpack_from("<16sii?", gone()[0], 8) == (comm("worker"), task.pid, 120, True)


def test_strings_behind_the_record(host, watch) -> None:
    fork = watch("sched:sched_process_fork", extra=12)
    task = host.spawn("worker")
    parent_loc, parent, child_loc, child = struct.unpack_from("<IiIi", (record := fork()[0]), 8)
    assert (parent, child) == (1, task.pid)
    texts = [record[loc & 0xFFFF :][: loc >> 16] for loc in (parent_loc, child_loc)]
    assert texts == [b"init\0", b"worker\0"]


def test_a_new_program_and_its_name(host, watch) -> None:
    rename, execs = watch("task:task_rename"), watch("sched:sched_process_exec", extra=20)
    task = host.spawn("worker")
    host.kernel.vfs.add("/tool", b"\x7fELF", mode=0o755)
    assert host.syscall(task, "execve", "/tool") == 0
    assert struct.unpack_from("<i16s16sh", rename()[0], 8) == (task.pid, comm("worker"), comm("tool"), 0)
    loc, pid, old_pid = struct.unpack_from("<Iii", (record := execs()[0]), 8)
    assert (pid, old_pid, record[loc & 0xFFFF :][: loc >> 16]) == (task.pid, task.pid, b"/tool\0")


def test_timers_and_time(host, watch) -> None:
    start, entry, leave = (watch(f"timer:hrtimer_{name}") for name in ("start", "expire_entry", "expire_exit"))
    ran, vector, idle = (
        watch("sched:sched_stat_runtime", 7),
        watch("irq_vectors:local_timer_entry"),
        watch("power:cpu_idle"),
    )
    task = host.spawn("worker", steps=[{"sleep": "5us"}])
    host.kernel.clock.run()
    # struct trace_event_raw_hrtimer_start: hrtimer, function, expires, softexpires, mode, was_armed
    timer, function, expires, softexpires, mode, was_armed = struct.unpack_from("<QQqqI?", start()[0], 8)
    assert (function, mode, was_armed) == (function_address("hrtimer_wakeup"), 1, False)
    assert expires == softexpires
    expired, now, called = struct.unpack_from("<QqQ", entry()[0], 8)
    # programs that saw the interrupt before took their time
    assert (expired, called) == (timer, function)
    assert expires <= now < expires + 1000
    assert struct.unpack_from("<Q", leave()[0], 8) == (timer,)
    assert struct.unpack_from("<I", vector()[0], 8) == (0xEC,)
    assert [struct.unpack_from("<II", record, 8) for record in idle()][:2] == [(0xFFFF_FFFF, 0), (1, 0)]
    loc, pid, runtime = struct.unpack_from("<IiQ", (record := ran()[0]), 8)
    assert (pid, record[loc & 0xFFFF :][: loc >> 16]) == (task.pid, b"worker\0")
    assert runtime > 0


def test_interrupts(host, watch) -> None:
    entry, leave = watch("irq:irq_handler_entry", 7), watch("irq:irq_handler_exit")
    host.kernel.interrupt(host.kernel.cpus[0], "eth0-0", lambda: None)
    irq, loc = struct.unpack_from("<iI", (record := entry()[0]), 8)
    assert record[loc & 0xFFFF :][: loc >> 16] == b"eth0-0\0"
    assert struct.unpack_from("<ii", leave()[0], 8) == (irq, 1)


def test_new_tasks(host, watch) -> None:
    new = watch("task:task_newtask")
    task = host.spawn("worker")
    assert struct.unpack_from("<i16s4xQh", new()[0], 8) == (task.pid, comm("worker"), 17, 0)


def test_every_builder_belongs_to_an_event_of_linux() -> None:
    for name in BUILDERS:
        assert find_event(name).full_name == name
