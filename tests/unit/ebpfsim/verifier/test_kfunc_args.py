"""Arguments of kernel functions: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

FROM = (
    "r6 = r1; *(u64 *)(r10 - 16) = 0; *(u64 *)(r10 - 8) = 0; r1 = r6; r2 = 0; r3 = r10; r3 += -16; "
    "kfunc bpf_dynptr_from_xdp;"
)
WORDS = [
    ("Possibly NULL pointer passed to trusted arg0", "r1 = 0; kfunc bpf_task_release; r0 = 0; exit"),
    (
        "arg#0 pointer type STRUCT task_struct must point to scalar, or struct with scalar",
        "kfunc bpf_task_release; r0 = 0; exit",
    ),
    (
        "arg#0 pointer type STRUCT task_struct must point to scalar, or struct with scalar",
        "r1 = r10; kfunc bpf_task_acquire; r0 = 0; exit",
    ),
    ("arg#0 expected pointer to ctx, but got fp", "r1 = r10; kfunc bpf_cast_to_kern_ctx; r0 = 0; exit"),
    (
        "metadata kfuncs require device-bound program",
        "r2 = 0; r3 = 0; r4 = 0; kfunc bpf_xdp_metadata_rx_hash; r0 = 0; exit",
    ),
    (
        "accepted",
        FROM + "r1 = r10; r1 += -16; r2 = 0; r3 = r10; r3 += -32; r4 = 8; kfunc bpf_dynptr_slice; r0 = 0; exit",
    ),
    (
        "arg#2 arg#3 memory, len pair leads to invalid memory access",
        FROM + ("r1 = r10; r1 += -16; r2 = 0; r3 = r10; r3 += -24; r4 = 16; kfunc bpf_dynptr_slice; r0 = 0; exit"),
    ),
    (
        "R4 must be a known constant",
        FROM
        + (
            "call bpf_get_prandom_u32; r4 = r0; r1 = r10; r1 += -16; r2 = 0; r3 = 0; "
            "kfunc bpf_dynptr_slice; r0 = 0; exit"
        ),
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
