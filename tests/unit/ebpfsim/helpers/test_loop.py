"""bpf_loop()."""

from typing import Any

import pytest

CODE = """
    r1 = {nr_loops} ll
    r2 = subprog[body] ll
    r3 = r10
    r3 += -8
    *(u64 *)(r10 -8) = 0
    r4 = {flags}
    call bpf_loop
    r1 = *(u64 *)(r10 -8)
    exit
body:
    r3 = *(u64 *)(r2 +0)
    r3 += 1
    *(u64 *)(r2 +0) = r3
    r0 = 0
    if r1 < {stop} goto +1
    r0 = 1
    exit
"""


@pytest.mark.parametrize(
    ("nr_loops", "stop", "flags", "result", "calls"),
    [
        (5, 99, 0, 5, 5),
        (0, 99, 0, 0, 0),
        (5, 2, 0, 3, 3),  # the callback returned 1 for index 2: it was the third call
        (5, 0, 0, 1, 1),
        (5, 99, 1, -22, 0),
        (8 * 1024 * 1024 + 1, 0, 0, 0xFFFF_FFF9, 0),  # -E2BIG in 32 bits: Linux 6.18, tests/objects/src/loop_helper
        (8 * 1024 * 1024, 0, 0, 1, 1),
        (0x5_0000_0002, 99, 0, 0xFFFF_FFF9, 0),
    ],
)
def test_number_of_calls(machine: Any, nr_loops: int, stop: int, flags: int, result: int, calls: int) -> None:
    run = machine.run(CODE.format(nr_loops=nr_loops, stop=stop, flags=flags))
    assert (run.state[0], run.state[1]) == (result & (1 << 64) - 1, calls)
