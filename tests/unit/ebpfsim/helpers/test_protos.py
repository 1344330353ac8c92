"""The helper table has a row for each helper of Linux 6.18, and rows are possible ones."""

import pytest

from ebpfsim.helpers.protos import (
    ARG_CONST_SIZE,
    ARG_CONST_SIZE_OR_ZERO,
    ARG_PTR_TO_MEM,
    PKT_CHANGING_HELPERS,
    PROTOS,
    PTR_CAST_HELPERS,
    SYNC_CALLBACK_HELPERS,
    func_id_name,
    proto_for,
)
from ebpfsim.progs.regtypes import BASE_TYPE_MASK, MEM_FIXED_SIZE
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS, HELPER_NAMES


def test_every_row_is_a_helper() -> None:
    assert set(PROTOS) <= set(HELPER_NAMES)
    assert len(PROTOS) > 200


@pytest.mark.parametrize("helper_id", sorted(PROTOS), ids=HELPER_NAMES.get)
def test_a_size_follows_its_memory(helper_id: int) -> None:
    # check_mem_arg_rw_flag_ok() and check_arg_pair_ok(), kernel/bpf/verifier.c
    args = PROTOS[helper_id].args
    assert len(args) <= 5
    for i, arg in enumerate(args):
        if arg & BASE_TYPE_MASK in (ARG_CONST_SIZE, ARG_CONST_SIZE_OR_ZERO):
            assert i
            assert args[i - 1] & BASE_TYPE_MASK == ARG_PTR_TO_MEM
            assert not args[i - 1] & MEM_FIXED_SIZE
        if arg & MEM_FIXED_SIZE:
            assert PROTOS[helper_id].arg_sizes[i] > 0


@pytest.mark.parametrize(
    ("name", "gpl_only"),
    # .gpl_only of the rows in kernel/bpf/helpers.c, kernel/trace/bpf_trace.c and net/core/filter.c, v6.18
    [("bpf_trace_printk", True), ("bpf_ktime_get_ns", False), ("bpf_probe_read_kernel", True),
     ("bpf_map_lookup_elem", False), ("bpf_redirect", False), ("bpf_perf_event_output", True)],
)  # fmt: skip
def test_who_may_call(name: str, gpl_only: bool) -> None:
    assert PROTOS[HELPER_IDS[name]].gpl_only is gpl_only


def test_names() -> None:
    assert PROTOS[1].name == func_id_name(1) == "bpf_map_lookup_elem"
    # func_id_str[] of kernel/bpf/disasm.c begins with the row of no helper
    assert func_id_name(0) == "bpf_unspec"
    assert func_id_name(4000) == "unknown"
    assert proto_for(124, ProgType.SK_LOOKUP) is not proto_for(124, ProgType.SCHED_CLS)


def test_sets_name_the_helpers_they_mean() -> None:
    def names(numbers: frozenset[int]) -> set[str]:
        return {HELPER_NAMES[number] for number in numbers}

    assert {"bpf_xdp_adjust_head", "bpf_xdp_adjust_tail", "bpf_xdp_adjust_meta"} <= names(PKT_CHANGING_HELPERS)
    assert "bpf_xdp_load_bytes" not in names(PKT_CHANGING_HELPERS)
    assert names(SYNC_CALLBACK_HELPERS) == {
        *("bpf_for_each_map_elem", "bpf_loop", "bpf_find_vma", "bpf_user_ringbuf_drain")
    }
    assert {"bpf_sk_fullsock", "bpf_tcp_sock"} <= names(PTR_CAST_HELPERS)
