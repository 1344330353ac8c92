"""Tasks of a host: steps, results, and programs that watch them."""

import pytest

import ebpfsim
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InputError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType


@pytest.fixture
def host() -> ebpfsim.Host:
    return ebpfsim.Simulation(seed=1).host("h")


def test_steps_are_system_calls(host: ebpfsim.Host) -> None:
    host.kernel.vfs.add("srv/secret", b"x", mode=0o600)
    steps = [{"openat": ["/etc/passwd", "O_RDONLY"], "as": "fd"}, {"read": ["$fd", 16]}, {"close": "$fd"},
             {"openat": ["/srv/secret"]}, {"sleep": "5ms"}, {"write": [1, "text"]}, "getpid",
             {"close": 77}]  # fmt: skip
    task = host.spawn("cat", uid=1000, steps=steps)
    host.sim.run()
    assert [result.retval for result in task.results] == [3, 16, 0, -13, 0, -22, 1000, -9]
    assert [result.errno for result in task.results[3:6]] == ["EACCES", "", "EINVAL"]
    assert task.results[4].end_ns - task.results[4].start_ns >= 5_000_000
    assert not task.running


def test_a_task_makes_one_call_after_the_other(host: ebpfsim.Host) -> None:
    task = host.spawn("shell")
    fd = host.syscall(task, "openat", "/tmp/new", "O_CREAT|O_RDWR", 0o600)
    assert (fd, host.syscall(task, "write", fd, "hello"), host.syscall(task, "close", fd)) == (3, 5, 0)
    assert bytes(host.kernel.vfs.lookup("/tmp/new").inode.data) == b"hello"  # type: ignore[union-attr]
    task.exit()
    host.sim.run()
    assert not task.running
    with pytest.raises(InputError, match="'shell' has exited"):
        host.syscall(task, "getpid")


def test_tasks_start_when_they_should(host: ebpfsim.Host) -> None:
    task = host.spawn("late", steps=["getpid"], at="3ms")
    with pytest.raises(InputError, match="has not started"):
        _ = task.pid
    host.sim.run()
    assert task.results[0].start_ns == 3_000_000


def test_a_program_sees_who_opens_what(host: ebpfsim.Host) -> None:
    bpf = host.bpf
    ring = bpf.map_create(MapType.ARRAY, 4, 24, 1)
    # fentry of do_sys_openat2(int dfd, const char *filename, struct open_how *how)
    text = f"""
        r6 = r1; *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{ring}] ll
        call bpf_map_lookup_elem; if r0 == 0 goto out; r7 = r0
        call bpf_get_current_pid_tgid; *(u64 *)(r7 + 0) = r0
        r1 = r7; r1 += 8; r2 = 16; r3 = *(u64 *)(r6 + 8); call bpf_probe_read_user_str
        out: r0 = 0; exit"""
    name = "do_sys_openat2"
    prog = bpf.prog_load(
        ProgType.TRACING, encode(assemble(text)), expected_attach_type=AttachType.TRACE_FENTRY,
        attach_btf_id=vmlinux().by_name(name, Kind.FUNC),
    ).fd  # fmt: skip
    bpf.link_create(prog, 0, AttachType.TRACE_FENTRY)
    host.spawn("cat", steps=[{"openat": "/etc/passwd"}])
    host.sim.run()
    value = bpf.map_lookup_elem(ring, bytes(4))
    assert value == (1000 << 32 | 1000).to_bytes(8, "little") + b"/etc/passwd\0" + bytes(4)


def test_children_have_steps_of_their_own(host: ebpfsim.Host) -> None:
    steps = [
        {"openat": "/etc/passwd", "as": "fd"},
        {
            "fork": [{"read": ["$fd", 16]}, {"fork": ["getppid"], "id": "grand"}, {"exit": 3}],
            "id": "child",
            "as": "pid",
        },
        {"wait4": "$pid"},
        {"read": ["$fd", 16]},
        "vfork",
    ]
    task = host.spawn("sh", uid=1000, steps=steps)
    host.sim.run()
    child, other = task.children[1], task.children[4]
    grand = child.children[1]
    assert (child.name, grand.name, other.name) == ("child", "grand", "sh-2")
    # fork() returns the child's number, and so does wait4(); by their descriptors both read on in the same file
    assert [row.retval for row in task.results[:4]] == [3, child.pid, child.pid, 14]
    assert [row.retval for row in child.results] == [16, grand.pid]
    # the child has gone by the time its child asks, or has not
    assert grand.results[0].retval in (child.pid, 1)
    assert task.results[4].retval == other.pid
    assert not any(each.running for each in (task, child, grand, other))


def test_a_fork_that_is_refused_leaves_no_child(host: ebpfsim.Host) -> None:
    code = encode(assemble("r0 = -13; exit"))
    target = vmlinux().by_name("bpf_lsm_task_alloc", Kind.FUNC)
    prog = host.bpf.prog_load(ProgType.LSM, code, expected_attach_type=AttachType.LSM_MAC, attach_btf_id=target).fd
    host.bpf.raw_tracepoint_open("", prog)
    task = host.spawn("sh", steps=[{"fork": ["getpid"]}, "getpid"])
    host.sim.run()
    assert task.results[0].errno == "EACCES"
    assert (task.children[0].started, task.children[0].results) == (False, [])


def test_a_task_without_steps_forks(host: ebpfsim.Host) -> None:
    task = host.spawn("shell")
    pid = host.syscall(task, "fork", {"openat": "/etc/passwd"}, "getpid")  # type: ignore[arg-type]
    host.sim.run()
    assert [row.retval for row in task.children[0].results] == [3, pid]
    task.exit()
