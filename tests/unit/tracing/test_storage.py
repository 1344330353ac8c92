"""Values of tasks, inodes and control groups (kernel/bpf/bpf_{task,inode,cgrp}_storage.c, v6.18).

That a program on bpf_local_storage_update() finds the helpers busy, and what they answer then, is what the kernel's
selftest task_local_storage expects (progs/task_ls_recursion.c).
"""

import struct

import pytest

import ebpfsim
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.types import Int, Kind
from ebpfsim.btf.view import place
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST

GET = "r1 = map_fd[{map}] ll; r2 = r6; r3 = 0; r4 = {flags}; call bpf_{kind}_storage_get"
COUNT = GET + "; if r0 == 0 goto out; r1 = *(u32 *)(r0 + 0); r1 += 1; *(u32 *)(r0 + 0) = r1"
DELETE = "r1 = map_fd[{map}] ll; r2 = r6; call bpf_{kind}_storage_delete"
END = "out: r0 = 0; exit"
TASK = "call bpf_get_current_task_btf; r6 = r0"
# struct file *file of lsm/file_open
INODE = f"r6 = *(u64 *)(r1 + 0); r6 = *(u64 *)(r6 + {place('file', 'f_inode')[0]})"
CGROUP = (
    f"call bpf_get_current_task_btf; r6 = *(u64 *)(r0 + {place('task_struct', 'cgroups')[0]}); "
    f"r6 = *(u64 *)(r6 + {place('css_set', 'dfl_cgrp')[0]})"
)


@pytest.fixture
def host() -> ebpfsim.Host:
    return ebpfsim.Simulation(seed=1).host("h")


def storage(host: ebpfsim.Host, map_type: MapType) -> int:
    builder = BtfBuilder()
    number = builder.add(Int("int", 4, 32, encoding=1))
    btf = host.bpf.btf_load(builder.build())
    return host.bpf.map_create(
        map_type, 4, 4, 0, map_flags=BPF_F_NO_PREALLOC, btf_fd=btf, btf_key_type_id=number, btf_value_type_id=number
    )


def results(host: ebpfsim.Host) -> int:
    return host.bpf.map_create(MapType.ARRAY, 4, 8, 4)


def attach(host: ebpfsim.Host, kind: str, target: str, text: str) -> object:
    program, attach_type, prefix = {
        "lsm": (ProgType.LSM, AttachType.LSM_MAC, "bpf_lsm_"),
        "fentry": (ProgType.TRACING, AttachType.TRACE_FENTRY, ""),
        "tp_btf": (ProgType.TRACING, AttachType.TRACE_RAW_TP, "btf_trace_"),
    }[kind]
    found = vmlinux().find(prefix + target, Kind.TYPEDEF if kind == "tp_btf" else Kind.FUNC)
    assert found is not None
    fd = host.bpf.prog_load(
        program, encode(assemble(text)), license="GPL", expected_attach_type=attach_type, attach_btf_id=found
    ).fd
    if kind == "lsm":
        return host.attach_lsm(fd)
    return host.attach_fentry(fd) if kind == "fentry" else host.attach_raw_tp(fd)


def store(number: int, fd: int) -> str:
    """Put R7 into an array."""
    return (
        f"*(u32 *)(r10 - 4) = {number}; *(u64 *)(r10 - 16) = r7; r1 = map_fd[{fd}] ll; r2 = r10; r2 += -4; r3 = r10; "
        "r3 += -16; r4 = 0; call bpf_map_update_elem"
    )


def value(host: ebpfsim.Host, fd: int, key: int) -> int:
    return int.from_bytes(host.bpf.map_lookup_elem(fd, struct.pack("<I", key))[:4], "little", signed=True)


def errno(host: ebpfsim.Host, fd: int, key: int) -> str:
    with pytest.raises(KernelError) as error:
        value(host, fd, key)
    return Errno(error.value.errno).name


@pytest.mark.parametrize(
    ("map_type", "kind", "owner"),
    [
        (MapType.TASK_STORAGE, "task", TASK),
        (MapType.INODE_STORAGE, "inode", INODE),
        (MapType.CGRP_STORAGE, "cgrp", CGROUP),
    ],
)
def test_a_value_for_each_owner(host, map_type, kind, owner) -> None:
    fd = storage(host, map_type)
    attach(host, "lsm", "file_open", f"{owner}; {COUNT.format(map=fd, kind=kind, flags=1)}; {END}")
    tasks = [host.spawn("a", cgroup="/one"), host.spawn("b", cgroup="/two")]
    for task, path, times in ((tasks[0], "/etc/passwd", 3), (tasks[1], "/etc/hosts", 2)):
        for _ in range(times):
            assert host.syscall(task, "openat", path, 0) >= 0
    keys = {
        "task": [host.pidfd(task) for task in tasks],
        "inode": [host.path_fd(path) for path in ("/etc/passwd", "/etc/hosts")],
        "cgrp": [host.cgroup_fd(path) for path in ("/one", "/two")],
    }[kind]
    assert [value(host, fd, key) for key in keys] == [3, 2]
    host.bpf.map_delete_elem(fd, struct.pack("<I", keys[0]))
    assert errno(host, fd, keys[0]) == "ENOENT"
    host.bpf.map_update_elem(fd, struct.pack("<I", keys[0]), struct.pack("<I", 7), flags=BPF_NOEXIST)
    host.bpf.map_update_elem(fd, struct.pack("<I", keys[0]), struct.pack("<I", 8), flags=BPF_EXIST)
    assert host.syscall(tasks[0], "openat", "/etc/passwd", 0) >= 0
    assert [value(host, fd, key) for key in keys] == [9, 2]


