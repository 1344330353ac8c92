"""Devices that control groups keep tasks from: what Linux 6.12 answered (tests/support/cgroup_filters.py)."""

import cgroup_filters as cases
import pytest

from ebpfsim.uapi.bpf import AttachType


@pytest.fixture(scope="module")
def tasks() -> cases.Tasks:
    return cases.Tasks()


@pytest.mark.parametrize("name", cases.DEV)
def test_devices(tasks: cases.Tasks, name: str) -> None:
    assert tasks.run(AttachType.CGROUP_DEVICE, cases.DEV[name], cases.device_steps) == cases.ANSWERS["dev"][name]
