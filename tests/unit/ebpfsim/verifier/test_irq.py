"""Interrupts that are switched off and on again, in order: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

END = "r0 = 0; exit"
SAVE = "r1 = r10; r1 += -8; kfunc bpf_local_irq_save;"
REST = "r1 = r10; r1 += -8; kfunc bpf_local_irq_restore;"
WORDS = [
    ("accepted", SAVE + REST + END),
    ("BPF_EXIT instruction in main prog cannot be used inside bpf_local_irq_save-ed region", SAVE + END),
    ("expected an initialized irq flag as arg#0", REST + END),
    ("expected uninitialized irq flag as arg#0", SAVE + SAVE + REST + END),
    ("expected an initialized irq flag as arg#0", SAVE + "*(u64 *)(r10 - 8) = 0;" + REST + END),
    ("invalid read from stack off -8+0 size 8", SAVE + "r0 = *(u64 *)(r10 - 8);" + REST + END),
    (
        "cannot restore irq state out of order, expected id=2 acquired at insn_idx=5",
        SAVE + "r1 = r10; r1 += -16; kfunc bpf_local_irq_save;" + REST + END,
    ),
    ("arg#0 doesn't point to an irq flag on stack", "r1 = 0; kfunc bpf_local_irq_save; r0 = 0; exit"),
    ("arg#0 doesn't point to an irq flag on stack", SAVE + "r1 = 0; kfunc bpf_local_irq_restore; r0 = 0; exit"),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
