"""Descriptors of processes and places (kernel/pid.c, v6.18)."""

import pytest

import ebpfsim
from ebpfsim.errors import KernelError


@pytest.fixture
def host() -> ebpfsim.Host:
    return ebpfsim.Simulation(seed=1).host("h")


def test_pidfd_open(host) -> None:
    task = host.spawn("a")
    assert host.syscall(task, "pidfd_open", task.pid, 0) == 3
    assert host.syscall(task, "pidfd_open", 99999, 0) == -3
    assert host.syscall(task, "pidfd_open", 0, 0) == -22
    assert host.syscall(task, "pidfd_open", task.pid, 1) == -22


def test_a_place_stays_while_it_is_open(host) -> None:
    vfs = host.kernel.vfs
    dentry = vfs.add("/tmp/x", b"1")
    fd = host.path_fd("/tmp/x")
    vfs.remove(dentry)
    assert dentry.inode is not None
    assert dentry.inode.address in vfs.by_address
    host.bpf.close(fd)
    assert dentry.inode.address not in vfs.by_address
    with pytest.raises(KernelError, match="no file '/tmp/x'"):
        host.path_fd("/tmp/x")
