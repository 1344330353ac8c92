"""bpf(2) as bytes (__sys_bpf of kernel/bpf/syscall.c, v6.18), asked of both kernels.

What is wrong in all commands is compared in tests/differential/test_live_raw.py.
"""

import struct

import pytest
from raw_calls import Raw

from ebpfsim.errors import NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTRS

C = BpfCmd


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


@pytest.fixture
def raw(bpf) -> Raw:
    return Raw(bpf)


def test_sizes(bpf, refused) -> None:
    attr = bytearray(300)
    attr[:16] = u32(MapType.ARRAY, 4, 4, 1)
    assert bpf.raw(C.MAP_CREATE, attr) > 0
    assert bpf.raw(C.MAP_CREATE, attr[:16]) > 0
    assert refused(bpf.raw, C.MAP_CREATE, attr, 12) == "EINVAL"
    assert refused(bpf.raw, C.MAP_CREATE, attr, 4097) == "E2BIG"
    attr[200] = 1
    assert refused(bpf.raw, C.MAP_CREATE, attr) == "E2BIG"
    assert bpf.raw(C.MAP_CREATE, attr, 168) > 0
    attr[100] = 1
    assert refused(bpf.raw, C.MAP_CREATE, attr, 168) == "EINVAL"
    assert refused(bpf.raw, 38, bytearray(168)) == "EINVAL"


def test_results_that_the_caller_has_no_room_for(raw) -> None:
    attr = ATTRS[C.PROG_GET_NEXT_ID].pack({"id": 0})[:4]
    raw.bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit")))
    assert raw.bpf.raw(C.PROG_GET_NEXT_ID, attr) == 0
    assert len(attr) == 4


def test_what_is_not_modelled_says_so(kernel) -> None:
    raw = Raw(kernel.bpf)
    create = {"map_type": MapType.ARRAY, "key_size": 4, "value_size": 4, "max_entries": 1}
    with pytest.raises(NotModelled, match=r"bpf\(BPF_MAP_CREATE\) with map_ifindex"):
        raw(C.MAP_CREATE, map_ifindex=1, **create)
    with pytest.raises(NotModelled, match=r"bpf\(BPF_PROG_LOAD\) with core_relo_cnt"):
        raw(C.PROG_LOAD, core_relo_cnt=1)
    with pytest.raises(NotModelled, match=r"bpf\(BPF_TASK_FD_QUERY\)"):
        raw(C.TASK_FD_QUERY)
