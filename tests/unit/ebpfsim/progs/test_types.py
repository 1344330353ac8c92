"""The table of program types has a row for each type, and its helpers exist."""

import pytest

from ebpfsim.helpers.protos import PROTOS
from ebpfsim.progs.types import CTX_TYPES, PROG_TYPES, helpers_for, ids
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS

# attached to functions, structures or other programs of the kernel, which are not modelled yet
WITHOUT_ROW = {"UNSPEC", "LIRC_MODE2", "EXT"}


def test_types_without_a_row() -> None:
    assert {prog_type.name for prog_type in ProgType if prog_type not in PROG_TYPES} == WITHOUT_ROW


@pytest.mark.parametrize("prog_type", sorted(PROG_TYPES), ids=lambda value: value.name)
def test_rows_name_helpers_that_exist(prog_type: ProgType) -> None:
    row = PROG_TYPES[prog_type]
    assert row.type == prog_type
    assert row.helpers <= set(PROTOS)
    assert row.direct_packet in {"none", "read", "write", "sockopt"}


@pytest.mark.parametrize(
    ("prog_type", "helper", "allowed"),
    [
        # bpf-helpers(7) and net/core/filter.c: xdp_func_proto, tc_cls_act_func_proto, kprobe_prog_func_proto
        (ProgType.XDP, "bpf_xdp_adjust_head", True),
        (ProgType.XDP, "bpf_redirect_map", True),
        (ProgType.XDP, "bpf_skb_pull_data", False),
        (ProgType.SCHED_CLS, "bpf_skb_pull_data", True),
        (ProgType.SCHED_CLS, "bpf_xdp_adjust_head", False),
        (ProgType.KPROBE, "bpf_probe_read_user", True),
        (ProgType.KPROBE, "bpf_redirect", False),
        (ProgType.SOCKET_FILTER, "bpf_map_lookup_elem", True),
    ],
)
def test_helpers_of_a_type(prog_type: ProgType, helper: str, allowed: bool) -> None:
    assert (HELPER_IDS[helper] in helpers_for(prog_type, 0)) is allowed


def test_helpers_that_an_attach_type_adds() -> None:
    setsockopt = HELPER_IDS["bpf_setsockopt"]
    assert setsockopt in helpers_for(ProgType.CGROUP_SOCKOPT, AttachType.CGROUP_SETSOCKOPT)
    assert setsockopt not in helpers_for(ProgType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT)
    assert helpers_for(ProgType.XDP, 9999) == helpers_for(ProgType.XDP, 0)


def test_contexts_belong_to_types_that_exist() -> None:
    assert set(CTX_TYPES) <= set(ProgType)
    assert CTX_TYPES[ProgType.XDP] == ("xdp_md",)


def test_lists_of_numbers() -> None:
    assert ids("1-3 5 9-9") == {1, 2, 3, 5, 9}


@pytest.mark.parametrize(
    ("prog_type", "attach_type", "allowed"),
    [
        # measured on Linux 6.18, with all types and attach types
        (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_CONNECT, True),
        (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_RECVMSG, False),
        (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETSOCKNAME, False),
        (ProgType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS, False),
        (ProgType.CGROUP_DEVICE, AttachType.CGROUP_INET_INGRESS, False),
        (ProgType.CGROUP_DEVICE, AttachType.TRACE_ITER, True),
        (ProgType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, False),
        (ProgType.SOCK_OPS, AttachType.LSM_MAC, True),
    ],
)
def test_who_may_set_what_a_call_returns(prog_type: ProgType, attach_type: AttachType, allowed: bool) -> None:
    assert (HELPER_IDS["bpf_set_retval"] in helpers_for(prog_type, attach_type)) == allowed
    assert HELPER_IDS["bpf_seq_write"] not in helpers_for(prog_type, attach_type)
