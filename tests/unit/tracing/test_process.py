"""Processes: numbers, sleeping, exec, exit, waiting, as their manual pages have them."""

from task_machine import Machine

from ebpfsim.errnos import Errno


def pointers(task, *texts: str) -> int:  # type: ignore[no-untyped-def]
    room = [task.user.alloc(1, text.encode() + b"\0") for text in texts]
    return int(task.user.alloc(1, b"".join(address.to_bytes(8, "little") for address in [*room, 0])))


def timespec(task, seconds: int, nanoseconds: int) -> int:  # type: ignore[no-untyped-def]
    return int(task.user.alloc(16, seconds.to_bytes(8, "little", signed=True) + nanoseconds.to_bytes(8, "little")))


def test_who_am_i() -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        answers.extend(call(name) for name in ("getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid"))
        answers.extend([call("getpgid", 0), call("getpgid", 1), call("getpgid", 77)])

    Machine().run(main, uid=1000)
    assert answers == [1000, 1000, 1, 1000, 1000, 1000, 1000, 1000, 1, -Errno.ESRCH]


def test_setuid() -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        answers.extend([call("setuid", 33), call("getuid"), call("setuid", 0), call("setuid", 33)])

    Machine().run(main)
    assert answers == [0, 33, -Errno.EPERM, 0]


def test_sleeping_takes_its_time() -> None:
    machine, answers = Machine(), []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        answers.append(call("nanosleep", timespec(task, 0, 5_000_000), 0))
        answers.append(machine.clock.now_ns)
        answers.append(call("clock_nanosleep", 1, 0, timespec(task, 1, 0), 0))
        answers.append(call("nanosleep", timespec(task, 0, 1_000_000_000), 0))
        answers.append(call("nanosleep", timespec(task, -1, 0), 0))
        answers.append(call("nanosleep", 0x10, 0))

    machine.run(main)
    # 108 ns for the call itself, row "syscall" of the costs
    assert answers == [0, 5_000_108, 0, -Errno.EINVAL, -Errno.EINVAL, -Errno.EFAULT]


def test_exec() -> None:
    machine = Machine()
    machine.vfs.add("usr/bin/longer-than-15-characters", b"\x7fELF", mode=0o755)
    machine.vfs.add("usr/bin/data", b"text", mode=0o644)
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        answers.append(call("execve", "/usr/bin/data", pointers(task, "data"), pointers(task)))
        answers.append(call("execve", "/none", pointers(task, "data"), pointers(task)))
        argv, envp = pointers(task, "longer", "-x"), pointers(task, "A=1")
        answers.append(call("execve", "/usr/bin/longer-than-15-characters", argv, envp))
        answers.append(task.comm)
        mm = task.mm
        answers.append(task.user.read(mm.arg_start, mm.arg_end - mm.arg_start))
        answers.append(task.user.read(mm.env_start, mm.env_end - mm.env_start))

    machine.run(main)
    assert answers == [-Errno.EACCES, -Errno.ENOENT, 0, "longer-than-15-", b"longer\0-x\0", b"A=1\0"]
    # proc_execve_static of the recordings: sched_prepare_exec task_rename sched_process_exec
    names = [name for name in machine.events if name.startswith(("task_re", "sched_prepare", "sched_process_exe"))]
    assert names == ["sched_prepare_exec", "task_rename", "sched_process_exec"]


def test_exit_does_not_return() -> None:
    machine, codes = Machine(), []

    def child(task) -> int:  # type: ignore[no-untyped-def]
        machine.syscalls.call(task, "exit_group", 300)
        raise AssertionError("exit_group() returned")

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        machine.sched.spawn("child", child, parent=task)
        status = task.user.alloc(4)
        pid = call("wait4", -1, status, 0, 0)
        codes.extend([pid, task.user.read(status, 4), call("wait4", -1, 0, 0, 0)])

    machine.run(main)
    # 300 & 0xff in the second byte of the status
    assert codes == [1001, (44 << 8).to_bytes(4, "little"), -Errno.ECHILD]
    # nobody came back from exit_group()
    assert machine.events.count("sys_enter") == machine.events.count("sys_exit") + 1


def test_names() -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        answers.append(call("prctl", 15, "a name of twenty bytes", 0, 0, 0))
        buf = task.user.alloc(16)
        answers.append(call("prctl", 16, buf, 0, 0, 0))
        answers.append(task.user.read(buf, 16))
        answers.append(call("prctl", 999, 0, 0, 0, 0))

    Machine().run(main)
    assert answers == [0, 0, b"a name of twent\0", -Errno.EINVAL]


def test_random_bytes_are_those_of_the_seed() -> None:
    found = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        room = task.user.alloc(64)
        found.append(call("getrandom", room, 41, 1))
        found.append(bytes(task.user.read(room, 64)))
        found.append([call("getrandom", room, 8, 8), call("getrandom", room, 8, 6), call("getrandom", 8, 8, 0)])
        found.append(call("getrandom", room, 0, 0))

    Machine().run(main)
    Machine().run(main)
    assert found[:4] == found[4:]
    assert (found[0], found[1][41:], found[3]) == (41, bytes(23), 0)
    assert len(set(found[1][:41])) > 20
    assert found[2] == [-Errno.EINVAL, -Errno.EINVAL, -Errno.EFAULT]


def test_restartable_sequences_of_a_thread() -> None:
    answers = []

    def main(task, call) -> None:  # type: ignore[no-untyped-def]
        room = -(-task.user.alloc(96) // 32) * 32
        answers.extend([call("rseq", room + 8, 32, 0, 7), call("rseq", room, 16, 0, 7), call("rseq", 0, 32, 0, 7)])
        answers.extend([call("rseq", room, 32, 0, 7), call("rseq", room, 32, 0, 7), call("rseq", room, 32, 0, 8)])
        assert (task.struct.rseq, task.struct.rseq_len, task.struct.rseq_sig) == (room, 32, 7)
        answers.extend([call("rseq", room, 32, 1, 8), call("rseq", room, 32, 1, 7), call("rseq", room, 32, 1, 7)])
        answers.append(call("rseq", 32, 32, 0, 7))

    Machine().run(main)
    wrong, forbidden = -Errno.EINVAL, -Errno.EPERM
    assert answers == [wrong, wrong, wrong, 0, -Errno.EBUSY, forbidden, forbidden, 0, wrong, -Errno.EFAULT]
