"""Files in memory: what is allocated, what a security module may refuse."""

from task_machine import Machine

from ebpfsim.errnos import Errno

AT_FDCWD, O_RDWR_CREAT = -100, 0o102


def test_a_module_that_allocates_no_inode_is_no_space() -> None:
    machine, answers = Machine(), []
    functions = machine.kernel.functions
    functions.security_inode_alloc  # noqa: B018 - made when it is asked for
    functions.__dict__["security_inode_alloc"] = lambda _cpu, _inode, _gfp: -Errno.ENOMEM
    before = len(machine.vfs.by_address)

    def main(_task: object, call: object) -> None:
        for path in ("/tmp/new", "/root/new"):
            answers.append(call("openat", AT_FDCWD, path, O_RDWR_CREAT, 0o644))  # type: ignore[operator]
        answers.append(call("symlink", "x", "/tmp/s"))  # type: ignore[operator]

    machine.run(main)
    assert answers == [-Errno.ENOSPC] * 3
    assert len(machine.vfs.by_address) == before


def test_kinds_of_new_files() -> None:
    machine = Machine()

    def main(_task: object, call: object) -> None:
        call("mkdir", "/tmp/d", 0o777)  # type: ignore[operator]
        call("mknod", "/tmp/p", 0o010666, 0)  # type: ignore[operator]
        call("mknod", "/tmp/c", 0o020666, 0x103)  # type: ignore[operator]
        call("symlink", "p", "/tmp/l")  # type: ignore[operator]

    machine.run(main, uid=0)
    modes = {}
    for name in "dpcl":
        inode = machine.vfs.lookup("/tmp").children[name].inode
        assert inode is not None
        modes[name] = inode.i_mode
    # umask 022; links have all permissions
    assert modes == {"d": 0o040755, "p": 0o010644, "c": 0o020644, "l": 0o120777}
    assert machine.vfs.lookup("/tmp/d").inode.i_nlink == 2  # type: ignore[union-attr]
