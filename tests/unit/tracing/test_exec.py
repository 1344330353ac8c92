"""New programs: what stays and what goes (execve(2))."""

from call_paths import Watched

from ebpfsim.errnos import Errno
from tracing.vfs import File

AT_FDCWD, O_CLOEXEC = -100, 0o2000000


def words(task: object, *texts: str) -> int:
    user = task.user  # type: ignore[attr-defined]
    room = [user.alloc(1, text.encode() + b"\0") for text in texts]
    return int(user.alloc(1, b"".join(address.to_bytes(8, "little") for address in [*room, 0])))


def test_what_stays_and_what_goes() -> None:
    machine, seen = Watched(), []
    machine.kernel.vfs.add("/bin/setuid", b"\x7fELF", mode=0o4755, uid=7)

    def main(task: object, call: object) -> None:
        call("openat", AT_FDCWD, "/etc/hosts", O_CLOEXEC, 0)  # type: ignore[operator]
        call("openat", AT_FDCWD, "/etc/hosts", 0, 0)  # type: ignore[operator]
        call("rt_sigaction", 10, (0x402000).to_bytes(8, "little") + bytes(24), 0, 8)  # type: ignore[operator]
        call("rt_sigaction", 12, (1).to_bytes(8, "little") + bytes(24), 0, 8)  # type: ignore[operator]
        seen.append(call("execve", "/bin/setuid", words(task, "a", "b"), words(task, "X=1")))  # type: ignore[operator]
        seen.append(task.files.numbers()[3:])  # type: ignore[attr-defined]
        seen.append(sorted(task.sig.group.actions))  # type: ignore[attr-defined]
        seen.append((task.cred.uid, task.cred.euid))  # type: ignore[attr-defined]
        mm = task.mm  # type: ignore[attr-defined]
        file = machine.kernel.vfs.by_address[mm.exe_file]
        seen.append((file.dentry.path, task.user.read(mm.arg_start, 4), task.comm))  # type: ignore[attr-defined]

    machine.run(main, uid=1000)
    assert seen == [0, [4], [12], (1000, 7), ("/bin/setuid", b"a\0b\0", "setuid")]


def test_a_script_is_run_by_its_interpreter() -> None:
    machine, seen = Watched(), []
    machine.kernel.vfs.add("/bin/script", b"#!/bin/sh -e\necho\n", mode=0o755)

    def main(task: object, call: object) -> None:
        seen.append(call("execve", "/bin/script", words(task, "s", "arg"), words(task)))  # type: ignore[operator]
        mm = task.mm  # type: ignore[attr-defined]
        seen.append(task.user.read(mm.arg_start, mm.arg_end - mm.arg_start))  # type: ignore[attr-defined]
        seen.append((machine.kernel.vfs.by_address[mm.exe_file].dentry.path, task.comm))  # type: ignore[attr-defined]

    machine.run(main)
    assert seen == [0, b"/bin/sh\0-e\0/bin/script\0arg\0", ("/bin/sh", "script")]


def test_refusals() -> None:
    machine, seen = Watched(), []
    machine.kernel.vfs.add("/bin/text", b"text", mode=0o755)
    machine.kernel.vfs.add("/bin/lost", b"#!/none\n", mode=0o755)
    machine.kernel.vfs.add("/bin/data", b"\x7fELF", mode=0o644)

    def main(task: object, call: object) -> None:
        for path in ("/bin/text", "/bin/lost", "/bin/data", "/bin", "/none"):
            seen.append(call("execve", path, words(task, "x"), 0))  # type: ignore[operator]
        seen.append(call("execve", "/bin/sh", 0x10, 0))  # type: ignore[operator]

    machine.run(main)
    wanted = (Errno.ENOEXEC, Errno.ENOENT, Errno.EACCES, Errno.EACCES, Errno.ENOENT, Errno.EFAULT)
    assert seen == [-errno for errno in wanted]


def test_the_file_of_a_program_goes_with_its_areas() -> None:
    machine = Watched()
    machine.run(lambda task, call: call("execve", "/bin/true", words(task, "true"), words(task)))
    assert not [found for found in machine.kernel.vfs.by_address.values() if isinstance(found, File)]
