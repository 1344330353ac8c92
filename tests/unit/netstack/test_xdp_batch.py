"""Frames of a poll in one loop of machine code, against one after the other: all that is recorded is the same."""

import random
from typing import Any

import pytest

import ebpfsim
from ebpfsim.errors import KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType
from netstack.xdp_batch import XdpBatch

BYTES = "r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); r5 = r2; r5 += 60; if r5 > r3 goto drop;"
COUNT = """
    *(u32 *)(r10 - 4) = r6; r2 = r10; r2 += -4; r1 = {array}; call bpf_map_lookup_elem
    if r0 == 0 goto drop; r1 = 1; lock *(u64 *)(r0 + 0) += r1
"""
# the verdict is the last byte of the frame, what is no verdict included; 5: redirect to the second card
VERDICT = (
    BYTES
    + f"""
    r6 = *(u8 *)(r2 + 59); r7 = *(u8 *)(r2 + 58); {COUNT}
    if r6 == 5 goto redirect
    if r7 != 0 goto callout
    r0 = r6; exit
    callout: call bpf_ktime_get_boot_ns; call bpf_get_prandom_u32; r0 = r6; exit
    redirect: r1 = 3; r2 = 0; call bpf_redirect; exit
    drop: r0 = 1; exit
"""
)
TAIL = (
    BYTES
    + """
    r6 = *(u8 *)(r2 + 58); r2 = {progs}; r3 = r6; call bpf_tail_call
    drop: r0 = 1; exit
"""
)
HEAD = bytes.fromhex("02000000000202000000000108004500002e00010000401166cc0a0000010a000002")


def frame(number: int, verdict: int, callout: int = 0, size: int = 60) -> bytes:
    head = HEAD if number % 7 else bytes([0x03]) + HEAD[1:]
    return (head + number.to_bytes(4, "big") + bytes(24))[:58] + bytes([callout, verdict]) + bytes(size - 60)


def mixed(count: int, verdicts: tuple[int, ...], rest: float) -> list[bytes]:
    rng = random.Random(11)
    return [
        frame(
            number,
            rng.choice(verdicts) if rng.random() < rest else 1,
            int(rng.random() < 0.1),
            rng.choice((60, 60, 60, 1400)),
        )
        for number in range(count)
    ]


def outcome(
    text: str, frames: list[bytes], every: str = "50ns", *, stats: bool = False, cpus: int = 1, engine: str = "auto"
) -> Any:
    """Everything that a run leaves behind."""
    sim = ebpfsim.Simulation(seed=1)
    a, b, c = sim.host("a"), sim.host("b", cpus=cpus, engine=engine), sim.host("c")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="100Gbit", delay="20us")
    sim.link(b.nic("eth1", "10.0.1.1/24"), c.nic("eth0", "10.0.1.2/24"))
    fds = {
        "array": b.bpf.map_create(MapType.ARRAY, 4, 8, 256, name="array"),
        "progs": b.bpf.map_create(MapType.PROG_ARRAY, 4, 4, 2, name="progs"),
    }

    def load(code: str) -> int:
        for name, fd in fds.items():
            code = code.replace(f"{{{name}}}", f"map_fd[{fd}] ll")
        return int(b.bpf.prog_load(ProgType.XDP, encode(assemble(code)), license="GPL", name="test").fd)

    if stats:
        b.bpf.enable_stats(0)
    b.bpf.map_update_elem(fds["progs"], bytes(4), load(VERDICT).to_bytes(4, "little"))
    fd = load(text)
    link = b.attach_xdp(fd, "eth0")
    for number, one in enumerate(frames):
        a.send("eth0", one, at=f"{1000 + number * int(every.removesuffix('ns'))}ns")
    error = ""
    try:
        sim.run()
    except KernelOops as oops:
        error = str(oops)
    info: Any = b.bpf.obj_get_info_by_fd(fd)
    recorder = b.kernel.recorder
    return {
        "error": error,
        "packets": [repr(record) for record in recorder.packets],
        "runs": [repr(run) for run in recorder.runs],
        "notes": [repr(note) for note in recorder.notes],
        "link": (link.runs, dict(link.verdicts), list(link.verdicts), link.ns_per_run, link.ns_per_packet),
        "devices": [dev.ethtool_stats() for dev in b.net.devices.values() if hasattr(dev, "ethtool_stats")],
        "drops": dict(b.net.drops),
        "info": (info.run_cnt, info.run_time_ns),
        "array": [b.bpf.map_lookup_elem(fds["array"], key.to_bytes(4, "little")) for key in range(256)],
        "cpu": [(cpu.elapsed_ps, cpu.now_ns) for cpu in b.kernel.cpus],
    }


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs frames in batches and one by one, compares, and returns the outcome and the batches' sizes."""

    def run(*args: Any, **options: Any) -> tuple[Any, list[int]]:
        sizes: list[int] = []
        plain = XdpBatch.run

        def counted(self: XdpBatch, *arguments: Any) -> bool:
            done = plain(self, *arguments)
            if done:
                sizes.append(self.dropped)
            return done

        with monkeypatch.context() as patch:
            patch.setattr(XdpBatch, "run", counted)
            found = outcome(*args, **options)
        with monkeypatch.context() as patch:
            patch.setattr("netstack.nic.LEAST_FRAMES", 1 << 30)
            expected = outcome(*args, **options)
        for key, value in expected.items():
            assert found[key] == value, key
        return found, sizes

    return run


