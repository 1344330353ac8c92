"""Which kernel functions may be called, and what their calls are told beforehand: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

WORDS = [
    (
        "calling kernel function bpf_sock_destroy is not allowed",
        "r1 = r10; r2 = 1; kfunc bpf_sock_destroy; r0 = 0; exit",
    ),
    (
        "arg#0 pointer type STRUCT bpf_map must point to scalar, or struct with scalar",
        "kfunc bpf_map_sum_elem_count; r0 = 0; exit",
    ),
    (
        "bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct",
        "r1 = 8; r2 = 0; kfunc bpf_obj_new_impl; r0 = 0; exit",
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
