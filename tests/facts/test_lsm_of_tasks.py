"""Security modules and what tasks do: at least 60 hooks are asked, and what one refuses reaches the call's errno."""

from collections.abc import Sequence
from struct import pack

import pytest
from call_paths import Watched

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

EPERM, AT_FDCWD, O_RDWR_CREAT = 1, -100, 0o102
MAP = pack("<IIIII", 1, 4, 8, 10, 0).ljust(72, b"\0")
ADDRESS = pack("<H", 2) + (5555).to_bytes(2, "big") + bytes((127, 0, 0, 1)) + bytes(8)
# refuse the user with the id 1001, nobody else
DENY = "call bpf_get_current_uid_gid; r0 &= 0xffff; if r0 == 1001 goto deny; r0 = 0; exit; deny: r0 = -1; exit"
# what each hook says no to; a socket_ hook has a socket call
CALLS: dict[str, Sequence[object]] = {
    "file_open": ("openat", AT_FDCWD, "/etc/hosts", 0, 0),
    "file_alloc_security": ("openat", AT_FDCWD, "/etc/hosts", 0, 0),
    "inode_permission": ("access", "/etc/hosts", 4), "inode_getattr": ("newstat", "/etc/hosts", bytes(144)),
    "path_mkdir": ("mkdir", "/tmp/x", 0o755), "inode_mkdir": ("mkdir", "/tmp/x", 0o755),
    "path_mknod": ("mknod", "/tmp/x", 0o100644, 0), "inode_create": ("mknod", "/tmp/x", 0o100644, 0),
    "path_symlink": ("symlink", "a", "/tmp/x"), "inode_symlink": ("symlink", "a", "/tmp/x"),
    "path_link": ("link", "/tmp/mine", "/tmp/x"), "inode_link": ("link", "/tmp/mine", "/tmp/x"),
    "path_unlink": ("unlink", "/tmp/mine"), "inode_unlink": ("unlink", "/tmp/mine"),
    "path_rename": ("rename", "/tmp/mine", "/tmp/x"), "inode_rename": ("rename", "/tmp/mine", "/tmp/x"),
    "path_rmdir": ("rmdir", "/tmp/dir"), "inode_rmdir": ("rmdir", "/tmp/dir"),
    "path_chmod": ("chmod", "/tmp/mine", 0o600), "inode_setattr": ("chmod", "/tmp/mine", 0o600),
    "path_chown": ("chown", "/tmp/mine", -1, -1), "path_truncate": ("truncate", "/tmp/mine", 0),
    "sb_statfs": ("statfs", "/tmp", bytes(120)), "sb_mount": ("mount", "x", "/tmp/dir", "tmpfs", 0, 0),
    "task_alloc": ("fork",), "task_kill": ("kill", 0, 0), "task_setpgid": ("setpgid", 0, 0),
    "task_getpgid": ("getpgid", 0), "task_getsid": ("getsid", 0), "task_prctl": ("prctl", 15, "x", 0, 0, 0),
    "task_fix_setuid": ("setuid", 1001), "task_fix_setgid": ("setgid", 1001),
    "bprm_check_security": ("execve", "/bin/true", 0, 0), "bprm_creds_for_exec": ("execve", "/bin/true", 0, 0),
    "mmap_file": ("mmap", 0, 4096, 3, 0x22, -1, 0), "mmap_addr": ("mmap", 0, 4096, 3, 0x22, -1, 0),
    "ptrace_access_check": ("ptrace", 16, 1000, 0, 0), "ptrace_traceme": ("ptrace", 0, 0, 0, 0),
    "bpf": ("bpf", 0, MAP, 72), "file_fcntl": ("fcntl", 3, 1, 0), "file_ioctl": ("ioctl", 3, 0x5451, 0),
    "file_permission": ("read", 3, bytes(8), 8), "file_truncate": ("ftruncate", 3, 0),
    "task_setrlimit": ("prlimit64", 0, 7, pack("<QQ", 10, 20), 0),
}  # fmt: skip


def machine_with(hook: str, code: str = DENY) -> Watched:
    machine = Watched()
    vfs = machine.kernel.vfs
    vfs.add("/tmp/mine", b"data", uid=1001)
    vfs.add("/tmp/dir/", uid=1001, mode=0o777)
    fd = machine.host.bpf.prog_load(
        ProgType.LSM, encode(assemble(code)), name="deny", license="GPL", expected_attach_type=AttachType.LSM_MAC,
        attach_btf_id=vmlinux().find(f"bpf_lsm_{hook}", Kind.FUNC),
    ).fd  # fmt: skip
    machine.host.attach_lsm(fd)
    return machine


