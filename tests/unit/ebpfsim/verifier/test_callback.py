"""Functions that helpers call back: bpf_loop(), bpf_for_each_map_elem(): what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

WORDS = [
    ("accepted", "r1 = 4; r2 = callback; r3 = 0; r4 = 0; call bpf_loop; r0 = 0; exit; callback: r0 = 0; exit"),
    (
        "At callback return the register R0 has smin=2 smax=2 should have been in [0, 1]",
        "r1 = 4; r2 = callback; r3 = 0; r4 = 0; call bpf_loop; r0 = 0; exit; callback: r0 = 2; exit",
    ),
    (
        "At callback return the register R0 has unknown scalar value should have been in [0, 1]",
        "r1 = 4; r2 = callback; r3 = 0; r4 = 0; call bpf_loop; r0 = 0; exit; callback: r0 = r1; exit",
    ),
    (
        "invalid read from stack R2 off=-520 size=8",
        (
            "r1 = 4; r2 = callback; r3 = r10; r4 = 0; call bpf_loop; r0 = 0; exit; "
            "callback: r0 = *(u64 *)(r2 - 520); r0 = 0; exit"
        ),
    ),
    ("R3 !read_ok", "r1 = 4; r2 = callback; r3 = 0; r4 = 0; call bpf_loop; r0 = 0; exit; callback: r0 = r3; exit"),
    (
        "number of funcs in func_info doesn't match number of subprogs",
        "r1 = 4; r2 = 0; r3 = 0; r4 = 0; call bpf_loop; r0 = 0; exit; callback: r0 = 0; exit",
    ),
    (
        "write to change key R2 not allowed",
        (
            "r1 = map_fd[array] ll; r2 = callback; r3 = 0; r4 = 0; call bpf_for_each_map_elem; r0 = 0; "
            "exit; callback: *(u32 *)(r2 + 0) = 1; r0 = 0; exit"
        ),
    ),
    (
        "R3 min value is outside of the allowed memory range",
        (
            "r1 = map_fd[array] ll; r2 = callback; r3 = 0; r4 = 0; call bpf_for_each_map_elem; r0 = 0; "
            "exit; callback: *(u64 *)(r3 + 16) = 1; r0 = 0; exit"
        ),
    ),
    (
        "callback function not allowed for map",
        (
            "r1 = map_fd[ring] ll; r2 = callback; r3 = 0; r4 = 0; call bpf_for_each_map_elem; r0 = 0; exit; "
            "callback: r0 = 0; exit"
        ),
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
