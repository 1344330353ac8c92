"""Types of arguments: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

LOOK = (
    "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{}] ll; call bpf_map_lookup_elem; if r0 != 0 goto +1; exit;"
)
WORDS = [
    ("R1 type=scalar expected=map_ptr", "r2 = r1; r1 = 0; call bpf_map_lookup_elem; r0 = 0; exit"),
    (
        "R2 type=scalar expected=fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_",
        "r1 = map_fd[array] ll; r2 = 5; call bpf_map_lookup_elem; r0 = 0; exit",
    ),
    (
        "R2 type=map_ptr expected=fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_",
        "r1 = map_fd[array] ll; r2 = r1; call bpf_map_lookup_elem; r0 = 0; exit",
    ),
    ("R1 type=fp expected=ctx", "r2 = 0; r1 = r10; call bpf_xdp_adjust_head; r0 = 0; exit"),
    ("accepted", "r2 = r1; call bpf_xdp_adjust_head; r0 = 0; exit"),
    ("R2 type=fp expected=scalar", "r1 = r10; r1 += -8; r2 = r10; r3 = 0; r4 = 0; call bpf_trace_printk; r0 = 0; exit"),
    (
        "R1 type=map_value expected=ringbuf_mem",
        LOOK.format("array") + "r1 = r0; r2 = 0; call bpf_ringbuf_submit; r0 = 0; exit",
    ),
    (
        "accepted",
        LOOK.format("array").replace("if r0 != 0 goto +1; exit;", "")
        + "r2 = r0; r1 = map_fd[array] ll; call bpf_map_lookup_elem; r0 = 0; exit",
    ),
    ("R2 type=fp expected=scalar", "r1 = r10; r1 += -8; r2 = r10; call bpf_strtol; r0 = 0; exit"),
    ("R2 type=fp expected=func", "r1 = 1; r2 = r10; r3 = 0; r4 = 0; call bpf_loop; r0 = 0; exit"),
    (
        "R1 type=trusted_ptr_ expected=ctx",
        "call bpf_get_current_task_btf; r1 = r0; r2 = 0; call bpf_xdp_adjust_tail; r0 = 0; exit",
    ),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
