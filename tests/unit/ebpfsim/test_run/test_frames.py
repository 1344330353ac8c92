"""Many frames at once against one test run for each."""

import random
from typing import Any

import pytest

from ebpfsim.errors import KernelError, KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit.batch import Rows
from ebpfsim.test_run.frames import FrameRuns
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_XDP_HAS_FRAGS

# the length, by steps that programs can see: head moved, bytes written in front, the time, a count by length
PROGRAM = """
    r6 = r1
    call bpf_xdp_get_buff_len; r7 = r0
    call bpf_ktime_get_ns; r8 = r0
    r1 = r6; r2 = -8; call bpf_xdp_adjust_head
    r2 = *(u32 *)(r6 + 0); r3 = *(u32 *)(r6 + 4); r5 = r2; r5 += 22; if r5 > r3 goto out
    r9 = *(u64 *)(r2 + 0); *(u64 *)(r2 + 0) = r7; r4 = *(u8 *)(r2 + 21); r9 += r4
    r7 &= 7; *(u32 *)(r10 - 4) = r7; r2 = r10; r2 += -4; r1 = map_fd[{array}] ll; call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = *(u64 *)(r0 + 0); r1 += r8; *(u64 *)(r0 + 0) = r1
    r0 = r9; r0 &= 3; exit
    out: r0 = 1000; exit
"""


class Kernel:
    """A kernel with the program."""

    def __init__(self, kernel: Any, text: str = PROGRAM, **config: Any) -> None:
        self.kernel, self.bpf = kernel, kernel.bpf
        self.array = self.bpf.map_create(MapType.ARRAY, 4, 8, 8, name="array")
        slots = encode(assemble(text.replace("{array}", str(self.array))))
        self.fd = self.bpf.prog_load(ProgType.XDP, slots, license="GPL", name="test", prog_flags=BPF_F_XDP_HAS_FRAGS).fd
        self.prog = kernel.fds.lookup(self.fd)

    def contents(self) -> list[bytes]:
        return [self.bpf.map_lookup_elem(self.array, key.to_bytes(4, "little")) for key in range(8)]

    def state(self) -> Any:
        info = self.bpf.obj_get_info_by_fd(self.fd)
        return self.contents(), info.run_cnt, info.run_time_ns, self.kernel.cpus[0].elapsed_ps


@pytest.mark.parametrize("engine", ["jit", "interp"])
@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("stats", [False, True])
def test_as_one_by_one(make_kernel: Any, engine: str, repeat: int, stats: bool) -> None:
    rng = random.Random(3)
    # among them frames that go on in fragments
    frames = [rng.randbytes(rng.choice((14, 60, 1514, 3520, 3521, 9000))) for _ in range(40)]
    many, single = Kernel(make_kernel(engine=engine)), Kernel(make_kernel(engine=engine))
    if stats:
        for side in (many, single):
            side.bpf.enable_stats(0)  # BPF_STATS_RUN_TIME
    runs = FrameRuns(many.kernel, many.prog, repeat=repeat)
    runs.run(Rows.of(frames[:30]))
    runs.run(Rows.of(frames[30:]))
    runs.run(Rows())
    results = [single.bpf.prog_test_run(single.fd, frame, repeat=repeat) for frame in frames]
    assert runs.frames == 40
    assert sorted(runs.retvals.elements()) == sorted(result.retval for result in results)
    assert repeat > 1 or len(runs.retvals) > 2
    assert runs.duration_ns == sum(result.duration_ns for result in results)
    assert many.state() == single.state()
    assert (many.state()[1] == 40 * repeat) is stats


def test_debug_mode(make_kernel: Any) -> None:
    side = Kernel(make_kernel(debug=True))
    runs = FrameRuns(side.kernel, side.prog)
    runs.run(Rows.of([bytes(60)] * 3))
    assert runs.retvals == {0: 3}


@pytest.mark.parametrize(("size", "errno"), [(13, "EINVAL"), (80_000, "ENOMEM")])
def test_frames_that_are_refused(make_kernel: Any, size: int, errno: str) -> None:
    side = Kernel(make_kernel())
    runs = FrameRuns(side.kernel, side.prog)
    with pytest.raises(KernelError) as error:
        runs.run(Rows.of([bytes(60), bytes(60), bytes(size), bytes(60)]))
    assert error.value.errno_name == errno
    assert (runs.frames, runs.retvals.total()) == (2, 2)


def test_an_oops_tells_the_frame(make_kernel: Any) -> None:
    side = Kernel(make_kernel())
    calls = 0

    def helper(*_args: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KernelOops("out of order")
        return 60

    side.kernel.helpers = {**side.kernel.helpers, 188: helper}
    prog = Kernel(side.kernel).prog
    runs, elapsed_ps = FrameRuns(side.kernel, prog), side.kernel.cpus[0].elapsed_ps
    with pytest.raises(KernelOops, match="out of order"):
        runs.run(Rows.of([bytes(60)] * 5))
    assert (runs.frames, side.kernel.cpus[0].elapsed_ps) == (2, elapsed_ps)
    runs.run(Rows.of([bytes(60)] * 5))
    assert runs.frames == 7


def test_memory_comes_back(make_kernel: Any) -> None:
    side = Kernel(make_kernel())
    before = side.kernel.mem.allocated_bytes
    FrameRuns(side.kernel, side.prog).run(Rows.of([bytes(60)] * 5))
    assert side.kernel.mem.allocated_bytes == before


def test_programs_of_other_types_go_one_by_one(make_kernel: Any) -> None:
    kernel = make_kernel()
    loaded = kernel.bpf.prog_load(ProgType.KPROBE, encode(assemble("r0 = 0; exit")), license="GPL", name="test")
    runs = FrameRuns(kernel, kernel.fds.lookup(loaded.fd))
    with pytest.raises(KernelError) as error:
        runs.run(Rows.of([bytes(60)]))
    assert error.value.errno_name == "ENOTSUPP"