@pytest.mark.parametrize("stats", [False, True])
def test_dropped_frames(both: Any, stats: bool) -> None:
    found, sizes = both(VERDICT, [frame(number, 1, number % 5 == 0) for number in range(400)], stats=stats)
    assert found["link"][1] == {"XDP_DROP": 400}
    assert sum(sizes) > 50
    assert max(sizes) >= 8
    assert (found["info"][0] == 400) is stats


@pytest.mark.parametrize("rest", [0.02, 0.3])
def test_frames_that_go_on(both: Any, rest: float) -> None:
    found, sizes = both(VERDICT, mixed(500, (0, 2, 3, 4, 5, 77, 200), rest))
    assert set(found["link"][1]) == {"XDP_DROP", "XDP_ABORTED", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"}
    assert sum(sizes) > 10
    assert {note.split("kind='")[1].split("'")[0] for note in found["notes"]} >= {"warning", "xdp_exception"}


def test_programs_behind_tail_calls(both: Any) -> None:
    found, sizes = both(TAIL, [frame(number, 1, number % 2) for number in range(200)])
    assert {run.split("tail_calls=")[1] for run in found["runs"]} == {"0)", "1)"}
    assert sum(sizes) > 100


def test_two_cpus(both: Any) -> None:
    _, sizes = both(VERDICT, mixed(300, (2, 3), 0.05), cpus=2)
    assert sum(sizes) > 50


def test_an_oops_in_the_middle(both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ebpfsim.helpers import misc

    def helper(run: Any, *_args: int) -> int:
        run.cpu.scratch["calls"] = calls = int(run.cpu.scratch.get("calls", 0)) + 1
        if calls == 20:
            raise KernelOops("out of order")
        return 0

    helpers = {number: helper for number, found in misc.HELPERS.items() if found is misc.get_prandom_u32}
    monkeypatch.setattr("ebpfsim.kernel._all_helpers", _with(helpers))
    found, sizes = both(VERDICT, [frame(number, 1, number % 7 == 3) for number in range(400)])
    assert "out of order" in found["error"]
    assert len(found["runs"]) == 19 * 7 + 3
    assert sum(sizes) > 50


def _with(helpers: dict[int, Any]) -> Any:
    from ebpfsim.kernel import _all_helpers

    merged = {**_all_helpers(), **helpers}
    return lambda: merged


def test_long_frames_and_slow_arrivals_go_one_by_one(both: Any) -> None:
    _, sizes = both(VERDICT, [frame(number, 1) for number in range(100)], every="5000ns")
    assert sizes == []


def test_batches_need_machine_code() -> None:
    frames = [frame(number, 1, number % 3) for number in range(200)]
    assert outcome(VERDICT, frames) == outcome(VERDICT, frames, engine="interp")
