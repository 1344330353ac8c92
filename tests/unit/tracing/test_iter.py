"""Iterators over tasks and open files: kernel/bpf/task_iter.c, v6.18; one call per object ordered by id as Linux 6.12
showed them, then one without an object."""

import struct

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.view import place
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

PID, TGID = place("task_struct", "pid")[0], place("task_struct", "tgid")[0]
RECORD = struct.Struct("<QIIQ")
# seq_num; pid and tgid, or 0; the descriptor and whether there is a file
SHOW = f"""
    r6 = r1; r7 = *(u64 *)(r6 + 0); r8 = *(u64 *)(r6 + 8)
    r1 = *(u64 *)(r7 + 16); *(u64 *)(r10 - 24) = r1; *(u64 *)(r10 - 16) = 0; *(u64 *)(r10 - 8) = 0
    if r8 == 0 goto write
    r1 = *(u32 *)(r8 + {PID}); *(u32 *)(r10 - 16) = r1; r1 = *(u32 *)(r8 + {TGID}); *(u32 *)(r10 - 12) = r1
    {{more}}
    write: r1 = *(u64 *)(r7 + 0); r2 = r10; r2 += -24; r3 = 24; call bpf_seq_write; r0 = 0; exit
"""
FILE = """
    r1 = *(u32 *)(r6 + 16); *(u64 *)(r10 - 8) = r1
    r1 = *(u64 *)(r6 + 24); if r1 == 0 goto write; *(u32 *)(r10 - 4) = 1
"""


@pytest.fixture
def host():
    return Simulation(seed=1).host("h", cpus=1)


@pytest.fixture
def load(host):
    def load(target: str = "task", more: str = "") -> int:
        btf_id = vmlinux().by_name(f"bpf_iter_{target}", Kind.FUNC)
        attributes = {"expected_attach_type": AttachType.TRACE_ITER, "attach_btf_id": btf_id, "license": "GPL"}
        return host.bpf.prog_load(ProgType.TRACING, encode(assemble(SHOW.format(more=more))), **attributes).fd

    return load


def rows(data: bytes) -> list[tuple[int, ...]]:
    return list(RECORD.iter_unpack(data))


def test_tasks_come_by_their_ids(host, load) -> None:
    tasks = [host.spawn(name) for name in ("a", "b")]
    leader = tasks[0].task
    thread = host.kernel.sched.spawn("a2", lambda task: 0, leader=leader)
    link = host.attach_iter(load(), label="tasks")
    pids = [(1, 1), (leader.pid, leader.pid), (tasks[1].pid, tasks[1].pid), (thread.pid, leader.pid)]
    assert rows(link.read()) == [*((n, *ids, 0) for n, ids in enumerate(pids)), (3, 0, 0, 0)]
    # reading again begins anew
    assert len(rows(link.read())) == 5
    assert link.label == "tasks"


def test_one_thread_or_one_process(host, load) -> None:
    leader = host.spawn("a").task
    thread = host.kernel.sched.spawn("a2", lambda task: 0, leader=leader)
    host.spawn("b")
    fd = load()
    by_tid, by_pid = host.attach_iter(fd, tid=thread.pid), host.attach_iter(fd, pid=leader.pid)
    assert [row[1] for row in rows(by_tid.read())] == [thread.pid, 0]
    assert [row[1] for row in rows(by_pid.read())] == [leader.pid, thread.pid, 0]
    info = host.bpf.obj_get_info_by_fd
    assert (info(by_tid.fd).details["tid"], info(by_pid.fd).details["pid"]) == (thread.pid, leader.pid)
    assert info(by_tid.fd).details["target_name"] == "task"
    with pytest.raises(KernelError, match="EINVAL"):
        host.attach_iter(fd, tid=1, pid=1)
    with pytest.raises(NotModelled, match="pidfd"):
        host.bpf.link_create(fd, 0, AttachType.TRACE_ITER, iter_info=struct.pack("<III", 0, 0, 3))


def test_open_files(host, load) -> None:
    task = host.spawn("a")
    opened = host.syscall(task, "openat", "/x", 0o101)
    host.kernel.sched.spawn("a2", lambda task: 0, leader=task.task)
    link = host.attach_iter(load("task_file", FILE), pid=task.pid)
    # the three standard ones and the file; the thread shares them
    files = [(row[1], row[3] & 0xFFFF_FFFF, row[3] >> 32) for row in rows(link.read())]
    assert files == [*((task.pid, fd, 1) for fd in (0, 1, 2, opened)), (0, 0, 0)]


def test_the_file_is_the_one_that_is_open(host, load) -> None:
    task = host.spawn("a")
    opened = host.syscall(task, "openat", "/x", 0o101)
    file = task.task.files.lookup(opened)
    flags = place("file", "f_flags")[0]
    more = f"r1 = *(u64 *)(r6 + 24); if r1 == 0 goto write; r1 = *(u32 *)(r1 + {flags}); *(u64 *)(r10 - 8) = r1"
    link = host.attach_iter(load("task_file", more), pid=task.pid)
    assert rows(link.read())[3][3] == file.struct.f_flags != 0


def test_tasks_that_come_and_go_between_reads(host, load) -> None:
    host.spawn("a")
    link = host.attach_iter(load())
    fd = host.bpf.iter_create(link.fd)
    assert rows(host.bpf.read(fd, RECORD.size))[0][1] == 1
    later = host.spawn("b")
    rest = b"".join(iter(lambda: host.bpf.read(fd, RECORD.size), b""))
    assert [row[1] for row in rows(rest)][-2:] == [later.pid, 0]
