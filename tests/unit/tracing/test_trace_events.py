"""Trace events, against what Linux 6.12 showed: ids of tracefs, how far programs may read, bytes of records."""

import pytest

from tracing.trace_events import all_events, event_id, find_event, pack

# events/*/*/id
IDS = {
    "raw_syscalls:sys_enter": 384, "raw_syscalls:sys_exit": 383, "sched:sched_switch": 310, "task:task_rename": 136,
    "sched:sched_process_exec": 303, "syscalls:sys_enter_openat": 749, "syscalls:sys_exit_openat": 748,
    "syscalls:sys_enter_getpid": 241, "block:block_rq_complete": 1173,
}  # fmt: skip
# the first byte whose reading PERF_EVENT_IOC_SET_BPF refused
SIZES = {
    "sched:sched_switch": 64, "syscalls:sys_enter_openat": 48, "syscalls:sys_enter_getpid": 12,
    "sched:sched_process_exec": 20, "raw_syscalls:sys_enter": 64, "syscalls:sys_exit_openat": 24,
    "task:task_rename": 46,
}  # fmt: skip
# what programs found from byte 8 on, while cat(1) was run
RECORDS = [
    (
        "sched:sched_process_exec",
        {"filename": b"/usr/bin/cat", "pid": 194, "old_pid": 194},
        "14000d00c2000000c20000002f7573722f62696e2f63617400",
    ),
    (
        "sched:sched_switch",
        {
            "prev_comm": b"rcu_preempt", "prev_pid": 18, "prev_prio": 120, "prev_state": 0x80,
            "next_comm": b"swapper/0", "next_pid": 0, "next_prio": 120,
        },
        "7263755f707265656d7074000000000012000000780000008000000000000000"
        "737761707065722f30000000000000000000000078000000",
    ),
    (
        "task:task_rename",
        {"pid": 196, "oldcomm": b"python", "newcomm": b"cat", "oom_score_adj": 0},
        "c4000000707974686f6e00000000000000000000636174000000000000000000000000000000",
    ),
    (
        "sched:sched_waking",
        {"comm": b"python", "pid": 180, "prio": 120, "target_cpu": 0},
        "707974686f6e00000000000000000000b40000007800000000000000",
    ),
]  # fmt: skip


def test_ids_and_names() -> None:
    assert {name: all_events()[name] for name in IDS} == IDS
    assert event_id("sched", "sched_swich") is None
    # a Debian kernel without modules
    assert len(all_events()) == 1476


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_programs_may_read_up_to_the_last_member(name: str, size: int) -> None:
    assert find_event(name).size == size


def test_records_of_newer_kernels_are_those_of_btf() -> None:
    # Linux 6.18 has the names behind the record, 6.12 had them in it
    fork = find_event("sched:sched_process_fork")
    assert [(m.name, m.offset, m.is_loc) for m in fork.members] == [
        ("parent_comm", 8, True), ("parent_pid", 12, False), ("child_comm", 16, True), ("child_pid", 20, False),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "record"), RECORDS)
def test_records_byte_for_byte(name: str, values, record: str) -> None:
    assert pack(find_event(name), values)[8:].hex() == record


def test_numbers_are_cut_to_their_members() -> None:
    record = pack(find_event("syscalls:sys_exit_openat"), {"__syscall_nr": 257, "ret": -2})
    assert record[8:].hex() == "0101000000000000feffffffffffffff"


def test_arguments_of_system_calls_have_their_names() -> None:
    openat = find_event("syscalls:sys_enter_openat")
    assert [(m.name, m.offset) for m in openat.members[1:]] == [
        ("dfd", 16), ("filename", 24), ("flags", 32), ("mode", 40),
    ]  # fmt: skip
