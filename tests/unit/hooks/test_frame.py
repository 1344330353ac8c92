"""Room for the contexts of probes: on the stack, in debug mode objects of their own."""

import pytest

from ebpfsim import Simulation
from hooks.frame import pop_frame, push_frame


@pytest.mark.parametrize("debug", [False, True])
def test_frames_are_taken_and_given_up(debug: bool) -> None:
    kernel = Simulation(seed=1).host("a", debug=debug).kernel
    cpu, top = kernel.cpus[0], kernel.cpus[0].stack_top
    first = push_frame(kernel.mem, cpu, 32)
    second = push_frame(kernel.mem, cpu, 16)
    kernel.mem.write(first, bytes(32))
    kernel.mem.write(second, bytes(16))
    assert (first < top) == (not debug) or debug
    assert abs(first - second) >= 16
    pop_frame(kernel.mem, cpu, second, 16)
    pop_frame(kernel.mem, cpu, first, 32)
    assert cpu.stack_top == top
