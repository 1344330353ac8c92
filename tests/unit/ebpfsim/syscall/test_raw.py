"""bpf(2) as bytes (__sys_bpf of kernel/bpf/syscall.c, v6.18), asked of both kernels.

What is wrong in all commands is compared in tests/differential/test_live_raw.py.
"""

import struct

import pytest

from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTRS

C = BpfCmd
PASS = encode(assemble("r0 = 2; exit"))


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


class Raw:
    """Calls by field name; ``out`` holds the fields afterwards."""

    def __init__(self, bpf) -> None:
        self.bpf, self.user = bpf, bpf.user
        self.out: dict[str, int | bytes] = {}

    def __call__(self, cmd: BpfCmd, **fields) -> int:
        attr = ATTRS[cmd].pack(fields)
        try:
            return self.bpf.raw(cmd, attr)
        finally:
            self.out = ATTRS[cmd].unpack(attr)


@pytest.fixture
def raw(bpf) -> Raw:
    return Raw(bpf)


def test_a_map_from_creation_to_the_end(raw, refused) -> None:
    fd = raw(C.MAP_CREATE, map_type=MapType.HASH, key_size=4, value_size=8, max_entries=2, map_name=b"numbers")
    key, value = raw.user.alloc(4, u32(5)), raw.user.alloc(8, u32(6, 7))
    assert raw(C.MAP_UPDATE_ELEM, map_fd=fd, key=key, value=value) == 0
    out = raw.user.alloc(8)
    assert raw(C.MAP_LOOKUP_ELEM, map_fd=fd, key=key, value=out) == 0
    assert raw.user.read(out, 8) == u32(6, 7)
    assert raw(C.MAP_GET_NEXT_KEY, map_fd=fd, key=0, next_key=out) == 0
    assert raw.user.read(out, 4) == u32(5)
    assert raw(C.MAP_LOOKUP_AND_DELETE_ELEM, map_fd=fd, key=key, value=out) == 0
    assert refused(raw, C.MAP_LOOKUP_ELEM, map_fd=fd, key=key, value=out) == "ENOENT"
    assert refused(raw, C.MAP_DELETE_ELEM, map_fd=fd, key=key) == "ENOENT"
    assert raw.bpf.obj_get_info_by_fd(fd).name == "numbers"


def test_batches_say_how_far_they_came(raw, refused) -> None:
    fd = raw.bpf.map_create(MapType.ARRAY, 4, 4, 3)
    keys, values = raw.user.alloc(64, u32(0, 1, 2, 3)), raw.user.alloc(64, u32(10, 11, 12, 13))
    batch = {"map_fd": fd, "keys": keys, "values": values}
    assert refused(raw, C.MAP_UPDATE_BATCH, count=4, **batch) == "E2BIG"
    assert raw.out["count"] == 3
    cursor, found = raw.user.alloc(4), raw.user.alloc(64)
    batch = {"map_fd": fd, "keys": found, "values": found + 32}
    assert raw(C.MAP_LOOKUP_BATCH, count=2, out_batch=cursor, **batch) == 0
    assert (raw.out["count"], raw.user.read(found, 8), raw.user.read(found + 32, 8)) == (2, u32(0, 1), u32(10, 11))
    assert refused(raw, C.MAP_LOOKUP_BATCH, count=2, in_batch=cursor, out_batch=cursor, **batch) == "ENOENT"
    assert (raw.out["count"], raw.user.read(found, 4)) == (1, u32(2))
    assert refused(raw, C.MAP_LOOKUP_BATCH, count=5, elem_flags=1, **batch) == "EINVAL"
    assert raw.out["count"] == 5


def test_bloom_filters_read_the_value(raw, refused) -> None:
    fd = raw.bpf.map_create(MapType.BLOOM_FILTER, 0, 4, 100)
    value = raw.user.alloc(4, u32(9))
    assert refused(raw, C.MAP_LOOKUP_ELEM, map_fd=fd, value=value) == "ENOENT"
    raw(C.MAP_UPDATE_ELEM, map_fd=fd, value=value)
    assert raw(C.MAP_LOOKUP_ELEM, map_fd=fd, value=value) == 0