def test_values_go_with_their_owners(host) -> None:
    maps = {
        kind: storage(host, map_type)
        for kind, map_type in (
            ("task", MapType.TASK_STORAGE),
            ("inode", MapType.INODE_STORAGE),
            ("cgrp", MapType.CGRP_STORAGE),
        )
    }
    task = host.spawn("a", cgroup="/one")
    for kind, owner in (("task", TASK), ("inode", INODE), ("cgrp", CGROUP)):
        attach(host, "lsm", "file_open", f"{owner}; {COUNT.format(map=maps[kind], kind=kind, flags=1)}; {END}")
    opened = host.syscall(task, "openat", "/tmp/x", 0o101, 0o600)
    held = host.kernel.mem.allocated_bytes
    key = host.pidfd(task)
    assert value(host, maps["task"], key) == 1
    host.kernel.vfs.remove(host.kernel.vfs.lookup("/tmp/x"))
    assert len(host.kernel.fds.lookup(maps["inode"])._values) == 1
    host.syscall(task, "close", opened)
    assert len(host.kernel.fds.lookup(maps["inode"])._values) == 0
    task.exit()
    host.sim.run()
    # the descriptor is there, the process is not
    assert errno(host, maps["task"], key) == "ENOENT"
    with pytest.raises(KernelError, match="ENOENT"):
        host.bpf.map_update_elem(maps["task"], struct.pack("<I", key), bytes(4))
    host.kernel.cgroups.rmdir("/one")
    assert all(not host.kernel.fds.lookup(fd)._values for fd in maps.values())
    assert host.kernel.mem.allocated_bytes < held


def test_a_group_with_tasks_stays(host) -> None:
    task = host.spawn("a", cgroup="/one")
    with pytest.raises(KernelError, match="EBUSY"):
        host.kernel.cgroups.rmdir("/one")
    task.exit()
    host.sim.run()
    host.kernel.cgroups.rmdir("/one")


def test_flags_and_nothing_there(host) -> None:
    fd, answers = storage(host, MapType.TASK_STORAGE), results(host)
    text = (
        f"{TASK}; {GET.format(map=fd, kind='task', flags=0)}; r7 = r0; {store(0, answers)}; "
        f"{GET.format(map=fd, kind='task', flags=2)}; r7 = r0; {store(1, answers)}; "
        f"{DELETE.format(map=fd, kind='task')}; r7 = r0; {store(2, answers)}; r0 = 0; exit"
    )
    attach(host, "lsm", "file_open", text)
    host.syscall(host.spawn("a"), "openat", "/etc/passwd", 0)
    assert [value(host, answers, key) for key in range(3)] == [0, 0, -2]


def test_inside_of_an_update_nothing_is_made_or_removed(host) -> None:
    a, b, answers = storage(host, MapType.TASK_STORAGE), storage(host, MapType.TASK_STORAGE), results(host)
    # lsm programs call the helpers that do not look whether they are in there, tp_btf programs those that do
    inner = (
        f"{TASK}; {GET.format(map=b, kind='task', flags=1)}; r7 = r0; {store(0, answers)}; "
        f"{GET.format(map=a, kind='task', flags=0)}; r7 = 0; if r0 == 0 goto none; r7 = 1; none: {store(1, answers)}; "
        f"{DELETE.format(map=a, kind='task')}; r7 = r0; {store(2, answers)}; r0 = 0; exit"
    )
    attach(host, "fentry", "bpf_local_storage_update", inner)
    outer = (
        f"{TASK}; {GET.format(map=a, kind='task', flags=1)}; {GET.format(map=b, kind='task', flags=1)}; r7 = 0; "
        f"if r0 == 0 goto none; r7 = 1; none: {store(3, answers)}; r0 = 0; exit"
    )
    attach(host, "tp_btf", "sys_enter", outer)
    task = host.spawn("a")
    host.syscall(task, "getpid")
    # inside of the second update, that of b, the value of a is there and stays
    assert [value(host, answers, key) for key in range(4)] == [0, 1, -16, 1]