@pytest.mark.parametrize("hook", CALLS)
def test_what_a_module_refuses(hook: str) -> None:
    machine, answers = machine_with(hook), []

    def other(_task: object, _call: object) -> None:
        machine.kernel.sched.wait(None, timeout_ns=10_000_000)

    def main(task: object, call: object) -> None:
        # the file is there before the module looks at this task
        cred = task.cred  # type: ignore[attr-defined]
        fd = call("openat", AT_FDCWD, "/tmp/mine", 2, 0)  # type: ignore[operator]
        assert fd == 3
        cred.uid = 1001
        answers.append(call(*CALLS[hook]))  # type: ignore[operator]

    machine.spawn(other, uid=1001)
    machine.run(main)
    # a new inode that a module refuses is memory that there is not
    assert answers == [-EPERM], hook


def test_others_go_on_and_the_log_shows_it() -> None:
    machine, answers = machine_with("bpf"), []
    code = bytes.fromhex("b700000000000000 9500000000000000")

    def load(task: object, call: object) -> int:
        user = task.user  # type: ignore[attr-defined]
        attr = pack("<IIQQ", 1, 2, user.alloc(16, code), user.alloc(4, b"GPL\0")).ljust(72, b"\0")
        return int(call("bpf", 5, attr, 72))  # type: ignore[operator]

    def denied(task: object, call: object) -> None:
        task.cred.uid = 1001  # type: ignore[attr-defined]
        answers.append(load(task, call))

    before = len(machine.kernel.audit.records)
    machine.run(denied)
    assert len(machine.kernel.audit.records) == before
    machine.run(lambda task, call: answers.append(load(task, call)))
    assert answers == [-EPERM, 3]
    ops = [record.text.rpartition(" ")[2] for record in machine.kernel.audit.records[before:]]
    assert ops == ["op=LOAD", "op=UNLOAD"]


def test_at_least_sixty_hooks_are_asked() -> None:
    machine = Watched()
    machine.kernel.vfs.add("/tmp/mine", b"data")
    machine.kernel.vfs.add("/tmp/dir/")
    calls = [
        *CALLS.values(),
        ("rmdir", "/tmp/x"),
        ("umount", "/tmp/dir", 0),
        ("pipe", bytes(8)),
        ("mprotect", 0, 4096, 1),
    ]

    def main(task: object, call: object) -> None:
        machine.watch()
        call("openat", AT_FDCWD, "/tmp/mine", O_RDWR_CREAT, 0o644)  # type: ignore[operator]
        for name, *args in calls:
            if name not in ("execve", "setuid"):
                call(name, *args)  # type: ignore[operator]
        at = call("mmap", 0, 4096, 3, 0x22, -1, 0)  # type: ignore[operator]
        call("mprotect", at, 4096, 1)  # type: ignore[operator]
        call("symlink", "mine", "/tmp/l")  # type: ignore[operator]
        call("readlink", "/tmp/l", bytes(64), 64)  # type: ignore[operator]
        call("access", "/tmp/l", 4)  # type: ignore[operator]
        call("mkdir", "/tmp/m", 0o755)  # type: ignore[operator]
        call("mount", "x", "/tmp/m", "tmpfs", 0, "size=1m")  # type: ignore[operator]
        call("umount", "/tmp/m", 0)  # type: ignore[operator]
        call("rmdir", "/tmp/m")  # type: ignore[operator]
        call("mknod", "/tmp/p", 0o010644, 0)  # type: ignore[operator]
        call("setresgid", 0, 0, 0)  # type: ignore[operator]
        call("setresuid", 0, 0, 0)  # type: ignore[operator]
        call("epoll_create1", 0)  # type: ignore[operator]
        fd = call("socket", 2, 2, 0)  # type: ignore[operator]
        call("bind", fd, ADDRESS, 16)  # type: ignore[operator]
        call("getsockname", fd, bytes(16), pack("<I", 16))  # type: ignore[operator]
        call("setsockopt", fd, 1, 6, pack("<I", 1), 4)  # type: ignore[operator]
        call("sendto", fd, b"x", 1, 0, ADDRESS, 16)  # type: ignore[operator]
        call("recvfrom", fd, bytes(8), 8, 0x40, 0, 0)  # type: ignore[operator]
        call("connect", fd, ADDRESS, 16)  # type: ignore[operator]
        call("close", fd)  # type: ignore[operator]
        code = call("openat", AT_FDCWD, "/bin/true", 0, 0)  # type: ignore[operator]
        call("mmap", 0, 4096, 1, 2, code, 0)  # type: ignore[operator]
        call("wait4", -1, 0, 0, 0)  # type: ignore[operator]
        call("execve", "/bin/true", 0, 0)  # type: ignore[operator]

    machine.run(main)
    asked = sorted({name for name in machine.calls if name.startswith("security_")})
    print(len(asked), "hooks are asked by files, processes, memory and bpf(2)")
    assert len(asked) >= 60, asked
