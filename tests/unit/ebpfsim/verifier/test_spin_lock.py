"""bpf_spin_lock() and bpf_spin_unlock(): what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

LOOK = (
    "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{}] ll; call bpf_map_lookup_elem; if r0 != 0 goto +1; exit;"
)
WORDS = [
    (
        "accepted",
        LOOK.format("locked") + "r6 = r0; r1 = r0; call bpf_spin_lock; r1 = r6; call bpf_spin_unlock; r0 = 0; exit",
    ),
    (
        "BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region",
        LOOK.format("locked") + "r1 = r0; call bpf_spin_lock; r0 = 0; exit",
    ),
    ("bpf_spin_unlock without taking a lock", LOOK.format("locked") + "r1 = r0; call bpf_spin_unlock; r0 = 0; exit"),
    (
        "function calls are not allowed while holding a lock",
        LOOK.format("locked") + "r6 = r0; r1 = r0; call bpf_spin_lock; r1 = r6; call bpf_spin_lock; r0 = 0; exit",
    ),
    (
        "function calls are not allowed while holding a lock",
        LOOK.format("locked")
        + (
            "r6 = r0; r1 = r0; call bpf_spin_lock; call bpf_get_prandom_u32; r1 = r6; call bpf_spin_unlock; "
            "r0 = 0; exit"
        ),
    ),
    (
        "off 4 doesn't point to 'struct bpf_spin_lock' that is at 0",
        LOOK.format("locked") + "r1 = r0; r1 += 4; call bpf_spin_lock; r0 = 0; exit",
    ),
    (
        "bpf_spin_unlock of different lock",
        LOOK.format("locked")
        + "r6 = r0;"
        + LOOK.format("locked")
        + "r1 = r6; r6 = r0; call bpf_spin_lock; r1 = r6; call bpf_spin_unlock; r0 = 0; exit",
    ),
    ("R1 type=fp expected=map_value, ptr_", "r1 = r10; call bpf_spin_lock; r0 = 0; exit"),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
