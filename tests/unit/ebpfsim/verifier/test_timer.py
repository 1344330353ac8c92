"""Timers in values of maps: what Linux 6.18 says of them last."""

import pytest
from last_words import linux, ours

LOOK = (
    "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{}] ll; call bpf_map_lookup_elem; if r0 != 0 goto +1; exit;"
)
WORDS = [
    ("accepted", LOOK.format("timed") + "r1 = r0; r2 = map_fd[timed] ll; r3 = 1; call bpf_timer_init; r0 = 0; exit"),
    (
        "timer pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0",
        LOOK.format("timed") + "r1 = r0; r2 = map_fd[array] ll; r3 = 1; call bpf_timer_init; r0 = 0; exit",
    ),
    (
        "off 8 doesn't point to 'struct bpf_timer' that is at 0",
        LOOK.format("timed") + "r1 = r0; r1 += 8; r2 = 0; r3 = 0; call bpf_timer_start; r0 = 0; exit",
    ),
    (
        "map 'array' has to have BTF in order to use bpf_timer",
        LOOK.format("array") + "r1 = r0; r2 = 0; r3 = 0; call bpf_timer_start; r0 = 0; exit",
    ),
    (
        "At async callback return the register R0 has smin=1 smax=1 should have been in [0, 0]",
        LOOK.format("timed")
        + "r1 = r0; r2 = callback; call bpf_timer_set_callback; r0 = 0; exit; callback: r0 = 1; exit",
    ),
    (
        "accepted",
        LOOK.format("timed")
        + "r1 = r0; r2 = callback; call bpf_timer_set_callback; r0 = 0; exit; callback: r0 = 0; exit",
    ),
    (
        "R2 type=scalar expected=func",
        LOOK.format("timed") + "r1 = r0; r2 = 0; call bpf_timer_set_callback; r0 = 0; exit",
    ),
    ("accepted", LOOK.format("timed") + "call bpf_get_prandom_u32; r0 = 0; exit"),
]


@pytest.mark.parametrize(("line", "text"), WORDS)
def test_last_line(line: str, text: str) -> None:
    assert ours(text) == line


@pytest.mark.live
def test_linux_says_so() -> None:
    assert [linux(text) for _, text in WORDS] == [line for line, _ in WORDS]
