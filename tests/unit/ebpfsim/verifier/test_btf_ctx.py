"""Contexts that are arguments: the table of tracepoints names pointers of Linux 6.18."""

import pytest

from ebpfsim.btf.types import FuncProto, Kind, Ptr
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.progs.regtypes import PTR_MAYBE_NULL, PTR_TO_BTF_ID, PTR_TRUSTED, SCALAR_VALUE
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.attach import check_attach_btf_id
from ebpfsim.verifier.btf_ctx import NULLABLE_TRACEPOINTS, btf_ctx_access, nf_ctx_access
from ebpfsim.verifier.env import Env, LoadAttr


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def env_for(name: str, kind: Kind, attach: AttachType) -> Env:
    id_ = vmlinux().by_name(name, kind)
    env = Env(LoadAttr(ProgType.TRACING, (), expected_attach_type=attach, attach_btf_id=id_, log_level=2), NoMaps())
    check_attach_btf_id(env)
    return env


@pytest.mark.parametrize("name", NULLABLE_TRACEPOINTS)
def test_arguments_that_may_be_null_are_pointers(name: str) -> None:
    btf = vmlinux()
    ptr = btf.resolved(btf.by_name(f"btf_trace_{name}", Kind.TYPEDEF))
    assert isinstance(ptr, Ptr)
    proto = btf.type(ptr.type_id)
    assert isinstance(proto, FuncProto)
    for number in NULLABLE_TRACEPOINTS[name]:
        assert isinstance(btf.resolved(proto.params[1 + number].type_id), Ptr)


@pytest.mark.parametrize(
    ("off", "type_", "struct"),
    [
        # include/trace/events/skb.h: kfree_skb(skb, location, reason, rx_sk)
        (0, PTR_TO_BTF_ID | PTR_TRUSTED, "sk_buff"),
        (8, SCALAR_VALUE, ""),
        (16, SCALAR_VALUE, ""),
        (24, PTR_TO_BTF_ID | PTR_TRUSTED | PTR_MAYBE_NULL, "sock"),
    ],
)
def test_arguments_of_a_tracepoint(off: int, type_: int, struct: str) -> None:
    env = env_for("btf_trace_kfree_skb", Kind.TYPEDEF, AttachType.TRACE_RAW_TP)
    found = btf_ctx_access(env, off, 8, False)
    assert found is not None
    assert found.type == type_
    assert (found.target.name if found.target else "") == struct


@pytest.mark.parametrize(("off", "size", "write"), [(32, 8, False), (4, 4, False), (0, 4, False), (0, 8, True)])
def test_other_accesses_are_refused(off: int, size: int, write: bool) -> None:
    env = env_for("btf_trace_kfree_skb", Kind.TYPEDEF, AttachType.TRACE_RAW_TP)
    assert btf_ctx_access(env, off, size, write) is None


def test_results_are_seen_where_a_function_ends() -> None:
    # int bpf_fentry_test1(int a), net/bpf/test_run.c
    begin = env_for("bpf_fentry_test1", Kind.FUNC, AttachType.TRACE_FENTRY)
    assert btf_ctx_access(begin, 8, 8, False) is None
    assert str(begin.log) == "func 'bpf_fentry_test1' doesn't have 2-th argument\n"
    end = env_for("bpf_fentry_test1", Kind.FUNC, AttachType.TRACE_FEXIT)
    assert btf_ctx_access(end, 8, 8, False) is not None


@pytest.mark.parametrize(("off", "struct"), [(0, "nf_hook_state"), (8, "sk_buff")])
def test_netfilter_has_two_pointers(off: int, struct: str) -> None:
    # struct bpf_nf_ctx, include/net/netfilter/nf_bpf_link.h
    env = Env(LoadAttr(ProgType.NETFILTER, ()), NoMaps())
    found = nf_ctx_access(env, off, 8, False)
    assert found is not None
    assert found.target is not None
    assert found.target.name == struct
    assert nf_ctx_access(env, off, 4, False) is None
