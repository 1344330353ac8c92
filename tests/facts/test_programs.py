"""Facts about loading programs and test runs, observed on Linux 6.18 and asked of both kernels."""

import struct

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import AttachType, BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTRS

P = ProgType
FRAME = bytes(range(64))
PASS = "r0 = 2; exit"


@pytest.fixture
def load(bpf):
    def load(code: str = PASS, prog_type: ProgType = P.XDP, **attributes) -> int:
        return bpf.prog_load(prog_type, encode(assemble(code)), **attributes).fd

    return load


@pytest.fixture
def run(bpf, load):
    """Run a program once; return what it returned as a signed number."""

    def run(code: str, data: bytes = FRAME, prog_type: ProgType = P.XDP, **kwargs) -> int:
        (value,) = struct.unpack(
            "<i", struct.pack("<I", bpf.prog_test_run(load(code, prog_type), data, **kwargs).retval)
        )
        return value

    return run


def md(**fields: int) -> bytes:
    names = ("data", "data_end", "data_meta", "ingress_ifindex", "rx_queue_index", "egress_ifindex")
    return struct.pack("<6I", *(fields.get(name, 0) for name in names))


DIFF = "r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); r0 = r3; r0 -= r2; exit"


def test_xdp_data_under_14_bytes_einval(bpf, load, refused) -> None:
    assert refused(bpf.prog_test_run, load(), bytes(13)) == "EINVAL"
    assert bpf.prog_test_run(load(), bytes(14)).retval == 2


def test_xdp_linear_part_at_most_3520_and_9000_bytes_still_run(run) -> None:
    assert run(DIFF, bytes(9000)) == 3520
    assert run("call bpf_xdp_get_buff_len; exit", bytes(9000)) == 9000


def test_xdp_70000_bytes_work_73728_enomem(bpf, load, run, refused) -> None:
    assert run("call bpf_xdp_get_buff_len; exit", bytes(70000)) == 70000
    assert refused(bpf.prog_test_run, load(), bytes(73728)) == "ENOMEM"


def test_xdp_default_context_ingress_ifindex_1_queue_0(run) -> None:
    assert run("r0 = *(u32 *)(r1 + 12); exit") == 1
    assert run("r0 = *(u32 *)(r1 + 16); exit") == 0


@pytest.mark.parametrize(
    ("helper", "delta", "result"),
    [
        ("head", -216, 0), ("head", -217, -22), ("head", 50, 0), ("head", 51, -22),
        ("tail", 3456, 0), ("tail", 3457, -22), ("tail", -50, 0), ("tail", -51, -22),
        ("meta", -4, 0), ("meta", -3, -13), ("meta", -216, 0), ("meta", -220, -22),
    ],
)  # fmt: skip
def test_xdp_room_216_before_3456_behind_14_left_meta_by_4_eacces_over_216_einval(run, helper, delta, result) -> None:
    assert run(f"r2 = {delta}; call bpf_xdp_adjust_{helper}; exit") == result


def test_data_out_too_small_enospc_with_the_full_size(bpf, load) -> None:
    out = bpf.user.alloc(64)
    fields = {"data_in": bpf.user.alloc(64, FRAME), "data_size_in": 64, "data_out": out, "data_size_out": 20}
    attr = ATTRS[BpfCmd.PROG_TEST_RUN].pack({"prog_fd": load(), "repeat": 1} | fields)
    with pytest.raises(Exception, match="ENOSPC"):
        bpf.raw(BpfCmd.PROG_TEST_RUN, attr)
    assert ATTRS[BpfCmd.PROG_TEST_RUN].unpack(attr)["data_size_out"] == 64


def test_xdp_ctx_in_data_meta_einval_unknown_ifindex_enodev_queue_without_ifindex_einval(bpf, load, refused) -> None:
    for fields, errno in (
        ({"data_meta": 4, "data_end": 64}, "EINVAL"),
        ({"data_end": 64, "ingress_ifindex": 987_654}, "ENODEV"),
        ({"data_end": 64, "rx_queue_index": 1}, "EINVAL"),
    ):
        assert refused(bpf.prog_test_run, load(), FRAME, ctx_in=md(**fields)) == errno


def test_xdp_live_frames_batch_over_256_e2big_batch_size_without_the_flag_einval(bpf, load, refused) -> None:
    live = f.BPF_F_TEST_XDP_LIVE_FRAMES
    assert refused(bpf.prog_test_run, load(), FRAME, flags=live, batch_size=257) == "E2BIG"
    assert refused(bpf.prog_test_run, load(), FRAME, batch_size=4) == "EINVAL"


# to another host than the loopback device
IPV4 = bytes([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]) + b"\x08\x00" + b"\x45" + bytes(45)
SKB = {"pkt_type": 4, "protocol": 16, "ingress_ifindex": 36, "ifindex": 40, "hash": 68, "wire_len": 160}


def test_tc_under_34_bytes_of_ipv4_einval(bpf, load, refused, modelled) -> None:
    prog = load("r0 = 0; exit", P.SCHED_CLS)
    modelled(bpf.prog_test_run, prog, IPV4)
    assert refused(bpf.prog_test_run, prog, IPV4[:33]) == "EINVAL"


@pytest.mark.parametrize(
    ("field", "value"),
    [("pkt_type", 3), ("protocol", 8), ("ifindex", 1), ("ingress_ifindex", 0), ("wire_len", 0), ("hash", 0)],
)
def test_tc_default_context(run, modelled, field, value) -> None:
    assert modelled(run, f"r0 = *(u32 *)(r1 + {SKB[field]}); exit", IPV4, P.SCHED_CLS) == value


