"""Settings and fixtures that every test may use."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ebpfsim", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ebpfsim")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that ask this machine's kernel where bpf(2) is refused."""
    if not any(item.get_closest_marker("live") for item in items) or _bpf_allowed():
        return
    skip = pytest.mark.skip(reason="bpf(2) is not allowed here")
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(skip)


def _bpf_allowed() -> bool:
    # a map of one element: BPF_MAP_CREATE of an array, through the raw system call
    import ctypes
    import platform
    import struct

    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    attr = ctypes.create_string_buffer(struct.pack("<IIII", 2, 4, 8, 1) + bytes(112))
    fd = ctypes.CDLL(None).syscall(321, 0, attr, 72)
    if fd < 0:
        return False
    os.close(fd)
    return True
