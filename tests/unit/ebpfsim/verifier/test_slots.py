"""Objects in stack slots: where they may lie: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

NEW = "r1 = r10; r1 += -8; r2 = 0; r3 = 10; kfunc bpf_iter_num_new;"
NEXT = "r1 = r10; r1 += -8; kfunc bpf_iter_num_next;"
END = "r0 = 0; exit"
WORDS = [
    (
        "expected uninitialized iter_num as arg #0",
        "r1 = r10; r1 += 8; r2 = 0; r3 = 10; kfunc bpf_iter_num_new; r0 = 0; exit",
    ),
    (
        "expected uninitialized iter_num as arg #0",
        "r1 = r10; r1 += -12; r2 = 0; r3 = 10; kfunc bpf_iter_num_new; r0 = 0; exit",
    ),
    ("expected uninitialized irq flag as arg#0", "r1 = r10; r1 += -4; kfunc bpf_local_irq_save; r0 = 0; exit"),
    (
        "expected uninitialized iter_num as arg #0",
        (
            "call bpf_get_prandom_u32; r0 &= 8; r1 = r10; r1 += -16; r1 += r0; r2 = 0; r3 = 10; "
            "kfunc bpf_iter_num_new; r0 = 0; exit"
        ),
    ),
    (
        "Dynptr has to be an uninitialized dynptr",
        ("r1 = map_fd[ring] ll; r2 = 8; r3 = 0; r4 = r10; r4 += -8; call bpf_ringbuf_reserve_dynptr; r0 = 0; exit"),
    ),
    ("expected an initialized iter_num as arg #0", NEW + "*(u8 *)(r10 - 1) = 0;" + NEXT + END),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
