"""Open-coded iterators: made, asked, destroyed: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

NEW = "r1 = r10; r1 += -8; r2 = 0; r3 = 10; kfunc bpf_iter_num_new;"
NEXT = "r1 = r10; r1 += -8; kfunc bpf_iter_num_next;"
DESTROY = "r1 = r10; r1 += -8; kfunc bpf_iter_num_destroy;"
END = "r0 = 0; exit"
WORDS = [
    ("accepted", NEW + NEXT + DESTROY + END),
    ("BPF_EXIT instruction in main prog would lead to reference leak", NEW + END),
    ("expected an initialized iter_num as arg #0", NEXT + END),
    ("expected uninitialized iter_num as arg #0", NEW + NEW + END),
    ("expected an initialized iter_num as arg #0", NEW + DESTROY + NEXT + END),
    ("expected an initialized iter_num as arg #0", NEW + "*(u64 *)(r10 - 8) = 0;" + DESTROY + END),
    ("invalid read from stack off -8+0 size 8", NEW + "r0 = *(u64 *)(r10 - 8);" + DESTROY + END),
    (
        "accepted",
        NEW
        + ("r1 = r10; r1 += -8; kfunc bpf_iter_num_next; if r0 == 0 goto +2; r1 = *(u32 *)(r0 + 0); goto -6;")
        + DESTROY
        + END,
    ),
    (
        "R0 invalid mem access 'scalar'",
        NEW + "r1 = r10; r1 += -8; kfunc bpf_iter_num_next; r1 = *(u32 *)(r0 + 0);" + DESTROY + END,
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
