"""Reads of user memory, as include/uapi/linux/bpf.h describes them."""

import pytest

import ebpfsim
from ebpfsim.errnos import Errno
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.memory.user import UserMemory
from ebpfsim.progs.runtime import Run
from ebpfsim.uapi.helper_ids import HELPER_IDS


class Reader:
    def __init__(self) -> None:
        self.kernel = ebpfsim.Simulation(seed=1).host("h").kernel
        self.mem = self.kernel.mem
        self.user = UserMemory(self.mem)
        self.kernel.cpus[0].user = self.user
        self.dst = self.mem.alloc(64)
        self.mem.fill(self.dst, 64, 0xFF)

    def call(self, name: str, size: int, address: int) -> tuple[int, bytes]:
        run = Run(self.kernel, None, 0, self.kernel.cpus[0])  # type: ignore[arg-type]
        result = self.kernel.helpers[HELPER_IDS[f"bpf_{name}"]](run, self.dst, size, address, 0, 0)
        return result, self.mem.read(self.dst, size)


@pytest.mark.parametrize("name", ["probe_read_user", "copy_from_user"])
def test_bytes(name: str) -> None:
    reader = Reader()
    page = reader.user.alloc(PAGE_SIZE, b"/etc/passwd")
    assert reader.call(name, 4, page + 1) == (0, b"etc/")
    # the last byte is not there: all of the destination is cleared
    assert reader.call(name, 8, page + PAGE_SIZE - 7) == (-Errno.EFAULT, bytes(8))
    assert reader.call(name, 8, 0) == (-Errno.EFAULT, bytes(8))
    assert reader.call(name, 8, reader.dst) == (-Errno.EFAULT, bytes(8))


def test_strings() -> None:
    reader = Reader()
    page = reader.user.alloc(PAGE_SIZE, b"/etc/passwd\0more")
    assert reader.call("probe_read_user_str", 32, page) == (12, b"/etc/passwd\0" + b"\xff" * 20)
    assert reader.call("probe_read_user_str", 5, page) == (5, b"/etc\0")
    assert reader.call("probe_read_user_str", 5, 0x1000) == (-Errno.EFAULT, bytes(5))
    assert reader.call("probe_read_user_str", 0, page) == (0, b"")


def test_a_kernel_thread_has_none() -> None:
    reader = Reader()
    page = reader.user.alloc(PAGE_SIZE, b"x")
    reader.kernel.cpus[0].user = None
    assert reader.call("probe_read_user", 1, page) == (-Errno.EFAULT, b"\0")
