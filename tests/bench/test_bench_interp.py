"""Speed of the interpreter: instructions a second, printed; the bounds are a third of what a 2024 server core gives.

Once with the closures alone, which is what stepping and programs that run rarely have, once as it is.
"""

from time import process_time
from typing import Any

import pytest
from engine_programs import FRAME, PROGRAMS

import ebpfsim
from ebpfsim.config import KernelConfig
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

pytestmark = pytest.mark.bench

ALU = (
    "r0 = 0; r1 = 100000; l: r0 += r1; r0 ^= 7; r2 = r0; r2 <<= 3; w2 += 5; r0 += r2; r1 -= 1; if r1 != 0 goto l; exit"
)
MEMORY = """
    r1 = 100000
    l: *(u64 *)(r10 -8) = r1
    r2 = *(u32 *)(r10 -8)
    r3 = *(u8 *)(r10 -7)
    r1 -= 1
    if r1 != 0 goto l
    r0 = r2
    exit
"""
CALLS = "r6 = 50000; l: r1 = r6; call f; r6 -= 1; if r6 != 0 goto l; exit; f: r0 = r1; exit"
HELPERS = "r6 = 50000; l: call bpf_ktime_get_ns; r6 -= 1; if r6 != 0 goto l; r0 = 0; exit"
ROUNDS = 5
# title: millions of instructions a second, by the closures alone and as it is
LEAST = {
    "alu": (2, 6),
    "memory": (1, 3),
    "calls": (1, 1.2),
    "helpers": (0.7, 1.5),
    "LCG loop": (2, 7),
    "checksum": (1.5, 5),
    "parser x50": (1.2, 3),
    "hash": (0.4, 0.5),
}
_OWN = {"alu": ALU, "memory": MEMORY, "calls": CALLS, "helpers": HELPERS}


def _speed(run: Any, repeat: int) -> float:
    # millions of instructions a second of CPU time; the first round makes blocks hot
    run()
    best = 0.0
    for _ in range(ROUNDS):
        started = process_time()
        insns = sum(run().insns for _ in range(repeat))
        best = max(best, insns / (process_time() - started) / 1e6)
    return best


def _runner(machine: Any, title: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, int]:
    from ebpfsim.vm.interp import execute

    if title in _OWN:
        prog = machine.prog(_OWN[title])
        return lambda: machine.run(prog), 1
    monkeypatch.setattr(
        "ebpfsim.simulation.KernelConfig", lambda **config: KernelConfig(**{**config, "engine": "interp"})
    )
    host = ebpfsim.Simulation(seed=1).host("h")
    text = PROGRAMS[title]
    for key, map_type in (("array", MapType.ARRAY), ("hash", MapType.HASH)):
        text = text.replace(f"{{{key}}}", str(host.bpf.map_create(map_type, 4, 8, 64, name=key)))
    prog = host.kernel.fds.lookup(host.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL").fd)
    mem = host.kernel.mem
    data, ctx = mem.alloc(len(FRAME)), mem.alloc(256)
    mem.write(data, FRAME)
    # struct xdp_buff: data, data_end
    mem.store(ctx, 8, data)
    mem.store(ctx + 8, 8, data + len(FRAME))
    return lambda: execute(prog, ctx, host.kernel.cpus[0]), 400 if title == "hash" else 100


@pytest.mark.parametrize("title", LEAST)
def test_instructions_a_second(
    make_machine: Any, monkeypatch: pytest.MonkeyPatch, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as cold:
        cold.setattr("ebpfsim.vm.hot.HEAT", 0)
        closures = _speed(*_runner(make_machine(), title, cold))
    functions = _speed(*_runner(make_machine(), title, monkeypatch))
    with capsys.disabled():
        print(f" {title:<10} {closures:5.1f} M instructions/s by closures, {functions:5.1f} M with hot blocks")
    assert closures > LEAST[title][0]
    assert functions > LEAST[title][1]
