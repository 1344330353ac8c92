"""BPF_PROG_TEST_RUN of XDP programs (net/bpf/test_run.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_TEST_XDP_LIVE_FRAMES, BPF_F_XDP_HAS_FRAGS

PAGE = 4096
FRAME = bytes(range(64))


def md(data=0, data_end=0, data_meta=0, ingress_ifindex=0, rx_queue_index=0, egress_ifindex=0) -> bytes:
    """Return a ``struct xdp_md``."""
    return struct.pack("<6I", data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex)


@pytest.fixture
def load(bpf):
    def load(code: str = "r0 = 2; exit", prog_type: ProgType = ProgType.XDP, **attributes) -> int:
        return bpf.prog_load(prog_type, encode(assemble(code)), **attributes).fd

    return load


PASS = "r0 = 2; exit"
# the difference of two fields of the context
DIFF = "r2 = *(u32 *)(r1 + {a}); r3 = *(u32 *)(r1 + {b}); r0 = r3; r0 -= r2; exit"
FIELD = "r0 = *(u32 *)(r1 + {off}); exit"
DATA, DATA_END, DATA_META, INGRESS, QUEUE = 0, 4, 8, 12, 16


@pytest.mark.parametrize("retval", [0, 1, 2, 4, 5, 77, -1])
def test_return_value_is_unsigned(bpf, load, retval) -> None:
    assert bpf.prog_test_run(load(f"r0 = {retval}; exit"), FRAME).retval == retval & 0xFFFF_FFFF


def test_packet_comes_back(bpf, load) -> None:
    assert bpf.prog_test_run(load(), FRAME).data_out == FRAME


WRITE = """
    r2 = *(u32 *)(r1 + 0)
    r3 = *(u32 *)(r1 + 4)
    r4 = r2
    r4 += 14
    if r4 > r3 goto out
    r5 = *(u8 *)(r2 + 0)
    r5 += 1
    *(u8 *)(r2 + 0) = r5
    out: r0 = 2
    exit
