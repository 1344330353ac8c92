"""Rules of single helpers, with the messages of kernel/bpf/verifier.c."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.progs.regtypes import PTR_TO_MAP_VALUE
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.verifier.args import CallMeta
from ebpfsim.verifier.attach import check_attach_btf_id
from ebpfsim.verifier.env import Env, LoadAttr, Reject
from ebpfsim.verifier.helper_rules import check_allowed, check_bpf_snprintf_call, check_get_func_ip
from ebpfsim.verifier.state import known_scalar, pointer

D_PATH, SK_STORAGE_GET, SNPRINTF = 147, 107, 165


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def env_for(attach: AttachType, name: str, kind: Kind = Kind.FUNC) -> Env:
    id_ = vmlinux().by_name(name, kind)
    env = Env(LoadAttr(ProgType.TRACING, (), expected_attach_type=attach, attach_btf_id=id_, log_level=2), NoMaps())
    check_attach_btf_id(env)
    return env


@pytest.mark.parametrize(
    ("attach", "name", "kind", "allowed"),
    [
        (AttachType.TRACE_FENTRY, "filp_close", Kind.FUNC, True),
        (AttachType.TRACE_FENTRY, "vfs_read", Kind.FUNC, False),
        (AttachType.TRACE_ITER, "bpf_iter_task_file", Kind.FUNC, True),
        (AttachType.TRACE_RAW_TP, "btf_trace_sched_switch", Kind.TYPEDEF, False),
    ],
)
def test_d_path_takes_locks(attach: AttachType, name: str, kind: Kind, allowed: bool) -> None:
    env = env_for(attach, name, kind)
    if allowed:
        check_allowed(env, D_PATH)
        return
    with pytest.raises(Reject) as refused:
        check_allowed(env, D_PATH)
    assert refused.value.errno == Errno.EINVAL
    assert str(env.log) == "helper call is not allowed in probe\n"


def test_storage_is_not_for_its_own_functions() -> None:
    check_allowed(env_for(AttachType.TRACE_FENTRY, "vfs_read"), SK_STORAGE_GET)
    with pytest.raises(Reject):
        check_allowed(env_for(AttachType.TRACE_FENTRY, "bpf_sk_storage_free"), SK_STORAGE_GET)


def test_the_address_of_a_function_needs_one() -> None:
    check_get_func_ip(env_for(AttachType.TRACE_FENTRY, "vfs_read"))
    env = env_for(AttachType.TRACE_RAW_TP, "btf_trace_sched_switch", Kind.TYPEDEF)
    with pytest.raises(Reject) as refused:
        check_get_func_ip(env)
    assert refused.value.errno == Errno.ENOTSUPP
    text = "func bpf_get_func_ip#173 supported only for fentry/fexit/fmod_ret programs\n"
    assert str(env.log) == text


@pytest.mark.parametrize(
    ("fmt", "size", "text"),
    [
        (b"%d %s", 16, None),
        (b"%d %s", 8, "Invalid format string\n"),
        (b"%d", 12, ""),
        (b"%z", 8, "Invalid format string\n"),
    ],
)
def test_formats_are_read_at_load_time(fmt: bytes, size: int, text: str | None) -> None:
    env = Env(LoadAttr(ProgType.KPROBE, (), log_level=2), NoMaps())
    map_ = create_map(MapAttr(MapType.ARRAY, 4, 16, 1), Memory(1 << 26), 1)
    map_.sys_update(bytes(4), fmt.ljust(16, b"\0"))
    regs = env.cur_state.frames[-1].regs
    regs[3], regs[5] = pointer(PTR_TO_MAP_VALUE, map_), known_scalar(size)
    if text is None:
        check_bpf_snprintf_call(env, Insn(0x85), CallMeta(SNPRINTF, False))
        return
    with pytest.raises(Reject) as refused:
        check_bpf_snprintf_call(env, Insn(0x85), CallMeta(SNPRINTF, False))
    assert refused.value.errno == Errno.EINVAL
    assert str(env.log) == text
