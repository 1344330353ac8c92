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