"""


def test_all_repetitions_work_on_one_packet(bpf, load) -> None:
    prog = load(WRITE)
    assert bpf.prog_test_run(prog, FRAME, repeat=5).data_out == b"\5" + FRAME[1:]
    assert bpf.prog_test_run(prog, FRAME, repeat=0).data_out == b"\1" + FRAME[1:]


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 13])
def test_less_than_an_ethernet_header(bpf, load, refused, size) -> None:
    assert refused(bpf.prog_test_run, load(), bytes(size)) == "EINVAL"


@pytest.mark.parametrize(("size", "linear"), [(14, 14), (3520, 3520), (3521, 3520), (9000, 3520), (70000, 3520)])
def test_linear_part(bpf, load, size, linear) -> None:
    prog = load(DIFF.format(a=DATA, b=DATA_END))
    run = bpf.prog_test_run(prog, bytes(i & 0xFF for i in range(size)))
    assert (run.retval, len(run.data_out)) == (linear, size)
    assert run.data_out == bytes(i & 0xFF for i in range(size))


def test_length_of_a_long_frame(bpf, load) -> None:
    prog = load("call bpf_xdp_get_buff_len; exit", prog_flags=BPF_F_XDP_HAS_FRAGS)
    assert bpf.prog_test_run(prog, bytes(9000)).retval == 9000


@pytest.mark.parametrize(("size", "errno"), [(3520 + 17 * PAGE, ""), (3521 + 17 * PAGE, "ENOMEM"), (73728, "ENOMEM")])
def test_at_most_17_fragments(bpf, load, refused, size, errno) -> None:
    if errno:
        assert refused(bpf.prog_test_run, load(), bytes(size)) == errno
    else:
        assert len(bpf.prog_test_run(load(), bytes(size)).data_out) == size


@pytest.mark.parametrize("room", [1, 63])
def test_room_for_less_than_the_packet(bpf, load, refused, room) -> None:
    assert refused(bpf.prog_test_run, load(), FRAME, data_size_out=room) == "ENOSPC"


def test_room_for_the_packet_and_for_none(bpf, load) -> None:
    assert bpf.prog_test_run(load(), FRAME, data_size_out=64).data_out == FRAME
    assert bpf.prog_test_run(load(), FRAME, data_size_out=0).data_out == b""


def test_room_error_tells_the_size(kernel) -> None:
    prog = kernel.bpf.prog_load(ProgType.XDP, encode(assemble(PASS))).fd
    with pytest.raises(Exception, match="ENOSPC") as error:
        kernel.bpf.prog_test_run(prog, FRAME, data_size_out=10)
    assert (error.value.data_size_out, error.value.retval) == (64, 2)


ADJUST = "r2 = {delta}; call bpf_xdp_adjust_{what}; exit"


@pytest.mark.parametrize(
    ("what", "delta", "result", "size"),
    [
        ("head", -216, 0, 280),
        ("head", -217, -22, 64),
        ("head", 50, 0, 14),
        ("head", 51, -22, 64),
        ("tail", 3456, 0, 3520),
        ("tail", 3457, -22, 64),
        ("tail", -50, 0, 14),
        ("tail", -51, -22, 64),
        ("meta", -4, 0, 68),
        ("meta", -3, -13, 64),
        ("meta", -216, 0, 280),
        ("meta", -220, -22, 64),
    ],
)
def test_head_room_and_tail_room(bpf, load, what, delta, result, size) -> None:
    run = bpf.prog_test_run(load(ADJUST.format(what=what, delta=delta)), FRAME)
    assert (run.retval, len(run.data_out)) == (result & 0xFFFF_FFFF, size)


# ---- context --------------------------------------------------------------------------------------------------------


def test_default_context(bpf, load) -> None:
    assert bpf.prog_test_run(load(FIELD.format(off=INGRESS)), FRAME).retval == 1
    assert bpf.prog_test_run(load(FIELD.format(off=QUEUE)), FRAME).retval == 0


def test_context_with_metadata(bpf, load) -> None:
    prog = load(DIFF.format(a=DATA_META, b=DATA))
    run = bpf.prog_test_run(prog, FRAME, ctx_in=md(data=8, data_end=64))
    assert run.retval == 8
    assert run.data_out == FRAME
    assert run.ctx_out == md(data=8, data_end=64)
    linear = bpf.prog_test_run(load(DIFF.format(a=DATA, b=DATA_END)), FRAME, ctx_in=md(data=8, data_end=64))
    assert linear.retval == 56


@pytest.mark.parametrize(
    ("context", "size", "errno"),
    [
        (md(data_end=64, data_meta=4), 64, "EINVAL"),
        (md(data_end=65), 64, "EINVAL"),
        (md(data=8, data_end=4), 64, "EINVAL"),
        (md(data=3, data_end=64), 64, "EINVAL"),
        (md(data=216, data_end=300), 300, ""),
        (md(data=220, data_end=300), 300, "EINVAL"),
        (md(data=52, data_end=64), 64, "EINVAL"),
        (md(data=48, data_end=64), 64, ""),
        (md(data_end=64, ingress_ifindex=4242), 64, "ENODEV"),
        (md(data_end=64, ingress_ifindex=1), 64, ""),
        (md(data_end=64, rx_queue_index=1), 64, "EINVAL"),
        (md(data_end=64, ingress_ifindex=1, rx_queue_index=99), 64, "EINVAL"),
        (md(data_end=64, egress_ifindex=1), 64, "EINVAL"),
        (md(data_end=64) + bytes(8), 64, ""),
        (md(data_end=64) + b"\1", 64, "E2BIG"),
        (md(data_end=64)[:20], 64, ""),
    ],
)
def test_contexts(bpf, load, refused, context, size, errno) -> None:
    if errno:
        assert refused(bpf.prog_test_run, load(), bytes(size), ctx_in=context) == errno
    else:
        assert bpf.prog_test_run(load(), bytes(size), ctx_in=context).retval == 2


@pytest.mark.parametrize(
    ("data", "data_end", "size", "linear"),
    [(0, 0, 64, 0), (0, 1, 64, 1), (8, 8, 64, 0), (8, 20, 64, 12), (0, 100, 5000, 100), (4, 18, 9000, 14)],
)
def test_context_may_end_the_linear_part_early(bpf, load, data, data_end, size, linear) -> None:
    prog = load(DIFF.format(a=DATA, b=DATA_END), prog_flags=BPF_F_XDP_HAS_FRAGS)
    packet = bytes(i & 0xFF for i in range(size))
    run = bpf.prog_test_run(prog, packet, ctx_in=md(data, data_end))
    assert (run.retval, run.data_out, run.ctx_out) == (linear, packet, md(data, data_end))


def test_context_comes_back_changed(bpf, load) -> None:
    run = bpf.prog_test_run(
        load(ADJUST.format(what="meta", delta=-12)), FRAME, ctx_in=md(data_end=64, ingress_ifindex=1)
    )
    assert run.ctx_out == md(data=12, data_end=76, ingress_ifindex=1)


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attach_type", [AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP])
def test_programs_of_devmaps_do_not_run_alone(bpf, load, refused, attach_type) -> None:
    assert refused(bpf.prog_test_run, load(expected_attach_type=attach_type), FRAME) == "EINVAL"


def test_flags(bpf, load, refused) -> None:
    prog = load()
    assert refused(bpf.prog_test_run, prog, FRAME, flags=1) == "EINVAL"
    assert refused(bpf.prog_test_run, prog, FRAME, flags=4) == "EINVAL"
    assert refused(bpf.prog_test_run, prog, FRAME, batch_size=8) == "EINVAL"
    live = {"flags": BPF_F_TEST_XDP_LIVE_FRAMES, "batch_size": 257}
    assert refused(bpf.prog_test_run, prog, FRAME, **live) == "E2BIG"


@pytest.mark.parametrize("prog_type", [ProgType.CGROUP_SOCK, ProgType.KPROBE, ProgType.PERF_EVENT, ProgType.SK_MSG])
def test_program_types_without_test_runs(kernel, refused, prog_type) -> None:
    from ebpfsim.progs.prog import Prog

    prog = Prog("p", prog_type, AttachType(0), (), (), ())
    fd = kernel.fds.install(prog)
    assert refused(kernel.bpf.prog_test_run, fd, FRAME) == "ENOTSUPP"


def test_descriptors(bpf, refused) -> None:
    from ebpfsim.uapi.bpf import MapType

    assert refused(bpf.prog_test_run, 987, FRAME) == "EBADF"
    assert refused(bpf.prog_test_run, bpf.map_create(MapType.ARRAY, 4, 4, 1), FRAME) == "EINVAL"


# ---- the simulated kernel alone -------------------------------------------------------------------------------------


def test_duration_is_the_mean_cost_and_time_stands_still(kernel) -> None:
    bpf = kernel.bpf
    prog = bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 0;" * 1000 + "exit"))).fd
    once, often = (bpf.prog_test_run(prog, FRAME, repeat=repeat).duration_ns for repeat in (1, 10))
    assert once == often == 1001 * kernel.costs.ps("insn") // 1000
    assert (kernel.cpus[0].elapsed_ps, kernel.clock.now_ns) == (0, 0)


def test_memory_comes_back(kernel) -> None:
    bpf = kernel.bpf
    prog = bpf.prog_load(ProgType.XDP, encode(assemble(PASS))).fd
    bpf.prog_test_run(prog, FRAME)
    before = kernel.mem.allocated_bytes
    bpf.prog_test_run(prog, bytes(9000))
    assert kernel.mem.allocated_bytes == before


def test_redirect_goes_nowhere(kernel) -> None:
    prog = kernel.bpf.prog_load(ProgType.XDP, encode(assemble("r1 = 1; r2 = 0; call bpf_redirect; exit"))).fd
    before = dict(kernel.cpus[0].scratch)
    assert kernel.bpf.prog_test_run(prog, FRAME, repeat=3).retval == 4
    assert kernel.cpus[0].scratch == before
