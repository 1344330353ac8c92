"""Pointers to objects of the kernel in values of maps: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

LOOK = (
    "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{}] ll; call bpf_map_lookup_elem; if r0 != 0 goto +1; exit;"
)
WORDS = [
    ("accepted", LOOK.format("kept") + "r1 = *(u64 *)(r0 + 0); r0 = 0; exit"),
    ("kptr access size must be BPF_DW", LOOK.format("kept") + "r1 = *(u32 *)(r0 + 0); r0 = 0; exit"),
    ("kptr access misaligned expected=0 off=4", LOOK.format("kept") + "r1 = *(u64 *)(r0 + 4); r0 = 0; exit"),
    ("BPF_ST imm must be 0 when storing to kptr at off=0", LOOK.format("kept") + "*(u64 *)(r0 + 0) = 1; r0 = 0; exit"),
    ("accepted", LOOK.format("kept") + "*(u64 *)(r0 + 0) = 0; r0 = 0; exit"),
    ("store to referenced kptr disallowed", LOOK.format("kept") + "*(u64 *)(r0 + 8) = 0; r0 = 0; exit"),
    (
        "invalid kptr access, R10 type=fp expected=ptr_task_struct or untrusted_ptr_task_struct",
        LOOK.format("kept") + "*(u64 *)(r0 + 0) = r10; r0 = 0; exit",
    ),
    ("off=0 kptr isn't referenced kptr", LOOK.format("kept") + "r1 = r0; r2 = 0; call bpf_kptr_xchg; r0 = 0; exit"),
    (
        "BPF_EXIT instruction in main prog would lead to reference leak",
        LOOK.format("kept") + "r1 = r0; r1 += 8; r2 = 0; call bpf_kptr_xchg; r0 = 0; exit",
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
