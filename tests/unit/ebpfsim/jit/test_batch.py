"""Loops in machine code against the same runs one by one."""

import random
import signal
from array import array
from typing import Any

import pytest

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit import engine
from ebpfsim.jit.batch import Buffers, Loop, Rows, address_of, run_repeatedly
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.bpf_net_context import bpf_net_context
from netstack.xdp_buff import make_xdp_buff

NUMA = HELPER_IDS["bpf_get_numa_node_id"]
BYTES = "r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); "


class Lab:
    """A kernel of one engine with maps; ``load`` takes text with ``{array}``, ``{hash}`` and ``{progs}`` for them."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.bpf, self.cpu = kernel, kernel.bpf, kernel.cpus[0]
        self.array = self.bpf.map_create(MapType.ARRAY, 4, 8, 8, name="array")
        self.hash = self.bpf.map_create(MapType.HASH, 4, 8, 64, name="hash")
        self.progs = self.bpf.map_create(MapType.PROG_ARRAY, 4, 4, 2, name="progs")
        self.rxq = kernel.device_by_ifindex(1).xdp_rxq(0)

    def load(self, text: str) -> Any:
        for name in ("array", "hash", "progs"):
            text = text.replace(f"{{{name}}}", f"map_fd[{getattr(self, name)}] ll")
        fd = self.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL", name="test").fd
        prog = self.kernel.fds.lookup(fd)
        prog.fd = fd
        return prog

    def put(self, slot: int, prog: Any) -> None:
        self.bpf.map_update_elem(self.progs, slot.to_bytes(4, "little"), prog.fd.to_bytes(4, "little"))

    def contents(self) -> Any:
        values = [self.bpf.map_lookup_elem(self.array, key.to_bytes(4, "little")) for key in range(8)]
        keys: dict[bytes, bytes] = {}
        key: bytes | None = None
        while True:
            try:
                key = self.bpf.map_get_next_key(self.hash, key)
            except Exception:
                return values, keys
            keys[key] = self.bpf.map_lookup_elem(self.hash, key)


@pytest.fixture
def labs(make_kernel: Any) -> tuple[Lab, Lab]:
    """Two kernels that are the same: machine code, and the interpreter."""
    return Lab(make_kernel(engine="jit")), Lab(make_kernel(engine="interp"))


def buffers(lab: Lab, count: int = 1, *, clean: bool = False) -> tuple[Buffers, list[Any]]:
    made = [make_xdp_buff(lab.kernel.mem, b"", lab.rxq) for _ in range(count)]
    pairs = array("Q", [word for xdp in made for word in (xdp.address, xdp.hard_start)])
    return Buffers(pairs, lab.rxq, 4096, clean), made


COUNT = """
    {bytes} r5 = r2; r5 += 14; if r5 > r3 goto out
    r6 = *(u8 *)(r2 + 13); r6 &= 7; *(u32 *)(r10 - 4) = r6
    r2 = r10; r2 += -4; r1 = {array}; call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = 1; lock *(u64 *)(r0 + 0) += r1
    r0 = r6; exit
    out: r0 = 9; exit
""".replace("{bytes}", BYTES)
CLOCK = "call bpf_ktime_get_ns; r0 &= 0x7fffffff; exit"
HASH = """
    call bpf_ktime_get_ns; *(u64 *)(r10 - 16) = r0
    call bpf_get_prandom_u32; r0 &= 63; *(u32 *)(r10 - 4) = r0
    r1 = {hash}; r2 = r10; r2 += -4; r3 = r10; r3 += -16; r4 = 0; call bpf_map_update_elem
    r0 &= 3; exit
"""
TAIL = "r6 = r1; r2 = {progs}; r3 = 0; call bpf_tail_call; r0 = 3; exit"
WRITES = (
    BYTES
    + """
    r5 = r2; r5 += 64; if r5 > r3 goto out
    r4 = *(u64 *)(r2 + 56); r4 += 1; *(u64 *)(r2 + 56) = r4; r0 = 1; exit
    out: r0 = 2; exit
