"""Dynptrs: initialized once, released once, not touched otherwise: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

END = "r0 = 0; exit"
FROM = (
    "r6 = r1; *(u64 *)(r10 - 16) = 0; *(u64 *)(r10 - 8) = 0; r1 = r6; r2 = 0; r3 = r10; r3 += -16; "
    "kfunc bpf_dynptr_from_xdp;"
)
RES = "r1 = map_fd[ring] ll; r2 = 8; r3 = 0; r4 = r10; r4 += -16; call bpf_ringbuf_reserve_dynptr;"
DISC = "r1 = r10; r1 += -16; r2 = 0; call bpf_ringbuf_discard_dynptr;"
WORDS = [
    ("accepted", FROM + END),
    ("invalid read from stack off -16+0 size 8", FROM + "r0 = *(u64 *)(r10 - 16); exit"),
    ("accepted", FROM + FROM.replace("r6 = r1; ", "") + END),
    ("BPF_EXIT instruction in main prog would lead to reference leak", RES + END),
    ("accepted", RES + DISC + END),
    ("arg 1 is an unacquired reference", RES + DISC + DISC + END),
    ("cannot overwrite referenced dynptr", RES + "*(u64 *)(r10 - 8) = 0;" + DISC + END),
    ("Expected an initialized dynptr as arg #0", "r1 = r10; r1 += -16; kfunc bpf_dynptr_size; r0 = 0; exit"),
    ("Dynptr has to be an uninitialized dynptr", RES.replace("-16", "-12") + END),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
