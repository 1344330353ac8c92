"""Links on the hooks of netfilter, side by side with Linux 6.18 (net/netfilter/nf_bpf_link.c)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebpfsim import Simulation

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from netfilter_steps import answers  # noqa: E402

IPV4 = {"pf": 2, "hooknum": 1, "priority": 5}
STEPS: list[dict[str, int]] = [
    IPV4,
    IPV4,
    IPV4 | {"priority": 6},
    IPV4 | {"hooknum": 2},
    IPV4 | {"pf": 10},
    *(IPV4 | {"hooknum": number, "priority": -1} for number in range(7)),
    *(IPV4 | {"pf": family} for family in (0, 1, 3, 5, 7, 12, 255)),
    *(IPV4 | {"priority": priority} for priority in (-(1 << 31), (1 << 31) - 1, -(1 << 31) + 1, (1 << 31) - 2)),
    IPV4 | {"netfilter_flags": 2},
    IPV4 | {"netfilter_flags": 1, "priority": -400},
    IPV4 | {"netfilter_flags": 3},
    IPV4 | {"flags": 1},
    {"close": 0},
    IPV4,
    {"close": 0},
]


def ours() -> list[Any]:
    return json.loads(json.dumps(answers(Simulation().host("h").bpf, STEPS)))  # type: ignore[no-any-return]


@pytest.mark.live
def test_links_as_on_linux() -> None:
    command = [sys.executable, str(HERE / "netfilter_steps.py")]
    done = subprocess.run(command, input=json.dumps(STEPS), capture_output=True, text=True, check=True)
    for step, have, want in zip([*STEPS, "update"], ours(), json.loads(done.stdout), strict=True):
        assert (step, have) == (step, want)


def test_one_program_of_each_priority() -> None:
    said = ours()
    assert said[:5] == [[2, 1, 5, 0], "EBUSY", [2, 1, 6, 0], [2, 2, 5, 0], [10, 1, 5, 0]]
    assert said[-4:] == ["detached", [2, 1, 5, 0], "detached", "EOPNOTSUPP"]
