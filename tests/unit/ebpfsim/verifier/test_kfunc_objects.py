"""Objects of the program's own types: bpf_obj_new() and bpf_obj_drop(): what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

WORDS = [
    (
        "bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct",
        "r1 = 999; r2 = 0; kfunc bpf_obj_new_impl; r0 = 0; exit",
    ),
    (
        "bpf_obj_new/bpf_percpu_obj_new type ID argument must be of a struct",
        "r1 = 1; r2 = 0; kfunc bpf_obj_new_impl; r0 = 0; exit",
    ),
    ("R1 must be a known constant", "call bpf_get_prandom_u32; r1 = r0; r2 = 0; kfunc bpf_obj_new_impl; r0 = 0; exit"),
    (
        "accepted",
        (
            "r1 = 4; r2 = 0; kfunc bpf_obj_new_impl; if r0 == 0 goto +3; r1 = r0; r2 = 0; "
            "kfunc bpf_obj_drop_impl; r0 = 0; exit"
        ),
    ),
    (
        "Possibly NULL pointer passed to trusted arg0",
        "r1 = 4; r2 = 0; kfunc bpf_obj_new_impl; r1 = r0; r2 = 0; kfunc bpf_obj_drop_impl; r0 = 0; exit",
    ),
    ("Possibly NULL pointer passed to trusted arg0", "r1 = 0; r2 = 0; kfunc bpf_obj_drop_impl; r0 = 0; exit"),
    (
        "R1 must have zero offset when passed to release func or trusted arg to kfunc",
        (
            "r1 = 4; r2 = 0; kfunc bpf_obj_new_impl; if r0 == 0 goto +4; r1 = r0; r1 += 4; r2 = 0; "
            "kfunc bpf_obj_drop_impl; r0 = 0; exit"
        ),
    ),
    (
        "direct access to bpf_spin_lock is disallowed",
        (
            "r1 = 4; r2 = 0; kfunc bpf_obj_new_impl; if r0 == 0 goto +4; r1 = *(u32 *)(r0 + 0); r1 = r0; "
            "r2 = 0; kfunc bpf_obj_drop_impl; r0 = 0; exit"
        ),
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
