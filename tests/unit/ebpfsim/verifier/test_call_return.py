"""Results of helpers: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

LOOK = (
    "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{}] ll; call bpf_map_lookup_elem; if r0 != 0 goto +1; exit;"
)
WORDS = [
    ("accepted", LOOK.format("array") + "r0 = *(u64 *)(r0 + 8); exit"),
    ("R0 min value is outside of the allowed memory range", LOOK.format("array") + "r0 = *(u64 *)(r0 + 9); exit"),
    (
        "R0 invalid mem access 'map_value_or_null'",
        (
            "*(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map_fd[array] ll; call bpf_map_lookup_elem; "
            "r0 = *(u64 *)(r0 + 8); exit"
        ),
    ),
    (
        "R0 invalid mem access 'map_value_or_null'",
        (
            "*(u32 *)(r10 - 4) = 2; r2 = r10; r2 += -4; r1 = map_fd[array] ll; call bpf_map_lookup_elem; "
            "r0 = *(u64 *)(r0 + 8); exit"
        ),
    ),
    (
        "R0 invalid mem access 'map_value_or_null'",
        (
            "*(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map_fd[hash] ll; call bpf_map_lookup_elem; "
            "r0 = *(u64 *)(r0 + 8); exit"
        ),
    ),
    (
        "BPF_EXIT instruction in main prog would lead to reference leak",
        "r1 = map_fd[ring] ll; r2 = 8; r3 = 0; call bpf_ringbuf_reserve; r0 = 0; exit",
    ),
    (
        "R0 min value is outside of the allowed memory range",
        (
            "r1 = map_fd[ring] ll; r2 = 8; r3 = 0; call bpf_ringbuf_reserve; if r0 == 0 goto +4; "
            "r1 = *(u64 *)(r0 + 1); r1 = r0; r2 = 0; call bpf_ringbuf_submit; r0 = 0; exit"
        ),
    ),
    (
        "accepted",
        (
            "r1 = map_fd[ring] ll; r2 = 8; r3 = 0; call bpf_ringbuf_reserve; if r0 == 0 goto +4; "
            "*(u64 *)(r0 + 0) = 1; r1 = r0; r2 = 0; call bpf_ringbuf_submit; r0 = 0; exit"
        ),
    ),
    ("accepted", "call bpf_get_smp_processor_id; if r0 < 100000 goto +1; r0 = r5; exit"),
    ("R5 !read_ok", "call bpf_get_smp_processor_id; if r0 < 0 goto +1; r0 = r5; exit"),
    ("accepted", "call bpf_get_current_task_btf; r0 = *(u32 *)(r0 + 0); r0 = 0; exit"),
    (
        "R0 is ptr_task_struct invalid negative access: off=-1",
        "call bpf_get_current_task_btf; r0 = *(u8 *)(r0 - 1); r0 = 0; exit",
    ),
    ("only read is supported", "call bpf_get_current_task_btf; *(u64 *)(r0 + 0) = 1; r0 = 0; exit"),
    ("R3 !read_ok", "r6 = r1; call bpf_get_prandom_u32; r1 = r6; r2 = 0; call bpf_xdp_adjust_head; r0 = r3; exit"),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
