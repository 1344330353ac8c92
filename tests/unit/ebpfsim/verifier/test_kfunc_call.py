"""Calls of kernel functions: references and sections that have to end: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

WORDS = [
    ("BPF_EXIT instruction in main prog would lead to reference leak", "r1 = 1; kfunc bpf_task_from_pid; r0 = 0; exit"),
    (
        "Possibly NULL pointer passed to trusted arg0",
        "r1 = 1; kfunc bpf_task_from_pid; r1 = r0; kfunc bpf_task_release; r0 = 0; exit",
    ),
    (
        "BPF_EXIT instruction in main prog cannot be used inside bpf_rcu_read_lock-ed region",
        "kfunc bpf_rcu_read_lock; r0 = 0; exit",
    ),
    ("unmatched rcu read unlock (kernel function bpf_rcu_read_unlock)", "kfunc bpf_rcu_read_unlock; r0 = 0; exit"),
    ("accepted", "kfunc bpf_rcu_read_lock; kfunc bpf_rcu_read_unlock; r0 = 0; exit"),
    (
        "BPF_EXIT instruction in main prog cannot be used inside bpf_preempt_disable-ed region",
        "kfunc bpf_preempt_disable; r0 = 0; exit",
    ),
    (
        "unmatched attempt to enable preemption (kernel function bpf_preempt_enable)",
        "kfunc bpf_preempt_enable; r0 = 0; exit",
    ),
    ("accepted", "r0 = 0; if r0 == 0 goto +1; kfunc bpf_preempt_enable; exit"),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