@pytest.mark.parametrize("off", [off for off in range(0, 192, 4) if off not in (144, 148, 168, 172)])
def test_tc_ctx_in_takes_mark_priority_ifindexes_cb_gso_tstamp_and_nothing_else(
    bpf, load, refused, modelled, off
) -> None:
    settable = {8, 32, 36, 40, *range(48, 68, 4), 152, 156, 164, 176, 184, 188}
    # in the kernel of this machine: ifindexes must exist, gso_segs and wire_len have limits
    if off in {36, 40, 160}:
        return
    ctx = bytearray(192)
    ctx[off] = 1
    prog = load("r0 = 0; exit", P.SCHED_CLS)
    if off in settable:
        modelled(bpf.prog_test_run, prog, IPV4, ctx_in=bytes(ctx))
    else:
        modelled(bpf.prog_test_run, prog, IPV4)
        assert refused(bpf.prog_test_run, prog, IPV4, ctx_in=bytes(ctx)) == "EINVAL"


def test_tc_an_in_band_tag_is_the_protocol_of_the_frame(run, modelled) -> None:
    # vlan_pop and others take it for an offloaded one
    tagged = IPV4[:12] + b"\x81\x00\x00\x05" + IPV4[12:]
    assert modelled(run, "r0 = *(u32 *)(r1 + 16); exit", tagged, P.SCHED_CLS) == 0x81
    assert modelled(run, "r0 = *(u32 *)(r1 + 20); exit", tagged, P.SCHED_CLS) == 0


def test_raw_tp_and_syscall_programs_need_repeat_0(bpf, load, refused, modelled) -> None:
    for prog_type, flags in ((P.RAW_TRACEPOINT, 0), (P.SYSCALL, f.BPF_F_SLEEPABLE)):
        prog = modelled(load, "r0 = 0; exit", prog_type, prog_flags=flags)
        modelled(bpf.prog_test_run, prog, repeat=0)
        assert refused(bpf.prog_test_run, prog, repeat=1) == "EINVAL"


UNSUPPORTED = [
    (P.CGROUP_SOCK, AttachType.CGROUP_INET_SOCK_CREATE),
    (P.SOCK_OPS, AttachType.CGROUP_SOCK_OPS),
    (P.SK_SKB, 0),
    (P.SK_MSG, 0),
    (P.KPROBE, 0),
    (P.TRACEPOINT, 0),
    (P.PERF_EVENT, 0),
]


@pytest.mark.parametrize(("prog_type", "attach_type"), UNSUPPORTED, ids=lambda value: str(int(value)))
def test_types_without_test_run_enotsupp(bpf, load, refused, modelled, prog_type, attach_type) -> None:
    prog = modelled(load, "r0 = 1; exit", prog_type, expected_attach_type=attach_type)
    assert refused(bpf.prog_test_run, prog, FRAME) == "ENOTSUPP"


def test_info_of_a_bad_fd_ebadfd_sizes_104_and_232_larger_with_a_zero_tail_fine(bpf, load, refused) -> None:
    assert refused(bpf.obj_get_info_by_fd, 987) == "EBADFD"
    record = bpf.user.alloc(4096)
    for fd, size in ((bpf.map_create(MapType.ARRAY, 4, 4, 1), 104), (load(), 232)):
        bpf.user.write(record, bytes(4096))
        attr = ATTRS[BpfCmd.OBJ_GET_INFO_BY_FD].pack({"bpf_fd": fd, "info_len": 1000, "info": record})
        bpf.raw(BpfCmd.OBJ_GET_INFO_BY_FD, attr)
        assert ATTRS[BpfCmd.OBJ_GET_INFO_BY_FD].unpack(attr)["info_len"] == size


def test_run_cnt_advances_only_while_statistics_are_on_by_the_repeat_count(bpf, load) -> None:
    prog = load()
    bpf.prog_test_run(prog, FRAME, repeat=5)
    before = bpf.obj_get_info_by_fd(prog)
    assert (before.run_cnt, before.run_time_ns) == (0, 0)
    stats = bpf.enable_stats(0)
    bpf.prog_test_run(prog, FRAME, repeat=7)
    bpf.close(stats)
    bpf.prog_test_run(prog, FRAME, repeat=5)
    after = bpf.obj_get_info_by_fd(prog)
    assert after.run_cnt == 7
    assert after.run_time_ns > 0


def test_attr_with_a_tail_or_larger_than_a_page_e2big(bpf, refused) -> None:
    attr = bytearray(300)
    attr[299] = 1
    assert refused(bpf.raw, BpfCmd.PROG_LOAD, attr) == "E2BIG"
    assert refused(bpf.raw, BpfCmd.PROG_LOAD, bytearray(4097)) == "E2BIG"


@pytest.mark.parametrize("name", ["a b", "a-b", "a/b", "x" * 16])
def test_names_with_other_characters_or_16_of_them_einval(bpf, load, refused, name) -> None:
    assert refused(load, name=name) == "EINVAL"
    assert refused(bpf.map_create, MapType.ARRAY, 4, 4, 1, name=name) == "EINVAL"


def test_names_of_letters_digits_underscores_and_dots_are_taken(bpf, load) -> None:
    assert bpf.obj_get_info_by_fd(load(name="aZ09_.")).name == "aZ09_."
