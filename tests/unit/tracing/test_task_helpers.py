"""Helpers about tasks, groups and user memory (kernel/bpf/helpers.c, kernel/trace/bpf_trace.c, v6.18)."""

import struct

import pytest
from task_programs import Lab

from ebpfsim.btf.view import place
from ebpfsim.errors import KernelError
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.bpf import ProgType as P


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_groups_of_the_task(lab) -> None:
    array = lab.host.bpf.map_create(MapType.CGROUP_ARRAY, 4, 4, 3)
    for index, path in enumerate(("/a", "/other")):
        lab.host.bpf.map_update_elem(array, struct.pack("<I", index), struct.pack("<I", lab.host.cgroup_fd(path)))
    calls = "".join(
        f"r1 = map_fd[{array}] ll; r2 = {index}; call bpf_current_task_under_cgroup; r7 = r0; {lab.keep(number)}; "
        for number, index in enumerate((0, 1, 2, 3))
    )
    lab.kprobe("ksys_read", calls)
    task = lab.host.spawn("t", cgroup="/a/b")
    lab.host.syscall(task, "read", 0, 1)
    # EAGAIN of an empty slot, E2BIG past the end
    assert [lab.value(key) for key in range(4)] == [1, 0, -11, -7]


def test_ids_of_groups(lab) -> None:
    task = lab.host.spawn("t", cgroup="/a/b")
    ids = [lab.host.cgroup(path).cgroup_id for path in ("/", "/a", "/a/b")]
    calls = "".join(
        f"r1 = {level}; call bpf_get_current_ancestor_cgroup_id; r7 = r0; {lab.keep(number)}; "
        for number, level in enumerate((0, 1, 3))
    )
    lab.kprobe("ksys_read", f"call bpf_get_current_cgroup_id; r7 = r0; {lab.keep(3)}; {calls}")
    lab.host.syscall(task, "read", 0, 1)
    assert [lab.value(key) for key in range(4)] == [ids[0], ids[1], 0, ids[2]]


def test_registers_of_user_space(lab) -> None:
    lab.kprobe(
        "ksys_read",
        "call bpf_get_current_task_btf; r1 = r0; call bpf_task_pt_regs; "
        f"r7 = *(u64 *)(r0 + {place('pt_regs', 'dx')[0]}); {lab.keep(0)}",
    )
    lab.host.syscall(lab.host.spawn("t"), "read", 0, 77)
    assert lab.value(0) == 77


@pytest.mark.parametrize(
    "text",
    ["r2 = -13; call bpf_override_return", "r2 = r10; r2 += -8; r1 = 0; r3 = 8; call bpf_probe_write_user"],
)
def test_helpers_that_this_kernel_has_not(lab, text) -> None:
    # Linux 6.18 of tests/verifier: without CONFIG_BPF_KPROBE_OVERRIDE, locked down
    with pytest.raises(KernelError, match="cannot use helper"):
        lab.kprobe("__x64_sys_openat", text)


def test_memory_of_another_task(lab) -> None:
    other = lab.host.spawn("other")
    user = other.task.user
    assert user is not None
    at = user.alloc(8, struct.pack("<Q", 99))
    find = "call bpf_get_current_task_btf; r6 = r0"
    read = "r1 = r10; r1 += -8; r2 = 8; r3 = {at} ll; r4 = r6; r5 = {flags}; call bpf_copy_from_user_task; r7 = r0"
    text = (
        f"{find}; {read.format(at=at, flags=0)}; {lab.keep(0)}; r7 = *(u64 *)(r10 - 8); {lab.keep(1)}; "
        f"{read.format(at=0x1000, flags=0)}; {lab.keep(2)}; {read.format(at=at, flags=1)}; {lab.keep(3)}"
    )
    lab.trace(A.LSM_MAC, "bpf_lsm_file_open", text, P.LSM, sleepable=True)
    lab.host.syscall(other, "openat", "/etc/hostname")
    # keep() writes over what was read
    assert (lab.value(0), lab.value(2), lab.value(3)) == (0, -14, -22)


@pytest.mark.parametrize(
    ("path", "size", "answer"), [("/etc/hostname", 64, 14), ("/etc/hostname", 8, -36), ("/", 8, 2)]
)
def test_paths_of_files(lab, path, size, answer) -> None:
    room = lab.host.bpf.map_create(MapType.ARRAY, 4, 64, 1)
    text = (
        f"r6 = *(u64 *)(r1 + 0); *(u32 *)(r10 - 4) = 0; r1 = map_fd[{room}] ll; r2 = r10; r2 += -4; "
        f"call bpf_map_lookup_elem; if r0 == 0 goto out; r2 = r0; r1 = r6; r1 += {place('file', 'f_path')[0]}; "
        f"r3 = {size}; call bpf_d_path; r7 = r0; {lab.keep(0)}; out: r7 = 0"
    )
    lab.trace(A.LSM_MAC, "bpf_lsm_file_open", text, P.LSM)
    assert lab.host.syscall(lab.host.spawn("t"), "openat", path) >= 0
    assert lab.value(0) == answer
    if answer > 0:
        value = lab.host.bpf.map_lookup_elem(room, bytes(4))
        assert value[:answer] == path.encode() + b"\0"
        # it was made at the end of the room
        assert value[size - answer : size] == path.encode() + b"\0"


def test_no_branches_are_kept(lab) -> None:
    text = f"r1 = r10; r1 += -24; r2 = 24; r3 = 0; call bpf_get_branch_snapshot; r7 = r0; {lab.keep(0)}"
    lab.kprobe("ksys_read", text)
    lab.host.syscall(lab.host.spawn("t"), "read", 0, 1)
    assert lab.value(0) == -2
