"""Hints by the kernel's words; the messages are those of kernel/bpf/verifier.c, v6.18."""

import pytest

from ebpfsim.verifier.explain import explain
from ebpfsim.verifier.hints import HINTS


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("cannot call GPL-restricted function from non-GPL compatible program", 'SEC("license") = "GPL"'),
        ("helper call might sleep in a non-sleepable prog", "sleepable"),
        ("combined stack size of 3 calls is 608. Too large", "608 bytes"),
        ("R1 type=scalar expected=fp, pkt, map_value", "is a number to the verifier"),
        ("R2 type=map_value_or_null expected=fp, pkt, map_value", "may be NULL"),
        ("BPF program is too large. Processed 1000001 insn", "a million instructions"),
        ("infinite loop detected at insn 7", "bpf_loop()"),
        ("math between map_value pointer and register with unbounded min value is not allowed", "unsigned"),
        ("R0 leaks addr as return value", "CAP_PERFMON"),
        ("R6 pointer -= pointer prohibited", "Only with CAP_PERFMON"),
        ("R1 variable stack access prohibited for !root, var_off=(0x0; 0x8) off=-16", "guessed paths"),
        ("'struct bpf_map' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN", "lacks a capability"),
        ("misaligned stack access off 0+-13+0 size 8", "Align the struct"),
        ("calling kernel function bpf_task_acquire is not allowed", "bpf_task_acquire() is not for programs"),
        ("R3 pointer arithmetic on pkt_end prohibited", "only for comparisons"),
    ],
)
def test_hints_say_what_to_do(message: str, words: str) -> None:
    assert words in explain(f"0: R1=ctx() R10=fp0\n0: (95) exit\n{message}\n").hint


def test_words_are_filled_in() -> None:
    assert all("{" not in explain(f"calling kernel function {name} is not allowed").hint for name in ("f", "g"))


def test_more_special_patterns_come_first() -> None:
    patterns = [pattern.pattern for pattern, _ in HINTS]
    assert len(patterns) == len(set(patterns)) > 70
    assert next(i for i, text in enumerate(patterns) if "_or_null" in text) < next(
        i for i, text in enumerate(patterns) if "'scalar'" in text
    )
