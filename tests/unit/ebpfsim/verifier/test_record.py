"""Special fields of values, where plain accesses may not go: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

LOOK = (
    "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{}] ll; call bpf_map_lookup_elem; if r0 != 0 goto +1; exit;"
)
WORDS = [
    (
        "bpf_spin_lock cannot be accessed directly by load/store",
        LOOK.format("locked") + "r1 = *(u32 *)(r0 + 0); r0 = 0; exit",
    ),
    ("accepted", LOOK.format("locked") + "r1 = *(u32 *)(r0 + 4); r0 = 0; exit"),
    (
        "bpf_timer cannot be accessed directly by load/store",
        LOOK.format("timed") + "r1 = *(u64 *)(r0 + 8); r0 = 0; exit",
    ),
    ("accepted", LOOK.format("locked") + "r1 = r0; call bpf_get_prandom_u32; r0 = 0; exit"),
    (
        "map 'array' has to have BTF in order to use bpf_spin_lock",
        LOOK.format("array") + "r1 = r0; call bpf_spin_lock; r0 = 0; exit",
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
