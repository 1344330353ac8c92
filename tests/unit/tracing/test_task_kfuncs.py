"""Kernel functions about tasks, groups and files (kernel/bpf/helpers.c, fs/bpf_fs_kfuncs.c, v6.18)."""

import struct

import pytest
from task_programs import Lab

from ebpfsim.btf.view import place
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

PID, LEVEL = place("task_struct", "pid")[0], place("cgroup", "level")[0]


@pytest.fixture
def lab() -> Lab:
    return Lab()


def on_open(lab: Lab, text: str) -> None:
    lab.trace(A.LSM_MAC, "bpf_lsm_file_open", text, P.LSM)
    task = lab.host.spawn("t", cgroup="/a/b")
    assert lab.host.syscall(task, "openat", "/etc/hostname") >= 0


def test_tasks_by_their_numbers(lab) -> None:
    other = lab.host.spawn("other")
    on_open(
        lab,
        f"r1 = {other.pid}; kfunc bpf_task_from_pid; if r0 == 0 goto none; r7 = 0; r7 = *(u32 *)(r0 + {PID}); r1 = r0; "
        f"kfunc bpf_task_release; {lab.keep(0)}; none: r1 = 99999; kfunc bpf_task_from_pid; r7 = 1; "
        f"if r0 == 0 goto gone; r1 = r0; kfunc bpf_task_release; r7 = 2; gone: {lab.keep(1)}",
    )
    assert (lab.value(0), lab.value(1)) == (other.pid, 1)
    assert other.task.holders == 0


def test_groups_by_their_numbers(lab) -> None:
    below = lab.host.cgroup("/a/b").cgroup_id
    on_open(
        lab,
        f"r1 = {below}; kfunc bpf_cgroup_from_id; if r0 == 0 goto out; r6 = r0; r7 = *(u32 *)(r6 + {LEVEL}); "
        f"{lab.keep(0)}; r1 = r6; r2 = 1; kfunc bpf_cgroup_ancestor; if r0 == 0 goto drop; r8 = r0; "
        f"r7 = *(u32 *)(r8 + {LEVEL}); {lab.keep(1)}; call bpf_get_current_task_btf; r1 = r0; r2 = r8; "
        f"kfunc bpf_task_under_cgroup; r7 = r0; {lab.keep(2)}; r1 = r8; kfunc bpf_cgroup_release; "
        "drop: r1 = r6; kfunc bpf_cgroup_release; out: r7 = 0",
    )
    assert [lab.value(key) for key in range(3)] == [2, 1, 1]
    assert lab.host.cgroup("/a").refs == 1


def test_a_task_that_ends_while_a_program_has_it(lab) -> None:
    other = lab.host.spawn("other")
    task = other.task
    task.hold()
    other.exit()
    lab.host.sim.run()
    # the structure is there as long as somebody has it
    assert lab.host.kernel.mem.load(task.address + PID, 4) == task.pid
    assert task.released
    before = lab.host.kernel.mem.allocated_bytes
    task.drop()
    assert lab.host.kernel.mem.allocated_bytes < before


def test_the_path_of_a_file(lab) -> None:
    text = (
        f"r6 = *(u64 *)(r1 + 0); r1 = r6; r1 += {place('file', 'f_path')[0]}; r2 = r10; r2 += -80; r3 = 64; "
        f"kfunc bpf_path_d_path; r7 = r0; {lab.keep(0)}; r7 = *(u64 *)(r10 - 80); {lab.keep(1)}"
    )
    on_open(lab, text)
    assert (lab.value(0), struct.pack("<q", lab.value(1))) == (14, b"/etc/hos")
