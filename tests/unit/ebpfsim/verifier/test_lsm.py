"""Security hooks: the sets name hooks that Linux 6.18 has."""

import pytest

from ebpfsim.btf.types import Func, FuncProto, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import NotModelled
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.env import Env, LoadAttr, Reject
from ebpfsim.verifier.lsm import (
    _BOOL,
    _DISABLED,
    _SLEEPABLE,
    _UNTRUSTED,
    _YOUNG,
    is_sleepable_hook,
    lsm_return_range,
    lsm_verify_prog,
    passes_trusted,
)


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def proto(name: str) -> FuncProto:
    func = vmlinux().type(vmlinux().by_name(name, Kind.FUNC))
    assert isinstance(func, Func)
    found = vmlinux().type(func.type_id)
    assert isinstance(found, FuncProto)
    return found


@pytest.mark.parametrize("hook", sorted(_SLEEPABLE | _DISABLED | _UNTRUSTED | _BOOL | _YOUNG))
def test_hooks_exist(hook: str) -> None:
    assert vmlinux().find(f"bpf_lsm_{hook}", Kind.FUNC) is not None


@pytest.mark.parametrize(
    ("hook", "allowed"),
    [("file_open", (-4095, 0)), ("inode_xattr_skipcap", (0, 1)), ("task_free", None)],
)
def test_results(hook: str, allowed: tuple[int, int] | None) -> None:
    assert lsm_return_range(f"bpf_lsm_{hook}", proto(f"bpf_lsm_{hook}")) == allowed


def test_sleep_and_trust() -> None:
    assert is_sleepable_hook("bpf_lsm_file_open")
    assert not is_sleepable_hook("bpf_lsm_task_free")
    assert passes_trusted("bpf_lsm_file_open")
    assert not passes_trusted("bpf_lsm_task_free")
    with pytest.raises(NotModelled):
        is_sleepable_hook("bpf_lsm_uring_allowed")


@pytest.mark.parametrize(
    ("name", "license_", "text"),
    [
        ("bpf_lsm_vm_enough_memory", "GPL", "attach_btf_id 7 points to disabled hook bpf_lsm_vm_enough_memory\n"),
        ("vfs_read", "GPL", "attach_btf_id 7 points to wrong type name vfs_read\n"),
        ("bpf_lsm_func_proto", "GPL", "attach_btf_id 7 points to wrong type name bpf_lsm_func_proto\n"),
        ("bpf_lsm_file_open", "MIT", "LSM programs must have a GPL compatible license\n"),
    ],
)
def test_refusals(name: str, license_: str, text: str) -> None:
    env = Env(LoadAttr(ProgType.LSM, (), license=license_, log_level=2), NoMaps())
    with pytest.raises(Reject):
        lsm_verify_prog(env, name, 7)
    assert str(env.log) == text
