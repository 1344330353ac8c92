"""Attach targets: the tables name what Linux 6.18 has, and refusals have the words of bpf_check_attach_target()."""

import pytest

from ebpfsim.btf.types import Composite, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_SLEEPABLE
from ebpfsim.verifier.attach import DENIED, ITER_TARGETS, MODIFIABLE, NO_RETURN, STRUCT_OPS, check_attach_btf_id
from ebpfsim.verifier.env import Env, LoadAttr, Reject


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def env_for(prog_type: ProgType, name: str, kind: Kind, attach: int, flags: int = 0) -> Env:
    id_ = vmlinux().by_name(name, kind) if name else 0
    attr = LoadAttr(prog_type, (), expected_attach_type=attach, attach_btf_id=id_, prog_flags=flags, log_level=2)
    return Env(attr, NoMaps())


@pytest.mark.parametrize("target", ITER_TARGETS)
def test_iterators_exist(target: str) -> None:
    env = env_for(ProgType.TRACING, f"bpf_iter_{target}", Kind.FUNC, AttachType.TRACE_ITER)
    check_attach_btf_id(env)
    assert env.target is not None
    assert env.target.proto is not None
    assert max(ITER_TARGETS[target]) < 8 * len(env.target.proto.params)
    for _, struct in ITER_TARGETS[target].values():
        assert not struct or vmlinux().find(struct, Kind.STRUCT) is not None


@pytest.mark.parametrize("name", sorted(DENIED | NO_RETURN | set(MODIFIABLE)))
def test_functions_of_the_tables_exist(name: str) -> None:
    # __ia32_ entries exist where 32-bit programs can run; two of the denied are there with other settings
    optional = (
        "__ia32_",
        "preempt_count_",
        "__rcu_read_",
        "rcu_read_unlock_strict",
        "migrate_",
        "bpf_modify_return_test_tp",
    )
    assert vmlinux().find(name, Kind.FUNC) is not None or name.startswith(optional)


@pytest.mark.parametrize("name", STRUCT_OPS)
def test_structures_of_functions_exist(name: str) -> None:
    ops = vmlinux().type(vmlinux().by_name(name, Kind.STRUCT))
    assert isinstance(ops, Composite)
    assert set(STRUCT_OPS[name]) <= {member.name for member in ops.members}


def test_a_tracepoint_is_known_by_its_typedef() -> None:
    env = env_for(ProgType.TRACING, "btf_trace_sched_switch", Kind.TYPEDEF, AttachType.TRACE_RAW_TP)
    check_attach_btf_id(env)
    assert env.target is not None
    assert (env.target.name, env.target.trace) == ("sched_switch", True)


@pytest.mark.parametrize(
    ("name", "attach", "flags", "errno", "text"),
    [
        ("", AttachType.TRACE_FENTRY, 0, Errno.EINVAL, "Tracing programs must provide btf_id\n"),
        ("do_exit", AttachType.TRACE_FEXIT, 0, Errno.EINVAL,
         "Attaching fexit/fmod_ret to __noreturn function 'do_exit' is rejected.\n"),
        ("vfs_read", AttachType.MODIFY_RETURN, 0, Errno.EINVAL, "vfs_read() is not modifiable\n"),
        ("vfs_read", AttachType.TRACE_FENTRY, BPF_F_SLEEPABLE, Errno.EINVAL, "vfs_read is not sleepable\n"),
    ],
)  # fmt: skip
def test_refusals(name: str, attach: AttachType, flags: int, errno: Errno, text: str) -> None:
    env = env_for(ProgType.TRACING, name, Kind.FUNC, attach, flags)
    with pytest.raises(Reject) as refused:
        check_attach_btf_id(env)
    assert refused.value.errno == errno
    assert str(env.log) == text


@pytest.mark.parametrize("name", ["bpf_fentry_test1", "vfs_read", "do_exit"])
def test_functions_may_be_traced_where_they_begin(name: str) -> None:
    env = env_for(ProgType.TRACING, name, Kind.FUNC, AttachType.TRACE_FENTRY)
    check_attach_btf_id(env)
    assert env.target is not None
    assert env.target.name == name
