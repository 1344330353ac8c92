"""Programs of control groups on options of sockets: what Linux 6.12 answered (tests/support/cgroup_filters.py)."""

from collections.abc import Iterator
from typing import Any

import cgroup_filters as cases
import pytest

from ebpfsim.uapi.bpf import AttachType


@pytest.fixture(scope="module")
def tasks() -> cases.Tasks:
    return cases.Tasks()


@pytest.mark.parametrize("name", cases.SET)
def test_setsockopt(tasks: cases.Tasks, name: str) -> None:
    assert tasks.run(AttachType.CGROUP_SETSOCKOPT, cases.SET[name], cases.set_steps) == cases.ANSWERS["set"][name]


@pytest.mark.parametrize("name", cases.GET)
def test_getsockopt(tasks: cases.Tasks, name: str) -> None:
    assert tasks.run(AttachType.CGROUP_GETSOCKOPT, cases.GET[name], cases.get_steps) == cases.ANSWERS["get"][name]


def test_another_optname(tasks: cases.Tasks) -> None:
    # SO_PRIORITY instead; what TCP sockets have no such option for is left out
    code = cases._put(cases.OPTNAME, cases.SO_PRIORITY) + cases.ALLOW

    def steps(tasks: cases.Tasks) -> Iterator[Any]:
        fd = tasks.call("socket", 2, 1, 0)
        yield tasks.call("setsockopt", fd, *cases.SETS[0], 4)
        yield tasks.getsockopt(fd, cases.SOL_SOCKET, cases.SO_PRIORITY, 4)[2].hex()

    # as recorded: SO_RCVLOWAT 3 became SO_PRIORITY 3
    assert cases.ANSWERS["set"]["other option"][0][1][:2] == ["01000000", "03000000"]
    assert tasks.run(AttachType.CGROUP_SETSOCKOPT, code, steps) == [0, "03000000"]
