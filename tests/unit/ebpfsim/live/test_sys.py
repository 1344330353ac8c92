"""The raw system call of this machine."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.live.sys import CallError, bpf, buffer, close, possible_cpus
from ebpfsim.uapi.bpf import BpfCmd


@pytest.mark.live
def test_result_and_attributes_come_back() -> None:
    attr = {"map_type": 2, "key_size": 4, "value_size": 8, "max_entries": 1}
    fd, after = bpf(BpfCmd.MAP_CREATE, attr)
    try:
        assert fd > 2
        assert {name: after[name] for name in attr} == attr
    finally:
        close(fd)
    with pytest.raises(KernelError, match="EBADF"):
        close(fd)


@pytest.mark.live
def test_refusal_carries_what_the_kernel_left() -> None:
    with pytest.raises(CallError) as error:
        bpf(BpfCmd.MAP_CREATE, {"map_type": 2, "key_size": 3})
    assert str(error.value) == "map_create: Invalid argument (EINVAL)"
    assert error.value.attr["key_size"] == 3


@pytest.mark.parametrize(("data", "raw"), [(3, bytes(3)), (0, bytes(1)), (b"ab", b"ab"), (b"", bytes(1))])
def test_buffers(data, raw) -> None:
    assert buffer(data).raw == raw


@pytest.mark.live
def test_possible_cpus() -> None:
    assert possible_cpus() >= 1
