"""Program commands of bpf(2) as bytes (kernel/bpf/syscall.c, v6.18), asked of both kernels."""

import pytest
from raw_calls import Raw

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import BpfCmd, ProgType

C = BpfCmd
PASS = encode(assemble("r0 = 2; exit"))


@pytest.fixture
def raw(bpf) -> Raw:
    return Raw(bpf)


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


def test_the_log_of_types(raw, refused) -> None:
    # btf_log_true_size counts the NUL; a blob that is taken is listed, too
    blob = bytes.fromhex("9feb010018000000000000001000000010000000050000000100000000000001040000002000000100696e7400")
    place, log = raw.user.alloc(len(blob), blob), raw.user.alloc(512)
    given = {"btf": place, "btf_size": len(blob), "btf_log_buf": log, "btf_log_level": 1}
    assert raw(BpfCmd.BTF_LOAD, **given, btf_log_size=512) > 0
    text = raw.user.read(log, 512).partition(b"\0")[0]
    assert text.endswith(b"\n[1] INT int size=4 bits_offset=0 nr_bits=32 encoding=SIGNED\n")
    assert raw.out["btf_log_true_size"] == len(text) + 1
    assert refused(raw, BpfCmd.BTF_LOAD, **given, btf_log_size=20) == "ENOSPC"
    assert refused(raw, BpfCmd.BTF_LOAD, **given | {"btf_log_level": 0}, btf_log_size=512) == "EINVAL"
    assert refused(raw, BpfCmd.BTF_LOAD, **given | {"btf_size": 40}, btf_log_size=512) == "EINVAL"
    assert raw.user.read(log, 512).partition(b"\0")[0].endswith(b"btf_total_size: 40\nTotal section length too long")
