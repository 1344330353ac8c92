"""Random calls on sockets, answered by the kernel of this machine and by the model."""

from itertools import count

import pytest
import socket_fuzz
from socket_scripts import ask_linux, simulated

SCRIPTS = 12


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("family", socket_fuzz.FAMILIES)
def test_answers_are_those_of_this_kernel(family: str) -> None:
    scripts = [socket_fuzz.script(family, seed) for seed in range(SCRIPTS)]
    for seed, script, linux in zip(count(), scripts, ask_linux(scripts), strict=False):
        assert linux is not None
        ours = simulated(script)
        for step, theirs, mine in zip(script, linux, ours, strict=True):
            assert socket_fuzz.plain(theirs) == socket_fuzz.plain(mine), (seed, step)