"""
)
PROGRAMS = {"count": COUNT, "clock": CLOCK, "hash": HASH, "tail call": TAIL, "writes": WRITES}


@pytest.mark.parametrize("name", PROGRAMS)
def test_repetitions_are_as_one_by_one(labs: tuple[Lab, Lab], name: str) -> None:
    ends = []
    for lab in labs:
        lab.put(0, lab.load(COUNT))
        prog = lab.load(PROGRAMS[name])
        xdp = make_xdp_buff(lab.kernel.mem, bytes(range(64)), lab.rxq)
        with bpf_net_context(lab.cpu):
            found = [run_repeatedly(prog, xdp.address, lab.cpu, times) for times in (1, 5, 40)]
            if lab is labs[0]:
                entry = engine.entry(prog, lab.cpu)
                assert entry.take().runs == 46
                found.append(prog.run(xdp.address, lab.cpu))
            else:
                found.append(prog.run(xdp.address, lab.cpu))
        ends.append((found, lab.cpu.elapsed_ps, xdp.frame(), lab.contents()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("rewind", [False, True])
def test_frames_are_as_one_by_one(labs: tuple[Lab, Lab], name: str, repeat: int, rewind: bool) -> None:
    random_ = random.Random(5)
    frames = [random_.randbytes(random_.choice((14, 60, 64, 65, 1514, 3520))) for _ in range(60)]
    native, interpreted = labs
    for lab in labs:
        lab.put(0, lab.load(COUNT))
        lab.cpu.elapsed_ps = 777
    prog, other = (lab.load(PROGRAMS[name]) for lab in labs)
    pairs, made = buffers(native, 4)
    loop = Loop(engine.entry(prog, native.cpu), 60)
    with bpf_net_context(native.cpu):
        assert loop.frames(Rows.of(frames), 0, 60, pairs, repeat=repeat, rewind=rewind, before_ps=5, after_ps=7) == 60
    expected = _one_by_one(interpreted, other, frames, repeat, rewind)
    assert list(zip(loop.retvals, loop.insns, loop.costs_ps, strict=True)) == expected
    assert native.cpu.elapsed_ps == interpreted.cpu.elapsed_ps
    assert native.contents() == interpreted.contents()
    assert loop.duration_ns == sum(cost_ps // (1000 * repeat) for _, _, cost_ps in expected)
    counts = engine.entry(prog, native.cpu).take()
    assert counts[:3] == (60 * repeat, sum(row[1] for row in expected), sum(row[2] for row in expected))
    assert set(loop.tail_calls) == {int(name == "tail call")}
    assert counts.tail_calls == (60 * repeat if name == "tail call" else 0)
    # the last frames are still in the buffers
    assert [xdp.frame()[:56] for xdp in made] == [frame[:56] for frame in frames[56:]]


def _one_by_one(lab: Lab, prog: Any, frames: list[bytes], repeat: int, rewind: bool) -> list[tuple[int, int, int]]:
    rows, start_ps = [], lab.cpu.elapsed_ps
    with bpf_net_context(lab.cpu):
        for frame in frames:
            if rewind:
                lab.cpu.elapsed_ps = start_ps
            lab.cpu.charge(5)
            xdp = make_xdp_buff(lab.kernel.mem, frame, lab.rxq)
            runs = [engine.execute(prog, xdp.address, lab.cpu) for _ in range(repeat)]
            xdp.close()
            lab.cpu.charge(7)
            rows.append((runs[-1].retval, sum(run.insns for run in runs), sum(run.cost_ps for run in runs)))
    return rows


def test_a_buffer_is_as_if_it_were_new(labs: tuple[Lab, Lab]) -> None:
    lab, _ = labs
    prog = lab.load("r0 = 2; exit")
    pairs, (xdp,) = buffers(lab)
    frames = [bytes(range(100)), b"\xff" * 60]
    for frame in frames:
        xdp.prepare(bytes(70), 0, metadata=b"meta")
        xdp.set_txq(5)
        Loop(engine.entry(prog, lab.cpu)).frames(Rows.of([frame]), 0, 1, pairs)
        other = make_xdp_buff(lab.kernel.mem, frame, lab.rxq)
        start, end = xdp.pointers(), other.pointers()
        assert [value - start.data_hard_start for value in start[:4]] == [
            value - end.data_hard_start for value in end[:4]
        ]
        assert start[4:] == end[4:]
        assert (xdp.frame(), xdp.metadata()) == (frame, b"")


def test_a_frame_does_not_find_what_was_in_front_of_another(labs: tuple[Lab, Lab]) -> None:
    text = (
        BYTES
        + """
        r6 = r1; r2 = -64; call bpf_xdp_adjust_head
        r2 = *(u32 *)(r6 + 0); r3 = *(u32 *)(r6 + 4); r5 = r2; r5 += 64; if r5 > r3 goto out
        r0 = *(u8 *)(r2 + 7); *(u64 *)(r2 + 0) = -1; exit
        out: r0 = 99; exit
    """
    )
    lab, _ = labs
    prog, frames = lab.load(text), [bytes(60)] * 4
    for clean, expected in ((False, [0, 255, 255, 255]), (True, [0, 0, 0, 0])):
        pairs, (xdp,) = buffers(lab, clean=clean)
        loop = Loop(engine.entry(prog, lab.cpu), 4)
        loop.frames(Rows.of(frames), 0, 4, pairs)
        assert list(loop.retvals) == expected
        xdp.close()
    assert [lab.bpf.prog_test_run(prog.fd, frame).retval for frame in frames] == [0, 0, 0, 0]


def test_loops_end_where_the_caller_has_something_to_do(labs: tuple[Lab, Lab]) -> None:
    lab, _ = labs
    prog = lab.load(BYTES + "r0 = 0; r5 = r2; r5 += 14; if r5 > r3 goto out; r0 = *(u32 *)(r2 + 0); out: exit")
    values = [1, 1, 2, 1, 3, 64, 1, 1 << 31, 63, 1]
    rows = Rows.of(frames := [value.to_bytes(4, "little") + bytes(10) for value in values])
    assert len(frames) == len(rows)
    pairs, _ = buffers(lab, 3)
    loop, first, found = Loop(engine.entry(prog, lab.cpu), 10), 0, []
    while first < 10:
        done = loop.frames(rows, first, 10 - first, pairs, stops=1 << 2 | 1 << 63)
        found.append(list(loop.retvals[:done]))
        first += done
    assert found == [[1, 1, 2], [1, 3, 64], [1, 1 << 31], [63], [1]]


def test_an_oops_in_the_middle(labs: tuple[Lab, Lab], make_kernel: Any) -> None:
    def helper(run: Any, *_args: int) -> int:
        if run.cpu.scratch.setdefault("calls", 0) == 3:
            raise KernelOops("out of order")
        run.cpu.scratch["calls"] += 1
        return 0

    ends = []
    for lab in labs:
        lab.kernel.helpers = {**lab.kernel.helpers, NUMA: helper}
        lab.kernel.config.sysctl.clear()
        prog = lab.load(f"call {NUMA}; r6 = r0; call {NUMA}; r0 += 1; exit")
        top = lab.cpu.stack_top
        if lab is labs[0]:
            pairs, _ = buffers(lab)
            loop = Loop(engine.entry(prog, lab.cpu), 5)
            with pytest.raises(KernelOops, match="out of order") as error:
                loop.frames(Rows.of([bytes(64)] * 5), 0, 5, pairs)
            assert (loop.done, list(loop.retvals)) == (1, [1, 0, 0, 0, 0])
        else:
            assert prog.run(0, lab.cpu) == 1
            with pytest.raises(KernelOops, match="out of order") as error:
                prog.run(0, lab.cpu)
        assert lab.cpu.stack_top == top
        ends.append((str(error.value), error.value.registers[0], lab.cpu.elapsed_ps))
    assert ends[0] == ends[1]


def test_programs_exchanged_from_within(labs: tuple[Lab, Lab]) -> None:
    # a helper puts another program into the array between two tail calls of a run: each hop finds whole programs
    ends = []
    for lab in labs:
        targets = [lab.load(f"r0 = {value}; exit") for value in (10, 20, 30)]
        state = {"calls": 0}

        def helper(_run: Any, *_args: int, lab: Lab = lab, targets: Any = targets, state: Any = state) -> int:
            state["calls"] += 1
            lab.put(0, targets[state["calls"] % 3])
            if state["calls"] % 4 == 0:
                lab.bpf.map_delete_elem(lab.progs, bytes(4))
            return 0

        lab.put(0, targets[0])
        lab.kernel.helpers = {**lab.kernel.helpers, NUMA: helper}
        prog = lab.load(f"r6 = r1; call {NUMA}; r1 = r6; r2 = {{progs}}; r3 = 0; call bpf_tail_call; r0 = 5; exit")
        if lab is labs[0]:
            pairs, _ = buffers(lab)
            loop = Loop(engine.entry(prog, lab.cpu), 12)
            loop.frames(Rows.of([bytes(64)] * 12), 0, 12, pairs)
            retvals = list(loop.retvals)
        else:
            xdp = make_xdp_buff(lab.kernel.mem, bytes(64), lab.rxq)
            retvals = [prog.run(xdp.address, lab.cpu) for _ in range(12)]
        ends.append((retvals, lab.cpu.elapsed_ps))
    assert ends[0] == ends[1]
    assert ends[0][0] == [20, 30, 10, 5, 30, 10, 20, 5, 10, 20, 30, 5]


def test_a_signal_ends_a_loop(labs: tuple[Lab, Lab]) -> None:
    lab, _ = labs
    prog = lab.load("r0 = 2; exit")

    class Alarm(Exception):
        pass

    def ring(*_args: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(Alarm):
            Loop(engine.entry(prog, lab.cpu)).repeat(0, 1 << 50)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    counts = engine.entry(prog, lab.cpu).take()
    assert counts.runs > 1000
    assert lab.cpu.elapsed_ps == counts.cost_ps
    assert prog.run(0, lab.cpu) == 2


def test_other_engines_run_one_by_one(labs: tuple[Lab, Lab]) -> None:
    _, lab = labs
    prog = lab.load("r0 = 2; exit")
    seen: list[Any] = []

    def run(ctx: int, cpu: Any) -> int:
        seen.append((ctx, cpu))
        return len(seen)

    prog.run = run
    assert run_repeatedly(prog, 5, lab.cpu, 3) == 3
    assert seen == [(5, lab.cpu)] * 3


def test_rows_tell_frames_of_other_sizes(labs: tuple[Lab, Lab]) -> None:
    frames = [bytes(size) for size in (13, 14, 60, 3520, 3521, 9000)]
    rows = Rows.of(frames)
    assert len(rows) == 6
    assert rows.outside(14, 3520) == [0, 4, 5]
    assert rows.outside(0, 9000) == []
    assert Rows().outside(14, 60) == []


def test_a_loop_stays_within_its_rows(labs: tuple[Lab, Lab]) -> None:
    lab, _ = labs
    loop, rows = Loop(engine.entry(lab.load("r0 = 2; exit"), lab.cpu), 2), Rows.of([bytes(60)] * 3)
    pairs, _ = buffers(lab)
    for first, count in ((0, 3), (2, 2), (-1, 1), (0, -1)):
        with pytest.raises(InternalError, match="rows"):
            loop.frames(rows, first, count, pairs)
    assert loop.frames(rows, 1, 2, pairs) == 2


def test_contents_of_bytes_lie_where_they_are_said_to() -> None:
    import ctypes

    for data in (b"", b"x", bytes(range(256))):
        assert ctypes.string_at(address_of(data), len(data)) == data


def test_a_loop_does_not_disturb_the_run_that_it_is_in(labs: tuple[Lab, Lab]) -> None:
    found: list[int] = []
    for lab in labs:

        def helper(run: Any, *_args: int, lab: Lab = lab) -> int:
            return run_repeatedly(run.prog, run.ctx - 1, lab.cpu, 2) + 1 if run.ctx else 0

        lab.kernel.helpers = {**lab.kernel.helpers, NUMA: helper}
        prog = lab.load(f"call {NUMA}; exit")
        found += [prog.run(3, lab.cpu), lab.cpu.elapsed_ps]
    assert found[:2] == found[2:]