def load(raw: Raw, insns: bytes = PASS, **fields) -> int:
    license_ = raw.user.alloc(4, b"GPL\0")
    code = {"insn_cnt": len(insns) // 8, "insns": raw.user.alloc(len(insns), insns), "license": license_}
    return raw(C.PROG_LOAD, prog_type=ProgType.XDP, **code | fields)


def test_a_program_and_its_run(raw) -> None:
    fd = load(raw, prog_name=b"passes")
    assert raw.bpf.obj_get_info_by_fd(fd).name == "passes"
    data = raw.user.alloc(64, bytes(range(64)))
    out = raw.user.alloc(64)
    fields = {"data_in": data, "data_size_in": 64, "data_out": out, "data_size_out": 64, "repeat": 1}
    assert raw(C.PROG_TEST_RUN, prog_fd=fd, **fields) == 0
    assert (raw.out["retval"], raw.out["data_size_out"]) == (2, 64)
    assert raw.user.read(out, 64) == bytes(range(64))


def test_packets_that_do_not_fit(raw, refused) -> None:
    fd = load(raw)
    data = raw.user.alloc(64)
    fields = {"data_in": data, "data_size_in": 64, "data_out": data, "data_size_out": 20, "repeat": 1}
    assert refused(raw, C.PROG_TEST_RUN, prog_fd=fd, **fields) == "ENOSPC"
    assert raw.out["data_size_out"] == 64


def test_logs(raw, refused) -> None:
    log = raw.user.alloc(4096)
    assert refused(load, raw, encode(assemble("exit")), log_level=1, log_buf=log, log_size=4096) == "EACCES"
    text = raw.user.read(log, 4096).partition(b"\0")[0]
    assert b"R0 !read_ok" in text
    assert raw.out["log_true_size"] == len(text) + 1
    # too little room: the end of the log, or with BPF_LOG_FIXED its beginning
    whole = text + b"\0"
    for level, expected in ((1, whole[-20:]), (1 | 8, whole[:19] + b"\0")):
        raw.user.write(log, bytes(64))
        assert refused(load, raw, encode(assemble("exit")), log_level=level, log_buf=log, log_size=20) == "ENOSPC"
        assert raw.user.read(log, 20) == expected
        assert raw.out["log_true_size"] == len(whole)


@pytest.mark.parametrize(("level", "buffer", "size"), [(1, 0, 100), (1, 1, 0), (0, 1, 100), (16, 1, 100)])
def test_logs_that_make_no_sense(raw, refused, level, buffer, size) -> None:
    place = raw.user.alloc(4096) if buffer else 0
    assert refused(load, raw, log_level=level, log_buf=place, log_size=size) == "EINVAL"


def test_names(raw, refused) -> None:
    create = {"map_type": MapType.ARRAY, "key_size": 4, "value_size": 4, "max_entries": 1}
    for name in (b"a" * 16, b"a b", b"a-b", b"\xd7"):
        assert refused(raw, C.MAP_CREATE, map_name=name, **create) == "EINVAL"
    for name in (b"a" * 15, b"a.b_c", b"ab\0c-d", b"\xe9t\xe9"):
        assert raw(C.MAP_CREATE, map_name=name, **create) > 0


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
    load(raw)
    assert raw.bpf.raw(C.PROG_GET_NEXT_ID, attr) == 0
    assert len(attr) == 4


def test_named_functions_and_bytes_meet_in_the_same_map(raw) -> None:
    fd = raw(C.MAP_CREATE, map_type=MapType.ARRAY, key_size=4, value_size=4, max_entries=1)
    raw.bpf.map_update_elem(fd, u32(0), u32(42))
    out = raw.user.alloc(4)
    raw(C.MAP_LOOKUP_ELEM, map_fd=fd, key=raw.user.alloc(4), value=out)
    assert raw.user.read(out, 4) == u32(42)


def test_what_is_not_modelled_says_so(kernel) -> None:
    raw = Raw(kernel.bpf)
    create = {"map_type": MapType.ARRAY, "key_size": 4, "value_size": 4, "max_entries": 1}
    with pytest.raises(NotModelled, match=r"bpf\(BPF_MAP_CREATE\) with map_ifindex"):
        raw(C.MAP_CREATE, map_ifindex=1, **create)
    with pytest.raises(NotModelled, match=r"bpf\(BPF_PROG_LOAD\) with core_relo_cnt"):
        load(raw, core_relo_cnt=1)
    with pytest.raises(NotModelled, match=r"bpf\(BPF_TASK_FD_QUERY\)"):
        raw(C.TASK_FD_QUERY)


def test_a_fault_names_the_address(kernel) -> None:
    raw = Raw(kernel.bpf)
    fd = kernel.bpf.map_create(MapType.ARRAY, 4, 4, 1)
    with pytest.raises(KernelError, match=r"map_lookup_elem: Bad address \(EFAULT\): 4 bytes at user address 0x10"):
        raw(C.MAP_LOOKUP_ELEM, map_fd=fd, key=0x10)
