"""Lists and trees of objects: the heads that calls take: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

LOOK = (
    "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{}] ll; call bpf_map_lookup_elem; if r0 != 0 goto +1; exit;"
)
WORDS = [
    (
        "arg#0 expected pointer to map value or allocated object",
        "r1 = r10; r1 += -16; kfunc bpf_rbtree_first; r0 = 0; exit",
    ),
    ("arg#0 expected pointer to map value or allocated object", "r1 = 0; kfunc bpf_list_pop_front; r0 = 0; exit"),
    ("arg#0 expected pointer to map value or allocated object", "r1 = 1; kfunc bpf_list_pop_back; r0 = 0; exit"),
    ("bpf_list_head not found at offset=0", LOOK.format("array") + "r1 = r0; kfunc bpf_list_pop_front; r0 = 0; exit"),
    ("bpf_rb_root not found at offset=0", LOOK.format("locked") + "r1 = r0; kfunc bpf_rbtree_root; r0 = 0; exit"),
    (
        "bpf_rb_root not found at offset=0",
        LOOK.format("array") + "r1 = r0; r2 = r0; kfunc bpf_rbtree_remove; r0 = 0; exit",
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
