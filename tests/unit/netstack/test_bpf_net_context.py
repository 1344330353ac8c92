"""The life of struct bpf_net_context, include/linux/filter.h v6.18."""

import pytest

from ebpfsim.clock import Clock
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType
from netstack.bpf_net_context import bpf_net_context, bpf_net_ctx_clear, bpf_net_ctx_get, bpf_net_ctx_set


@pytest.fixture
def cpu() -> Cpu:
    return Cpu(0, Clock(), Memory(1 << 26))


def test_a_context_is_new_and_empty(cpu: Cpu) -> None:
    assert bpf_net_ctx_set(cpu)
    ri = bpf_net_ctx_get(cpu).ri
    assert (ri.map_id, ri.map_type, ri.flags, ri.tgt_index, ri.tgt_value, ri.map) == (
        0,
        MapType.UNSPEC,
        0,
        0,
        0,
        0,
    )


def test_a_nested_context_is_the_outer_one(cpu: Cpu) -> None:
    """bpf_net_ctx_set() returns NULL when the task has one, and what it returns is what is cleared later."""
    bpf_net_ctx_set(cpu)
    outer = bpf_net_ctx_get(cpu)
    assert not bpf_net_ctx_set(cpu)
    assert bpf_net_ctx_get(cpu) is outer


def test_nothing_outlives_the_context(cpu: Cpu) -> None:
    bpf_net_ctx_set(cpu)
    bpf_net_ctx_get(cpu).ri.map_id = 5
    bpf_net_ctx_clear(cpu)
    with pytest.raises(InternalError, match="no bpf_net_context on cpu 0"):
        bpf_net_ctx_get(cpu)
    bpf_net_ctx_set(cpu)
    assert bpf_net_ctx_get(cpu).ri.map_id == 0
    bpf_net_ctx_clear(cpu)
    bpf_net_ctx_clear(cpu)


def test_a_task_has_its_own(cpu: Cpu) -> None:
    bpf_net_ctx_set(cpu)
    softirq = bpf_net_ctx_get(cpu)
    with bpf_net_context(cpu) as task:
        assert bpf_net_ctx_get(cpu) is task is not softirq
    assert bpf_net_ctx_get(cpu) is softirq
    with pytest.raises(ZeroDivisionError), bpf_net_context(cpu):
        _ = 1 // 0
    assert bpf_net_ctx_get(cpu) is softirq
